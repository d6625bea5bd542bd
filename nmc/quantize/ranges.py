"""Static proof that nothing overflows: interval arithmetic over weights and payloads.

Once it holds, the order of sums, tiling, threads, and whether an engine wraps or saturates cannot change
a result. The public Loihi emulators disagree at the edges of u, so a network that could reach them is
refused rather than run.

u is bounded by the geometric series of what can arrive, unless a neuron inhibits itself when it fires, as in
looped soft resets (``reset_loops.py``): then ``membrane`` holds, which gives back what spikes take.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from nmc import neuron as spec
from nmc import synapse
from nmc.errors import InternalError, NmcError
from nmc.ir import (
    Conv2d,
    Dense,
    Fixed,
    FixedNeuron,
    FloatArray,
    GradedRelay,
    Identity,
    InputNeuron,
    IntArray,
    Network,
    Population,
    Projection,
)

PAYLOAD_LIMIT = (1 << 23) - 1
"""Graded payloads are 24 bits signed (Lava ``proc/clp``); relays are refused beyond."""


@dataclass(frozen=True)
class Range:
    """Proven bounds of one population, inclusive.

    a: the synaptic sum, weight units. u, bias, v: v units. saturates: v can reach its clip within T
    steps, which is defined and equal in all engines but differs from the float network.
    """

    population: str
    a: tuple[int, int]
    u: tuple[int, int]
    bias: tuple[int, int]
    v: tuple[int, int]
    saturates: bool


def parts(network: Network, projection: Projection) -> int:
    """``synapse.parts`` of a projection."""
    source, target = network[projection.source], network[projection.target]
    return synapse.parts(projection.synapse, source.size, target.size)


def payload_range(network: Network, population: Population) -> tuple[int, int]:
    """Smallest and largest value that one spike of the population carries (0 for no spike included)."""
    neuron = population.neuron
    if isinstance(neuron, InputNeuron):
        return min(0, neuron.lowest), max(0, neuron.highest)
    if isinstance(neuron, GradedRelay):
        low, high = _total(arriving(network, one) for one in network.incoming(population.name))
        return int(low.min()), int(high.max())
    return 0, 1


def fan_in_rows(projection: Projection, weight: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Weights as (outputs, inputs) with every synapse that one target neuron can have."""
    if isinstance(projection.synapse, Conv2d | Dense):
        return weight.reshape(weight.shape[0], -1)
    copies = int(np.prod(getattr(projection.synapse, "kernel", (1,))))
    return np.repeat(weight.reshape(-1, 1), copies, axis=1)


Bounds: TypeAlias = tuple[IntArray, IntArray]
"""Lowest and highest value per output channel, (C_out,) or (1,)."""


def _total(parts: Iterable[Bounds]) -> Bounds:
    low = high = np.zeros(1, np.int64)
    for one in parts:
        low, high = low + one[0], high + one[1]
    return low, high


def arriving(network: Network, projection: Projection) -> Bounds:
    """Bounds of one projection's current into one neuron of each channel, weight units (or host units).

    What a relay sends one to one is bounded channel by channel, so that sums in parts have the sum's bounds.
    """
    source, target = network[projection.source], network[projection.target]
    relayed = isinstance(projection.synapse, Identity) and isinstance(source.neuron, GradedRelay)
    count = parts(network, projection)
    if relayed and projection.weight_shape == () and source.shape[0] == count * target.shape[0]:
        weight = int(projection.integer_weight)
        low, high = (
            np.broadcast_to(one, source.shape[:1]).reshape(count, -1).sum(axis=0)
            for one in _total(arriving(network, one) for one in network.incoming(source.name))
        )
        return (low * weight, high * weight) if weight >= 0 else (high * weight, low * weight)
    low, high = payload_range(network, source)
    weights = projection.integer_weight
    rows = fan_in_rows(projection, weights)
    lowest, highest = row_ranges(rows if count == 1 else np.repeat(rows, count, axis=1), low, high)
    if isinstance(projection.synapse, Identity) and weights.ndim > 1:  # one per channel, or per neuron
        lowest, highest = (
            lowest.reshape(len(weights), -1).min(axis=1),
            highest.reshape(len(weights), -1).max(axis=1),
        )
    return lowest, highest


def row_ranges(rows: npt.NDArray[Any], low: int, high: int) -> Bounds:
    """(rows,) each: smallest and largest sum that payloads in low..high (low <= 0 <= high) bring to a row."""
    positive = np.maximum(rows, 0).sum(axis=1)
    negative = np.minimum(rows, 0).sum(axis=1)
    return np.asarray(positive * low + negative * high), np.asarray(positive * high + negative * low)


def largest_sum(rows: FloatArray, low: int, high: int) -> FloatArray:
    """(rows,): largest magnitude of a row's sum; for float weights too."""
    lowest, highest = row_ranges(rows, low, high)
    return np.asarray(np.maximum(-lowest, highest))


def total_kept(keep: float, steps: int) -> float:
    """What a current of 1 in each of ``steps`` steps adds up to, 1 + keep + keep^2 + ..."""
    return float(steps) if keep >= 1 else (1 - keep**steps) / (1 - keep)


def membrane(
    arriving: tuple[FloatArray, FloatArray],
    drop: tuple[FloatArray, FloatArray],
    silent: FloatArray,
    firing: FloatArray,
    keep: float,
    steps: int,
) -> tuple[FloatArray, FloatArray]:
    """Lowest and highest u where a spike takes something from it one step later (``reset_loops.py``).

    With what else arrives, low <= e <= high, and what a spike takes, D >= 0,

        u[t] = trunc(keep u[t-1]) + e[t] - D s[t-1]        u[-1] = 0, s[-1] = 0

    u starts between low and high. Let u <= ``silent`` in steps without a spike, u >= ``firing`` in steps with
    one, x+ = max(x, 0) and x- = min(x, 0). Without a spike u <= high + keep silent+ =: top one step later,
    with one it has grown by no more than high - D, so that in a burst it stays below a sequence

        x' = keep x + high - D        from top, or from high at the start.

    After a step with a spike u >= low + (keep firing - D)- =: bottom; in silence it stays above a sequence

        x' = keep x + low             from bottom, or from low at the start.

    By induction u lies between their extremes. They are monotonic: of each, one of the ends is the furthest.
    Where no more arrives than a spike takes, T does not matter at the top. At the bottom inhibition adds up,
    as nothing takes it back.

    Args:
        arriving, drop: lowest and highest, (C,) or (1,) each; all in one unit.
        silent, firing: (C,) or (1,).
        keep: share of u that stays, 0..1.
        steps: T.

    Returns:
        In real numbers; truncation adds less than one v unit at the bottom and nothing at the top.
    """
    (low, high), (least, most) = arriving, drop

    def last(first: FloatArray, each: FloatArray, later: int) -> FloatArray:
        return np.asarray(first * keep**later + each * total_kept(keep, later))

    top = high + keep * np.maximum(silent, 0.0)
    bottom = low + np.minimum(keep * firing - most, 0.0)
    rise, after = high - least, max(steps - 2, 0)
    highest = (high, last(high, rise, steps - 1), top, last(top, rise, after))
    lowest = (low, last(low, low, steps - 1), bottom, last(bottom, low, after))
    return reduce(np.minimum, lowest), reduce(np.maximum, highest)


def bound(network: Network, population: Population, steps: int) -> Range:
    """Bounds of one population over ``steps`` steps from a cleared state."""
    lows, highs = _total(arriving(network, p) for p in network.incoming(population.name) if not p.on_host)
    a = (int(lows.min()), int(highs.max()))
    neuron = population.neuron
    if isinstance(neuron, GradedRelay):
        return Range(population.name, a, (0, 0), (0, 0), (0, 0), False)
    if not isinstance(neuron, FixedNeuron):
        raise InternalError(f"{population.name} has no fixed-point neuron")
    bias = _bias_range(network, population)
    # Truncation shrinks magnitudes, so the geometric series of exact decay bounds the integer one.
    u_gain = min(float(steps), (1 << spec.DECAY_BITS) / (int(neuron.du.mant) + spec.U_DECAY_OFFSET))
    u_low, u_high = (int(np.ceil(abs(x) * u_gain)) << spec.WEIGHT_SHIFT for x in a)
    u = (-u_low if a[0] < 0 else u_low, u_high if a[1] > 0 else -u_high)
    own = own_inhibition(network, population)
    if own is not None:
        bottom, top = _membrane(network, population, neuron, own, bias, steps)
        u = max(u[0], bottom), min(u[1], top)
    dv = int(neuron.dv.mant)
    v_gain = min(float(steps), (1 << spec.DECAY_BITS) / dv) if dv else float(steps)
    start = np.abs(neuron.v0).max(initial=0)
    low = min(0.0, (min(0, u[0]) + bias[0]) * v_gain) - start
    high = max(0.0, (max(0, u[1]) + bias[1]) * v_gain) + start
    v = (max(int(low), -spec.V_LIMIT), min(int(high), spec.V_LIMIT))
    readout_tops = neuron.vth is None and high > spec.V_LIMIT
    return Range(
        population.name, a, (min(0, u[0]), max(0, u[1])), bias, v, bool(low < -spec.V_LIMIT or readout_tops)
    )


def own_inhibition(network: Network, population: Population) -> Projection | None:
    """The synapse by which each neuron of a hard reset inhibits itself one step after its spike, if any."""
    neuron = population.neuron
    if not isinstance(neuron, FixedNeuron) or neuron.vth is None or neuron.drop is not None:
        return None
    for one in network.incoming(population.name):
        onto_itself = one.source == population.name and isinstance(one.synapse, Identity) and one.lag == 1
        if onto_itself and int(one.integer_weight.max()) <= 0:
            return one
    return None


def _membrane(
    network: Network,
    population: Population,
    neuron: FixedNeuron,
    own: Projection,
    bias: tuple[int, int],
    steps: int,
) -> tuple[int, int]:
    """Bounds of u, v units, of a population that inhibits itself.

    v = trunc(keep_v v[t-1]) + u + bias, where v[t-1] is at most the threshold (or v0, or 0 after a spike) and
    at least what u's own lowest values leave of it. A spike means v > threshold, hence the bounds of u.
    """
    assert neuron.vth is not None
    unit, whole = 1 << spec.WEIGHT_SHIFT, 1 << spec.DECAY_BITS
    others = (p for p in network.incoming(population.name) if p is not own and not p.on_host)
    low, high = _total(steady(network, p) or arriving(network, p) for p in others)
    least, most = by_channel(-own.integer_weight * float(unit))
    lowest, highest = by_channel(neuron.vth.value)
    keep = (whole - spec.U_DECAY_OFFSET - int(neuron.du.mant)) / whole
    keep_v = (whole - int(neuron.dv.mant)) / whole
    silent = highest - bias[0] + keep_v * spec.V_LIMIT
    firing = lowest - bias[1] - keep_v * np.maximum(highest, neuron.v0.max(initial=0))
    bottom, top = membrane(
        (low * float(unit), high * float(unit)), (least, most), silent, firing, keep, steps
    )
    return int(np.floor(bottom.min())) - 1, int(np.ceil(top.max()))


def steady(network: Network, projection: Projection) -> Bounds | None:
    """The current of a source that fires in every step, bounds per channel; None where it is not one.

    Without any input a neuron whose bias exceeds its threshold fires in step after step, and every neuron of
    the target has one synapse from it.
    """
    source, weight = network[projection.source], projection.integer_weight
    neuron, bias, operator = source.neuron, source.bias, projection.synapse
    if network.incoming(source.name) or not isinstance(neuron, FixedNeuron) or not isinstance(bias, Fixed):
        return None
    if neuron.vth is None or neuron.drop is not None or neuron.v0.any() or projection.lag:
        return None
    padded = isinstance(operator, Conv2d) and any(operator.padding)
    single = fan_in_rows(projection, weight).shape[1] * parts(network, projection) == 1
    return by_channel(weight) if single and not padded and (bias.value > neuron.vth.value).all() else None


def by_channel(values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """(C_out,) or (1,) each: smallest and largest of an array along its first axis."""
    rows = values.reshape(len(values) if values.ndim else 1, -1)
    return rows.min(axis=1), rows.max(axis=1)


def _bias_range(network: Network, population: Population) -> tuple[int, int]:
    """Bounds of the bias current, v units, what the host writes included, channel by channel."""
    if population.bias is None:
        return 0, 0
    assert isinstance(population.bias, Fixed)
    mant = population.bias.mant
    rows = mant.reshape(len(mant) if mant.ndim else 1, -1)
    low, high = rows.min(axis=1), rows.max(axis=1)
    for projection in network.incoming(population.name):
        if projection.on_host:
            lowest, highest = arriving(network, projection)
            low = low + spec.written_by_host(lowest, projection.host_shift)
            high = high + spec.written_by_host(highest, projection.host_shift)
    return int(low.min()) << population.bias.exp, int(high.max()) << population.bias.exp


def prove(network: Network) -> tuple[Range, ...]:
    """Bounds of every population over the network's T, or a refusal.

    Raises:
        NmcError: NMC-Q01 when u can leave 24 bits, a payload or bias its field, or a readout its range.
    """
    ranges = tuple(bound(network, population, network.steps) for population in network.compute)
    for item in ranges:
        population = network[item.population]
        reach = max(abs(item.a[0]), abs(item.a[1]))
        if isinstance(population.neuron, GradedRelay):
            if reach > min(population.max_payload, PAYLOAD_LIMIT):
                _refuse(population, "payload", reach, min(population.max_payload, PAYLOAD_LIMIT))
            continue
        current = max(abs(item.u[0]), abs(item.u[1]))
        if current >= spec.U_FOLD:
            _refuse(population, "synaptic current u", current, spec.U_FOLD - 1)
        bias = population.bias
        if isinstance(bias, Fixed):
            largest = max(abs(item.bias[0]), abs(item.bias[1])) >> bias.exp
            if largest > bias.highest:
                _refuse(population, "bias mantissa", largest, bias.highest)
        if item.saturates and population.neuron.vth is None:  # type: ignore[union-attr]
            _refuse(
                population, f"readout potential after {network.steps} steps", spec.V_LIMIT + 1, spec.V_LIMIT
            )
    return ranges


def _refuse(population: Population, what: str, measured: int, allowed: int) -> None:
    raise NmcError(
        "NMC-Q01",
        population.label,
        f"{what} can reach {measured:,}, the chip holds {allowed:,}",
        "use fewer weight bits (--weight-bits) or a smaller input range",
        measured=measured,
        allowed=allowed,
    )
