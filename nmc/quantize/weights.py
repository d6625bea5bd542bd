"""Weights on the chip's grid, and the scales that a population's inputs, thresholds and biases share."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import numpy as np

from nmc.errors import NmcError
from nmc.ir import Fixed, FloatArray, mantissa_range

FULL_BITS = 8
MAX_EXPONENT = 7
"""Of a synapse group's weights (Loihi 1: -8..7, NxSDK's wgtExp as brian2_loihi documents it)."""
MOST = 1 << 20
"""Weights of a matrix that the choice of a clip looks at; the classifier of a ResNet-18 has 25 times more."""
CLIPS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6, 0.5, 0.43, 0.36, 0.3, 0.25, 0.2)
"""Share of max |W| that stays on the grid; what lies beyond is clipped. Two bits want the small ones."""


@dataclass(frozen=True)
class Grid:
    """Weights ``mant * step``, mant a number of ``bits`` bits, signed or not.

    Signs cost the lowest of eight bits, so the step of a mixed-sign projection is at least 2. The coarsest
    grid of b bits has steps of 2**(9 - b), as Lava has it (``utils/weightutils.py``: ``(clip(w, -256, 255) >>
    (9 - b)) << (9 - b)``); an excitatory one half of that, ``(clip(w, 0, 255) >> (8 - b)) << (8 - b)``.
    """

    bits: int
    step: int
    signed: bool = True

    @classmethod
    def coarsest(cls, bits: int) -> Grid:
        """The largest weights, and with them the finest threshold."""
        return cls(bits, 1 << (FULL_BITS + 1 - bits))

    @classmethod
    def finest(cls, bits: int) -> Grid:
        """The smallest weights, for sums that must stay small: a readout adds up over all steps."""
        return cls(bits, 2)

    @staticmethod
    def steps(bits: int) -> list[int]:
        """Every step, the coarsest first."""
        return [1 << exp for exp in range(FULL_BITS + 1 - bits, 0, -1)]

    def of(self, weight: FloatArray) -> Grid:
        """The grid of one trained projection: excitatory, a bit finer, where no weight is negative.

        One bit holds 0 and -1 of a mixed-sign projection, 0 and 1 of an excitatory one: the sign that the
        larger part of the squared weights has.
        """
        excitatory = weight.size > 0 and weight.min() >= 0
        if self.bits == 1:
            excitatory = bool((weight**2 * np.sign(weight)).sum() >= 0)
        return Grid(self.bits, self.step // 2, signed=False) if excitatory else self

    @property
    def lowest(self) -> int:
        """The smallest mantissa."""
        return mantissa_range(self.bits, self.signed)[0]

    @property
    def highest(self) -> int:
        """The largest mantissa."""
        return mantissa_range(self.bits, self.signed)[1]

    @property
    def largest(self) -> int:
        """The magnitude that weights of either sign can have (254 at 8 bits); one bit has one sign."""
        return max(self.highest, 1) * self.step


def along(scale: FloatArray, axes: int) -> FloatArray:
    """A scale (1,) or (C_out,) shaped to multiply an array of ``axes`` axes, the first the output channel."""
    return np.asarray(scale[0]) if len(scale) == 1 else scale.reshape(-1, *(1,) * (axes - 1))


def to_grid(weight: FloatArray, scale: FloatArray, grid: Grid) -> Fixed:
    """``clip(rint(weight * scale / step))`` as a Fixed; value in weight units."""
    mant = np.clip(np.rint(weight * along(scale, weight.ndim) / grid.step), grid.lowest, grid.highest)
    return Fixed(mant.astype(np.int64), grid.step.bit_length() - 1, grid.bits, grid.signed)


def with_exponent(values: FloatArray, who: str) -> Fixed:
    """The nearest 8-bit weights, with the smallest exponent that holds them: -128..127 times 2 or more where
    any is negative, as the chip stores mixed signs, else 0..255.

    Args:
        values: weight units.

    Raises:
        NmcError: NMC-Q02 beyond the largest exponent.
    """
    signed = bool(values.size) and float(values.min()) < 0
    lowest, highest = mantissa_range(FULL_BITS, signed)
    for exp in range(int(signed), MAX_EXPONENT + int(signed) + 1):
        mant = np.rint(values / (1 << exp))
        if mant.size == 0 or (mant.min() >= lowest and mant.max() <= highest):
            return Fixed(mant.astype(np.int64), exp, FULL_BITS, signed)
    largest, limit = float(np.abs(values).max()), highest << exp
    raise NmcError(
        "NMC-Q02",
        who,
        f"a weight of {largest:,.0f}, the chip holds {limit:,}",
        "scale weights and threshold down",
        measured=largest,
        allowed=limit,
    )


@dataclass(frozen=True, eq=False)
class Source:
    """One projection into a population, as the scale search sees it.

    weight: float, in units of the source's integer payloads; its first axis is the output channel, unless
    it is one number. mean, variance: of the payload that each weight multiplies, broadcastable to it.
    trained: whether the weights are; others (pools, gates) keep the mixed-sign grid.
    """

    weight: FloatArray
    mean: FloatArray
    variance: FloatArray
    trained: bool = True

    def thinned(self) -> Source:
        """At most about ``MOST`` weights of a dense matrix, evenly picked from every row."""
        every = self.weight.size // MOST
        if self.weight.ndim != 2 or every < 2:
            return self
        weight, mean, variance = (
            one[:, ::every] if one.ndim == 2 and one.shape[1] > 1 else one
            for one in (self.weight, self.mean, self.variance)
        )
        return Source(weight, mean, variance, self.trained)

    def grid(self, mixed: Grid) -> Grid:
        """The projection's own grid, of a population's mixed-sign one."""
        return mixed.of(self.weight) if self.trained else mixed


def per_output(array: FloatArray, combine: Callable[..., FloatArray]) -> FloatArray:
    """(C_out,) or (1,): an array reduced over everything but its first axis."""
    return np.asarray(combine(array.reshape(len(array) if array.ndim else 1, -1), axis=1))


def output_error(source: Source, scale: FloatArray, grid: Grid) -> FloatArray:
    """Expected squared error of the input current that the grid causes, float units, per output channel.

    With independent inputs of variance q, Var[dW s] = sum dW^2 q; dW = W_grid / scale - W. The mean error
    is not counted: the bias takes it back (``mean_error``).
    """
    rounded = to_grid(source.weight, scale, grid).value
    delta = rounded / along(scale, source.weight.ndim) - source.weight
    return per_output(delta**2 * source.variance, np.sum)


def mean_error(source: Source, rounded: Fixed, scale: FloatArray, found: FloatArray) -> FloatArray:
    """Mean current error per output channel (or one number), float units; a bias takes it back.

    Args:
        found: mean of the payload that the integer network really brings, like ``source.mean``.
    """
    brought = rounded.value / along(scale, source.weight.ndim) * found
    return per_output(brought - source.weight * source.mean, np.sum)


def best_scale(
    sources: list[Source], grid: Grid, limit: FloatArray, who: str, *, per_channel: bool
) -> FloatArray:
    """Weight units per float unit: the clips of ``CLIPS`` with the least output error, at most ``limit``.

    Args:
        limit: (C_out,) or (1,), the largest scales that the population's other fields allow.
        per_channel: one scale for every output channel, (C_out,), instead of one for all, (1,).

    Raises:
        NmcError: NMC-Q02 when every weight is 0 and nothing else sets a scale.
    """
    largest = reduce(np.maximum, (per_output(np.abs(s.weight), np.max) for s in sources), np.zeros(1))
    own = [source.grid(grid) for source in sources]
    thin = [source.thinned() for source in sources]
    top = min((one.largest for one in own), default=grid.largest)
    if per_channel:
        largest, limit = np.broadcast_arrays(largest, limit)
    else:
        largest, limit = largest.max(keepdims=True), limit.min(keepdims=True)
    if not np.isfinite(limit[largest == 0.0]).all():
        raise NmcError("NMC-Q02", who, "all weights are 0 and there is no threshold", "remove the layer")
    with np.errstate(divide="ignore"):
        candidates = [np.minimum(limit, top / (largest * clip)) for clip in CLIPS]
    errors = []
    for scale in candidates:
        error = reduce(np.add, map(output_error, thin, itertools.repeat(scale), own), np.zeros(len(scale)))
        errors.append(error if per_channel else error.sum(keepdims=True))
    # Six digits: differences below that come from the order of float sums, not from the grid.
    rounded = np.vectorize(lambda error: float(f"{error:.6g}"))(np.stack(errors))
    best = rounded.argmin(axis=0)
    return np.asarray(np.stack(candidates)[best, np.arange(len(best))])


def to_profiles(scale: FloatArray, count: int) -> FloatArray:
    """At most ``count`` different scales, none larger than it was: chips hold few threshold profiles a core.

    The levels lie at equal ratios between the smallest and the largest scale.
    """
    if len(np.unique(scale)) <= count:
        return scale
    levels = np.geomspace(scale.min(), scale.max(), count)
    levels[0] = scale.min()
    index = np.searchsorted(levels, scale * (1 + 1e-12), side="right") - 1
    return np.asarray(np.minimum(levels[index], scale) if count == 1 else levels[index])
