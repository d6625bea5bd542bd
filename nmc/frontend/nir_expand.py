"""NIR nodes that become others before the op graph is built: ends, one-dimensional convolutions, delays.

Norse and Rockpool write the batch into the shapes of Input and Output; NIR has none, and it is left out.
A network with a Conv1d works on (C, L) maps; they become (C, 1, L), and so do the data it takes. A Delay
whose neurons differ becomes one Delay per value, each behind a Scale that lets its own neurons pass.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from nmc.errors import NmcError
from nmc.frontend import opgraph as og
from nmc.frontend.nir_neurons import NEURONS, whole
from nmc.frontend.raw import Edge, RawGraph, RawNode, Value

PER_NEURON = ("Scale", "Delay")
"""Nodes besides neurons whose arrays have the shape of the maps."""


def expand(raw: RawGraph) -> RawGraph:
    """The graph without batch axes and Conv1d nodes, and with one value per Delay node."""
    raw = _without_batch(raw)
    if next(raw.of("Conv1d"), None) is not None:
        raw = replace(raw, nodes={name: _two_dimensional(node) for name, node in raw.nodes.items()})
    return _even_delays(raw)


def delay_op(name: str, node: RawNode, dt: float) -> og.Delay:
    """A Delay of whole steps.

    Raises NmcError NMC-F04 for a negative delay, NMC-G07 for one that is no whole number of steps.
    """
    seconds = float(node.array("delay").reshape(-1)[0])
    if seconds < 0:
        raise NmcError("NMC-F04", name, f"a delay of {seconds:g} s", "delays are above 0")
    steps = float(whole(np.asarray(seconds / dt, np.float64)))
    if steps != round(steps):
        problem = f"a delay of {seconds:g} s is {steps:.6g} steps of {dt:g} s"
        raise NmcError("NMC-G07", name, problem, "check --dt, or round the delays to whole steps")
    return og.Delay(round(steps))


# --- batch axes -------------------------------------------------------------------------------------

AXES = {"Affine": 1, "Linear": 1, "Conv1d": 2, "Conv2d": 3, "SumPool2d": 3, "AvgPool2d": 3}
"""Axes of what a node reads."""


def _without_batch(raw: RawGraph) -> RawGraph:
    """Leading axes of length 1 of the ends, where the layer behind or in front of them has fewer axes."""
    nodes = dict(raw.nodes)
    for name, node in raw.of("Input", "Output"):
        near = [nodes[b if a == name else a] for a, b in raw.edges if name in (a, b)]
        wanted = [_axes(node.kind, one) for one in near]
        shape = node.fields["shape"]
        if not wanted or None in wanted or len(set(wanted)) > 1 or isinstance(shape, str):
            continue
        extra = shape.size - (wanted[0] or 0)
        if extra > 0 and shape.ndim == 1 and (shape[:extra] == 1).all():
            nodes[name] = RawNode(node.kind, {"shape": shape[extra:]})
    return replace(raw, nodes=nodes)


def _axes(end: str, neighbour: RawNode) -> int | None:
    """Axes that an end has beside this node; None where the node does not tell."""
    if neighbour.kind in AXES:
        return AXES[neighbour.kind]
    if neighbour.kind == "Flatten" and end == "Output":
        return 1
    for key in ("r", "threshold", "scale", "delay"):
        value = neighbour.fields.get(key)
        if isinstance(value, np.ndarray) and value.size > 1:
            return value.ndim
        if isinstance(value, np.ndarray) and value.shape == (1,):
            return 1
    return None


# --- one-dimensional maps ---------------------------------------------------------------------------


def _two_dimensional(node: RawNode) -> RawNode:
    fields = dict(node.fields)
    if node.kind == "Conv1d":
        return RawNode("Conv2d", _conv_fields(fields))
    if node.kind in ("Input", "Output"):
        fields["shape"] = _with_unit(fields["shape"], 2)
    elif node.kind == "Flatten":
        if "input_type" in fields:
            fields["input_type"] = _with_unit(fields["input_type"], 2)
        fields["end_dim"] = _last_axis(fields["end_dim"])
    elif node.kind in NEURONS or node.kind in PER_NEURON:
        fields = {key: _unit_axis(value) for key, value in fields.items()}
    return RawNode(node.kind, fields)


def _conv_fields(fields: dict[str, Value]) -> dict[str, Value]:
    """Those of a Conv2d with a kernel one row high. padding may be 'same' or 'valid', which hold for both."""
    result = dict(fields)
    weight = fields["weight"]
    if isinstance(weight, np.ndarray) and weight.ndim == 3:
        result["weight"] = weight[:, :, None, :]
    for key, plain in (("stride", 1), ("padding", 0), ("dilation", 1), ("input_shape", 1)):
        value = fields.get(key)
        if isinstance(value, np.ndarray) and value.size == 1:
            result[key] = np.array([plain, value.reshape(-1)[0]])
    return result


def _with_unit(value: Value, axes: int) -> Value:
    """A shape (C, L) as (C, 1, L)."""
    if isinstance(value, np.ndarray) and value.shape == (axes,):
        return np.insert(value, 1, 1)
    return value


def _unit_axis(value: Value) -> Value:
    """An array (C, L) as (C, 1, L)."""
    return value[:, None, :] if isinstance(value, np.ndarray) and value.ndim == 2 else value


def _last_axis(value: Value) -> Value:
    """Axis 1 of (C, L) is axis 2 of (C, 1, L)."""
    last = isinstance(value, np.ndarray) and value.size == 1 and int(value.reshape(-1)[0]) == 1
    return np.asarray(2) if last else value


# --- delays -----------------------------------------------------------------------------------------


def _even_delays(raw: RawGraph) -> RawGraph:
    nodes, edges = dict(raw.nodes), list(raw.edges)
    for name, node in raw.of("Delay"):
        delays = node.array("delay")
        values = np.unique(delays)
        if values.size == 1 and values[0] != 0:
            continue
        del nodes[name]
        parts = [_part(nodes, f"{name}.{index}", delays, value) for index, value in enumerate(values)]
        edges = [edge for one in edges for edge in _around(name, parts, one)]
        edges += [(front, back) for front, back in parts if front != back]
    return replace(raw, nodes=nodes, edges=tuple(edges))


def _part(
    nodes: dict[str, RawNode], name: str, delays: npt.NDArray[np.float64], value: float
) -> tuple[str, str]:
    """The nodes that delay the neurons of one value; (where it is fed, where it leaves)."""
    front, back = f"{name}.only", f"{name}.late"
    nodes[front] = RawNode("Scale", {"scale": (delays == value).astype(np.float64)})
    if value == 0:
        return front, front
    nodes[back] = RawNode("Delay", {"delay": np.asarray(value)})
    return front, back


def _around(name: str, parts: list[tuple[str, str]], edge: Edge) -> list[Edge]:
    """An edge of the node as edges of its parts."""
    ends = [edge]
    if edge[1] == name:
        ends = [(source, front) for source, _ in ends for front, _ in parts]
    if edge[0] == name:
        ends = [(back, target) for _, target in ends for _, back in parts]
    return ends
