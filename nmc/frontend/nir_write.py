"""Op graphs as NIR files: standard primitives for every reader, the whole graph in the metadata for nmc.

NIR has neither sums (edges into one node add up, but no edge may be there twice) nor max pools, products,
concatenations or batch norms. Max pools and products of spikes are sums with a Threshold, a concatenation
adds branches that 1 x 1 convolutions move to channels of their own, ``x + x`` goes through a Scale of 1.
The time step of the file is ``DT``; neurons follow NIR's equations in forward Euler, which read r = 1 / dt
for an IF. Reset by subtraction, the comparison and starting potentials only stand in the metadata.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Container, Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nmc import atomic
from nmc.errors import NmcError
from nmc.frontend import gates, nir_semantics
from nmc.frontend import opgraph as og
from nmc.frontend.fold import fold
from nmc.frontend.opgraph import OpGraph
from nmc.frontend.raw import Edge, RawNode, Value
from nmc.frontend.shapes import spread
from nmc.frontend.whole import value_ranges
from nmc.ir import FloatArray, Shape

if TYPE_CHECKING:
    import h5py

DT = 1e-4
"""Seconds per step in the file; what SpikingJelly's and snnTorch's importers take for granted."""
NIR_VERSION = "1.0.8"
GZIP_LEVEL = 4
UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")
LONGEST = 100
"""Characters of a node's name; ``safehdf5`` reads 128, and what makes a name unique is added."""


def write_nir(graph: OpGraph, path: str | os.PathLike[str]) -> None:
    """Write a graph.

    Raises:
        NmcError: NMC-G05 for what NIR's primitives cannot say (ReLU, products of currents, axes other than
            channels), NMC-W01 when the file cannot be written.
    """
    graph.check_ends()
    writer = _Writer(graph)
    nodes, edges = writer.file()
    text, arrays = nir_semantics.encode(graph, writer.stored)
    ours = {"graph": text, "digest": nir_semantics.digest(nodes, edges)}
    data = _hdf5(nodes, edges, ours, arrays)
    atomic.atomic_write(path, data)


def node_names(graph: OpGraph) -> dict[str, str]:
    """What the file calls the graph's inputs and neurons.

    Raises:
        NmcError: NMC-G05 as ``write_nir``.
    """
    writer = _Writer(graph)
    writer.file()
    return {name: writer.values[name][0] for name in (*graph.named(og.Input), *graph.named(og.Neuron))}


def node_name(name: str, taken: Container[str]) -> str:
    """What a file calls a node of this name, where other nodes have theirs."""
    base = UNSAFE.sub("_", name.replace("/", "."))[:LONGEST]
    if not base.strip("."):  # HDF5 means the group itself
        base = "node"
    label, count = base, 2
    while label in taken:
        label, count = f"{base}.{count}", count + 1
    return label


def _hdf5(
    nodes: Mapping[str, RawNode],
    edges: tuple[Edge, ...],
    texts: Mapping[str, str],
    arrays: Mapping[str, FloatArray],
) -> bytes:
    import h5py

    text = h5py.string_dtype()
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        file.create_dataset("version", data=NIR_VERSION, dtype=text)
        root = file.create_group("node")
        root.create_dataset("type", data="NIRGraph", dtype=text)
        root.create_dataset("edges", data=np.array(edges, dtype=object), dtype=text)
        for name, node in nodes.items():
            group = root.create_group(f"nodes/{name}")
            group.create_dataset("type", data=node.kind, dtype=text)
            for key, value in node.fields.items():
                _put(group, key, value)
        ours = root.create_group("metadata/nmc")
        for key, content in texts.items():
            ours.create_dataset(key, data=content, dtype=text)
        for key, array in arrays.items():
            _put(ours.require_group("arrays"), key, array)
    return memory.getvalue()


def _put(group: h5py.Group, key: str, value: Value) -> None:
    if isinstance(value, np.ndarray) and value.ndim:
        group.create_dataset(key, data=value, compression="gzip", compression_opts=GZIP_LEVEL)
    else:
        group.create_dataset(key, data=value)


# --- nodes ------------------------------------------------------------------------------------------


class _Writer:
    """Standard nodes of a graph, one op after the other.

    ``values`` says which nodes of the file add up to an op's output.
    """

    def __init__(self, graph: OpGraph) -> None:
        self.original = graph
        self.graph = fold(graph)
        self.shapes = self.graph.shapes
        self.ranges = value_ranges(self.graph)
        self.values: dict[str, tuple[str, ...]] = {}
        self.nodes: dict[str, RawNode] = {}
        self.edges: list[Edge] = []
        self.stored: dict[int, str] = {}
        self.promised: dict[str, str] = {}

    def file(self) -> tuple[dict[str, RawNode], tuple[Edge, ...]]:
        for name in self.graph.order:
            self.values[name] = self._op(name, self.graph.nodes[name])
        return self.nodes, tuple(self.edges)

    def _add(
        self, name: str, kind: str, fields: Mapping[str, Value], sources: tuple[str, ...]
    ) -> tuple[str, ...]:
        """A node fed by the sum of ``sources``; its name in the file."""
        label = self.promised.get(name) or self._label(name)
        self.nodes[label] = RawNode(kind, fields)
        for source in self._distinct(label, sources, fields):
            self.edges.append((source, label))
        for key, value in fields.items():
            if isinstance(value, np.ndarray):
                self.stored.setdefault(id(value), f"{label}/{key}")
        return (label,)

    def _label(self, name: str) -> str:
        return node_name(name, {*self.nodes, *self.promised.values()} if self.promised else self.nodes)

    def _distinct(self, label: str, sources: tuple[str, ...], fields: Mapping[str, Value]) -> list[str]:
        """The sources, each once: what comes again comes through a Scale of 1."""
        found: list[str] = []
        for source in sources:
            if source in found:
                ones = np.ones(self._shape_of[source])
                source = self._add(f"{source}.again", "Scale", {"scale": ones}, (source,))[0]
            found.append(source)
        return found

    @property
    def _shape_of(self) -> dict[str, Shape]:
        return {node: self.shapes[op] for op, nodes in self.values.items() for node in nodes}

    def _sources(self, name: str) -> tuple[str, ...]:
        return tuple(node for before in self.graph.before(name) for node in self.values[before])

    def _delay(self, name: str, op: og.Delay) -> tuple[str, ...]:
        """A Delay node; the one step of a loop is none, because every reader delays a loop by one."""
        closing = [before for before in self.graph.before(name) if before not in self.values]
        for before in closing:
            if not isinstance(self.graph.nodes[before], og.Neuron):
                problem = f"closes a loop behind {before}, which is no neuron"
                raise NmcError("NMC-G05", name, problem, "feed back the spikes of a neuron")
            if before not in self.promised:
                self.promised[before] = self._label(before)
        sources = tuple(
            node
            for before in self.graph.before(name)
            for node in (self.values.get(before) or (self.promised[before],))
        )
        if closing and op.steps == 1:
            return sources
        return self._add(name, "Delay", {"delay": np.full(self.shapes[name], op.steps * DT)}, sources)

    def _op(self, name: str, op: og.Op) -> tuple[str, ...]:
        if isinstance(op, og.Delay):
            return self._delay(name, op)
        shape, sources = self.shapes[name], self._sources(name)
        if isinstance(op, og.Input | og.Output):
            return self._add(name, type(op).__name__, {"shape": np.array(shape)}, sources)
        if isinstance(op, og.Add | og.TimeMean):
            return sources
        if isinstance(op, og.Flatten):
            before = np.array(self.shapes[self.graph.before(name)[0]])
            ends = {"start_dim": np.array(op.start), "end_dim": np.array(op.end)}
            return self._add(name, "Flatten", {"input_type": before, **ends}, sources)
        if isinstance(op, og.Conv2d):
            return self._conv(name, op, sources)
        if isinstance(op, og.Linear):
            bias = {} if op.bias is None else {"bias": op.bias}
            return self._add(name, "Affine" if bias else "Linear", {"weight": op.weight, **bias}, sources)
        if isinstance(op, og.SumPool | og.AvgPool):
            kind = "SumPool2d" if isinstance(op, og.SumPool) else "AvgPool2d"
            return self._add(name, kind, _pool(op), sources)
        if isinstance(op, og.Neuron):
            return self._add(name, *_neuron(name, op, shape), sources)
        if isinstance(op, og.Scale):
            return self._add(name, "Scale", {"scale": np.array(spread(op.factor, shape))}, sources)
        if isinstance(op, og.BatchNorm):
            return self._norm(name, op, sources)
        if isinstance(op, og.ReLU):
            raise NmcError("NMC-G05", name, "a ReLU has no NIR primitive", "convert the network first")
        return self._join(name, op)

    def _join(self, name: str, op: og.Sub | og.Mul | og.Concat | og.MaxPool) -> tuple[str, ...]:
        shape, befores = self.shapes[name], self.graph.before(name)
        if isinstance(op, og.Sub):
            minus = self._scaled(f"{name}.minus", befores[1], -1.0)
            return (*self.values[befores[0]], *minus)
        if isinstance(op, og.Concat):
            return self._concat(name, op)
        if isinstance(op, og.Mul):
            return self._product(name)
        found = self.ranges[befores[0]]
        if found is None or found[0] < 0:
            raise NmcError(
                "NMC-G05",
                name,
                f"a maximum of {befores[0]}, which carries no spikes",
                "put the max pool behind a spiking neuron",
            )
        gates.check_levels(name, found[1])
        each: list[str] = []
        for level in range(1, found[1] + 1):
            above = self._sources(name)
            if level > 1:
                above = self._threshold(f"{name}.level{level}", level, self.shapes[befores[0]], above)
            window = self._add(f"{name}.window{level}", "SumPool2d", _pool(op), above)
            own = name if found[1] == 1 else f"{name}.{level}"
            each += self._threshold(own, 1, shape, window)
        return tuple(each)

    def _threshold(self, name: str, least: int, shape: Shape, sources: tuple[str, ...]) -> tuple[str, ...]:
        return self._add(name, "Threshold", {"threshold": np.full(shape, least - 0.5)}, sources)

    def _scaled(self, name: str, op: str, factor: float) -> tuple[str, ...]:
        return self._add(name, "Scale", {"scale": np.full(self.shapes[op], factor)}, self.values[op])

    def _product(self, name: str) -> tuple[str, ...]:
        befores, shape = self.graph.before(name), self.shapes[name]
        ranges = [self.ranges[before] for before in befores]
        highest = gates.check_binary(name, zip(befores, ranges, strict=True))
        sources: list[str] = []
        for index, (before, found) in enumerate(zip(befores, ranges, strict=True)):
            if highest > 1 and found == (0, 1):
                sources += self._scaled(f"{name}.factor{index}", before, float(highest))
            else:
                sources += self.values[before]
        others = highest * (len(befores) - 1)
        each: list[str] = []
        for level in range(1, highest + 1):
            own = name if highest == 1 else f"{name}.{level}"
            each += self._threshold(own, level + others, shape, tuple(sources))
        return tuple(each)

    def _concat(self, name: str, op: og.Concat) -> tuple[str, ...]:
        shape = self.shapes[name]
        if op.axis != 0 or len(shape) not in (1, 3):
            raise NmcError("NMC-G05", name, f"joins along axis {op.axis}", "join along the channels")
        start, parts = 0, list[str]()
        for index, before in enumerate(self.graph.before(name)):
            size = self.shapes[before][0]
            place = np.zeros((shape[0], size))
            place[start : start + size] = np.eye(size)
            start += size
            label, sources = f"{name}.part{index}", self.values[before]
            if len(shape) == 1:
                parts += self._add(label, "Linear", {"weight": place}, sources)
            else:
                parts += self._one_by_one(label, place, np.zeros(shape[0]), shape, sources)
        return tuple(parts)

    def _one_by_one(
        self, name: str, matrix: FloatArray, bias: FloatArray, shape: Shape, sources: tuple[str, ...]
    ) -> tuple[str, ...]:
        conv = og.Conv2d(matrix[:, :, None, None], bias)
        return self._add(name, "Conv2d", _conv_fields(conv, shape), sources)

    def _norm(self, name: str, op: og.BatchNorm, sources: tuple[str, ...]) -> tuple[str, ...]:
        shape = self.shapes[name]
        if not op.offset.any():
            factor = op.factor.reshape(-1, *[1] * (len(shape) - 1))
            return self._add(name, "Scale", {"scale": np.array(np.broadcast_to(factor, shape))}, sources)
        if len(shape) == 1:
            return self._add(name, "Affine", {"weight": np.diag(op.factor), "bias": op.offset}, sources)
        return self._one_by_one(name, np.diag(op.factor), op.offset, shape, sources)

    def _conv(self, name: str, op: og.Conv2d, sources: tuple[str, ...]) -> tuple[str, ...]:
        return self._add(name, "Conv2d", _conv_fields(op, self.shapes[self.graph.before(name)[0]]), sources)


def _conv_fields(op: og.Conv2d, source: Shape) -> dict[str, Value]:
    """Without groups and with square kernels, as far as zeros allow: nir 1.0.8 infers others wrongly."""
    weight, padding = op.weight, list(op.padding)
    if op.groups > 1:
        outputs, inputs = weight.shape[0] // op.groups, weight.shape[1]
        whole = np.zeros((weight.shape[0], source[0], *weight.shape[2:]))
        for g in range(op.groups):
            rows = slice(g * outputs, (g + 1) * outputs)
            whole[rows, g * inputs : (g + 1) * inputs] = weight[rows]
        weight = whole
    longest = max(weight.shape[2:])
    for axis in (0, 1):
        missing = longest - weight.shape[2 + axis]
        if missing and missing % 2 == 0:
            extra = [(0, 0)] * 4
            extra[2 + axis] = (missing // 2, missing // 2)
            weight = np.pad(weight, extra)
            padding[axis] += op.dilation[axis] * (missing // 2)
    return {
        "input_shape": np.array(source[1:]),
        "weight": weight,
        "stride": np.array(op.stride),
        "padding": np.array(padding),
        "dilation": np.array(op.dilation),
        "groups": np.array(1),
        "bias": np.zeros(weight.shape[0]) if op.bias is None else op.bias,
    }


def _pool(op: og.MaxPool | og.SumPool | og.AvgPool) -> dict[str, Value]:
    return {key: np.array(getattr(op, field)) for key, field in _POOL_FIELDS}


_POOL_FIELDS = (("kernel_size", "kernel"), ("stride", "stride"), ("padding", "padding"))


def _neuron(name: str, op: og.Neuron, shape: Shape) -> tuple[str, dict[str, Value]]:
    """NIR's neuron of the same update in forward Euler with step ``DT``."""
    p: dict[str, npt.NDArray[np.float64]] = {
        field: np.array(spread(values, shape))
        for field in og.NEURON_ARRAYS
        if (values := getattr(op, field)) is not None
    }
    lost_v, lost_u = 1 - p["keep_v"], 1 - p["keep_u"]
    gain = p["gain"] * (1.0 if p["keep_u"].any() else p["w_in"])
    fires = {} if op.threshold is None else {"v_threshold": p["threshold"], "v_reset": p["v_reset"]}
    if (
        fires
        and not p["keep_v"].any()
        and not p["keep_u"].any()
        and not p["v_leak"].any()
        and (gain > 0).all()
    ):
        return "Threshold", {"threshold": p["threshold"] / gain}
    if p["keep_u"].any() and (lost_v.min() <= 0 or lost_u.min() <= 0):
        problem = "a current filter in front of a neuron without leak has no NIR primitive"
        raise NmcError("NMC-G05", name, problem, "export it as a bundle")
    if p["keep_u"].any():
        filtered = {"tau_syn": DT / lost_u, "tau_mem": DT / lost_v, "w_in": p["w_in"] / lost_u}
        return "CubaLIF" if fires else "CubaLI", {
            **filtered,
            "r": gain / lost_v,
            "v_leak": p["v_leak"],
            **fires,
        }
    if not lost_v.any():
        return "IF" if fires else "I", {"r": gain / DT, **fires}
    if lost_v.min() <= 0:
        problem = "some of its neurons leak and others do not, which no NIR primitive says"
        raise NmcError("NMC-G05", name, problem, "give a layer one time constant")
    return "LIF" if fires else "LI", {"tau": DT / lost_v, "r": gain / lost_v, "v_leak": p["v_leak"], **fires}
