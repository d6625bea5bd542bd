"""Adaptive rounding against nearest rounding, and against a brute-force search where that is possible."""

from __future__ import annotations

import itertools

import numpy as np

from nmc.ir import Conv2d, Dense, Projection, frozen
from nmc.quantize import rounding


def error(rows: np.ndarray, mant: np.ndarray, covariance: np.ndarray) -> float:
    """E[(dW s)^2] for centred inputs of that covariance."""
    delta = mant - rows
    return float(np.einsum("oi,ij,oj->", delta, covariance, delta))


def correlated(inputs: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(200, inputs)) @ rng.normal(size=(inputs, inputs))
    return np.cov(mixed.T)


def test_correlated_inputs_take_back_each_others_error() -> None:
    """Not in every single case, but by half over many."""
    nearest = found = 0.0
    for seed in range(40):
        rows, covariance = np.random.default_rng(seed).normal(0, 3, (6, 20)), correlated(20, seed)
        nearest += error(rows, np.rint(rows), covariance)
        found += error(rows, rounding.round_rows(rows, covariance, -128, 127), covariance)
    assert found < 0.5 * nearest


def test_it_comes_close_to_the_best_choice_of_up_or_down() -> None:
    nearest = found = best = 0.0
    for seed in range(40):
        rows, covariance = np.random.default_rng(seed).normal(0, 3, (1, 6)), correlated(6, seed)
        choices = (np.floor(rows) + np.asarray([up]) for up in itertools.product((0, 1), repeat=6))
        best += min(error(rows, choice, covariance) for choice in choices)
        nearest += error(rows, np.rint(rows), covariance)
        found += error(rows, rounding.round_rows(rows, covariance, -128, 127), covariance)
    assert found - best < 0.5 * (nearest - best)


def test_independent_inputs_are_rounded_to_the_nearest() -> None:
    rows = np.asarray([[0.4, 1.6, -2.3, 200.0, -200.0]])
    found = rounding.round_rows(rows, np.diag([1.0, 4.0, 2.0, 1.0, 1.0]), -128, 127)
    assert found.tolist() == [[0, 2, -2, 127, -128]]


def test_whole_weights_stay_as_they_are() -> None:
    rows = np.random.default_rng(0).integers(-100, 100, (5, 30)).astype(float)
    assert np.array_equal(rounding.round_rows(rows, correlated(30, 0), -128, 127), rows)


def test_silent_inputs_are_rounded_to_the_nearest() -> None:
    rows = np.asarray([[0.4, 1.6]])
    assert rounding.round_rows(rows, np.zeros((2, 2)), -8, 7).tolist() == [[0, 2]]


def test_observations_are_what_each_fan_in_sees() -> None:
    """A grouped, strided, padded convolution of the observations is the convolution itself."""
    from nmc import synapse

    rng = np.random.default_rng(0)
    frames = rng.integers(0, 3, (4, 6, 5, 5)).astype(float)
    op = Conv2d((2, 2), (1, 1), groups=3)
    weight = rng.integers(-5, 6, (9, 2, 3, 3)).astype(float)
    projection = Projection("p", "a", "b", op, frozen(weight, np.float64))
    seen = rounding.observations(projection, frames)
    by_hand = np.einsum("gri,goi->gor", seen, weight.reshape(3, 3, 18))
    current = synapse.apply(op, weight, frames)
    assert np.array_equal(by_hand.reshape(9, 4, 3, 3).transpose(1, 0, 2, 3), current)
    dense = Projection("d", "a", "b", Dense(), frozen(rng.normal(size=(3, 150)), np.float64))
    assert np.array_equal(rounding.observations(dense, frames)[0], frames.reshape(4, -1))


def test_groups_and_blocks_are_rounded_each_with_their_own_inputs() -> None:
    rng = np.random.default_rng(1)
    weight = rng.normal(0, 2, (4, 1, 3, 3))
    seen = np.stack([rng.integers(0, 2, (300, 9)), np.zeros((300, 9))]).astype(float)
    found = rounding.adaptive(weight, 2, [seen], -8, 7)
    assert np.array_equal(found[2:], np.rint(weight[2:])), "silent group: nearest"
    alone = rounding.round_rows(weight[:2].reshape(2, 9), rounding.covariance([seen[0]], 0, 9), -8, 7)
    assert np.array_equal(found[:2].reshape(2, 9), alone)
