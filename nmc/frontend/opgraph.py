"""The op graph: what frameworks say, in float, before anything is lowered to populations.

A graph is a value: named ops and ordered edges. Several edges into one node mean the SUM of what they
carry, except for the ops in ``ORDERED``, whose operands keep the order of the edges. The same edge
given twice counts twice (x + x). Shapes have no batch and no time axis and torch's order (C, H, W).

A parameter array that is applied per neuron or channel has either one element or as many axes as the
tensor it is applied to, each of length 1 or full length. Fewer axes are refused: numpy would align a
(C,) array with the last axis, and with C == W nobody would notice.
"""

from __future__ import annotations

import enum
import heapq
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from nmc.errors import NmcError
from nmc.ir import Compare, FloatArray, Shape, frozen
from nmc.markup import summary

Pair: TypeAlias = tuple[int, int]
Edge: TypeAlias = tuple[str, str]


def constant(values: npt.ArrayLike) -> FloatArray:
    """Read-only float64. An array that already is one is passed on, so that shared weights stay shared."""
    if (
        isinstance(values, np.ndarray)
        and values.dtype == np.float64
        and values.flags.c_contiguous
        and not values.flags.writeable
        and values.base is None
    ):
        return values
    return frozen(values, np.float64)


def _freeze(op: Any, *names: str) -> None:
    for name in names:
        values = getattr(op, name)
        if values is not None:
            object.__setattr__(op, name, constant(values))


def _zero() -> FloatArray:
    return constant(0.0)


def _one() -> FloatArray:
    return constant(1.0)


class ResetRule(str, enum.Enum):
    """What a spike does to v.

    VALUE          v[t] becomes v_reset
    SUBTRACT       v[t] loses the threshold, once per spike sent
    SUBTRACT_NEXT  v[t+1] loses the threshold: keep_v * v[t] + ... - threshold (snnTorch's delayed reset)
    BLANK_NEXT     v[t+1] is 0 and the input of that step is lost (snnTorch's Synaptic, reset to zero)
    """

    VALUE = "value"
    SUBTRACT = "subtract"
    SUBTRACT_NEXT = "subtract_next"
    BLANK_NEXT = "blank_next"


# --- ops --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Input:
    """Where samples enter."""

    shape: Shape


@dataclass(frozen=True)
class Output:
    """Where the result leaves; passes its input on. ``shape`` is checked where the file states one."""

    shape: Shape | None = None


@dataclass(frozen=True, eq=False)
class Conv2d:
    """Correlation with zero padding, as in torch. weight (C_out, C_in / groups, K_h, K_w), bias (C_out,)."""

    weight: FloatArray
    bias: FloatArray | None = None
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    def __post_init__(self) -> None:
        _freeze(self, "weight", "bias")


@dataclass(frozen=True, eq=False)
class Linear:
    """y = W x + b on a vector. weight (out, in), bias (out,)."""

    weight: FloatArray
    bias: FloatArray | None = None

    def __post_init__(self) -> None:
        _freeze(self, "weight", "bias")


@dataclass(frozen=True, eq=False)
class BatchNorm:
    """y = (x - mean) / sqrt(var + eps) * gamma + beta over axis 0; all arrays (C,)."""

    mean: FloatArray
    var: FloatArray
    gamma: FloatArray
    beta: FloatArray
    eps: float = 1e-5

    def __post_init__(self) -> None:
        _freeze(self, "mean", "var", "gamma", "beta")

    @property
    def factor(self) -> FloatArray:
        """(C,) what x is multiplied by."""
        return np.asarray(self.gamma / np.sqrt(self.var + self.eps))

    @property
    def offset(self) -> FloatArray:
        """(C,) what is added after that."""
        return np.asarray(self.beta - self.mean * self.factor)


@dataclass(frozen=True, eq=False)
class Scale:
    """y = factor * x, element by element."""

    factor: FloatArray

    def __post_init__(self) -> None:
        _freeze(self, "factor")


@dataclass(frozen=True)
class Add:
    """Sum of all operands."""


@dataclass(frozen=True)
class Sub:
    """First operand minus second."""


@dataclass(frozen=True)
class Mul:
    """Product of all operands, element by element."""


@dataclass(frozen=True)
class Concat:
    """Operands one after the other along ``axis``."""

    axis: int = 0


@dataclass(frozen=True)
class MaxPool:
    """Maximum over windows; padding never wins."""

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)


@dataclass(frozen=True)
class AvgPool:
    """Mean over windows; padding counts as zeros, as in torch's default."""

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)


@dataclass(frozen=True)
class SumPool:
    """Sum over windows, zero padding."""

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)


@dataclass(frozen=True)
class Flatten:
    """Joins the axes start..end (inclusive, counted without the batch)."""

    start: int = 0
    end: int = -1


@dataclass(frozen=True, eq=False)
class Neuron:
    """Every neuron of every framework, in one normal form.

    u[t] = keep_u u[t-1] + w_in x[t]
    v[t] = keep_v v[t-1] + gain u[t] + (1 - keep_v) v_leak
    spikes where v[t] > or >= threshold; then the reset rule. v[-1] = v0, u[-1] = 0.

    threshold None: a readout that never fires and whose output is v. multi_spike: the neuron sends
    floor(v / threshold) spikes in one step instead of one.
    """

    threshold: FloatArray | None
    keep_v: FloatArray = field(default_factory=_one)
    gain: FloatArray = field(default_factory=_one)
    v_leak: FloatArray = field(default_factory=_zero)
    v_reset: FloatArray = field(default_factory=_zero)
    keep_u: FloatArray = field(default_factory=_zero)
    w_in: FloatArray = field(default_factory=_one)
    v0: FloatArray = field(default_factory=_zero)
    reset: ResetRule = ResetRule.VALUE
    compare: Compare = Compare.GREATER_EQUAL
    multi_spike: bool = False

    def __post_init__(self) -> None:
        _freeze(self, *NEURON_ARRAYS)


NEURON_ARRAYS = ("threshold", "keep_v", "gain", "v_leak", "v_reset", "keep_u", "w_in", "v0")


@dataclass(frozen=True)
class Delay:
    """y[t] = x[t - steps], 0 before. A loop must pass one: frameworks feed a spike back a step later."""

    steps: int = 1


@dataclass(frozen=True)
class ReLU:
    """max(x, 0); only in networks that are to be converted."""


@dataclass(frozen=True)
class TimeMean:
    """Mean over the T steps; every step of its output holds the same value."""


Op: TypeAlias = (
    Input
    | Output
    | Conv2d
    | Linear
    | BatchNorm
    | Scale
    | Add
    | Sub
    | Mul
    | Concat
    | MaxPool
    | AvgPool
    | SumPool
    | Flatten
    | Neuron
    | Delay
    | ReLU
    | TimeMean
)

ORDERED = (Sub, Mul, Concat)
"""Ops that see their operands one by one; into every other op, edges add."""


# --- the graph --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class OpGraph:
    """Named ops, ordered edges.

    steps: T that the network was trained with, where the source says. notes: what an importer wants
    the report to say. profile: the import profile and who chose it, for the report.

    Raises NmcError NMC-G01 for an edge to a node that is not there.
    """

    nodes: Mapping[str, Op]
    edges: tuple[Edge, ...]
    name: str = "network"
    steps: int | None = None
    notes: tuple[str, ...] = ()
    profile: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", MappingProxyType(dict(self.nodes)))
        object.__setattr__(self, "edges", tuple((a, b) for a, b in self.edges))
        for edge in self.edges:
            for end in edge:
                if end not in self.nodes:
                    raise NmcError(
                        "NMC-G01",
                        end,
                        f"edge {edge[0]} -> {edge[1]} names a node that is not there",
                        "add the node or drop the edge",
                    )

    def _repr_html_(self) -> str:
        kinds = Counter(type(op).__name__ for op in self.nodes.values())
        lines = [("operations", ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())))]
        lines += [] if self.steps is None else [("steps", f"{self.steps:,}")]
        lines += [("import profile", self.profile)] if self.profile else []
        lines += [("note", text) for text in self.notes]
        return summary(f"nmc graph {self.name}", lines)

    @cached_property
    def _before(self) -> dict[str, tuple[str, ...]]:
        table: dict[str, list[str]] = {name: [] for name in self.nodes}
        for source, target in self.edges:
            table[target].append(source)
        return {name: tuple(sources) for name, sources in table.items()}

    @cached_property
    def _after(self) -> dict[str, tuple[str, ...]]:
        table: dict[str, list[str]] = {name: [] for name in self.nodes}
        for source, target in self.edges:
            table[source].append(target)
        return {name: tuple(targets) for name, targets in table.items()}

    def before(self, name: str) -> tuple[str, ...]:
        """Sources of the edges into a node, in edge order, repeated where an edge is repeated."""
        return self._before[name]

    def after(self, name: str) -> tuple[str, ...]:
        """Targets of the edges out of a node, in edge order."""
        return self._after[name]

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Topological order; the earlier node of ``nodes`` first where there is a choice. Of a loop, a Delay
        comes first: before what feeds it.

        Raises NmcError NMC-G09 naming a cycle without Delay.
        """
        rank = {name: index for index, name in enumerate(self.nodes)}
        names = tuple(self.nodes)
        waiting = {name: len(sources) for name, sources in self._before.items()}
        ready = [rank[name] for name, count in waiting.items() if count == 0]
        heapq.heapify(ready)
        done: dict[str, None] = {}
        while len(done) < len(names):
            if not ready:
                ready.append(rank[self._closing({name for name in names if name not in done})])
            name = names[heapq.heappop(ready)]
            done[name] = None
            for target in self._after[name]:
                waiting[target] -= 1
                if waiting[target] == 0 and target not in done:
                    heapq.heappush(ready, rank[target])
        return tuple(done)

    def _closing(self, stuck: set[str]) -> str:
        """A Delay on a loop that waits for as few others as possible. Every stuck node has a stuck source."""
        found: tuple[int, str] | None = None
        for name in self.named(Delay):
            if name not in stuck:
                continue
            behind = {name}
            stack = [name]
            while stack:
                new = {source for source in self._before[stack.pop()] if source in stuck} - behind
                behind |= new
                stack += new
            on_loop = any(target in behind for target in self._after[name])
            if on_loop and (found is None or len(behind) < found[0]):
                found = len(behind), name
        if found is not None:
            return found[1]
        walk = [min(stuck)]
        while (step := next(source for source in self._before[walk[-1]] if source in stuck)) not in walk:
            walk.append(step)
        loop = " -> ".join([step, *reversed(walk[walk.index(step) :])])
        raise NmcError(
            "NMC-G09", step, f"feeds itself through {loop} in one step", "put a delay of one step into it"
        )

    @cached_property
    def segments(self) -> tuple[tuple[str, ...], ...]:
        """``order`` in pieces that can each run over all steps before the next; those of several nodes hold
        loops, and must run step by step."""
        position = {name: index for index, name in enumerate(self.order)}
        last = [max(map(position.__getitem__, (name, *self._before[name]))) for name in self.order]
        segments, first = [], 0
        while first < len(last):
            index = end = first
            while index <= end:
                end, index = max(end, last[index]), index + 1
            segments.append(self.order[first : end + 1])
            first = end + 1
        return tuple(segments)

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """Output shape of every node; raises NmcError NMC-G03 naming both nodes of a mismatch."""
        from nmc.frontend.shapes import infer_shapes

        return infer_shapes(self)

    def check_ends(self) -> None:
        """Refuse a graph without exactly one Input and one Output, or with a node that reaches no output.

        Raises NmcError NMC-G05 or NMC-G08.
        """
        for kind in (Input, Output):
            names = self.named(kind)
            if len(names) != 1:
                listed = f" ({', '.join(names)})" if names else ""
                problem = f"{len(names)} nodes of type {kind.__name__}{listed}, expected one"
                raise NmcError("NMC-G05", self.name, problem, "give the graph one of each")
        useful: set[str] = set(self.named(Output))
        waiting = list(useful)
        while waiting:
            new = set(self.before(waiting.pop())) - useful
            useful |= new
            waiting += new
        for name in reversed(self.order):
            if name not in useful:
                raise NmcError("NMC-G08", name, "its output reaches no output of the network", "remove it")

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        """Shapes of the Input nodes, in ``nodes`` order."""
        return tuple(op.shape for op in self.nodes.values() if isinstance(op, Input))

    def named(self, kind: type[Any]) -> tuple[str, ...]:
        """Names of the nodes of one op type, in ``nodes`` order."""
        return tuple(name for name, op in self.nodes.items() if isinstance(op, kind))

    def with_(self, **changes: Any) -> OpGraph:
        return replace(self, **changes)
