"""Two linear operators after each other as one: what lets pools, flattening and scales cost no chip step.

Every result is exact, borders included. Where no operator can express the pair, because zero padding
would cut a window in two, the pair is refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from nmc import synapse
from nmc.errors import InternalError, NmcError
from nmc.ir import Conv2d, Dense, FloatArray, Identity, Shape, SumPool2d, Synapse, frozen

Operator: TypeAlias = tuple[Synapse, FloatArray]

MAX_DENSE = 1 << 25
"""Elements of the largest dense matrix that a pair may become (256 MiB): a ResNet-18 with 1,000 classes."""


def compose(first: Operator, second: Operator, source: Shape, who: str) -> Operator:
    """The operator that equals ``second`` after ``first``.

    Args:
        first, second: operators with their weights.
        source: shape that ``first`` is applied to.
        who: the user's layer, for messages.

    Raises:
        NmcError: NMC-G05 when no operator of ``ir`` expresses the pair.
    """
    one, other = first[0], second[0]
    if isinstance(one, Identity):
        return _after_identity(first[1], second, source, who)
    middle = synapse.output_shape(one, first[1].shape, source, who)
    if isinstance(other, Identity):
        return _before_identity(first, second[1], source, middle, who)
    if isinstance(other, Dense):
        return _before_dense(first, second[1], source, middle, who)
    return _before_window(first, second, source, middle, who)


class WindowCutError(NmcError):
    """Zero padding would cut a window in two: the first operator needs a population of its own."""


def _refusal(who: str, problem: str, remedy: str) -> NmcError:
    return NmcError("NMC-G05", who, f"cannot be folded into its neighbour: {problem}", remedy)


def _per_position(who: str) -> NmcError:
    return _refusal(who, "its factors differ inside of a channel", "use one factor per channel")


def dense(operator: Operator, source: Shape, who: str) -> FloatArray:
    """(out, in) of one operator, by sending every unit vector through it."""
    size = math.prod(source)
    target = synapse.output_shape(operator[0], operator[1].shape, source, who)
    _check_dense(size * max(math.prod(target), size), who)
    return frozen(synapse.apply(*operator, np.eye(size).reshape(size, *source)).reshape(size, -1).T)


def _check_dense(elements: int, who: str) -> None:
    if elements > MAX_DENSE:
        raise NmcError(
            "NMC-G05",
            who,
            f"folding it into its neighbour needs a matrix of {elements:,} elements, "
            f"at most {MAX_DENSE:,} are built",
            "pool before the linear layer",
            measured=elements,
            allowed=MAX_DENSE,
        )


def _after_identity(factor: FloatArray, second: Operator, source: Shape, who: str) -> Operator:
    """``second`` after an element-wise factor; weights are passed on untouched when the factor is 1."""
    operator, weight = second
    if factor.size == 1:
        value = float(factor.reshape(()))
        return second if value == 1 else (operator, frozen(weight * value))
    if isinstance(operator, Identity):
        return operator, frozen(factor * weight)
    if isinstance(operator, Dense):
        return operator, frozen(weight * np.broadcast_to(factor, source).reshape(1, -1))
    if any(size != 1 for size in factor.shape[1:]):
        raise _per_position(who)
    channels = np.broadcast_to(factor.reshape(-1), source[:1])
    if isinstance(operator, SumPool2d):
        kernel = np.ones((source[0], 1, *operator.kernel)) * weight * channels[:, None, None, None]
        return Conv2d(operator.stride, operator.padding, groups=source[0]), frozen(kernel)
    per_group = np.repeat(channels.reshape(operator.groups, -1), weight.shape[0] // operator.groups, axis=0)
    return operator, frozen(weight * per_group[:, :, None, None])


def _before_identity(first: Operator, factor: FloatArray, source: Shape, middle: Shape, who: str) -> Operator:
    """An element-wise factor after ``first``."""
    operator, weight = first
    if factor.size == 1:
        return _after_identity(factor, first, source, who)
    if isinstance(operator, Dense):
        return operator, frozen(weight * np.broadcast_to(factor, middle).reshape(-1, 1))
    if any(size != 1 for size in factor.shape[1:]):
        raise _per_position(who)
    channels = np.broadcast_to(factor.reshape(-1), middle[:1])
    if isinstance(operator, SumPool2d):
        return _after_identity(channels[:, None, None], first, source, who)
    return operator, frozen(weight * channels[:, None, None, None])


def _before_dense(first: Operator, weight: FloatArray, source: Shape, middle: Shape, who: str) -> Operator:
    """A matrix after ``first``. After a window operator it is a convolution whose kernel is the whole map."""
    if isinstance(first[0], Dense):
        return Dense(), frozen(weight @ first[1])
    _check_dense(weight.shape[0] * math.prod(source), who)
    one = _window(*first, source[0])
    two = _window(Conv2d(), weight.reshape(-1, *middle), middle[0])
    kernel = _composite_kernel(one, two)
    if kernel is None:
        return Dense(), frozen(weight @ dense(first, source, who))
    # The composite window starts at -padding; what lies outside of the map only ever meets zeros.
    (top, left), (_, height, width) = one.padding, source
    part = kernel[:, :, top : top + height, left : left + width]
    whole = np.zeros((len(kernel), *source))
    whole[:, :, : part.shape[2], : part.shape[3]] = part
    return Dense(), frozen(whole.reshape(len(whole), -1))


# --- windows after windows --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Window:
    """A pool or convolution as kernel (C_out, C_in / groups, K_h, K_w) and geometry."""

    kernel: FloatArray
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    @property
    def depthwise(self) -> bool:
        return self.kernel.shape[:2] == (self.groups, 1)

    def extent(self, axis: int) -> int:
        """Source positions that one window spans."""
        return self.dilation[axis] * (self.kernel.shape[2 + axis] - 1) + 1


def _window(operator: Synapse, weight: FloatArray, channels: int) -> _Window:
    if isinstance(operator, SumPool2d):
        kernel = np.full((channels, 1, *operator.kernel), float(weight.reshape(())))
        return _Window(kernel, operator.stride, operator.padding, (1, 1), channels)
    if not isinstance(operator, Conv2d):
        raise InternalError(f"{type(operator).__name__} has no window")
    return _Window(weight, operator.stride, operator.padding, operator.dilation, operator.groups)


def _before_window(first: Operator, second: Operator, source: Shape, middle: Shape, who: str) -> Operator:
    """Pool or convolution after pool or convolution, as one convolution (or pool)."""
    one, two = _window(*first, source[0]), _window(*second, middle[0])
    target = synapse.output_shape(*_geometry(second), middle, "")
    if not all(_border_exact(one, two, source, middle, target, axis) for axis in (0, 1)):
        problem = f"zero padding of {two.padding} cuts a window of {one.kernel.shape[2:]} in two"
        remedy = "let the pool's stride be its kernel and divide the map, or do not pad"
        raise WindowCutError("NMC-G05", who, f"cannot be folded into its neighbour: {problem}", remedy)
    kernel = _composite_kernel(one, two)
    if kernel is None:
        raise _refusal(who, "both are grouped convolutions", "put a neuron between them")
    stride = (one.stride[0] * two.stride[0], one.stride[1] * two.stride[1])
    padding = (
        one.padding[0] + two.padding[0] * one.stride[0],
        one.padding[1] + two.padding[1] * one.stride[1],
    )
    if isinstance(first[0], SumPool2d) and isinstance(second[0], SumPool2d) and np.ptp(kernel) == 0:
        size = (kernel.shape[2], kernel.shape[3])
        return SumPool2d(size, stride, padding), frozen(kernel.flat[0])
    groups = two.groups if one.depthwise else one.groups
    return Conv2d(stride, padding, groups=groups), frozen(kernel)


def _geometry(operator: Operator) -> tuple[Synapse, Shape]:
    return operator[0], operator[1].shape


def _border_exact(one: _Window, two: _Window, source: Shape, middle: Shape, target: Shape, axis: int) -> bool:
    """Whether the zeros that ``two`` pads with stand where windows of ``one`` would meet only padding too."""
    step, pad = one.stride[axis], one.padding[axis]
    left = two.padding[axis] == 0 or -step - pad + one.extent(axis) <= 0
    last = (target[1 + axis] - 1) * two.stride[axis] - two.padding[axis] + two.extent(axis) - 1
    right = last < middle[1 + axis] or middle[1 + axis] * step - pad >= source[1 + axis]
    return left and right


def _composite_kernel(one: _Window, two: _Window) -> FloatArray | None:
    """(C_out, C_in / groups, K_h, K_w), K = extent(one) + (extent(two) - 1) * stride(one).

    groups are ``two``'s where ``one`` is depthwise, else ``one``'s. None for two grouped convolutions.
    """
    if not (one.depthwise or two.depthwise or one.groups == two.groups == 1):
        return None
    step = tuple(two.dilation[axis] * one.stride[axis] for axis in (0, 1))
    size = [one.extent(axis) + (two.extent(axis) - 1) * one.stride[axis] for axis in (0, 1)]
    outputs = two.kernel.shape[0]
    inputs = two.kernel.shape[1] if one.depthwise else one.kernel.shape[1]
    whole = np.zeros((outputs, inputs, *size))
    rows, columns = two.kernel.shape[2:]
    for y in range(one.kernel.shape[2]):
        for x in range(one.kernel.shape[3]):
            tap = one.kernel[:, :, y, x]
            top, left = y * one.dilation[0], x * one.dilation[1]
            part = whole[:, :, top : top + (rows - 1) * step[0] + 1 : step[0]]
            part = part[:, :, :, left : left + (columns - 1) * step[1] + 1 : step[1]]
            part += _tap(tap, one, two)
    return whole


def _tap(tap: FloatArray, one: _Window, two: _Window) -> FloatArray:
    """What one tap of ``one`` adds to the composite: (C_out, C_in / groups, rows, columns of ``two``)."""
    if one.depthwise:
        per_group = np.repeat(tap.reshape(two.groups, -1), len(two.kernel) // two.groups, axis=0)
        return np.asarray(two.kernel * per_group[:, :, None, None])
    if two.depthwise:
        return np.asarray(two.kernel * tap[:, :, None, None])
    return np.asarray(np.einsum("omyx,mi->oiyx", two.kernel, tap))
