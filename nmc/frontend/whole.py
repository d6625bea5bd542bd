"""Which values of an op graph are whole numbers, spikes and sums of spikes, and how large they get."""

from __future__ import annotations

import numpy as np

from nmc import ir
from nmc.frontend import gates
from nmc.frontend import opgraph as og
from nmc.frontend.opgraph import OpGraph
from nmc.ir import Shape

Bounds = tuple[int, int]


def value_ranges(graph: OpGraph) -> dict[str, Bounds | None]:
    """(lowest, highest) of every node whose values are whole numbers whatever the input; None for others."""
    found: dict[str, Bounds | None] = {}
    for name in graph.order:
        if isinstance(graph.nodes[name], og.Delay):
            found[name] = _delayed(graph, name, found)
            continue
        operands = [found[before] for before in graph.before(name)]
        known = [one for one in operands if one is not None]
        op = graph.nodes[name]
        if len(known) < len(operands):
            found[name] = _alone(op)
        elif isinstance(op, og.Conv2d | og.Linear):
            found[name] = _weighted(op, known, graph.shapes[graph.before(name)[0]])
        else:
            found[name] = _range(op, known)
    return found


def _delayed(graph: OpGraph, name: str, found: dict[str, Bounds | None]) -> Bounds | None:
    """Of a Delay: what its sources send, and the 0 of its first steps."""
    ranges = [found.get(before, _alone(graph.nodes[before])) for before in graph.before(name)]
    known = [one for one in ranges if one is not None]
    if len(known) < len(ranges):
        return None
    return min(0, sum(a for a, _ in known)), max(0, sum(b for _, b in known))


def _alone(op: og.Op) -> Bounds | None:
    """What is whole whatever comes in."""
    fires = isinstance(op, og.Neuron) and op.threshold is not None and not op.multi_spike
    return (0, 1) if fires else None


def _weighted(op: og.Conv2d | og.Linear, operands: list[Bounds], source: Shape) -> Bounds | None:
    """Of a layer with whole weights, such as one that repeats pixels for a gate; borders add zeros."""
    if (op.weight % 1).any() or (op.bias is not None and (op.bias % 1).any()):
        return None
    low, high = min(0, sum(a for a, _ in operands)), max(0, sum(b for _, b in operands))
    synapse: ir.Synapse = ir.Dense()
    if isinstance(op, og.Conv2d):
        synapse = ir.Conv2d(op.stride, op.padding, op.dilation, op.groups)
    plus, minus = (gates.fan_in(synapse, np.maximum(sign * op.weight, 0.0), source) for sign in (1, -1))
    bias = np.zeros(1) if op.bias is None else op.bias
    return int((plus * low - minus * high + bias).min()), int((plus * high - minus * low + bias).max())


def _range(op: og.Op, operands: list[Bounds]) -> Bounds | None:
    if not operands or isinstance(op, og.Neuron):
        return _alone(op)
    low, high = sum(a for a, _ in operands), sum(b for _, b in operands)
    if isinstance(op, og.Concat):
        return min(a for a, _ in operands), max(b for _, b in operands)
    if isinstance(op, og.Sub):
        return operands[0][0] - operands[1][1], operands[0][1] - operands[1][0]
    if isinstance(op, og.Mul):
        return (0, int(np.prod([b for _, b in operands]))) if min(a for a, _ in operands) >= 0 else None
    if isinstance(op, og.SumPool):
        area = op.kernel[0] * op.kernel[1]
        return min(low * area, 0), max(high * area, 0)
    if isinstance(op, og.Add | og.Flatten | og.MaxPool | og.Output):
        return low, high
    if isinstance(op, og.Scale | og.BatchNorm):
        factor = op.factor
        offset = op.offset if isinstance(op, og.BatchNorm) else np.zeros(1)
        if np.ptp(factor) or np.ptp(offset) or factor.flat[0] % 1 or offset.flat[0] % 1:
            return None
        ends = [int(factor.flat[0]) * end + int(offset.flat[0]) for end in (low, high)]
        return min(ends), max(ends)
    return None
