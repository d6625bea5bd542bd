"""The specification: what a neuron of a Loihi-class chip does in one time step, in plain integers.

Every other engine is tested against this file, and this file is tested against Lava's own
``fixed_pt`` process models (lava-nc 0.10, ``proc/lif/models.py``, ``proc/graded/models.py``).

Units: one weight unit is 64 units of u and v; one threshold mantissa unit is 64 v units; one bias
mantissa unit is ``2**bias.exp`` v units. All arrays are int64 so that nothing overflows before it is
folded or clipped to the chip's widths.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nmc.ir import Fixed, FixedNeuron, IntArray

STATE_BITS = 24
V_LIMIT = (1 << (STATE_BITS - 1)) - 1
"""v saturates at +-(2**23 - 1)."""
U_FOLD = 1 << (STATE_BITS - 1)
"""u is folded once when it leaves (-2**23, 2**23]; nmc proves that it never does (quantize/ranges.py)."""
WEIGHT_SHIFT = 6
"""Synaptic input enters u shifted left by six bits; thresholds are compared shifted by six bits."""
DECAY_BITS = 12
U_DECAY_OFFSET = 1
"""The u decay acts as du + 1 (Loihi's ds_offset); the v decay as dv."""
THRESHOLD_BITS = 17
BIAS_MANT_BITS = 13
BIAS_EXP_MAX = 7


def truncating_shift(x: IntArray, bits: int) -> IntArray:
    """``sign(x) * (|x| >> bits)``: division by ``2**bits`` that truncates towards zero."""
    return np.asarray(np.sign(x) * (np.abs(x) >> bits))


def decay(state: IntArray, loss: IntArray) -> IntArray:
    """``trunc(state * (4096 - loss) / 4096)``, loss in 0..4096."""
    return truncating_shift(state * ((1 << DECAY_BITS) - loss), DECAY_BITS)


def fold(u: IntArray) -> IntArray:
    """One fold of u into (-2**23, 2**23], as Lava does it."""
    once = np.where(u > U_FOLD, u - 2 * U_FOLD, u)
    return np.where(once <= -U_FOLD, once + 2 * U_FOLD, once)


def bias_value(bias: Fixed | None) -> IntArray:
    """Bias in v units: ``mant << exp``; int64, of the mantissa's shape, 0 where there is no bias."""
    if bias is None:
        return np.zeros((), np.int64)
    return bias.mant.astype(np.int64) << bias.exp


def written_by_host(current: IntArray, shift: int) -> IntArray:
    """Bias mantissas that the host writes for its currents: floor((current + 2^(shift-1)) / 2^shift)."""
    return np.asarray((current + ((1 << shift) >> 1)) >> shift)


def fires(v: IntArray, vth: Fixed) -> npt.NDArray[np.bool_]:
    """Strict comparison with the shifted threshold: ``v > vth << 6``."""
    return v > (vth.mant.astype(np.int64) << WEIGHT_SHIFT)


def step(
    neuron: FixedNeuron, u: IntArray, v: IntArray, a: IntArray, bias: IntArray
) -> tuple[npt.NDArray[np.bool_], IntArray, IntArray]:
    """One time step of a population.

    u[t] = trunc(u[t-1] * (4095 - du) / 4096) + (a << 6), folded to 24 bits
    v[t] = trunc(v[t-1] * (4096 - dv) / 4096) + u[t] + bias, clipped to +-(2**23 - 1)
    s[t] = v[t] > vth << 6;  v[t] = 0 (hard reset) or v[t] - drop (soft reset) where s[t]

    Args:
        neuron: decays, threshold and reset.
        u, v: state after the last step, int64, the population's shape (any leading batch axes).
        a: sum of weights times spike payloads that arrive in this step, weight units, int64.
        bias: v units, int64, broadcastable to v.

    Returns:
        spikes (bool) and the new u and v (v after the reset).
    """
    u = fold(decay(u, neuron.du.mant + U_DECAY_OFFSET) + (a << WEIGHT_SHIFT))
    v = np.clip(decay(v, neuron.dv.mant) + u + bias, -V_LIMIT, V_LIMIT)
    if neuron.vth is None:
        return np.zeros(v.shape, bool), u, v
    spikes = fires(v, neuron.vth)
    v = np.where(spikes, 0 if neuron.drop is None else v - neuron.drop, v)
    return spikes, u, v
