"""Checking a model against the constraints of a chip that nmc does not compile for.

A layer is a convolution or linear layer with its neurons and the pool behind them. Sources: the memory
formulas of DYNAP-CNN, sinabs ``dynapcnn_layer.py``; limits, ``chips/constraints/*.toml``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import networkx
import numpy as np

from nmc.constraints import Constraints
from nmc.errors import NmcError
from nmc.frontend import opgraph as og
from nmc.frontend.fold import fold
from nmc.frontend.opgraph import OpGraph
from nmc.ir import Shape
from nmc.partition.fit import Fit, LayerFit, Need

NOTHING = (og.Input, og.Output, og.Flatten, og.TimeMean)
"""Ops that take nothing of the chip."""


@dataclass(frozen=True)
class Layer:
    """name: of the neurons. kernel: (f, c, ky, kx). source, shape: the map that it reads and its own."""

    name: str
    weighted: str
    kernel: tuple[int, int, int, int]
    source: Shape
    shape: Shape
    op: og.Conv2d | og.Linear


Finding = tuple[str, str, str, float | None, float | None]
"""(layer, problem, remedy, measured, allowed)"""


def check_constraints(model: OpGraph, constraints: Constraints) -> Fit:
    """Whether a model keeps to the constraints; every breach is a layer's problem, none an exception."""
    graph = fold(model)
    layers = list(_layers(graph))
    known = {one.name for one in layers} | {one.weighted for one in layers}
    findings = list(_strangers(graph, known))
    if constraints.family == "dense":
        findings += _dense(graph, layers, constraints.limits)
        return _as_fit(graph, constraints, layers, findings, {}, 1)
    findings += _shapes(graph, layers, constraints.limits)
    needs = {one.name: _memory(one) for one in layers}
    cores = _cores(constraints)
    findings += _assignment(graph.name, layers, needs, cores)
    return _as_fit(graph, constraints, layers, findings, needs, len(cores))


# --- layers -----------------------------------------------------------------------------------------


def _layers(graph: OpGraph) -> Iterator[Layer]:
    for name in graph.order:
        before = graph.before(name)
        op = graph.nodes[before[0]] if len(before) == 1 else None
        if not isinstance(graph.nodes[name], og.Neuron) or not isinstance(op, og.Conv2d | og.Linear):
            continue
        source, shape = _map_before(graph, before[0]), graph.shapes[before[0]]
        if isinstance(op, og.Conv2d):
            f, c, ky, kx = op.weight.shape
            yield Layer(name, before[0], (f, c * op.groups, ky, kx), source, shape, op)
        else:
            # A linear layer is a convolution whose kernel covers the whole map.
            c, ky, kx = source
            yield Layer(name, before[0], (len(op.weight), c, ky, kx), source, (len(op.weight), 1, 1), op)


def _map_before(graph: OpGraph, name: str) -> tuple[int, int, int]:
    """The map that a weighted layer reads, in front of a flattening; addends have one shape."""
    before = graph.before(name)[0]
    while isinstance(graph.nodes[before], og.Flatten):
        before = graph.before(before)[0]
    shape = graph.shapes[before]
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (math.prod(shape), 1, 1)


def _strangers(graph: OpGraph, known: set[str]) -> Iterator[Finding]:
    """What belongs to no layer."""
    pools = og.SumPool | og.AvgPool
    for name in graph.order:
        op = graph.nodes[name]
        if name in known or isinstance(op, NOTHING):
            continue
        behind = [graph.nodes[one] for one in graph.before(name)]
        if isinstance(op, pools) and all(isinstance(one, og.Neuron) for one in behind):
            continue
        if isinstance(op, og.Add) and all(isinstance(one, og.Neuron | pools) for one in behind):
            continue
        kind = type(op).__name__
        if isinstance(op, og.Conv2d | og.Linear):
            if not any(isinstance(graph.nodes[one], og.Neuron) for one in graph.after(name)):
                yield name, "has no neurons behind it", "end the network with a spiking layer", None, None
        elif isinstance(op, og.Neuron):
            problem = f"neurons behind {len(behind)} inputs, not behind one convolution or linear layer"
            yield name, problem, "train the network without that sum", None, None
        else:
            yield name, f"the chip has no {kind} there", "train the network without it", None, None


# --- DYNAP-CNN --------------------------------------------------------------------------------------


def _bits(count: int) -> int:
    """ceil(log2(count))."""
    return (count - 1).bit_length()


def _memory(layer: Layer) -> dict[str, int]:
    """Entries of each memory."""
    f, c, ky, kx = layer.kernel
    return {
        "kernel entries": c * 2 ** (_bits(ky * kx) + _bits(f)),
        "neuron entries": f * 2 ** (_bits(layer.shape[1]) + _bits(layer.shape[2])),
        "biases": f if layer.op.bias is not None and np.any(layer.op.bias) else 0,
    }


def _cores(constraints: Constraints) -> list[dict[str, int | None]]:
    limits = constraints.limits
    return [
        {"kernel entries": kernel, "neuron entries": neurons, "biases": limits["biases"]}
        for kernel, neurons in zip(limits["kernel_entries"], limits["neuron_entries"], strict=True)
    ]


def _shapes(graph: OpGraph, layers: list[Layer], limits: Any) -> Iterator[Finding]:
    """Shapes, strides, pools, neurons and fan-out."""
    names = {one.name for one in layers}
    for one in layers:
        f, c, ky, kx = one.kernel
        stride, padding = getattr(one.op, "stride", (1, 1)), getattr(one.op, "padding", (0, 0))
        for what, used, key in (
            ("an input side", max(one.source[1:]), "input_side"),
            ("an output side", max(one.shape[1:]), "output_side"),
            ("channels", max(f, c), "channels"),
            ("a kernel side", max(ky, kx), "kernel_side"),
            ("a padding", max(padding), "padding"),
            ("readers", _readers(graph, one.name, names), "fan_out"),
        ):
            allowed = limits[key]
            if allowed is not None and used > allowed:
                problem = f"{what} of {used:,}, allowed are {allowed:,}"
                yield one.name, problem, "pool or cut the layer", used, allowed
        if not set(stride) <= set(limits["strides"]):
            yield one.name, f"stride {stride}, allowed are {limits['strides']}", "use one of them", None, None
        yield from _pools(graph, one.name, limits["pools"])
        neuron = graph.nodes[one.name]
        assert isinstance(neuron, og.Neuron)
        if not limits["leak"] and (np.any(neuron.keep_v != 1) or np.any(neuron.keep_u != 0)):
            yield one.name, "its neurons leak", "train with integrate-and-fire neurons", None, None


def _pools(graph: OpGraph, name: str, allowed: list[int]) -> Iterator[Finding]:
    for after in graph.after(name):
        op = graph.nodes[after]
        if isinstance(op, og.SumPool | og.AvgPool):
            fine = op.kernel == op.stride and op.kernel[0] == op.kernel[1] and op.kernel[0] in allowed
            if not fine or op.padding != (0, 0):
                problem = f"pool of {op.kernel} with stride {op.stride}, allowed are squares of {allowed}"
                yield after, problem, "use such a pool, stride equal to kernel, no padding", None, None


def _readers(graph: OpGraph, name: str, layers: set[str]) -> int:
    """Layers that get this one's spikes."""
    found, open_nodes = set(), list(graph.after(name))
    while open_nodes:
        node = open_nodes.pop()
        if node in layers:
            found.add(node)
        else:
            open_nodes += graph.after(node)
    return len(found)


def _fits(need: dict[str, int], core: dict[str, int | None]) -> bool:
    return all(limit is None or need[what] <= limit for what, limit in core.items())


def _assignment(
    name: str, layers: list[Layer], needs: dict[str, dict[str, int]], cores: list[dict[str, int | None]]
) -> Iterator[Finding]:
    """Every layer on a core of its own that holds it: a maximum matching of the bipartite graph."""
    graph = networkx.Graph()
    graph.add_nodes_from(one.name for one in layers)
    for one in layers:
        fitting = [n for n, core in enumerate(cores) if _fits(needs[one.name], core)]
        graph.add_edges_from((one.name, n) for n in fitting)
        if not fitting:
            yield _too_large(one.name, needs[one.name], cores)
    matched = networkx.bipartite.maximum_matching(graph, [one.name for one in layers])
    left = [one.name for one in layers if one.name not in matched and graph.degree(one.name)]
    if left:
        problem = f"{len(layers)} layers, {len(cores)} cores that differ in size: {len(left)} layers get none"
        yield name, problem, "use fewer or smaller layers", len(layers), len(cores)


def _too_large(name: str, need: dict[str, int], cores: list[dict[str, int | None]]) -> Finding:
    for what, used in need.items():
        most = max((core[what] or used) for core in cores)
        if used > most:
            problem = f"needs {used:,} {what}, the largest core has {most:,}"
            return name, problem, "use fewer channels, a smaller kernel or map", used, most
    text = " and ".join(f"{used:,} {what}" for what, used in need.items() if used)
    return name, f"no core has {text} together", "use fewer channels, a smaller kernel or map", None, None


# --- Xylo -------------------------------------------------------------------------------------------


def _dense(graph: OpGraph, layers: list[Layer], limits: Any) -> Iterator[Finding]:
    """Sizes of one core of dense layers."""
    final = {one.name for one in layers if not _readers(graph, one.name, {o.name for o in layers})}
    for one in layers:
        if isinstance(one.op, og.Conv2d):
            problem = "is a convolution, the chip has dense layers only"
            yield one.name, problem, "use linear layers", None, None
    size = {one.name: one.shape[0] * one.shape[1] * one.shape[2] for one in layers}
    read = [math.prod(op.shape) for op in graph.nodes.values() if isinstance(op, og.Input)]
    for what, key, used in (
        ("inputs", "inputs", max(read, default=0)),
        ("hidden neurons", "hidden", sum(n for name, n in size.items() if name not in final)),
        ("outputs", "outputs", sum(n for name, n in size.items() if name in final)),
    ):
        if limits[key] is not None and used > limits[key]:
            problem = f"{used:,} {what}, allowed are {limits[key]:,}"
            yield graph.name, problem, f"use fewer {what}", used, limits[key]


# --- the result -------------------------------------------------------------------------------------


def _as_fit(
    graph: OpGraph,
    constraints: Constraints,
    layers: list[Layer],
    findings: list[Finding],
    needs: dict[str, dict[str, int]],
    available: int,
) -> Fit:
    """Layers with what they take of the largest core; the first breach is the layer's problem."""
    problems = [
        NmcError("NMC-P02", name, problem, remedy, measured=measured, allowed=allowed)
        for name, problem, remedy, measured, allowed in findings
    ]
    cores = _cores(constraints) if needs else []

    def row(name: str, tile: tuple[int, ...], problem: NmcError | None) -> LayerFit:
        used = tuple(
            Need(what, count, max((core[what] or 0 for core in cores), default=0) or None)
            for what, count in needs.get(name, {}).items()
        )
        binding = "" if problem is None else problem.problem
        return LayerFit(name, name, None if problem else 1, None, tile, binding, used, problem)

    first = {one.who: one for one in reversed(problems)}
    names = {one.name for one in layers}
    rows = [row(one.name, one.shape, first.get(one.name)) for one in layers]
    rows += [row(one.who, (), one) for one in problems if one.who not in names or first[one.who] is not one]
    needed = None if problems else (len(layers) if needs else 1)
    return Fit(graph.name, constraints.name, needed, available, None, tuple(rows))
