"""What the axes of a traced tensor mean: time, batch, or an axis of a node of the op graph.

A tensor's axes are a tuple of labels. An axis of the node's own shape is its index there (0 is C of
(C, H, W)); the others are the constants below. A data axis of size 1 may be missing from the labels
(squeezed away); every other data axis appears once. Permuting, inserting and merging leading axes changes
labels only and costs no op.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from nmc.ir import Shape

TIME, BATCH, TIME_BATCH, BATCH_TIME, UNIT = "T", "N", "TN", "NT", "1"
"""Steps; samples; both in one axis, the first varying slowest; an axis of size 1 that stands for nothing."""

Axis: TypeAlias = int | str
Axes: TypeAlias = tuple[Axis, ...]
Group: TypeAlias = tuple[int, ...]

MERGED: dict[tuple[Axis, ...], Axis] = {(TIME, BATCH): TIME_BATCH, (BATCH, TIME): BATCH_TIME}


class LayoutError(ValueError):
    """An operation that moves data in a way the op graph cannot say; the text is one clause."""


@dataclass
class Sizes:
    """How many steps and samples the example tensors of one trace have."""

    time: int
    batch: int

    def of(self, axis: Axis, shape: Shape) -> int:
        if isinstance(axis, int):
            return shape[axis]
        return {TIME: self.time, BATCH: self.batch, UNIT: 1}.get(axis, self.time * self.batch)

    def all(self, axes: Axes, shape: Shape) -> Shape:
        return tuple(self.of(axis, shape) for axis in axes)


def data_axes(axes: Axes) -> tuple[int, ...]:
    """The node axes among the labels, in the order in which the tensor has them."""
    return tuple(axis for axis in axes if isinstance(axis, int))


def leading(axes: Axes) -> Axes:
    """The labels that are not node axes."""
    return tuple(axis for axis in axes if not isinstance(axis, int))


def canonical(axes: Axes, shape: Shape) -> bool:
    """Leading axes first, none inserted, then every node axis in order."""
    lead = leading(axes)
    return UNIT not in lead and axes == (*lead, *range(len(shape)))


def unhide(axes: Axes, shape: Shape) -> Axes:
    """Inserted axes that lie where a squeezed node axis belongs become that axis again."""
    result = list(axes)
    for hidden in range(len(shape)):
        if hidden in result:
            continue
        for place, axis in enumerate(result):
            before = data_axes(tuple(result[:place]))
            after = data_axes(tuple(result[place + 1 :]))
            if axis == UNIT and all(i < hidden for i in before) and all(i > hidden for i in after):
                result[place] = hidden
                break
    return tuple(result)


def place(index: int, ndim: int) -> int:
    """A non-negative axis index; raises IndexError as torch does."""
    if not -ndim <= index < ndim:
        raise IndexError(f"axis {index} of a tensor with {ndim} axes")
    return index % ndim


# --- reshaping --------------------------------------------------------------------------------------


def reshape(axes: Axes, shape: Shape, sizes: Sizes, target: Sequence[int]) -> list[Axis | Group]:
    """Labels after ``view(target)``; a tuple of node axes means that they are to be flattened into one.

    Raises LayoutError where elements would move between axes that mean different things.
    """
    full = sizes.all(axes, shape)
    goal = filled(list(target), math.prod(full))
    kept = [a for a in axes if not (a == UNIT or (isinstance(a, int) and shape[a] == 1))]
    result: list[Axis | Group] = []
    i = j = 0
    while i < len(kept) or j < len(goal):
        size = sizes.of(kept[i], shape) if i < len(kept) else 0
        if j < len(goal) and goal[j] == 1 and size != 1:
            result.append(UNIT)
            j += 1
            continue
        first_i, first_j = i, j
        i, j = _grow(kept, shape, sizes, goal, i, j)
        result += _regroup(kept[first_i:i], goal[first_j:j], shape, sizes)
    return result


def absorb(labels: list[Axis | Group], before: Axes) -> list[Axis | Group]:
    """Labels after a reshape, with node axes of size 1 that vanished flattened into their left neighbours."""
    if UNIT in labels:
        return labels
    result = list(labels)
    for gone in data_axes(before):
        for at, label in enumerate(result):
            group = label if isinstance(label, tuple) else (label,)
            last = group[-1]
            if (
                isinstance(last, int)
                and last == gone - 1
                and not any(_holds(other, gone) for other in result)
            ):
                result[at] = (*(i for i in group if isinstance(i, int)), gone)
    return result


def _holds(label: Axis | Group, axis: int) -> bool:
    return axis in label if isinstance(label, tuple) else label == axis


def filled(goal: list[int], total: int) -> list[int]:
    """Sizes of ``total`` elements with their -1 filled in; raises LayoutError where there are none."""
    if goal.count(-1) == 1:
        known = math.prod(size for size in goal if size != -1)
        if known and total % known == 0:
            goal[goal.index(-1)] = total // known
    if math.prod(goal) != total or min(goal, default=1) < 0:
        raise LayoutError(f"reshapes {total} elements to {tuple(goal)}")
    return goal


def _grow(
    kept: Sequence[Axis], shape: Shape, sizes: Sizes, goal: list[int], i: int, j: int
) -> tuple[int, int]:
    """Ends of the shortest runs of source and target axes that hold equally many elements."""
    have, want = sizes.of(kept[i], shape), goal[j]
    i, j = i + 1, j + 1
    while have != want:
        if have < want:
            have, i = have * sizes.of(kept[i], shape), i + 1
        else:
            want, j = want * goal[j], j + 1
    return i, j


def _regroup(run: Sequence[Axis], goal: list[int], shape: Shape, sizes: Sizes) -> list[Axis | Group]:
    if len(run) == 1 == len(goal):
        return [run[0]]
    if len(run) == 1:
        for pair, merged in MERGED.items():
            if run[0] == merged and tuple(goal) == sizes.all(pair, shape):
                return list(pair)
        raise LayoutError(f"splits {_name(run[0], shape)} into {tuple(goal)}")
    if len(goal) == 1:
        group = tuple(run)
        if group in MERGED:
            return [MERGED[group]]
        ints = data_axes(group)
        inside = [a for a in range(min(ints, default=0), max(ints, default=-1) + 1) if shape[a] != 1]
        if len(ints) == len(group) and inside == list(ints):
            return [tuple(range(ints[0], ints[-1] + 1))]
    names = ", ".join(_name(axis, shape) for axis in run)
    raise LayoutError(f"mixes {names} into {tuple(goal)}")


def _name(axis: Axis, shape: Shape) -> str:
    if isinstance(axis, int):
        return f"axis {axis} of {shape}"
    return {TIME: "the time axis", BATCH: "the batch axis"}.get(axis, "the merged time and batch axis")


# --- broadcasting -----------------------------------------------------------------------------------


def broadcast(first: Axes, second: Axes) -> Axes:
    """Labels of an element-wise result of two tensors; raises LayoutError where axes disagree."""
    count = max(len(first), len(second))
    one = (UNIT,) * (count - len(first)) + first
    two = (UNIT,) * (count - len(second)) + second
    result: list[Axis] = []
    for a, b in zip(one, two, strict=True):
        if a != b and UNIT not in (a, b):
            raise LayoutError("joins two tensors whose axes mean different things")
        result.append(b if a == UNIT else a)
    return tuple(result)


def align(constant: Shape, axes: Axes, shape: Shape) -> tuple[tuple[int, ...], Shape]:
    """How a constant tensor lies on the node's axes.

    Returns:
        permutation of the constant's axes after it was padded with ones on the left to ``len(axes)``, and
        the shape (as many axes as the node) to give the permuted constant.

    Raises:
        LayoutError: the constant differs from sample to sample or step to step, or would enlarge the tensor.
    """
    if len(constant) > len(axes) and any(size != 1 for size in constant[: len(constant) - len(axes)]):
        raise LayoutError(f"a constant of shape {constant} on a tensor with {len(axes)} axes")
    padded = ((1,) * len(axes) + constant)[-len(axes) :]
    for size, axis in zip(padded, axes, strict=True):
        if size == 1:
            continue
        if not isinstance(axis, int):
            raise LayoutError("a constant that differs from sample to sample or step to step")
        if size != shape[axis]:
            raise LayoutError(f"a constant of shape {constant} that does not fit {shape}")
    order = [p for p, a in enumerate(axes) if not isinstance(a, int)]
    order += [axes.index(axis) for axis in sorted(data_axes(axes))]
    sizes = tuple(padded[axes.index(axis)] if axis in axes else 1 for axis in range(len(shape)))
    return tuple(order), sizes
