from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from nmc.frontend import opgraph as og
from nmc.frontend.float_engine import run
from nmc.frontend.fold import fold

RNG = np.random.default_rng(0)


def norm(channels: int) -> og.BatchNorm:
    mean, gamma, beta = RNG.normal(size=(3, channels))
    return og.BatchNorm(mean, RNG.uniform(0.5, 2, channels), gamma, beta, eps=1e-3)


def graph(*ops: og.Op, shape=(2, 5, 5), extra=()) -> og.OpGraph:
    names = ["input", *[f"{type(op).__name__.lower()}{index}" for index, op in enumerate(ops)], "output"]
    nodes = dict(zip(names, (og.Input(shape), *ops, og.Output()), strict=True))
    return og.OpGraph(nodes, (*pairwise(names), *extra))


CONV = og.Conv2d(RNG.normal(size=(3, 2, 3, 3)), RNG.normal(size=3), padding=(1, 1))


@pytest.mark.parametrize(
    ("ops", "left"),
    [
        ((CONV, norm(3)), ["conv2d0"]),
        ((og.Conv2d(CONV.weight), norm(3), og.Scale(np.full((3, 1, 1), 0.3))), ["conv2d0"]),
        ((norm(2), CONV), ["batchnorm0", "conv2d1"]),
        ((og.Flatten(), og.Linear(RNG.normal(size=(4, 50))), norm(4)), ["flatten0", "linear1"]),
        ((CONV, og.Scale(RNG.normal(size=(3, 5, 5)))), ["conv2d0", "scale1"]),
    ],
)
def test_the_function_stays_and_the_nodes_go(ops, left):
    before = graph(*ops)
    after = fold(before)
    assert list(after.nodes) == ["input", *left, "output"]
    x = RNG.normal(size=(4, *before.input_shapes[0]))
    np.testing.assert_allclose(run(after, x, 2).output, run(before, x, 2).output, rtol=1e-12)
    assert len(before.nodes) == len(ops) + 2


def test_a_layer_with_another_reader_is_left_alone():
    before = graph(CONV, norm(3), extra=(("conv2d0", "output"),))
    after = fold(before)
    assert list(after.nodes) == list(before.nodes)


def test_running_statistics_by_hand():
    op = og.BatchNorm([2.0], [4.0], [3.0], [1.0], eps=0.0)
    value = run(graph(op, shape=(1,)), np.array([[6.0]]), 1).output
    assert value == (6 - 2) / 2 * 3 + 1
