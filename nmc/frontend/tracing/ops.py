"""What each supported operation becomes in the op graph. ``functions`` and the layer tables call these.

``name`` is the node's name: a layer's module path, or the operation's own for a line in a forward pass.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from nmc.frontend import opgraph as og
from nmc.frontend import padding as paddings
from nmc.frontend.opgraph import Pair
from nmc.frontend.tracing import layout
from nmc.frontend.tracing.layout import TIME, UNIT
from nmc.frontend.tracing.value import LOOP, Value, is_value
from nmc.ir import FloatArray, Shape

if TYPE_CHECKING:
    from nmc.frontend.tracing.tracer import Tracer


def pair(number: Any) -> Pair:
    """(n, n) of a number, (a, b) of a sequence of one or two."""
    if isinstance(number, int):
        return number, number
    values = tuple(int(n) for n in number)
    return (values[0], values[0]) if len(values) == 1 else (values[0], values[1])


# --- weighted layers --------------------------------------------------------------------------------


def convolution(
    tr: Tracer,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> og.Conv2d:
    """The op of a 2-D convolution; padding a number, a pair, "valid" or "same"."""
    dilation = pair(dilation)
    if padding == "valid":
        padding = 0
    values = tr.constant(weight, "weight")
    if padding == "same":
        equal = paddings.same(values, dilation)
        if equal is None:
            tr.refuse("padding 'same' of a dilated even kernel", "pad with a number")
        values, padding = equal
    return og.Conv2d(
        values,
        None if bias is None else tr.constant(bias, "bias"),
        pair(stride),
        pair(padding),
        dilation,
        int(groups),
    )


def dense(tr: Tracer, weight: Any, bias: Any = None) -> og.Linear:
    return og.Linear(tr.constant(weight, "weight"), None if bias is None else tr.constant(bias, "bias"))


def normalization(tr: Tracer, mean: Any, var: Any, gamma: Any, beta: Any, eps: float) -> og.BatchNorm:
    """Batch norm with fixed statistics; gamma and beta None: 1 and 0."""
    size = int(mean.shape[0])
    spread = tr.constant(var, "running_var") + float(eps)
    if not (spread > 0).all():
        problem = f"running_var + eps is {spread.min():g} in {int((spread <= 0).sum())} of {size} channels"
        tr.refuse(problem, "check the training run or the checkpoint", "NMC-G04")
    return og.BatchNorm(
        tr.constant(mean, "running_mean"),
        tr.constant(var, "running_var"),
        np.ones(size) if gamma is None else tr.constant(gamma, "weight"),
        np.zeros(size) if beta is None else tr.constant(beta, "bias"),
        float(eps),
    )


# --- pools ------------------------------------------------------------------------------------------


def window(
    tr: Tracer, x: Value, kernel: Any, stride: Any, padding: Any, ceil_mode: bool
) -> tuple[Pair, Pair, Pair]:
    """(kernel, stride, padding) of a pool; refuses a ceil_mode that adds windows."""
    kernel, padding = pair(kernel), pair(padding)
    stride = kernel if stride is None or stride == () else pair(stride)
    _, height, width = _map(tr, x)
    if ceil_mode:
        for size, k, s, p in zip((height, width), kernel, stride, padding, strict=True):
            if (size + 2 * p - k) % s:
                tr.refuse(
                    f"ceil_mode adds a partial window to a map of {height} x {width}",
                    "turn ceil_mode off, or choose a size that divides",
                )
    return kernel, stride, padding


def _map(tr: Tracer, x: Value) -> Shape:
    shape = tr.node_shape(x)
    if len(shape) != 3:
        tr.refuse(f"a 2-D operation on data of shape {shape}", "give it (C, H, W)")
    return shape


def max_pool(tr: Tracer, x: Value, name: str, kernel: Any, stride: Any, padding: Any, ceil: bool) -> Value:
    return tr.emit(og.MaxPool(*window(tr, x, kernel, stride, padding, ceil)), [x], x, name)


def avg_pool(tr: Tracer, x: Value, name: str, kernel: Any, stride: Any, padding: Any, ceil: bool) -> Value:
    return tr.emit(og.AvgPool(*window(tr, x, kernel, stride, padding, ceil)), [x], x, name)


def adaptive_pool(tr: Tracer, x: Value, name: str, output_size: Any, maximum: bool = False) -> Value:
    """An adaptive pool whose windows are all alike, or that spreads a single pixel."""
    channels, height, width = _map(tr, x)
    goal = (output_size, output_size) if isinstance(output_size, int | None) else tuple(output_size)
    out = tuple(size if want is None else int(want) for want, size in zip(goal, (height, width), strict=True))
    if out == (height, width):
        return x
    if (height, width) == (1, 1):
        # Every window holds the one pixel: a depthwise kernel of ones, padded so that it always covers it.
        spread = og.Conv2d(np.ones((channels, 1, *out)), padding=(out[0] - 1, out[1] - 1), groups=channels)
        return tr.emit(spread, [x], x, name)
    if height % out[0] or width % out[1]:
        tr.refuse(
            f"adaptive pooling of {height} x {width} to {out[0]} x {out[1]} has windows of different sizes",
            "choose an input size that divides, or use a fixed kernel",
        )
    kernel = (height // out[0], width // out[1])
    return tr.emit((og.MaxPool if maximum else og.AvgPool)(kernel, kernel), [x], x, name)


def vote(tr: Tracer, x: Value, name: str, size: int) -> Value:
    """Mean over groups of ``size`` neighbours of a vector."""
    (features,) = tr.node_shape(x) if len(tr.node_shape(x)) == 1 else (0,)
    count = features // size
    if count < 1:
        tr.refuse(
            f"votes in groups of {size} over data of shape {tr.node_shape(x)}", "flatten to a vector first"
        )
    weight = np.repeat(np.eye(count), size, axis=1) / size
    weight = np.pad(weight, ((0, 0), (0, features - count * size)))
    return tr.emit(og.Linear(weight), [x], x, name)


# --- arithmetic -------------------------------------------------------------------------------------


def _joint(tr: Tracer, first: Value, second: Value, what: str) -> tuple[Value, tuple[int, ...] | None]:
    """A Value to copy the layout from, and the step, of an element-wise result."""
    axes = layout.broadcast(first.axes, second.axes)
    if tr.node_shape(first) != tr.node_shape(second):
        shapes = f"{tr.node_shape(first)} and {tr.node_shape(second)}"
        tr.refuse(f"{what} of data of shapes {shapes} would repeat elements", "give both the same shape")
    if first.delay != second.delay:
        tr.refuse(
            f"joins a path that is {first.delay} steps late and one that is {second.delay} steps late",
            "give both paths equally many delayed blocks, or set delay_shift=False",
        )
    steps = {value.step for value in (first, second)} - {None}
    if len(steps) > 1:
        tr.refuse(f"{what} of different time steps", LOOP)
    step = steps.pop() if steps else None
    return Value(tr, first.node, axes, step, first.delay), step


def add(tr: Tracer, first: Any, second: Any, factor: float = 1.0) -> Value:
    """first + factor * second; either may be a constant."""
    if not is_value(first):
        return shift(tr, second, first) if factor == 1 else affine(tr, second, factor, first)
    if not is_value(second):
        return shift(tr, first, second, factor)
    if factor == 1:
        for total, more in ((first, second), (second, first)):
            if _adds_up_time(total, more):
                return total.moved(total.node, total.axes, (*(total.step or ()), *(more.step or ())))
    first, second = tr.read(first), tr.read(second)
    if factor not in (1, -1):
        second, factor = scale(tr, second, factor), 1.0
    like, _ = _joint(tr, first, second, "a sum")
    op, label = (og.Add(), "add") if factor == 1 else (og.Sub(), "sub")
    return tr.emit(op, [first, second], like, tr.local(label), like.axes)


def _adds_up_time(total: Value, more: Value) -> bool:
    """total = total + spikes in a loop over time."""
    if total.step is None or more.step is None or total.forbidden or more.forbidden:
        return False
    same = total.node == more.node and total.axes == more.axes
    return same and len(more.step) == 1 and more.step[0] == total.step[-1] + 1


def mul(tr: Tracer, first: Any, second: Any) -> Value:
    """Product; either may be a constant."""
    if not is_value(first):
        first, second = second, first
    if not is_value(second):
        return scale(tr, first, second)
    first, second = tr.read(first), tr.read(second)
    like, _ = _joint(tr, first, second, "a product")
    return tr.emit(og.Mul(), [first, second], like, tr.local("mul"), like.axes)


def laid(tr: Tracer, x: Value, constant: Any, what: str) -> FloatArray:
    """A constant that meets ``x`` element by element, as a parameter of x's node."""
    values = tr.constant(constant, what)
    if values.size and values.min() == values.max() and not _enlarges(values.shape, tr.shape(x)):
        return og.constant(values.flat[0])
    values = _same_for_all(values, x)
    order, sizes = layout.align(values.shape, x.axes, tr.node_shape(x))
    padded = values.reshape((1,) * (len(x.axes) - values.ndim) + values.shape)
    return og.constant(padded.transpose(order).reshape(sizes))


def _same_for_all(values: FloatArray, x: Value) -> FloatArray:
    """A constant without its leading axes, as far as it is the same along them."""
    while values.ndim > len(x.axes) and values.shape[0] == 1:
        values = values[0]
    for at, axis in enumerate(x.axes[-values.ndim :] if values.ndim else ()):
        if not isinstance(axis, int) and np.ptp(values, axis=at).max(initial=0) == 0:
            values = values.take([0], axis=at)
    return values


def _enlarges(constant: Shape, shape: Shape) -> bool:
    return len(constant) > len(shape) or any(
        size not in (1, have) for size, have in zip(constant[::-1], shape[::-1], strict=False)
    )


def scale(tr: Tracer, x: Any, factor: Any) -> Value:
    """x * factor for a constant factor."""
    if is_value(x) and x.step is not None and len(x.step) > 1:
        return _mean_of_sum(tr, x, float(factor))
    x = tr.read(x)
    values = laid(tr, x, factor, "a factor")
    if values.size == 1 and values.flat[0] == 1:
        return _fresh(x)
    return tr.emit(og.Scale(values), [x], x, tr.local("scale"), x.axes)


def _mean_of_sum(tr: Tracer, x: Value, factor: float) -> Value:
    """(sum over T) / T."""
    assert x.step is not None
    if not math.isclose(factor * len(x.step), 1.0):
        tr.refuse(
            f"multiplies a sum over {len(x.step)} steps by {factor:g}", "divide it by the number of steps"
        )
    summed = Value(tr, x.node, x.axes, None, x.delay)
    return tr.emit(og.TimeMean(), [summed], summed, tr.local("mean"), x.axes)


def shift(tr: Tracer, x: Any, offset: Any, factor: float = 1.0) -> Value:
    """x + factor * offset for a constant offset, one number per channel."""
    if is_value(x) and _is_zero(offset) and not _enlarges(tuple(getattr(offset, "shape", ())), tr.shape(x)):
        return _fresh(x)
    return affine(tr, x, 1.0, offset, factor)


def affine(tr: Tracer, x: Any, slope: float, offset: Any, factor: float = 1.0) -> Value:
    """slope * x + factor * offset, written as a batch norm with fixed numbers."""
    x = tr.read(x)
    shape = tr.node_shape(x)
    values = laid(tr, x, offset, "a summand") * factor
    if any(size != 1 for size in values.shape[1:]):
        tr.refuse("adds a constant that differs from pixel to pixel", "use one number per channel")
    beta = np.broadcast_to(values.reshape(-1), (shape[0],))
    zeros, ones = np.zeros(shape[0]), np.ones(shape[0])
    op = og.BatchNorm(zeros, ones, slope * ones, beta, eps=0.0)
    return tr.emit(op, [x], x, tr.local("affine"), x.axes)


def _is_zero(offset: Any) -> bool:
    if isinstance(offset, int | float):
        return offset == 0
    return hasattr(offset, "numel") and offset.numel() > 0 and not bool(offset.any())


def _fresh(x: Value) -> Value:
    """x + 0 is a tensor of its own."""
    result = x.moved(x.node, x.axes)
    result.forbidden = x.forbidden
    return result


# --- over axes --------------------------------------------------------------------------------------


def mean(tr: Tracer, x: Value, dims: list[int], keepdim: bool) -> Value:
    """Mean over the time axis, over both axes of a map, or over both."""
    x = tr.read(x)
    labels = [x.axes[layout.place(dim, len(x.axes))] for dim in dims]
    data = sorted(label for label in labels if isinstance(label, int))
    if any(label not in (TIME, UNIT) and not isinstance(label, int) for label in labels):
        tr.refuse("takes a mean over the batch", "name the axes to average over")
    shape = tr.node_shape(x)
    if data:
        if len(shape) != 3 or 0 in data:
            tr.refuse(
                f"takes a mean over axes {tuple(data)} of data of shape {shape}", "average over H and W only"
            )
        kernel = (shape[1] if 1 in data else 1, shape[2] if 2 in data else 1)
        x = tr.emit(og.AvgPool(kernel, kernel), [x], x, tr.local("mean"), x.axes)
    if TIME in labels:
        x = tr.emit(og.TimeMean(), [x], x, tr.local("mean"), x.axes)
    return x.moved(x.node, _without(x, labels, keepdim))


def total(tr: Tracer, x: Value, dims: list[int], keepdim: bool) -> Value:
    """Sum over the time axis, or over both axes of a map."""
    x = tr.read(x)
    labels = [x.axes[layout.place(dim, len(x.axes))] for dim in dims]
    if labels == [TIME]:
        return x.moved(x.node, _without(x, labels, keepdim), tuple(range(tr.sizes.time)))
    shape = tr.node_shape(x)
    if set(labels) != {1, 2} or len(labels) != 2 or len(shape) != 3:
        tr.refuse(f"takes a sum over axes {tuple(dims)}", "sum over time, or over H and W")
    op = og.SumPool((shape[1], shape[2]), (shape[1], shape[2]))
    x = tr.emit(op, [x], x, tr.local("sum"), x.axes)
    return x.moved(x.node, _without(x, labels, keepdim))


def _without(x: Value, labels: list[layout.Axis], keepdim: bool) -> layout.Axes:
    """Axes after a reduction: a data axis of size 1 stays itself, others become inserted ones."""
    if not keepdim:
        return tuple(axis for axis in x.axes if axis not in labels)
    return tuple(UNIT if axis in labels and not isinstance(axis, int) else axis for axis in x.axes)


def concat(tr: Tracer, parts: list[Any], dim: int) -> Value:
    """Tensors one after the other along a data axis."""
    values = [tr.settled(part) for part in parts]
    if len(values) == 1:
        return values[0]
    first = values[0]
    axis = first.axes[layout.place(dim, len(first.axes))]
    if not isinstance(axis, int):
        tr.refuse("concatenates along the time or the batch axis", "stack steps with torch.stack")
    for other in values[1:]:
        if layout.leading(other.axes) != layout.leading(first.axes) or other.delay != first.delay:
            tr.refuse("concatenates tensors whose leading axes differ", "")
    steps = {value.step for value in values} - {None}
    if len(steps) > 1:
        tr.refuse("concatenates different time steps", LOOP)
    like = Value(tr, first.node, first.axes, steps.pop() if steps else None, first.delay)
    return tr.emit(og.Concat(axis), values, like, tr.local("cat"))


def select_channels(tr: Tracer, x: Value, start: int, stop: int, stride: int = 1) -> Value:
    """x[:, start:stop:stride] along the first data axis, as a layer with one weight of 1 per row."""
    x = tr.settled(x)
    shape = tr.node_shape(x)
    rows = np.eye(shape[0])[start:stop:stride]
    if len(rows) == shape[0] and stride == 1:
        return x
    name = tr.local("slice")
    if len(shape) == 1:
        return tr.emit(og.Linear(rows), [x], x, name)
    if len(shape) == 3:
        return tr.emit(og.Conv2d(rows[:, :, None, None]), [x], x, name)
    tr.refuse(f"takes a slice of data of shape {shape}", "slice vectors or maps")


def pad(tr: Tracer, x: Value, widths: list[int], name: str) -> Value:
    """Zeros around a map, as a depthwise convolution."""
    x = tr.settled(x)
    channels, _, _ = _map(tr, x)
    left, right, top, bottom = [*widths, 0, 0, 0, 0][:4]
    if any(widths[4:]) or min(left, right, top, bottom) < 0:
        tr.refuse(f"pads by {tuple(widths)}", "pad rows and columns of a map, and cut nothing off")
    return tr.emit(paddings.zeros_around(channels, (top, bottom), (left, right)), [x], x, name)
