"""Padding that differs from side to side equals torch's, alone and folded into the layer behind it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nmc import api, synapse
from nmc.frontend import opgraph as og
from nmc.frontend import padding
from nmc.ir import Conv2d, Encoding

MAP = (2, 4, 5)


def correlated(x: np.ndarray, op: og.Conv2d) -> np.ndarray:
    return synapse.apply(Conv2d(op.stride, op.padding, op.dilation, op.groups), op.weight, x[None])[0]


@pytest.mark.parametrize("rows", [(0, 0), (1, 1), (0, 1), (2, 0), (1, 3)])
@pytest.mark.parametrize("columns", [(0, 0), (0, 2), (3, 1)])
def test_zeros_around_a_map(rows: tuple[int, int], columns: tuple[int, int]) -> None:
    x = np.random.default_rng(1).integers(1, 9, MAP).astype(float)
    found = correlated(x, padding.zeros_around(2, rows, columns))
    np.testing.assert_array_equal(found, np.pad(x, [(0, 0), rows, columns]))


@pytest.mark.parametrize("kernel", [(2, 2), (1, 4), (3, 2), (4, 3), (3, 3)])
def test_same_keeps_the_map(kernel: tuple[int, int]) -> None:
    """torch pads total // 2 before, the rest behind."""
    rng = np.random.default_rng(2)
    x, weight = rng.normal(size=MAP), rng.normal(size=(3, 2, *kernel))
    equal = padding.same(weight, (1, 1))
    assert equal is not None
    values, pads = equal
    found = correlated(x, og.Conv2d(values, padding=pads))
    sides = [((k - 1) // 2, k - 1 - (k - 1) // 2) for k in kernel]
    expected = correlated(np.pad(x, [(0, 0), *sides]), og.Conv2d(weight))
    assert found.shape == (3, 4, 5)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_dilated_even_kernel_has_no_equal_padding() -> None:
    assert padding.same(np.ones((1, 1, 2, 2)), (1, 3)) is None
    assert padding.same(np.ones((1, 1, 3, 3)), (1, 3)) is not None


def test_padding_costs_no_population() -> None:
    """Folded into the convolution behind it, also as TensorFlow pads at stride 2: 0 before, 1 behind."""
    rng = np.random.default_rng(3)
    nodes: dict[str, og.Op] = {
        "input": og.Input(MAP),
        "pad": padding.zeros_around(2, (0, 1), (0, 1)),
        "conv": og.Conv2d(rng.normal(size=(3, 2, 3, 3)), stride=(2, 2)),
        "cell": og.Neuron(0.5),
        "out": og.Output(),
    }
    names = list(nodes)
    graph = og.OpGraph(nodes, tuple(itertools.pairwise(names)))
    x = (rng.random((4, 6, *MAP)) < 0.5).astype(np.int64)
    bundle = api.compile(graph, "lava-cpu", x, steps=6, encoding=Encoding.SPIKES)
    assert [population.name for population in bundle.network.compute] == ["cell"]
    assert bundle.network["cell"].shape == (3, 2, 2)
    assert api.run(bundle, x, record=["cell"]).spikes["cell"].sum() > 0
    assert api.verify(bundle, "stepwise", x=x).passed
