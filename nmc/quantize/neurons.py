"""From float neurons to the chip's fields: decays, thresholds, biases. The only place that rounds them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nmc import neuron as spec
from nmc.errors import NmcError
from nmc.ir import Compare, Fixed, FloatArray, FloatNeuron, IntArray

ONE = 1 << spec.DECAY_BITS
V_PER_WEIGHT = 1 << spec.WEIGHT_SHIFT


def decay_field(keep: float, offset: int) -> Fixed:
    """``(ONE - field - offset) / ONE`` is nearest to ``keep``; 12 bits, so the field is 0..4095.

    offset is 1 for u (``spec.U_DECAY_OFFSET``) and 0 for v. keep_v = 0 becomes 4095: what is left,
    v / 4096, truncates to 0 for |v| < 4096. keep_u = 1 becomes 0, which loses 1/4096 (``decay_notes``).
    """
    mant = int(np.clip(np.rint((1.0 - keep) * ONE) - offset, 0, ONE - 1))
    return Fixed(np.asarray(mant), -spec.DECAY_BITS, spec.DECAY_BITS, signed=False)


def decay_notes(neuron: FloatNeuron, steps: int, who: str) -> list[str]:
    """What the report has to say of decays that lie outside of their fields: a current that never fades, a
    potential that is forgotten at once. All others are off by at most half a field, 1/8192 of the state."""
    notes = []
    if neuron.keep_u > 1 - spec.U_DECAY_OFFSET / (2 * ONE):
        gone = 1 - (1 - spec.U_DECAY_OFFSET / ONE) ** steps
        notes.append(
            f"{who}: its synaptic current never fades (keep_u = {neuron.keep_u:g}), chips lose 1/{ONE:,} of"
            f" it in every step: {gone:.2%} in T = {steps}"
        )
    if neuron.keep_v < 1 / (2 * ONE):
        notes.append(f"{who}: keeps nothing of v from step to step (keep_v = 0), chips keep 1/{ONE:,} of it")
    return notes


def bias_field(bias: npt.ArrayLike, who: str) -> Fixed:
    """Bias in v units, rounded to a 13-bit mantissa with the smallest exponent that holds it.

    Raises:
        NmcError: NMC-Q02 when it does not fit with exponent 7.
    """
    value = np.asarray(bias, np.float64)
    largest = float(np.abs(value).max(initial=0.0))
    exp = smallest_exponent(largest)
    if exp is None:
        limit = MAX_BIAS_MANT << spec.BIAS_EXP_MAX
        raise NmcError(
            "NMC-Q02",
            who,
            f"bias {largest:.0f} v units, the chip holds {limit:,}",
            measured=largest,
            allowed=limit,
        )
    return Fixed(np.rint(value / (1 << exp)).astype(np.int64), exp, spec.BIAS_MANT_BITS, signed=True)


MAX_BIAS_MANT = (1 << (spec.BIAS_MANT_BITS - 1)) - 1


def smallest_exponent(largest: float, slack: int = 0) -> int | None:
    """Smallest bias exponent whose mantissa, less ``slack``, holds ``largest`` v units; None: none does."""
    for exp in range(spec.BIAS_EXP_MAX + 1):
        if np.rint(largest / (1 << exp)) <= MAX_BIAS_MANT - slack:
            return exp
    return None


def on_weight_grid(neuron: FloatNeuron, bias: Fixed | None) -> bool:
    """Whether v only takes multiples of one weight unit (64 v units), so that ``>=`` is exact."""
    if neuron.keep_v not in (0.0, 1.0) or neuron.keep_u != 0.0:
        return False
    return bias is None or not np.any(spec.bias_value(bias) % V_PER_WEIGHT)


def threshold_field(threshold: FloatArray, compare: Compare, on_grid: bool, who: str) -> Fixed:
    """The chip's strict threshold for ``v > threshold`` or ``v >= threshold``.

    Args:
        threshold: weight units, not rounded.
        compare: the framework's comparison.
        on_grid: v is a multiple of one weight unit. Then the result is exact: ``v >= t`` is
            ``v > ceil(t) - 1`` and ``v > t`` is ``v > floor(t)``. Off the grid a tie has no weight and the
            threshold is rounded to the nearest mantissa.

    Raises:
        NmcError: NMC-Q02 when it is not positive or needs more than 17 bits.
    """
    nearest = np.rint(threshold)
    # 1e-9: what float scaling leaves on a threshold that is whole.
    whole = np.abs(threshold - nearest) <= 1e-9 * np.maximum(1.0, np.abs(nearest))
    if not on_grid:
        mant = nearest
    elif compare is Compare.GREATER_EQUAL:
        mant = np.where(whole, nearest, np.ceil(threshold)) - 1
    else:
        mant = np.where(whole, nearest, np.floor(threshold))
    top = (1 << spec.THRESHOLD_BITS) - 1
    if (mant < 0).any():
        raise NmcError(
            "NMC-Q02", who, f"threshold {float(np.min(threshold)):g} is not positive", "use a positive one"
        )
    if (mant > top).any():
        raise NmcError(
            "NMC-Q02",
            who,
            f"threshold mantissa {int(mant.max()):,}, the chip holds {top:,}",
            "scale weights and threshold down",
            measured=float(mant.max()),
            allowed=top,
        )
    return Fixed(mant.astype(np.int64), spec.WEIGHT_SHIFT, spec.THRESHOLD_BITS, signed=False)


def in_v_units(potential: FloatArray, scale: FloatArray) -> IntArray:
    """A potential (weight-free float units) in v units, rounded."""
    return np.asarray(np.rint(potential * (scale * V_PER_WEIGHT)).astype(np.int64))
