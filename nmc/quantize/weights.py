"""Weights on the chip's grid, and the one scale that a population's inputs, threshold and bias share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nmc.errors import NmcError
from nmc.ir import Fixed, FloatArray

FULL_BITS = 8
CLIPS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6, 0.5)
"""Share of max |W| that stays on the grid; what lies beyond is clipped."""


def grid_step(bits: int) -> int:
    """Distance of two weights in a mixed-sign projection: signs cost the lowest bit, so 2 at 8 bits.

    Lava ``utils/weightutils.py``: ``(clip(w, -256, 255) >> (9 - bits)) << (9 - bits)``.
    """
    return 1 << (FULL_BITS + 1 - bits)


def largest_weight(bits: int) -> int:
    """The largest positive weight of a mixed-sign projection (254 at 8 bits)."""
    return ((1 << (bits - 1)) - 1) * grid_step(bits)


def to_grid(weight: FloatArray, scale: float, bits: int) -> Fixed:
    """``clip(rint(weight * scale / step))`` as a signed Fixed of ``bits`` bits; value in weight units."""
    step = grid_step(bits)
    half = 1 << (bits - 1)
    mant = np.clip(np.rint(weight * (scale / step)), -half, half - 1)
    return Fixed(mant.astype(np.int64), step.bit_length() - 1, bits, signed=True)


@dataclass(frozen=True, eq=False)
class Source:
    """One projection into a population, as the scale search sees it.

    weight: float, in units of the source's integer payloads; first axis is the output channel.
    mean, variance: of the payload of every input of the weight's remaining axes, broadcastable to it.
    """

    weight: FloatArray
    mean: FloatArray
    variance: FloatArray


def output_error(sources: list[Source], scale: float, bits: int) -> float:
    """Expected squared error of the population's input current that the grid causes, float units.

    With independent inputs of variance q, Var[dW s] = sum dW^2 q, summed over the output channels;
    dW = W_grid / scale - W. The mean error is not counted: the bias takes it back (``mean_error``).
    """
    total = 0.0
    for source in sources:
        delta = to_grid(source.weight, scale, bits).value / scale - source.weight
        total += float((delta**2 * source.variance).sum())
    return total


def mean_error(source: Source, rounded: Fixed, scale: float) -> FloatArray:
    """Mean current error per output channel (or one number), float units; a bias takes it back."""
    delta = (rounded.value / scale - source.weight) * source.mean
    return np.asarray(delta.reshape(len(delta), -1).sum(axis=1) if delta.ndim else delta.reshape(1))


def best_scale(sources: list[Source], bits: int, limit: float, who: str) -> float:
    """Weight units per float unit: the clip of ``CLIPS`` with the least output error, at most ``limit``.

    Raises:
        NmcError: NMC-Q02 when every weight is 0 and nothing else sets a scale.
    """
    largest = max((float(np.abs(source.weight).max(initial=0.0)) for source in sources), default=0.0)
    if largest == 0.0:
        if not np.isfinite(limit):
            raise NmcError("NMC-Q02", who, "all weights are 0 and there is no threshold", "remove the layer")
        return limit
    candidates = [min(limit, largest_weight(bits) / (largest * clip)) for clip in CLIPS]
    # Six digits: differences below that come from the order of float sums, not from the grid.
    errors = [float(f"{output_error(sources, scale, bits):.6g}") for scale in candidates]
    return candidates[errors.index(min(errors))]
