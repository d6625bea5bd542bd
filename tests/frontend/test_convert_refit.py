"""Weights fitted to the rates that arrive, and spikes that count what fits best."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from anns import chain, frames, residual, value

from nmc.frontend import opgraph as og
from nmc.frontend.conversion import refit as module
from nmc.frontend.conversion.refit import can_refit, refit
from nmc.frontend.convert import convert
from nmc.frontend.float_engine import run


def observed(rows: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, (rows, 3))
    return x, np.floor(x * 2) / 2 + rng.normal(0, 0.01, x.shape)


def test_the_fit_solves_its_normal_equations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RIDGE", 0.5)
    x, rates = observed()
    layer = og.Linear([[1.0, -2.0, 0.5], [0.0, 1.0, 1.0]], [0.25, -1.0])
    wanted = x @ layer.weight.T + layer.bias
    got = refit(layer, rates, wanted)
    r, y = rates - rates.mean(axis=0), wanted - wanted.mean(axis=0)
    pull = 0.5 * np.trace(r.T @ r) / 3
    gradient = (r @ got.weight.T - y).T @ r + pull * (got.weight - layer.weight)
    np.testing.assert_allclose(gradient, 0, atol=1e-9)
    np.testing.assert_allclose((rates @ got.weight.T + got.bias).mean(axis=0), wanted.mean(axis=0))
    assert np.abs(got.weight - layer.weight).max() > 0.05


def test_what_arrives_exactly_leaves_the_weights() -> None:
    x, _ = observed()
    layer = og.Linear([[1.0, -2.0, 0.5]], [0.25])
    got = refit(layer, x, x @ layer.weight.T + layer.bias)
    np.testing.assert_allclose(got.weight, layer.weight, atol=1e-12)
    np.testing.assert_allclose(got.bias, layer.bias, atol=1e-12)


@pytest.mark.parametrize(("rows", "widest"), [(5, 1024), (40, 2)])
def test_too_few_samples_or_too_many_inputs_only_move_the_bias(
    rows: int, widest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_FAN_IN", widest)
    x, rates = observed(rows)
    layer = og.Linear([[1.0, -2.0, 0.5]])
    got = refit(layer, rates, x @ layer.weight.T)
    np.testing.assert_array_equal(got.weight, layer.weight)
    np.testing.assert_allclose(got.bias, ((x - rates) @ layer.weight.T).mean(axis=0))


def test_groups_of_a_convolution_are_fitted_apart() -> None:
    rng = np.random.default_rng(1)
    x = rng.uniform(0, 1, (20, 4, 5, 5))
    rates = np.floor(x * 3) / 3
    weight = rng.normal(0, 1, (6, 2, 3, 3))
    geometry = {"stride": (2, 2), "padding": (1, 1)}
    both = og.Conv2d(weight, **geometry, groups=2)
    wanted = rng.normal(0, 1, (20, 6, 3, 3))
    got = refit(both, rates, wanted)
    for first, channels in ((0, slice(0, 3)), (1, slice(3, 6))):
        half = refit(
            og.Conv2d(weight[channels], **geometry), rates[:, 2 * first : 2 * first + 2], wanted[:, channels]
        )
        np.testing.assert_allclose(got.weight[channels], half.weight)
        np.testing.assert_allclose(got.bias[channels], half.bias)


def test_what_picks_channels_has_no_weights_to_fit() -> None:
    assert can_refit(og.Conv2d(np.ones((4, 1, 3, 3))))
    assert not can_refit(og.Conv2d(np.ones((4, 1, 1, 2)), groups=4))
    assert not can_refit(og.AvgPool((2, 2), (2, 2)))


@pytest.mark.parametrize("reset", ["soft", "hard"])
def test_what_a_spike_counts_is_fitted(reset: str) -> None:
    """Without correction and at few steps: less squared error with "fit" and refitting than with "gain"."""
    errors = dict.fromkeys(("gain", "fit"), 0.0)
    for seed in range(3):
        ann, x = residual(seed), frames(64, seed)
        for kind in errors:
            snn = convert(ann, x, 6, "least-error", v0=0.0, reset=reset, compensation=kind, refit=True)
            errors[kind] += float(np.mean((value(snn, x, 6) - value(ann, x)) ** 2))
    assert errors["fit"] < errors["gain"]


def test_gates_compare_in_the_unit_that_spikes_count() -> None:
    rng = np.random.default_rng(1)
    nodes: dict[str, og.Op] = {
        "in": og.Input((2, 6, 6)),
        "conv": og.Conv2d(rng.normal(0, 0.5, (3, 2, 3, 3)), None, padding=(1, 1)),
        "relu": og.ReLU(),
        "pool": og.MaxPool((1, 2), (1, 2)),
        "flat": og.Flatten(),
        "fc": og.Linear(rng.normal(0, 1, (4, 54))),
        "out": og.Output(),
    }
    ann = og.OpGraph(nodes, tuple(itertools.pairwise(nodes)))
    snn = convert(ann, frames(40), 6, "hard", place="thresholds")
    plain = convert(ann, frames(40), 6, "hard", place="thresholds", compensation="none", refit=False)
    gate, lead = snn.nodes["pool.across.ahead1"], snn.nodes["pool.across.lead1"]
    assert gate.threshold.item() == pytest.approx(np.abs(lead.weight).max())
    assert gate.threshold.item() != pytest.approx(
        plain.nodes["pool.across.ahead1"].threshold.item(), rel=1e-3
    )
    trains = run(snn, frames(40), 6).values
    assert trains["pool.across.ahead1"].any()


def test_spikes_of_an_or_count_as_much_as_those_that_it_joins() -> None:
    """Of two equal units, a maximum is the same as either, so the last layer must see the same values."""
    x = np.random.default_rng(0).uniform(0, 1, (60, 1, 1, 1))
    read = []
    for pool in ([], [("pool", og.MaxPool((1, 2), (1, 1)))]):
        ann = chain(
            ("in", og.Input((1, 1, 1 + len(pool)))),
            ("conv", og.Conv2d(np.ones((1, 1, 1, 1)))),
            ("relu", og.ReLU()),
            *pool,
            ("flat", og.Flatten()),
            ("fc", og.Linear([[1.0]])),
            ("out", og.Output()),
        )
        data = np.repeat(x, 1 + len(pool), axis=3)
        snn = convert(ann, data, 8, "hard", pool="or", refit=False, place="thresholds")
        read.append(snn.nodes["fc"].weight.item() / snn.nodes["relu"].threshold.item())
    assert read[1] == pytest.approx(read[0])
    assert read[0] > 1.05
