"""Max pools of a converted network: the gate on rates, the OR, the average."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nmc.errors import NmcError
from nmc.frontend import opgraph as og
from nmc.frontend.conversion.normal import normal_form
from nmc.frontend.convert import convert
from nmc.frontend.float_engine import run
from nmc.frontend.lower import lower
from nmc.ir import Encoding

GEOMETRIES = [
    og.MaxPool((2, 2), (2, 2)),
    og.MaxPool((3, 3), (2, 2), (1, 1)),
    og.MaxPool((3, 2), (1, 2), (1, 0)),
    og.MaxPool((1, 3), (1, 1), (0, 1)),
    og.MaxPool((1, 1), (2, 2)),
]


def pooled(*middle: og.Op) -> og.OpGraph:
    """A convolution, then the ops given, then a linear layer that reads every unit."""
    nodes: dict[str, og.Op] = {
        "in": og.Input((2, 6, 6)),
        "conv": og.Conv2d(np.random.default_rng(1).normal(0, 0.5, (3, 2, 3, 3)), None, padding=(1, 1)),
    }
    nodes |= {f"{type(op).__name__.lower()}{i}": op for i, op in enumerate(middle)}
    nodes |= {"flat": og.Flatten()}
    partial = og.OpGraph({**nodes, "out": og.Output()}, tuple(itertools.pairwise([*nodes, "out"])))
    size = partial.shapes["flat"][0]
    nodes |= {"fc": og.Linear(np.random.default_rng(2).normal(0, 1, (4, size))), "out": og.Output()}
    return og.OpGraph(nodes, tuple(itertools.pairwise(nodes)))


def frames(n: int = 5) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 1, (n, 2, 6, 6))


def value(graph: og.OpGraph, x: np.ndarray, steps: int = 1) -> np.ndarray:
    return run(graph, x, steps, record=()).output / steps


@pytest.mark.parametrize("pool", GEOMETRIES)
def test_the_gate_is_the_same_function(pool: og.MaxPool) -> None:
    ann, x = pooled(og.ReLU(), pool), frames()
    form = normal_form(ann, "gated")
    assert not form.graph.named(og.MaxPool)
    assert set(form.gates.values()) <= {"relu0"}
    np.testing.assert_allclose(value(form.graph, x), value(ann, x), rtol=0, atol=1e-12)


def test_a_pool_in_front_of_its_relu_changes_places_with_it() -> None:
    ann, x = pooled(og.MaxPool((2, 2), (2, 2), (1, 1)), og.ReLU()), frames()
    form = normal_form(ann, "gated").graph
    assert form.before("relu1") == ("conv",)
    np.testing.assert_allclose(value(form, x), value(ann, x), rtol=0, atol=1e-12)


def test_a_pool_of_values_of_either_sign_is_gated_where_nothing_is_padded() -> None:
    linear = og.Conv2d(np.eye(3)[:, :, None, None] - 0.5)
    ann, x = pooled(og.ReLU(), linear, og.MaxPool((2, 2), (2, 2)), linear, og.ReLU()), frames()
    form = normal_form(ann, "gated")
    assert set(form.gates.values()) == {None}
    np.testing.assert_allclose(value(form.graph, x), value(ann, x), rtol=0, atol=1e-12)
    padded = pooled(og.ReLU(), linear, og.MaxPool((2, 2), (2, 2), (1, 1)), linear, og.ReLU())
    with pytest.raises(NmcError, match="NMC-G05 maxpool2: a padded max pool of values that may be negative"):
        normal_form(padded, "gated")


def test_a_pool_of_means_of_rates_is_gated() -> None:
    ann, x = pooled(og.ReLU(), og.AvgPool((2, 2), (1, 1)), og.MaxPool((2, 2), (2, 2), (1, 1))), frames()
    form = normal_form(ann, "gated")
    assert set(form.gates.values()) == {None}
    np.testing.assert_allclose(value(form.graph, x), value(ann, x), rtol=0, atol=1e-12)


def test_two_stages_of_pools_are_gated() -> None:
    ann, x = pooled(og.ReLU(), og.MaxPool((2, 2), (2, 2)), og.MaxPool((3, 3), (1, 1))), frames()
    np.testing.assert_allclose(value(normal_form(ann, "gated").graph, x), value(ann, x), rtol=0, atol=1e-12)


def test_the_gate_follows_the_unit_with_the_most_spikes() -> None:
    """Two inputs of rates 3/4 and 1/4: the gate's output counts what the first one sends, within a spike."""
    one = np.zeros((1, 1, 1, 1)) + 1.0
    nodes: dict[str, og.Op] = {
        "in": og.Input((1, 1, 2)),
        "conv": og.Conv2d(one),
        "relu": og.ReLU(),
        "pool": og.MaxPool((1, 2), (1, 2)),
        "last": og.Conv2d(one),
        "out": og.Output(),
    }
    ann = og.OpGraph(nodes, tuple(itertools.pairwise(nodes)))
    data = np.array([[[[1.0, 0.0]]], [[[0.75, 0.25]]], [[[0.25, 0.75]]]])
    for choices in ({}, {"v0": 0.5}, {"reset": "hard"}):
        snn = convert(ann, data, 16, "max", **choices)
        counts = value(snn, data, 16).reshape(-1) * 16
        sent = run(snn, data, 16).values["relu"].sum(axis=1).max(axis=-1).reshape(-1)
        assert np.abs(counts - sent).max() <= 1


@pytest.mark.parametrize("pool", GEOMETRIES)
@pytest.mark.parametrize("choices", [{}, {"per_channel": True}])
def test_long_runs_through_gates_come_to_the_ann(pool: og.MaxPool, choices: dict) -> None:
    ann, x = pooled(og.ReLU(), pool), frames()
    snn = convert(ann, x, 256, "max", **choices)
    gap = np.abs(value(snn, x, 256) - value(ann, x)).max()
    assert gap < 0.03 * np.abs(value(ann, x)).max()


@pytest.mark.parametrize("pool", GEOMETRIES)
def test_the_or_is_the_maximum_of_the_spikes_in_every_step(pool: og.MaxPool) -> None:
    ann, x = pooled(og.ReLU(), pool), frames()
    snn = convert(ann, x, 12, "max", pool="or", per_channel=True)
    trains = run(snn, x, 12).values
    spikes = trains["relu0"]
    direct = og.OpGraph(
        {"in": og.Input(spikes.shape[2:]), "pool": pool, "out": og.Output()},
        (("in", "pool"), ("pool", "out")),
    )
    np.testing.assert_array_equal(trains["maxpool1"], run(direct, spikes, 12).values["pool"])
    assert trains["maxpool1"].any()


def test_an_or_needs_spikes() -> None:
    ann = pooled(og.ReLU(), og.AvgPool((2, 2), (1, 1)), og.MaxPool((2, 2), (2, 2)))
    with pytest.raises(NmcError, match="NMC-G05 maxpool2: the OR of something else than spikes"):
        convert(ann, frames(), 8, pool="or")


def test_an_average_pool_is_reported() -> None:
    ann = pooled(og.ReLU(), og.MaxPool((2, 2), (2, 2)))
    snn = convert(ann, frames(), 8, pool="average")
    assert isinstance(snn.nodes["maxpool1"], og.AvgPool)
    assert "max pools are average pools now: the function of the ANN has changed" in snn.notes


@pytest.mark.parametrize("pool", ["gated", "or", "average"])
@pytest.mark.parametrize("method", ["auto", "hard"])
def test_every_pool_lowers(pool: str, method: str) -> None:
    ann = pooled(og.ReLU(), og.MaxPool((3, 3), (2, 2), (1, 1)))
    snn = convert(ann, frames(), 6, method, pool=pool)
    assert not snn.named(og.MaxPool)
    network = lower(snn, 6, "distribute", Encoding.GRADED)
    assert network.readout == "potential"
