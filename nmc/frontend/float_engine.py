"""The float engine: what the imported network says, step by step, before any chip is considered.

``run`` executes an op graph with every semantics an import profile can state: it is what an import is
checked with. It works on all samples at once, node by node over all steps, in topological order; what stands
in a loop runs step by step. ``float_network`` does the same for the Network that calibration sees.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nmc import ir, synapse
from nmc.errors import InternalError, NmcError
from nmc.frontend import opgraph as og
from nmc.frontend.opgraph import OpGraph, ResetRule
from nmc.frontend.shapes import spread
from nmc.ir import Compare, FloatArray, Shape, Synapse

Array = npt.NDArray[Any]

MAX_ROWS_ELEMENTS = 1 << 24
"""Elements of the largest intermediate (im2col) array per call; samples and steps are split to stay below."""


# --- data -------------------------------------------------------------------------------------------


def as_trains(x: npt.ArrayLike, shape: Shape, steps: int, who: str) -> FloatArray:
    """Samples as (N, T, *shape), or (N, 1, *shape) for frames, which hold for every step; float64.

    Raises NmcError NMC-D02 for a wrong shape or number of steps, NMC-U02 for ``steps`` below 1.
    """
    if steps < 1:
        raise NmcError("NMC-U02", "steps", f"{steps} time steps", "give at least 1")
    array = np.asarray(x, dtype=np.float64)
    if array.ndim == 1 + len(shape) and array.shape[1:] == shape:
        return array[:, None]
    if array.ndim == 2 + len(shape) and array.shape[2:] == shape:
        if array.shape[1] < steps:
            raise NmcError(
                "NMC-D02",
                who,
                f"trains of {array.shape[1]} steps, {steps} asked for",
                "give longer trains or fewer steps",
            )
        return array[:, :steps]
    sizes = ", ".join(map(str, shape))
    raise NmcError(
        "NMC-D02",
        who,
        f"data of shape {array.shape}, expected (N, {sizes}) or (N, T, {sizes})",
        "give samples of the model's input shape",
    )


def over_time(function: Callable[[Array], Array], x: Array, growth: int = 1) -> Array:
    """Apply a function of (rows, *shape) to (N, T, *shape), in pieces of bounded size."""
    n, t = x.shape[:2]
    rows = x.reshape(n * t, *x.shape[2:])
    piece = max(1, MAX_ROWS_ELEMENTS // max(1, growth * rows[:1].size))
    if len(rows) <= piece:
        result = function(rows)
    else:
        result = np.concatenate([function(rows[i : i + piece]) for i in range(0, len(rows), piece)])
    return result.reshape(n, t, *result.shape[1:])


def current(operator: Synapse, weight: FloatArray, x: Array) -> Array:
    """``synapse.apply`` over (N, T, *shape)."""
    growth = int(np.prod(weight.shape[2:])) if isinstance(operator, ir.Conv2d) else 1
    if isinstance(operator, ir.SumPool2d):
        growth = operator.kernel[0] * operator.kernel[1]
    return over_time(lambda rows: synapse.apply(operator, weight, rows), x, growth)


# --- op graph ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class FloatRun:
    """What ``run`` returns.

    values: per recorded node its output (N, T, *shape).
    output: (N, *shape): sum over T of what the output node gets (spike counts), or the potential
    after the last step where the network ends in a neuron that never fires.
    """

    values: dict[str, Array]
    output: Array


def run(
    graph: OpGraph,
    x: npt.ArrayLike,
    steps: int,
    record: Collection[str] | None = None,
    dtype: npt.DTypeLike = np.float64,
) -> FloatRun:
    """Execute an op graph.

    Args:
        graph: with one Input and one Output.
        x: (N, *shape) frames, held for every step, or (N, T, *shape) trains.
        steps: T.
        record: names of the nodes to keep; None keeps all.
        dtype: float64, or float32: every op's result is rounded to it and neurons compute in it.

    Raises:
        NmcError: NMC-U03 for an unknown name in ``record``, NMC-D02 for data that do not fit.
    """
    (source,), (sink,) = graph.named(og.Input), graph.named(og.Output)
    for name in record or ():
        if name not in graph.nodes:
            raise NmcError("NMC-U03", name, "no node of that name", "see the names in graph.nodes")
    values: dict[str, Array] = {}
    readers = {name: set(graph.after(name)) for name in graph.order}
    kept: dict[str, Array] = {}
    for segment in graph.segments:
        name = segment[0]
        if len(segment) > 1:
            values |= _loop(graph, segment, values, steps, np.dtype(dtype))
        elif name == source:
            values[name] = as_trains(x, graph.shapes[name], steps, name).astype(dtype, copy=False)
        else:
            operands = [values[before] for before in graph.before(name)]
            value = _evaluate(graph.nodes[name], operands, graph.shapes[name], steps, np.dtype(dtype))
            values[name] = value.astype(dtype, copy=False)
        for name in segment:
            if record is None or name in record:
                kept[name] = np.broadcast_to(values[name], (len(values[name]), steps, *graph.shapes[name]))
        for name in segment:
            for before in set(graph.before(name)):
                readers[before].discard(name)
                if not readers[before]:
                    del values[before]
    final = values[sink]
    if readout(graph) == "potential":
        return FloatRun(kept, final[:, -1])
    total = final.sum(axis=1) if final.shape[1] == steps else final[:, 0] * steps
    return FloatRun(kept, total)


def readout(graph: OpGraph) -> str:
    """ "potential" when the network ends in a neuron that never fires, else "count"."""
    (sink,) = graph.named(og.Output)
    sources = graph.before(sink)
    while len(sources) == 1 and isinstance(graph.nodes[sources[0]], og.Flatten):
        sources = graph.before(sources[0])
    ends = [graph.nodes[name] for name in sources]
    return "potential" if any(isinstance(op, og.Neuron) and op.threshold is None for op in ends) else "count"


def _loop(
    graph: OpGraph, segment: Collection[str], values: Mapping[str, Array], steps: int, dtype: np.dtype[Any]
) -> dict[str, Array]:
    """Outputs (N, T, *shape) of nodes that feed each other, one step of all of them after the other."""
    samples = len(next(iter(values.values())))
    found = {name: np.zeros((samples, steps, *graph.shapes[name]), dtype) for name in segment}
    cells = {
        name: Cell(op, samples, graph.shapes[name], dtype)
        for name in segment
        if isinstance(op := graph.nodes[name], og.Neuron)
    }

    def at(name: str, t: int) -> Array:
        train = found[name] if name in found else values[name]
        return train[:, t : t + 1] if train.shape[1] > 1 else train

    for t in range(steps):
        for name in segment:
            op, sources = graph.nodes[name], graph.before(name)
            if isinstance(op, og.TimeMean):
                raise NmcError(
                    "NMC-G05", name, "a mean over time inside of a loop", "take it out of the loop"
                )
            if isinstance(op, og.Delay):
                if t >= op.steps:
                    found[name][:, t] = _reduce(np.add, [at(one, t - op.steps) for one in sources])[:, 0]
            elif name in cells:
                found[name][:, t] = cells[name].step(_reduce(np.add, [at(one, t) for one in sources])[:, 0])
            else:
                operands = [at(one, t) for one in sources]
                found[name][:, t] = _evaluate(op, operands, graph.shapes[name], 1, dtype)[:, 0]
    return found


def _evaluate(op: og.Op, operands: list[Array], shape: Shape, steps: int, dtype: np.dtype[Any]) -> Array:
    """Output (N, T or 1, *shape) of one op; 1 where nothing changes from step to step."""
    if isinstance(op, og.Concat):
        longest = max(x.shape[1] for x in operands)
        same = [np.broadcast_to(x, (len(x), longest, *x.shape[2:])) for x in operands]
        return np.concatenate(same, axis=op.axis + 2)
    if isinstance(op, og.Sub):
        return np.asarray(operands[0] - operands[1])
    if isinstance(op, og.Mul):
        return _reduce(np.multiply, operands)
    x = _reduce(np.add, operands)
    if isinstance(op, og.Neuron):
        return fire(op, x, steps, dtype)
    if isinstance(op, og.Delay):
        late = np.zeros((len(x), steps, *shape), dtype)
        late[:, op.steps :] = x[:, : max(0, steps - op.steps)] if x.shape[1] > 1 else x
        return late
    if isinstance(op, og.Conv2d):
        y = current(ir.Conv2d(op.stride, op.padding, op.dilation, op.groups), op.weight, x)
        return y if op.bias is None else y + op.bias[:, None, None]
    if isinstance(op, og.Linear):
        y = current(ir.Dense(), op.weight, x)
        return y if op.bias is None else y + op.bias
    if isinstance(op, og.BatchNorm):
        axes = (slice(None), *[None] * (len(shape) - 1))
        return np.asarray(x * op.factor[axes] + op.offset[axes])
    if isinstance(op, og.Scale):
        return np.asarray(x * spread(op.factor, shape))
    if isinstance(op, og.SumPool | og.AvgPool):
        area = op.kernel[0] * op.kernel[1] if isinstance(op, og.AvgPool) else 1
        return current(ir.SumPool2d(op.kernel, op.stride, op.padding), np.array(1.0 / area), x)
    if isinstance(op, og.MaxPool):
        return over_time(lambda rows: _max_pool(op, rows), x)
    if isinstance(op, og.Flatten):
        return x.reshape(*x.shape[:2], *shape)
    if isinstance(op, og.ReLU):
        return np.maximum(x, 0)
    if isinstance(op, og.TimeMean):
        return np.asarray(x.mean(axis=1, keepdims=True))
    if isinstance(op, og.Add | og.Output):
        return x
    raise InternalError(f"the float engine does not know {type(op).__name__}")


def _reduce(function: Callable[[Array, Array], Array], operands: list[Array]) -> Array:
    result = operands[0]
    for operand in operands[1:]:
        result = function(result, operand)
    return result


def _max_pool(op: og.MaxPool, x: Array) -> Array:
    """(rows, C, H, W) -> maximum over windows; padding is minus infinity."""
    (ph, pw), (sh, sw) = op.padding, op.stride
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, op.kernel, (2, 3))  # type: ignore[call-overload]
    return np.asarray(windows[:, :, ::sh, ::sw].max(axis=(-2, -1)))


def fire(op: og.Neuron, x: Array, steps: int, dtype: npt.DTypeLike = np.float64) -> Array:
    """Spikes (N, T, *shape) of a neuron op on its input (N, T or 1, *shape); the potential if it never fires.

    The update is the normal form in ``opgraph.Neuron``.
    """
    cell = Cell(op, len(x), x.shape[2:], dtype)
    result = np.empty((len(x), steps, *x.shape[2:]), dtype)
    for t in range(steps):
        result[:, t] = cell.step(x[:, t if x.shape[1] > 1 else 0])
    return result


class Cell:
    """A neuron op with its state, (N, *shape); ``v`` is the membrane potential after the last step."""

    def __init__(self, op: og.Neuron, samples: int, shape: Shape, dtype: npt.DTypeLike) -> None:
        self._op, self._dtype = op, dtype
        self._p = {
            name: spread(values, shape).astype(dtype)
            for name in og.NEURON_ARRAYS
            if (values := getattr(op, name)) is not None
        }
        self._leak = (1 - self._p["keep_v"]) * self._p["v_leak"]
        self._u: Array = np.zeros((samples, *shape), dtype)
        self.v: Array = np.broadcast_to(self._p["v0"], self._u.shape).copy()
        self._spikes: Array = np.zeros_like(self._u)

    def step(self, x: Array) -> Array:
        """What the neuron sends on input (N, *shape): spikes, or the potential if it never fires."""
        op, p = self._op, self._p
        self._u = p["keep_u"] * self._u + p["w_in"] * x
        v: Array = p["keep_v"] * self.v + p["gain"] * self._u + self._leak
        if op.threshold is None:
            self.v = v
            return v
        threshold = p["threshold"]
        if op.reset is ResetRule.SUBTRACT_NEXT:
            v = v - self._spikes * threshold
        elif op.reset is ResetRule.BLANK_NEXT:
            v = np.where(self._spikes > 0, 0, v)
        over = v > threshold if op.compare is Compare.GREATER else v >= threshold
        self._spikes = np.where(over, np.floor(v / threshold) if op.multi_spike else 1, 0).astype(self._dtype)
        if op.reset is ResetRule.VALUE:
            v = np.where(over, p["v_reset"], v)
        elif op.reset is ResetRule.SUBTRACT:
            v = v - self._spikes * threshold
        self.v = v
        return self._spikes
