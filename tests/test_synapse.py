"""Every synapse operator against loops over its definition: shape, currents, fan-out, what weights see."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nmc import synapse as operators
from nmc.errors import NmcError
from nmc.ir import Conv2d, Dense, Identity, SumPool2d, Synapse

CASES = range(150)
CLOSE = {"rtol": 1e-12, "atol": 1e-12}


def pair(rng: np.random.Generator, low: int, high: int) -> tuple[int, int]:
    return int(rng.integers(low, high)), int(rng.integers(low, high))


def case(seed: int) -> tuple[Synapse, np.ndarray, tuple[int, ...]]:
    """An operator, its weight and the shape of its source; no two axes alike."""
    rng = np.random.default_rng(seed)
    source = (int(rng.integers(1, 4)), *pair(rng, 4, 8))
    kind = seed % 5
    if kind == 0:
        return Dense(), rng.integers(-9, 10, (int(rng.integers(1, 5)), math.prod(source))), source
    if kind == 1:
        return Identity(), rng.integers(-9, 10, (source[0], 1, 1) if seed % 2 else ()), source
    if kind == 2:
        pool = SumPool2d(pair(rng, 1, 4), pair(rng, 1, 4), pair(rng, 0, 2))
        return pool, np.asarray(rng.integers(1, 9)), source
    groups = int(rng.integers(1, 4))
    shape = (groups * int(rng.integers(1, 4)), int(rng.integers(1, 3)), *pair(rng, 1, 4))
    op = Conv2d(pair(rng, 1, 4), pair(rng, 0, 3), (1, 1) if seed % 3 else (2, 1), groups)
    size = [max(source[1 + k], op.dilation[k] * (shape[2 + k] - 1) + 1) for k in (0, 1)]
    return op, rng.integers(-9, 10, shape), (shape[1] * groups, *size)


def by_loops(synapse: Synapse, weight: np.ndarray, x: np.ndarray) -> np.ndarray:
    """One sample's currents from the definitions: correlation with zeros outside, as in torch."""
    if isinstance(synapse, Identity):
        return np.broadcast_to(weight, x.shape) * x
    if isinstance(synapse, Dense):
        return np.array([sum(int(w) * int(v) for w, v in zip(row, x.flat, strict=True)) for row in weight])
    pool = isinstance(synapse, SumPool2d)
    kernel = synapse.kernel if pool else weight.shape[2:]
    dilation = (1, 1) if pool else synapse.dilation
    channels = x.shape[0] if pool else weight.shape[0]
    rows, columns = (
        len(
            range(
                0, x.shape[1 + k] + 2 * synapse.padding[k] - dilation[k] * (kernel[k] - 1), synapse.stride[k]
            )
        )
        for k in (0, 1)
    )
    result = np.zeros((channels, rows, columns), np.int64)
    for out, row, column, i, j in np.ndindex(channels, rows, columns, *kernel):
        y = row * synapse.stride[0] - synapse.padding[0] + i * dilation[0]
        z = column * synapse.stride[1] - synapse.padding[1] + j * dilation[1]
        if not (0 <= y < x.shape[1] and 0 <= z < x.shape[2]):
            continue
        if pool:
            result[out, row, column] += int(weight) * x[out, y, z]
        else:
            first = out // (channels // synapse.groups) * weight.shape[1]
            for k in range(weight.shape[1]):
                result[out, row, column] += weight[out, k, i, j] * x[first + k, y, z]
    return result


@pytest.mark.parametrize("seed", CASES)
def test_an_operator_computes_its_definition(seed: int) -> None:
    synapse, weight, source = case(seed)
    x = np.random.default_rng(seed + 1).integers(-5, 6, (2, *source))
    expected = np.stack([by_loops(synapse, weight, one) for one in x])
    assert operators.output_shape(synapse, weight.shape, source, "conv") == expected.shape[1:]
    np.testing.assert_array_equal(operators.apply_integer(synapse, weight, x), expected)
    np.testing.assert_array_equal(operators.apply(synapse, weight, x, np.float32), expected)


@pytest.mark.parametrize("seed", CASES)
def test_fan_out_counts_the_neurons_that_a_spike_reaches(seed: int) -> None:
    synapse, weight, source = case(seed)
    spikes = np.eye(math.prod(source), dtype=np.int64).reshape(-1, *source)
    reached = operators.apply_integer(synapse, np.ones_like(weight), spikes)
    counted = reached.reshape(len(spikes), -1).sum(axis=1).reshape(source)
    np.testing.assert_array_equal(operators.fan_out(synapse, weight.shape, source), counted)
    assert operators.synapse_count(synapse, weight.shape, source) == counted.sum()


@pytest.mark.parametrize("seed", CASES)
def test_what_weights_see_gives_the_mean_current(seed: int) -> None:
    """On a grid of 1/8, where every sum is exact but the division by the number of positions."""
    synapse, weight, source = case(seed)
    x = np.random.default_rng(seed + 2).integers(0, 9, source) / 8
    product = weight * operators.seen(synapse, weight.shape, x)
    currents = operators.apply(synapse, weight, x[None])[0]
    if isinstance(synapse, Dense | Conv2d):
        expected = currents.reshape(len(weight), -1).mean(axis=1)
        np.testing.assert_allclose(product.reshape(len(weight), -1).sum(axis=1), expected, **CLOSE)
    elif weight.ndim:
        np.testing.assert_allclose(product[:, 0, 0], currents.mean(axis=(1, 2)), **CLOSE)
    else:
        np.testing.assert_allclose(product, currents.mean(), **CLOSE)


@pytest.mark.parametrize("seed", [seed for seed in CASES if seed % 5 > 2])
def test_fan_in_windows_times_weights_are_the_currents(seed: int) -> None:
    synapse, weight, source = case(seed)
    assert isinstance(synapse, Conv2d)
    x = np.random.default_rng(seed + 3).integers(-5, 6, (2, *source))
    windows = operators.fan_in_windows(synapse, weight.shape, x)
    rows = weight.reshape(synapse.groups, len(weight) // synapse.groups, -1)
    sums = np.einsum("gpk,gok->gop", windows, rows).reshape(len(weight), len(x), -1)
    expected = operators.apply_integer(synapse, weight, x).reshape(len(x), len(weight), -1)
    np.testing.assert_array_equal(sums.transpose(1, 0, 2), expected)


@pytest.mark.parametrize(
    ("synapse", "weight", "source", "message"),
    [
        (Dense(), (3, 5), (2, 3), r"weights \(3, 5\) on a source of 6 neurons"),
        (Dense(), (3, 6, 1), (2, 3), r"weights \(3, 6, 1\) on a source of 6 neurons"),
        (Conv2d(), (3, 2, 3, 3), (2, 9), r"a 2-D operator on a source of shape \(2, 9\)"),
        (Conv2d(), (3, 1, 3, 3), (2, 9, 9), r"weights \(3, 1, 3, 3\) with 1 groups on a source of shape"),
        (Conv2d(groups=2), (3, 1, 3, 3), (2, 9, 9), ".* with 2 groups"),
        (Conv2d(), (3, 2, 5, 1), (2, 4, 9), r"kernel \(5, 1\) is larger than the padded source"),
        (SumPool2d((1, 5), (1, 1)), (), (2, 9, 4), r"kernel \(1, 5\) is larger than the padded source"),
    ],
)
def test_what_does_not_fit_is_refused(synapse: Synapse, weight, source, message: str) -> None:
    with pytest.raises(NmcError, match=f"NMC-G03 fc: {message}"):
        operators.output_shape(synapse, weight, source, "fc")
