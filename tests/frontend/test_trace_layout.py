"""Labels of axes against real tensors: after any chain of views, they say where every element lies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from nmc.errors import NmcError  # noqa: E402
from nmc.frontend import opgraph as og  # noqa: E402
from nmc.frontend.tracing import layout  # noqa: E402
from nmc.frontend.tracing.layout import (  # noqa: E402
    BATCH,
    BATCH_TIME,
    TIME,
    TIME_BATCH,
    UNIT,
    LayoutError,
    Sizes,
)
from nmc.frontend.tracing.tracer import Tracer  # noqa: E402
from nmc.frontend.tracing.value import Value  # noqa: E402

SIZES = (3, 2)
SHAPES = [(4, 5, 6), (4, 1, 1), (4, 5), (6,), (1, 5, 6), (2, 3, 2), (3, 2)]
STARTS = [(TIME, BATCH), (BATCH, TIME), (BATCH,), (TIME_BATCH,), (BATCH_TIME,)]


def arranged(value: Value, data: dict[str, np.ndarray]) -> np.ndarray:
    """The tensor that the labels describe, from the node's elements (T, N, *shape)."""
    source = data[value.node]
    order: list[int] = []
    sizes: list[int] = []
    for axis in value.axes:
        parts = {TIME: [0], BATCH: [1], TIME_BATCH: [0, 1], BATCH_TIME: [1, 0], UNIT: []}.get(axis)
        parts = [axis + 2] if parts is None else parts
        order += parts
        sizes.append(int(np.prod([source.shape[p] for p in parts], dtype=int)))
    missing = [p for p in range(source.ndim) if p not in order]
    if 0 in missing:
        source = source[(value.step or (0,))[0]][None]
    return source.transpose([*missing, *order]).reshape(sizes)


def evaluated(tracer: Tracer, data: np.ndarray) -> dict[str, np.ndarray]:
    """(T, N, *shape) of every node; views make no nodes but Flatten."""
    values = {"input": data}
    for source, target in tracer.builder.edges:
        assert isinstance(tracer.builder.nodes[target], og.Flatten)
        shape = tracer.builder.shapes[target]
        values[target] = values[source].reshape(*data.shape[:2], *shape)
    return values


def random_view(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[str, tuple[Any, ...]]:
    """The name and arguments of a random view of a tensor."""
    ndim = len(shape)
    dim = int(rng.integers(-ndim, ndim))
    kind = rng.choice(
        [
            "reshape",
            "flatten",
            "permute",
            "transpose",
            "unsqueeze",
            "squeeze",
            "squeeze all",
            "select",
            "move",
        ]
    )
    if kind == "reshape":
        sizes = list(shape)
        for _ in range(int(rng.integers(1, 3))):
            at = int(rng.integers(len(sizes)))
            if rng.random() < 0.5 and at + 1 < len(sizes):
                sizes[at : at + 2] = [sizes[at] * sizes[at + 1]]
            else:
                factor = int(rng.choice([n for n in (1, 2, 3) if sizes[at] % n == 0]))
                sizes[at : at + 1] = [factor, sizes[at] // factor]
        if rng.random() < 0.3:
            sizes[int(rng.integers(len(sizes)))] = -1
        return "reshape", tuple(sizes)
    if kind == "flatten":
        start = int(rng.integers(ndim))
        return "flatten", (start, int(rng.integers(start, ndim)))
    if kind == "permute":
        return "permute", tuple(int(i) for i in rng.permutation(ndim))
    if kind == "transpose":
        return "transpose", (dim, int(rng.integers(ndim)))
    if kind == "move":
        return "movedim", (dim, int(rng.integers(ndim)))
    if kind == "select":
        return "select", (dim, int(rng.integers(shape[dim])))
    if kind == "squeeze all":
        return "squeeze", ()
    return str(kind), (dim,)


def test_random_chains_of_views():
    views = refused = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        shape = SHAPES[seed % len(SHAPES)]
        lead = STARTS[rng.integers(len(STARTS))]
        tracer = Tracer(torch, "net", Sizes(*SIZES), torch.float32)
        value = tracer.input((*lead, *range(len(shape))), shape)
        count = int(np.prod(shape))
        data = np.arange(SIZES[0] * SIZES[1] * count).reshape(*SIZES, *shape)
        if lead == (BATCH,):
            data = np.broadcast_to(data[:1], data.shape)
        tensor = torch.tensor(arranged(value, {"input": data}))
        for _ in range(6):
            if tensor.ndim == 0:
                break
            name, arguments = random_view(rng, tuple(tensor.shape))
            expected = getattr(tensor, name)(*arguments)
            try:
                value = getattr(value, name)(*arguments)
            except NmcError:
                refused += 1
                continue
            tensor, views = expected, views + 1
            assert tuple(value.shape) == tuple(tensor.shape), (seed, name, arguments)
            got = arranged(value, evaluated(tracer, data))
            np.testing.assert_array_equal(got, tensor.numpy(), f"seed {seed} {name} {arguments}")
            try:
                settled = tracer.settled(value)
            except NmcError:
                continue
            assert layout.canonical(settled.axes, tracer.node_shape(settled)), (seed, settled.axes)
            got = arranged(settled, evaluated(tracer, data))
            assert np.array_equal(got.reshape(-1), tensor.numpy().reshape(-1)), (seed, name, arguments)
    assert views > 600
    assert 100 < refused < views


@pytest.mark.parametrize(
    ("axes", "shape", "target", "labels"),
    [
        ((BATCH, 0, 1, 2), (4, 5, 6), (2, -1), [BATCH, (0, 1, 2)]),
        ((BATCH, 0, 1, 2), (4, 5, 6), (2, 4, 30), [BATCH, 0, (1, 2)]),
        ((TIME, BATCH, 0), (4,), (6, 4), [TIME_BATCH, 0]),
        ((TIME_BATCH, 0), (4,), (3, 2, 4), [TIME, BATCH, 0]),
        ((BATCH_TIME, 0), (4,), (2, 3, -1), [BATCH, TIME, 0]),
        ((BATCH, 0, 1, 2), (4, 1, 1), (2, 4), [BATCH, 0]),
        ((BATCH, 0), (4,), (2, 1, 4, 1), [BATCH, UNIT, 0, UNIT]),
        ((BATCH, 0, 1), (2, 3), (2, 6), [BATCH, (0, 1)]),
    ],
)
def test_reshape(axes, shape, target, labels):
    assert layout.reshape(axes, shape, Sizes(*SIZES), target) == labels


@pytest.mark.parametrize(
    ("axes", "shape", "target", "text"),
    [
        ((BATCH, 0, 1, 2), (4, 5, 6), (8, 5, 6), "mixes the batch axis, axis 0"),
        ((TIME_BATCH, 0), (4,), (2, 3, 4), "splits the merged"),
        ((BATCH, 0), (6,), (2, 2, 3), "splits axis 0"),
        ((BATCH, 1, 0), (4, 5), (2, 20), "mixes axis 1"),
        ((BATCH, TIME, 0), (4,), (3, 2, 4), "mixes"),
        ((BATCH, 0), (4,), (3, -1), "reshapes 8 elements"),
        ((BATCH, 0), (4,), (2, 3), "reshapes 8 elements"),
    ],
)
def test_reshape_refuses(axes, shape, target, text):
    with pytest.raises(LayoutError, match=text):
        layout.reshape(axes, shape, Sizes(*SIZES), target)


def test_broadcast():
    assert layout.broadcast((BATCH, 0), (TIME, BATCH, 0)) == (TIME, BATCH, 0)
    assert layout.broadcast((UNIT, BATCH, 0), (TIME, BATCH, 0)) == (TIME, BATCH, 0)
    with pytest.raises(LayoutError, match="mean different things"):
        layout.broadcast((TIME, BATCH, 0), (BATCH, TIME, 0))


@pytest.mark.parametrize(
    ("constant", "axes", "shape", "sizes"),
    [
        ((4, 1, 1), (BATCH, 0, 1, 2), (4, 5, 6), (4, 1, 1)),
        ((1, 4, 1, 1), (TIME, BATCH, 0, 1, 2), (4, 5, 6), (4, 1, 1)),
        ((6,), (BATCH, 0, 1, 2), (4, 5, 6), (1, 1, 6)),
        ((4,), (BATCH, 1, 2, 0), (4, 5, 6), (4, 1, 1)),
        ((4,), (BATCH, 0), (4, 1, 1), (4, 1, 1)),
        ((), (BATCH, 0), (4,), (1,)),
    ],
)
def test_constants_lie_on_the_nodes_axes(constant, axes, shape, sizes):
    order, got = layout.align(constant, axes, shape)
    assert got == sizes
    assert sorted(order) == list(range(len(axes)))


@pytest.mark.parametrize(
    ("constant", "text"),
    [((2, 4), "sample to sample"), ((5,), "does not fit"), ((3, 2, 4), "tensor with 2 axes")],
)
def test_constants_that_do_not_fit(constant, text):
    with pytest.raises(LayoutError, match=text):
        layout.align(constant, (BATCH, 0), (4,))
