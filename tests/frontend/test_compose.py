"""Composed operators equal the pair, on random geometries, borders included; or the pair is refused."""

from __future__ import annotations

import numpy as np
import pytest

from nmc import synapse
from nmc.errors import NmcError
from nmc.frontend.compose import compose, dense
from nmc.ir import Conv2d, Dense, Identity, SumPool2d, frozen


def random_window(rng, channels, largest):
    stride, padding = (tuple(int(n) for n in rng.integers(low, low + 3, 2)) for low in (1, 0))
    if rng.random() < 0.4:
        kernel = tuple(int(n) for n in rng.integers(1, largest + 1, 2))
        return SumPool2d(kernel, stride, padding), frozen(rng.integers(1, 4) / 2)
    groups = int(rng.choice([g for g in (1, 2, channels) if channels % g == 0]))
    shape = (groups * int(rng.integers(1, 3)), channels // groups, *rng.integers(1, largest + 1, 2))
    dilation = tuple(int(n) for n in rng.integers(1, 3, 2))
    return Conv2d(stride, padding, dilation, groups), frozen(rng.integers(-8, 9, shape) / 4)


def random_pair(rng):
    source = (int(rng.integers(1, 5)), int(rng.integers(2, 9)), int(rng.integers(2, 9)))
    first = random_window(rng, source[0], 3)
    if rng.random() < 0.2:
        first = (Identity(), frozen(rng.integers(1, 5, (source[0], 1, 1)) / 2))
    middle = synapse.output_shape(first[0], first[1].shape, source, "")
    kind = rng.integers(4)
    if kind == 0:
        second = (Dense(), frozen(rng.integers(-8, 9, (3, int(np.prod(middle)))) / 4))
    elif kind == 1:
        second = (Identity(), frozen(rng.integers(1, 5, (middle[0], 1, 1)) / 2))
    else:
        second = random_window(rng, middle[0], 3)
    synapse.output_shape(second[0], second[1].shape, middle, "")
    return source, first, second


def test_random_pairs():
    exact = refused = 0
    kinds = set()
    for seed in range(3000):
        rng = np.random.default_rng(seed)
        try:
            source, first, second = random_pair(rng)
        except NmcError:
            continue  # the kernel is larger than the map
        x = rng.integers(-3, 4, (2, *source)).astype(np.float64)
        expected = synapse.apply(*second, synapse.apply(*first, x))
        try:
            operator, weight = compose(first, second, source, "pair")
        except NmcError as error:
            refused += error.code == "NMC-G05"
            continue
        np.testing.assert_array_equal(synapse.apply(operator, weight, x), expected, f"seed {seed}")
        assert synapse.output_shape(operator, weight.shape, source, "") == expected.shape[1:]
        exact += 1
        kinds.add((type(first[0]).__name__, type(second[0]).__name__, type(operator).__name__))
    assert exact > 1000
    assert refused > 100
    assert {("SumPool2d", "Conv2d", "Conv2d"), ("SumPool2d", "SumPool2d", "SumPool2d")} <= kinds
    assert {("Conv2d", "Conv2d", "Conv2d"), ("Conv2d", "Dense", "Dense")} <= kinds


@pytest.mark.parametrize(
    ("pool", "size", "padding", "exact"),
    [
        (SumPool2d((2, 2), (2, 2)), 8, 1, True),
        (SumPool2d((2, 2), (2, 2)), 7, 1, False),  # the last row is in no window, but in one of padding
        (SumPool2d((2, 2), (2, 2)), 7, 0, True),
        (SumPool2d((3, 3), (2, 2), (1, 1)), 8, 1, False),
        (SumPool2d((3, 3), (1, 1)), 8, 1, False),
    ],
)
def test_only_cut_windows_are_refused(pool, size, padding, exact):
    conv = (Conv2d(padding=(padding, padding)), frozen(np.ones((1, 1, 3, 3))))
    if exact:
        compose((pool, frozen(1.0)), conv, (1, size, size), "conv")
    else:
        with pytest.raises(NmcError, match=r"NMC-G05 conv: .*cuts a window"):
            compose((pool, frozen(1.0)), conv, (1, size, size), "conv")


def test_an_identity_of_one_passes_the_very_array_on():
    weight = frozen(np.ones((2, 1, 3, 3)))
    assert compose((Identity(), frozen(1.0)), (Conv2d(), weight), (1, 4, 4), "")[1] is weight


def test_dense_has_a_limit():
    with pytest.raises(NmcError, match="33,554,432 are built") as caught:
        dense((SumPool2d((1, 1), (1, 1)), frozen(1.0)), (64, 16, 16), "pool")
    assert caught.value.measured == (64 * 256) ** 2
