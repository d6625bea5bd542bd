"""Fields of the chip against plain arithmetic, over whole small domains."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from nmc.errors import NmcError
from nmc.ir import Compare, Fixed, FixedNeuron, FloatNeuron, Reset, frozen
from nmc.neuron import decay, fold, step, truncating_shift
from nmc.quantize import neurons


@pytest.mark.parametrize("offset", [0, 1])
def test_every_decay_is_the_nearest_field(offset: int) -> None:
    for field in range(4096):
        keep = (4096 - field - offset) / 4096
        assert int(neurons.decay_field(keep, offset).mant) == field
    assert int(neurons.decay_field(0.0, 0).mant) == 4095, "12 bits cannot lose everything"


def test_decays_outside_of_their_fields_are_said() -> None:
    """A current that never fades, a potential that is forgotten at once: no field holds either."""
    (note,) = neurons.decay_notes(FloatNeuron(frozen(1.0), keep_v=0.9, keep_u=1.0), 64, "lif")
    lost = 1 - (4095 / 4096) ** 64
    assert note == (
        "lif: its synaptic current never fades (keep_u = 1), chips lose 1/4,096 of it in every step: "
        f"{lost:.2%} in T = 64"
    )
    (note,) = neurons.decay_notes(FloatNeuron(frozen(1.0), keep_v=0.0), 8, "fc")
    assert note.startswith("fc: keeps nothing of v")
    for keep in (4095 / 4096, 0.5, 1 / 4096):
        assert neurons.decay_notes(FloatNeuron(frozen(1.0), keep_v=keep, keep_u=keep), 8, "x") == []
    assert neurons.decay_notes(FloatNeuron(frozen(1.0), keep_v=1.0, keep_u=0.0), 8, "x") == []


def test_every_bias_mantissa_and_exponent_comes_back() -> None:
    for exp in range(8):
        mant = np.arange(-4095, 4096)
        value = mant << exp
        field = neurons.bias_field(value, "layer")
        assert np.array_equal(field.mant << field.exp, value)
        assert field.exp <= exp


def test_a_bias_beyond_the_field_is_refused_with_both_numbers() -> None:
    with pytest.raises(
        NmcError, match=r"NMC-Q02 conv1: bias 600000 v units, the chip holds 524,160"
    ) as caught:
        neurons.bias_field(600000.0, "conv1")
    assert (caught.value.measured, caught.value.allowed) == (600000.0, 524160)


def test_the_strict_threshold_means_the_frameworks_comparison() -> None:
    """On the grid, exactly: for every whole v, v*64 > vth<<6 just where v > t or v >= t."""
    v = np.arange(-5, 60)
    for numerator in range(4, 200):
        threshold = numerator / 4
        for compare in Compare:
            vth = int(neurons.threshold_field(np.asarray(threshold), compare, True, "layer").mant)
            exact = Fraction(numerator, 4)
            wanted = [x > exact if compare is Compare.GREATER else x >= exact for x in v.tolist()]
            assert (v * 64 > vth << 6).tolist() == wanted, (threshold, compare)


@pytest.mark.parametrize("threshold", [-1.0, 0.0])
def test_a_threshold_at_or_below_zero_is_refused(threshold: float) -> None:
    with pytest.raises(NmcError, match="NMC-Q02"):
        neurons.threshold_field(np.asarray(threshold), Compare.GREATER_EQUAL, True, "layer")


def test_a_threshold_over_17_bits_is_refused() -> None:
    with pytest.raises(NmcError, match="131,072, the chip holds 131,071"):
        neurons.threshold_field(np.asarray(131072.0), Compare.GREATER, True, "layer")


@pytest.mark.parametrize(
    ("neuron", "bias", "expected"),
    [
        (FloatNeuron(frozen(1.0)), None, True),
        (FloatNeuron(frozen(1.0), keep_v=0.0), None, True),
        (FloatNeuron(frozen(1.0), keep_v=0.5), None, False),
        (FloatNeuron(frozen(1.0), keep_u=0.5), None, False),
        (FloatNeuron(frozen(1.0)), Fixed(np.asarray([64, -128]), 0, 13, True), True),
        (FloatNeuron(frozen(1.0)), Fixed(np.asarray([1]), 6, 13, True), True),
        (FloatNeuron(frozen(1.0)), Fixed(np.asarray([63]), 0, 13, True), False),
    ],
)
def test_when_v_stays_on_the_weight_grid(neuron: FloatNeuron, bias: Fixed | None, expected: bool) -> None:
    assert neurons.on_weight_grid(neuron, bias) is expected


def test_truncation_is_towards_zero_and_decay_uses_it() -> None:
    for x in range(-9000, 9000, 7):
        assert int(truncating_shift(np.asarray(x), 12)) == math.trunc(x / 4096)
    for state in (-(2**23), -4097, -1, 0, 1, 4095, 2**23):
        for loss in range(0, 4097, 13):
            got = int(decay(np.asarray(state), np.asarray(loss)))
            assert got == math.trunc(Fraction(state * (4096 - loss), 4096))


def test_u_folds_once_at_the_edges_that_lava_has() -> None:
    edges = {2**23: 2**23, 2**23 + 1: -(2**23) + 1, -(2**23): 2**23, -(2**23) + 1: -(2**23) + 1}
    for u, expected in edges.items():
        assert int(fold(np.asarray(u))) == expected


def _step(
    v: int, *, reset: Reset = Reset.ZERO, drop: int | None = None, bias: int = 0, a: int = 0
) -> tuple[int, ...]:
    neuron = FixedNeuron(
        Fixed(np.asarray(10), 6, 17, False),
        Fixed(np.asarray(4095), -12, 12, False),
        Fixed(np.asarray(0), -12, 12, False),
        reset,
        drop=None if drop is None else np.asarray(drop),
    )
    s, u, w = step(neuron, np.asarray(0), np.asarray(v), np.asarray(a), np.asarray(bias))
    return int(s), int(u), int(w)


def test_one_step_by_hand() -> None:
    assert _step(640) == (0, 0, 640), "the comparison is strict"
    assert _step(640, bias=1) == (1, 0, 0)
    assert _step(0, a=11) == (1, 704, 0), "64 v units per weight unit, u is not reset"
    assert _step(640, bias=1, reset=Reset.SUBTRACT, drop=600) == (1, 0, 41)
    assert _step(2**23 - 2, bias=9) == (1, 0, 0)
    assert _step(-(2**23) + 2, bias=-9) == (0, 0, -(2**23) + 1), "v saturates"
