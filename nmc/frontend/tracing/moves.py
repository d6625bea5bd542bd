"""Operations that only move data: views, permutations, indexing, stacking, repeating over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from nmc.frontend.tracing import layout, ops
from nmc.frontend.tracing.layout import TIME, UNIT, Axes, Axis
from nmc.frontend.tracing.value import Value, values_in

if TYPE_CHECKING:
    from nmc.frontend.tracing.tracer import Tracer


def view(tr: Tracer, x: Value, axes: Axes, step: tuple[int, ...] | None = None) -> Value:
    """A Value that shares x's memory, as torch's views do."""
    result = x.moved(x.node, layout.unhide(axes, tr.node_shape(x)), step)
    result.forbidden = x.forbidden
    return _related(x, result)


def _related(x: Value, result: Value) -> Value:
    """``result``, as one more name for the memory of ``x``."""
    x.family = x.family or [x]
    x.family.append(result)
    result.family = x.family
    return result


def _numbers(args: tuple[Any, ...]) -> list[int]:
    return [int(n) for n in (args[0] if len(args) == 1 and not isinstance(args[0], int) else args)]


# --- shapes -----------------------------------------------------------------------------------------


def reshape(tr: Tracer, input: Value, *args: Any, **kwargs: Any) -> Value:
    target = _numbers(args or (kwargs.get("shape") or kwargs["size"],))
    return reshaped(tr, input, target, tr.local("flatten"))


def reshaped(tr: Tracer, x: Value, target: Sequence[int], name: str) -> Value:
    """``x.reshape(target)``; flattening data axes becomes an op called ``name``."""
    labels = layout.absorb(layout.reshape(x.axes, tr.node_shape(x), tr.sizes, target), x.axes)
    if all(not isinstance(label, tuple) for label in labels):
        return view(tr, x, tuple(label for label in labels if not isinstance(label, tuple)))
    x = tr.read(x)
    groups = [label for label in labels if isinstance(label, tuple)]
    axes: Axes = tuple(label[0] if isinstance(label, tuple) else label for label in labels)
    result = x.moved(x.node, axes)
    for group in sorted(groups, reverse=True):
        result = tr.flatten(result, group[0], group[-1], name)
    return _related(x, result)


def flatten(tr: Tracer, input: Value, start_dim: int = 0, end_dim: int = -1) -> Value:
    shape = tr.shape(input)
    start, end = layout.place(start_dim, len(shape)), layout.place(end_dim, len(shape))
    return reshaped(tr, input, [*shape[:start], -1, *shape[end + 1 :]], tr.local("flatten"))


def unflatten(tr: Tracer, input: Value, dim: int, sizes: Any) -> Value:
    shape = tr.shape(input)
    at = layout.place(dim, len(shape))
    parts = layout.filled([int(n) for n in sizes], shape[at])
    return reshaped(tr, input, [*shape[:at], *parts, *shape[at + 1 :]], tr.local("flatten"))


def unsqueeze(tr: Tracer, input: Value, dim: int) -> Value:
    at = layout.place(dim, len(input.axes) + 1)
    return view(tr, input, (*input.axes[:at], UNIT, *input.axes[at:]))


def squeeze(tr: Tracer, input: Value, dim: Any = None) -> Value:
    shape = tr.shape(input)
    count = len(shape)
    dims = range(count) if dim is None else [dim] if isinstance(dim, int) else dim
    gone = {at for at in (layout.place(d, count) for d in dims) if shape[at] == 1}
    return view(tr, input, tuple(axis for at, axis in enumerate(input.axes) if at not in gone))


def permute(tr: Tracer, input: Value, *dims: Any, **kwargs: Any) -> Value:
    order = [layout.place(d, len(input.axes)) for d in _numbers(dims or (kwargs["dims"],))]
    return view(tr, input, tuple(input.axes[at] for at in order))


def transpose(tr: Tracer, input: Value, dim0: int, dim1: int) -> Value:
    axes = list(input.axes)
    one, two = layout.place(dim0, len(axes)), layout.place(dim1, len(axes))
    axes[one], axes[two] = axes[two], axes[one]
    return view(tr, input, tuple(axes))


def movedim(tr: Tracer, input: Value, source: int, destination: int) -> Value:
    axes = list(input.axes)
    axis = axes.pop(layout.place(source, len(axes)))
    axes.insert(layout.place(destination, len(axes) + 1), axis)
    return view(tr, input, tuple(axes))


# --- time -------------------------------------------------------------------------------------------


def select(tr: Tracer, input: Value, dim: int, index: int) -> Value:
    """One index of one axis: a step, or the only index of an axis of size 1."""
    at = layout.place(dim, len(input.axes))
    axis = input.axes[at]
    rest = (*input.axes[:at], *input.axes[at + 1 :])
    if axis == TIME:
        step = index if index >= 0 else tr.sizes.time + index
        # A module that counts its steps itself may ask for more than the example has.
        tr.last_step = max(tr.last_step, step)
        return view(tr, input, rest, (step,))
    size = tr.sizes.of(axis, tr.node_shape(input))
    if size == 1 and axis != layout.BATCH and index in (0, -1):
        return view(tr, input, rest)
    remedy = "index the time axis only; for a module that gets all steps pass step_mode='m'"
    tr.refuse(f"takes index {index} of {'the batch' if axis == layout.BATCH else 'a data axis'}", remedy)


def getitem(tr: Tracer, input: Value, key: Any) -> Value:
    keys = list(key) if isinstance(key, tuple) else [key]
    if any(not (isinstance(k, int | slice) or k is None or k is ...) for k in keys):
        tr.refuse("indexes by a tensor or a list", "use integers and slices")
    if ... in keys:
        at = keys.index(...)
        missing = len(input.axes) - sum(k is not None and k is not ... for k in keys)
        keys[at : at + 1] = [slice(None)] * missing
    value, dim = input, 0
    for item in keys:
        if item is None:
            value, dim = unsqueeze(tr, value, dim), dim + 1
        elif isinstance(item, int):
            value = select(tr, value, dim, item)
        else:
            value, dim = _sliced(tr, value, dim, item), dim + 1
    return value


def _sliced(tr: Tracer, x: Value, dim: int, item: slice) -> Value:
    axis = x.axes[layout.place(dim, len(x.axes))]
    size = tr.sizes.of(axis, tr.node_shape(x))
    start, stop, stride = item.indices(size)
    if (start, stop, stride) == (0, size, 1):
        return x
    if axis != 0:
        tr.refuse(
            f"takes a slice of {'a data axis' if isinstance(axis, int) else 'time or batch'}",
            "slice channels",
        )
    return ops.select_channels(tr, x, start, stop, stride)


def split(tr: Tracer, tensor: Value, split_size_or_sections: Any, dim: int = 0) -> tuple[Value, ...]:
    size = tr.shape(tensor)[layout.place(dim, len(tensor.axes))]
    sections = split_size_or_sections
    if isinstance(sections, int):
        sections = [min(sections, size - start) for start in range(0, size, sections)]
    ends = [sum(sections[: i + 1]) for i in range(len(sections))]
    return tuple(_sliced(tr, tensor, dim, slice(end - n, end)) for n, end in zip(sections, ends, strict=True))


def chunk(tr: Tracer, input: Value, chunks: int, dim: int = 0) -> tuple[Value, ...]:
    size = tr.shape(input)[layout.place(dim, len(input.axes))]
    return split(tr, input, -(-size // chunks), dim)


def unbind(tr: Tracer, input: Value, dim: int = 0) -> tuple[Value, ...]:
    size = tr.shape(input)[layout.place(dim, len(input.axes))]
    return tuple(select(tr, input, dim, index) for index in range(size))


def stack(tr: Tracer, tensors: Sequence[Any], dim: int = 0) -> Value:
    """The steps of one node, in order, or one frame repeated: a time axis."""
    values = list(values_in(list(tensors)))
    first = values[0] if values else None
    if first is None or len(values) != len(tensors):
        tr.refuse("stacks traced tensors with others", "stack the steps of one layer")
    if any((v.node, v.axes, v.delay) != (first.node, first.axes, first.delay) for v in values):
        tr.refuse("stacks the outputs of different layers", "stack the steps of one layer")
    steps = [v.step for v in values]
    if steps != [(t,) for t in range(len(values))] and any(step is not None for step in steps):
        tr.refuse("stacks time steps in another order than 0, 1, 2, ...", "append each step once")
    if TIME in first.axes:
        tr.refuse("stacks tensors that have a time axis", "")
    tr.set_time(len(values))
    if first.step is None:
        tr.steps = len(values)
    at = layout.place(dim, len(first.axes) + 1)
    result = Value(tr, first.node, (*first.axes[:at], TIME, *first.axes[at:]), None, first.delay)
    result.forbidden = first.forbidden
    return result


def as_stack(tr: Tracer, tensors: Sequence[Any], dim: int) -> Value | None:
    """``cat`` of steps that were given an axis of their own; None for any other ``cat``."""
    values = list(values_in(list(tensors)))
    if len(values) != len(tensors) or any(v.step is None for v in values):
        return None
    at = layout.place(dim, len(values[0].axes))
    if any(len(v.axes) <= at or v.axes[at] != UNIT for v in values):
        return None
    return stack(tr, [squeeze(tr, v, at) for v in values], at)


def repeat(tr: Tracer, input: Value, *sizes: Any, **kwargs: Any) -> Value:
    """A frame repeated over time; nothing else may be repeated."""
    counts = _numbers(sizes or (kwargs.get("repeats") or kwargs["sizes"],))
    axes = (UNIT,) * (len(counts) - len(input.axes)) + input.axes
    return _spread(tr, input, axes, counts)


def expand(tr: Tracer, input: Value, *sizes: Any) -> Value:
    goal = _numbers(sizes)
    axes = (UNIT,) * (len(goal) - len(input.axes)) + input.axes
    have = tr.sizes.all(axes, tr.node_shape(input))
    counts = [1 if want in (-1, size) else want // size for want, size in zip(goal, have, strict=True)]
    return _spread(tr, input, axes, counts)


def _spread(tr: Tracer, x: Value, axes: Axes, counts: list[int]) -> Value:
    result: list[Axis] = []
    for axis, count in zip(axes, counts, strict=True):
        if count != 1 and (axis != UNIT or TIME in axes or any(isinstance(a, int) for a in result)):
            tr.refuse("repeats data", "only a frame may be repeated, over time")
        if count != 1:
            tr.set_time(count)
            tr.steps = count
        result.append(TIME if count != 1 else axis)
    return view(tr, x, tuple(result))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("view", "reshape", "_unsafe_view"), reshape),
    "view_as": lambda tr, input, other: reshape(tr, input, tuple(tr.shape(other))),
    "flatten": flatten,
    "ravel": flatten,
    "unflatten": unflatten,
    "unsqueeze": unsqueeze,
    "squeeze": squeeze,
    "permute": permute,
    **dict.fromkeys(("transpose", "swapaxes", "swapdims"), transpose),
    **dict.fromkeys(("movedim", "moveaxis"), movedim),
    "select": select,
    **dict.fromkeys(("getitem", "__getitem__"), getitem),
    "split": split,
    "chunk": chunk,
    "unbind": unbind,
    "stack": stack,
    "repeat": repeat,
    "expand": expand,
}
