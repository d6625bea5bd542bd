"""Shape inference over an op graph, and every rule about sizes that an op must obey."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from nmc import ir, synapse
from nmc.errors import NmcError
from nmc.frontend import opgraph as og
from nmc.frontend.opgraph import Op, OpGraph, Pair
from nmc.ir import FloatArray, Shape

Operand = tuple[str, Shape]

MAX_NEURONS = 1 << 28
"""Elements of the largest tensor: a few numbers in a small file must not ask for terabytes later."""


def infer_shapes(graph: OpGraph) -> dict[str, Shape]:
    """Output shape of every node, in topological order.

    Raises:
        NmcError: NMC-G02 for a node without input, NMC-G03 for a mismatch (naming both nodes),
            NMC-F04 for numbers that no tensor can satisfy, NMC-F03 for a tensor above ``MAX_NEURONS``,
            NMC-G09 for a cycle.
    """

    shapes = along(graph, lambda name, operands: output_shape(name, graph.nodes[name], operands))
    for name in graph.order:
        if name not in shapes:
            raise NmcError("NMC-G03", name, "stands in a loop that no data enter", "feed it from the input")
    return shapes


def along(graph: OpGraph, shape: Callable[[str, list[Operand]], Shape | None]) -> dict[str, Shape]:
    """Shapes of all nodes from those before them.

    What stands in a loop is first asked for with the operands that are known, and again with all of them
    once the loop is round. What stands behind a node without shape, or in a loop that no data enter, is
    left out.

    Args:
        shape: of a node with these operands; None where it has none.
    """
    shapes: dict[str, Shape] = {}
    failed: set[str] = set()
    partial: list[str] = []
    waiting, left = list(graph.order), list[str]()
    while len(waiting) != len(left):
        left = waiting
        waiting = []
        for name in left:
            sources = graph.before(name)
            known = [(source, shapes[source]) for source in sources if source in shapes]
            all_known = len(known) == len(sources)
            if failed & set(sources):
                failed.add(name)
            elif all_known or (known and not isinstance(graph.nodes[name], og.Concat)):
                # Both operands of a difference have one shape.
                twice = isinstance(graph.nodes[name], og.Sub) and not all_known
                found = shape(name, known * 2 if twice else known)
                if found is None:
                    failed.add(name)
                else:
                    shapes[name] = found
                    partial += [] if all_known else [name]
            else:
                waiting.append(name)
    for name in partial:
        operands = [(source, shapes[source]) for source in graph.before(name) if source in shapes]
        if shape(name, operands) is None:
            del shapes[name]
    return {name: shapes[name] for name in graph.order if name in shapes}


def output_shape(name: str, op: Op, operands: list[Operand]) -> Shape:
    """Shape that ``op`` makes of its operands (node name, shape)."""
    shape = _shape(name, op, operands)
    if math.prod(shape) > MAX_NEURONS:
        raise NmcError(
            "NMC-F03",
            name,
            f"gives a tensor of shape {shape}",
            "use smaller maps",
            measured=math.prod(shape),
            allowed=MAX_NEURONS,
        )
    return shape


def _shape(name: str, op: Op, operands: list[Operand]) -> Shape:
    if isinstance(op, og.Input):
        return _input_shape(name, op, operands)
    if not operands:
        raise NmcError("NMC-G02", name, "has no input", "an exporter may have lost a '+' in front of it")
    if isinstance(op, og.Concat):
        return _concat_shape(name, op, operands)
    if isinstance(op, og.Sub) and len(operands) != 2:
        raise NmcError("NMC-F04", name, f"a difference of {len(operands)} operands", "give two")
    first, shape = operands[0]
    for other, second in operands[1:]:
        if second != shape:
            raise NmcError(
                "NMC-G03",
                name,
                f"joins {first} of shape {shape} and {other} of shape {second}",
                "bring both to one shape",
            )
    if isinstance(op, og.Conv2d):
        return _conv_shape(name, op, first, shape)
    if isinstance(op, og.Linear):
        return _linear_shape(name, op, first, shape)
    if isinstance(op, og.MaxPool | og.AvgPool | og.SumPool):
        return _pool_shape(name, op, first, shape)
    if isinstance(op, og.Flatten):
        return _flatten_shape(name, op, first, shape)
    if isinstance(op, og.BatchNorm):
        for field in ("mean", "var", "gamma", "beta"):
            _vector(name, field, getattr(op, field), shape[0])
        return shape
    if isinstance(op, og.Scale):
        _fits(name, "factor", op.factor, first, shape)
        return shape
    if isinstance(op, og.Neuron):
        for field in og.NEURON_ARRAYS:
            values = getattr(op, field)
            if values is not None:
                _fits(name, field, values, first, shape)
        return shape
    if isinstance(op, og.Delay) and op.steps < 1:
        raise NmcError("NMC-F04", name, f"a delay of {op.steps} steps", "give at least 1")
    if isinstance(op, og.Output) and op.shape is not None and op.shape != shape:
        raise NmcError(
            "NMC-G03",
            name,
            f"expects shape {op.shape}, {first} gives {shape}",
            "correct the shape of the output, or the layer in front",
        )
    return shape


def fits(values: FloatArray, shape: Shape) -> bool:
    """One element, or as many axes as ``shape``, each of length 1 or full length."""
    if values.size == 1:
        return True
    return values.ndim == len(shape) and all(a in (1, b) for a, b in zip(values.shape, shape, strict=True))


def _fits(name: str, field: str, values: FloatArray, source: str, shape: Shape) -> None:
    if not fits(values, shape):
        raise NmcError(
            "NMC-G03",
            name,
            f"{field} of shape {values.shape} on {source} of shape {shape}",
            "give it one value, or one per channel or neuron",
        )


def _vector(name: str, field: str, values: FloatArray, size: int) -> None:
    if values.shape != (size,):
        raise NmcError(
            "NMC-G03",
            name,
            f"{field} of shape {values.shape}, expected ({size},)",
            "give one value per channel",
        )


def _input_shape(name: str, op: og.Input, operands: list[Operand]) -> Shape:
    if operands:
        raise NmcError("NMC-F04", name, f"an input fed by {operands[0][0]}", "remove that edge")
    if not op.shape or min(op.shape) < 1:
        raise NmcError("NMC-F04", name, f"an input of shape {op.shape}", "every size must be at least 1")
    return op.shape


def _concat_shape(name: str, op: og.Concat, operands: list[Operand]) -> Shape:
    first, shape = operands[0]
    if not 0 <= op.axis < len(shape):
        raise NmcError(
            "NMC-F04", name, f"axis {op.axis} of shape {shape}", "join along an axis that is there"
        )
    total = 0
    for other, second in operands:
        if len(second) != len(shape) or any(
            a != b for axis, (a, b) in enumerate(zip(second, shape, strict=True)) if axis != op.axis
        ):
            raise NmcError(
                "NMC-G03",
                name,
                f"joins {first} of shape {shape} and {other} of shape {second}",
                "bring both to one shape",
            )
        total += second[op.axis]
    return (*shape[: op.axis], total, *shape[op.axis + 1 :])


def _window(name: str, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> None:
    for what, values, least in (
        ("kernel", kernel, 1),
        ("stride", stride, 1),
        ("padding", padding, 0),
        ("dilation", dilation, 1),
    ):
        if min(values) < least:
            raise NmcError("NMC-F04", name, f"{what} {values}", f"every number must be at least {least}")


def _apply(name: str, operator: ir.Synapse, weight: Shape, source: str, shape: Shape) -> Shape:
    try:
        return synapse.output_shape(operator, weight, shape, name)
    except NmcError as error:
        raise NmcError(
            "NMC-G03",
            name,
            f"input {source}: {error.problem}",
            "check the layer in front, or a missing flatten",
        ) from None


def _conv_shape(name: str, op: og.Conv2d, source: str, shape: Shape) -> Shape:
    weight = op.weight.shape
    if len(weight) != 4 or 0 in weight:
        raise NmcError("NMC-F04", name, f"weight of shape {weight}", "expected (out, in, height, width)")
    if op.groups < 1 or weight[0] % op.groups:
        raise NmcError(
            "NMC-F04",
            name,
            f"{op.groups} groups do not divide {weight[0]} output channels",
            "use a number of groups that does",
        )
    _window(name, (weight[2], weight[3]), op.stride, op.padding, op.dilation)
    if op.bias is not None:
        _vector(name, "bias", op.bias, weight[0])
    return _apply(name, ir.Conv2d(op.stride, op.padding, op.dilation, op.groups), weight, source, shape)


def _linear_shape(name: str, op: og.Linear, source: str, shape: Shape) -> Shape:
    weight = op.weight.shape
    if len(weight) != 2 or 0 in weight:
        raise NmcError("NMC-F04", name, f"weight of shape {weight}", "expected (out, in)")
    if op.bias is not None:
        _vector(name, "bias", op.bias, weight[0])
    if len(shape) != 1:
        raise NmcError("NMC-G03", name, f"a linear layer on {source} of shape {shape}", "flatten it first")
    return _apply(name, ir.Dense(), weight, source, shape)


def _pool_shape(name: str, op: og.MaxPool | og.AvgPool | og.SumPool, source: str, shape: Shape) -> Shape:
    _window(name, op.kernel, op.stride, op.padding, (1, 1))
    if any(2 * pad > size for pad, size in zip(op.padding, op.kernel, strict=True)):
        raise NmcError(
            "NMC-F04", name, f"padding {op.padding} is more than half of the kernel {op.kernel}", "pad less"
        )
    return _apply(name, ir.SumPool2d(op.kernel, op.stride, op.padding), (), source, shape)


def _flatten_shape(name: str, op: og.Flatten, source: str, shape: Shape) -> Shape:
    start, end = (axis + len(shape) if axis < 0 else axis for axis in (op.start, op.end))
    if not 0 <= start <= end < len(shape):
        raise NmcError(
            "NMC-G03",
            name,
            f"flattens axes {op.start}..{op.end} of {source} of shape {shape}",
            "count axes without the batch",
        )
    return (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])


def spread(values: FloatArray, shape: Shape) -> FloatArray:
    """A fitting parameter array at full shape (a view)."""
    return np.broadcast_to(values.reshape(()) if values.size == 1 else values, shape)
