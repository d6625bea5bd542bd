"""One population with its scale: every number of it on the chip's fields.

All projections into a population (or, with threshold profiles, into one of its channels), the threshold,
bias and initial potential share one scale S, in weight units per float unit; scaling them together leaves
the spikes unchanged. v has 64 units per weight unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from typing import TypeAlias

import numpy as np

from nmc import neuron as spec
from nmc import synapse
from nmc.errors import NmcError
from nmc.ir import (
    Conv2d,
    Dense,
    Fixed,
    FixedNeuron,
    FloatArray,
    FloatNeuron,
    InputNeuron,
    Network,
    Population,
    Projection,
    frozen,
)
from nmc.quantize import neurons, ranges, rounding, weights
from nmc.quantize.calibrate import Statistics
from nmc.quantize.emulate import Emulator
from nmc.quantize.reset_loops import can_loop, planned

HOST_WEIGHT_BITS = 16
"""Host projections run on the host's processor; 16 bits make their error invisible after rounding."""
CORRECTION = 1.0
"""Corrections may move a bias by this share of the threshold; the fields leave room for it."""
LOOP_CORRECTION = 0.5
"""The same where soft resets are loops, whose u must hold it T times."""
READOUT_CORRECTION = 0.25
"""The same for a readout, of all that can arrive in a step."""
START = 0.5
"""Start values may be moved by this share of the threshold."""
LARGEST_START = (neurons.MAX_BIAS_MANT << spec.BIAS_EXP_MAX) / neurons.V_PER_WEIGHT
LARGEST_DROP = 128 << weights.MAX_EXPONENT + 1
"""Where soft resets are loops a start value is a bias, and what a spike subtracts a weight; weight units."""
FINEST = 16
"""Thresholds that share the exponent of such weights are at least so many mantissas."""
LOOP_SLACK = 64
"""Weight units of u that rounded thresholds, start values and what v keeps may take in all."""
RESCALES = 12
MARGIN = 0.98
"""A scale whose rounded weights reach too far is shrunk to this share of what would have fitted."""
UNIFORM_VARIANCE = 1 / 12
"""Of a number that is equally likely anywhere in one unit: a rounding error, or a pixel nobody has seen."""


Shared: TypeAlias = dict[tuple[int, weights.Grid, bytes], Fixed]
"""Rounded weights by id of the float array, grid and bytes of the scale."""


def is_learned(population: Population, incoming: tuple[Projection, ...]) -> bool:
    """Whether a float population integrates trained weights; gates, pools and delay lines do not."""
    trained = any(isinstance(p.synapse, Conv2d | Dense) for p in incoming)
    return isinstance(population.neuron, FloatNeuron) and trained and population.neuron.keep_v > 0


class ScaledPopulation:
    """One population with its scale chosen: (1,), or (C_out,) where every channel has its own.

    done: the populations before it, quantized; payloads: the range of their spikes, 0 included. loops: a soft
    reset will be a synapse onto itself (``reset_loops.py``), so that u must hold what v holds elsewhere, and
    threshold and bias must be weights. ``round`` must have been called before the results are asked for.
    """

    def __init__(
        self,
        network: Network,
        population: Population,
        done: Mapping[str, Population],
        payloads: Mapping[str, tuple[int, int]],
        statistics: dict[str, Statistics] | None,
        bits: int,
        profiles: int | None,
        *,
        loops: bool = False,
    ) -> None:
        assert isinstance(population.neuron, FloatNeuron)
        self._population = population
        self._neuron = population.neuron
        self._steps = network.steps
        self.loops = loops and can_loop(population.neuron)
        self._done, self._payloads = done, payloads
        self._grid = weights.Grid.finest(bits)
        self._statistics = statistics
        incoming = network.incoming(population.name)
        self.chip = tuple(p for p in incoming if not p.on_host)
        self.host = tuple(p for p in incoming if p.on_host)
        bias = population.bias if population.bias is not None else np.zeros((1,) * len(population.shape))
        assert not isinstance(bias, Fixed)
        self._bias = bias
        self._sources = [self._source(p) for p in self.chip]
        self._reserve = self._correction_reserve() if statistics is not None else np.zeros(1)
        self._shifted = np.zeros(1)
        self._start = np.zeros(1)
        if self._neuron.threshold is not None:
            self._grid = self._roomy_grid(bits)
        self._profiles = profiles
        self.scale = self._choose_scale(profiles)
        self.weights: dict[str, Fixed] = {}

    @property
    def float_neuron(self) -> FloatNeuron:
        return self._neuron

    @property
    def neurons_per_channel(self) -> int:
        return self._population.size // self._population.shape[0]

    @property
    def shifted(self) -> FloatArray:
        """By how much the bias was corrected, (C_out,) or (1,), float units."""
        return self._shifted

    @property
    def learned(self) -> bool:
        """Whether corrections apply: what has no trained weights is exact as it is."""
        return is_learned(self._population, (*self.chip, *self.host))

    def round(self, shared: Shared, emulator: Emulator | None) -> None:
        """Round the weights and let the bias take back the mean of the error.

        Args:
            shared: weights that other populations have rounded.
            emulator: what the integers so far do on the calibration data; their error in the mean, too, is
                taken back.
        """
        self._round_into_range(shared)
        for projection, source in zip(self.chip, self._sources, strict=True):
            found = source.mean
            if emulator is not None and self.learned and emulator.knows(projection.source):
                mean = emulator.means[projection.source]
                found = synapse.seen(projection.synapse, projection.weight_shape, mean)
            error = weights.mean_error(source, self.weights[projection.name], self.scale, found)
            # What float sums leave over is far below one v unit, and no error.
            self.shift(-np.round(error * self.scale, 6) / self.scale)

    def _round_into_range(self, shared: Shared) -> None:
        """Round the weights, at a smaller scale where what they became reaches too far.

        Raises:
            NmcError: NMC-Q01 where they reach too far until no weight is left, NMC-Q02 where all are 0.
        """
        for _ in range(RESCALES):
            self.weights = {p.name: self._weight(p, shared) for p in self.chip}
            rounded = {name: one.value.astype(np.float64) for name, one in self.weights.items()}
            loads = self._loads(rounded, self.scale)
            excess = reduce(
                np.maximum, (load / room for room, load in zip(self._rooms(), loads, strict=False))
            )
            if (excess <= 1).all():
                break
            # Channels that share a threshold profile go on to share it.
            alone = len(self.scale) > 1 and self._profiles is None
            shrunk = MARGIN / (excess if alone else excess.max(keepdims=True))
            self.scale = self._whole_threshold(self.scale * np.minimum(shrunk, 1.0))
        if self.chip and not any(one.mant.any() for one in self.weights.values()):
            self._refuse()

    def _refuse(self) -> None:
        """No weight is left: say what the smallest ones would reach, or that none is large enough."""
        measured = int(self._moved().max()) << spec.WEIGHT_SHIFT
        allowed = int(min(self._rooms())) << spec.WEIGHT_SHIFT
        if measured <= allowed:
            largest = max(float(np.abs(source.weight).max(initial=0.0)) for source in self._sources)
            raise NmcError(
                "NMC-Q02",
                self._population.label,
                f"all of its weights round to 0: the largest is {largest:g}, too small beside its threshold",
                "check the checkpoint, or remove the layer",
            )
        raise NmcError(
            "NMC-Q01",
            self._population.label,
            f"even weights of one unit can reach {measured:,}, the chip holds {allowed:,} a step",
            "lower the fan-in, the payload or T",
            measured=measured,
            allowed=allowed,
        )

    def shift(self, change: FloatArray) -> None:
        """Add (C_out,) or (1,) float units to the bias, in all no more than the fields were left room for."""
        total = np.clip(self._shifted + change, -self._reserve, self._reserve)
        self._bias = self._bias + self._per_channel(total - self._shifted)
        self._shifted = total

    def start(self, potential: FloatArray) -> None:
        """Let v start (C_out,) or (1,) float units above the model's initial potential."""
        self._start = potential

    def _per_channel(self, values: FloatArray) -> FloatArray:
        """(C_out,) or (1,) shaped like the population."""
        return values.reshape(-1, *(1,) * (len(self._population.shape) - 1))

    def _correction_reserve(self) -> FloatArray:
        """How far corrections may move the bias: of a readout by some of what can arrive in a step."""
        if self._neuron.threshold is not None:
            share = LOOP_CORRECTION if self.loops else CORRECTION
            return share * weights.per_output(self._neuron.threshold, np.min)
        arriving = (self._reach(p, self._float_weight(p)) for p in (*self.chip, *self.host))
        return READOUT_CORRECTION * reduce(np.add, arriving, np.zeros(1))

    def expected_error(self, input_error: Mapping[str, float]) -> float:
        """Share of the current's variance that the grids of weights and inputs cost, before any rounding.

        Args:
            input_error: per input population the mean square of what its grid rounds away, payload units.
        """
        lost = power = 0.0
        for projection, source in zip(self.chip, self._sources, strict=True):
            lost += float(weights.output_error(source, self.scale, source.grid(self._grid)).sum())
            spread = np.full(source.weight.shape, input_error.get(projection.source, 0.0))
            lost += float((source.weight**2 * spread).sum())
            power += float((source.weight**2 * source.variance).sum())
        return lost / power if power else 0.0

    def _choose_scale(self, profiles: int | None) -> FloatArray:
        separable = all(isinstance(p.synapse, Conv2d | Dense) for p in (*self.chip, *self.host))
        per_channel = profiles != 1 and separable and self._neuron.threshold is not None
        label = self._population.label
        scale = weights.best_scale(self._sources, self._grid, self._limit(), label, per_channel=per_channel)
        if profiles is not None:
            scale = weights.to_profiles(scale, profiles)
        return self._whole_threshold(scale)

    def _unit(self, projection: Projection) -> float:
        """Float value of one unit of the source's payload."""
        # Whatever is not done yet closes a loop, and sends spikes.
        done = self._done.get(projection.source)
        return done.neuron.scale if done is not None and isinstance(done.neuron, InputNeuron) else 1.0

    def _float_weight(self, projection: Projection) -> FloatArray:
        assert not isinstance(projection.weight, Fixed)
        return projection.weight * self._unit(projection)

    def _weight(self, projection: Projection, shared: Shared) -> Fixed:
        """The projection's weights on the grid; projections that shared an array go on to share one."""
        scale = self.scale * self._unit(projection)
        key = (id(projection.weight), self._grid, scale.tobytes())
        if key not in shared:
            shared[key] = self._rounded(projection, scale)
        return shared[key]

    def _rounded(self, projection: Projection, scale: FloatArray) -> Fixed:
        assert not isinstance(projection.weight, Fixed)
        weight = projection.weight
        trained = isinstance(projection.synapse, Conv2d | Dense)
        grid = self._grid.of(weight) if trained else self._grid
        nearest = weights.to_grid(weight, scale, grid)
        if self._statistics is None or not isinstance(projection.synapse, Conv2d | Dense):
            return nearest
        groups = projection.synapse.groups if isinstance(projection.synapse, Conv2d) else 1
        steps = weight * (weights.along(scale, weight.ndim) / grid.step)
        seen = [
            rounding.observations(p, np.rint(self._statistics[p.source].frames / self._unit(p)))
            for p in self.chip
            if p.weight is weight
        ]
        mant = rounding.adaptive(steps, groups, seen, nearest.lowest, nearest.highest)
        found = Fixed(mant, nearest.exp, nearest.bits, nearest.signed)
        # The scale left room for half a step per weight; adaptive rounding may go further.
        planned = self._reach(projection, weight * weights.along(scale, weight.ndim))
        half = self._reach(projection, np.ones(weight.shape)) * grid.step / 2
        return (
            found
            if (self._reach(projection, found.value.astype(np.float64)) <= planned + half).all()
            else nearest
        )

    def _source(self, projection: Projection) -> weights.Source:
        weight = self._float_weight(projection)
        unit = self._unit(projection)
        trained = isinstance(projection.synapse, Conv2d | Dense)
        if self._statistics is None:
            done = self._done.get(projection.source)
            frames = done is not None and done.is_input
            spread = np.asarray(UNIFORM_VARIANCE / unit**2 if frames else 1.0)
            return weights.Source(weight, np.zeros(()), spread, trained)
        mean, variance = self._statistics[projection.source].per_weight(projection)
        return weights.Source(weight, mean / unit, variance / unit**2, trained)

    def _roomy_grid(self, bits: int) -> weights.Grid:
        """The coarsest grid on which all weights fit into the sums' range; the finest where none does.

        Few bits on a coarse grid are large weights, and wide kernels or payloads add up to more than u holds.
        """
        largest = np.concatenate(
            [np.abs(source.weight).reshape(-1) for source in self._sources] or [np.zeros(1)]
        )
        for step in weights.Grid.steps(bits):
            self._grid = weights.Grid(bits, step)
            roomy = all((2 * self._moved() <= room).all() for room in self._rooms())
            if roomy and self._limit().min() * largest.max() >= self._grid.largest:
                return self._grid
        return weights.Grid.finest(bits)

    def _limit(self) -> FloatArray:
        """The largest scales, (C_out,) or (1,), at which every field still holds its worst case."""
        limits = [np.full(1, np.inf)]
        if self._neuron.threshold is not None:
            largest = weights.per_output(np.abs(self._neuron.threshold), np.max)
            limits.append(_over((1 << spec.THRESHOLD_BITS) - 1, largest))
            if self.loops:
                # What v starts from becomes the bias, what a spike subtracts a weight.
                start = weights.per_output(np.abs(self._neuron.v0), np.max) + START * largest
                limits += [_over(LARGEST_START, start), _over(LARGEST_DROP, self._returning())]
        slack = len(self.host) + 1
        field = (neurons.MAX_BIAS_MANT - slack) << spec.BIAS_EXP_MAX
        limits.append(_over(field / neurons.V_PER_WEIGHT, self._constant()))
        loads = self._loads({p.name: self._float_weight(p) for p in self.chip}, np.ones(1))
        # Where rounding could add as much as the weights themselves, the result is checked instead.
        moved = self._moved()
        for room, load in zip(self._rooms(), loads, strict=False):
            limits.append(_over(np.where(2 * moved <= room, room - moved, room), load))
        return np.asarray(reduce(np.minimum, limits))

    def _loads(self, values: Mapping[str, FloatArray], scale: FloatArray) -> list[FloatArray]:
        """What arrives in u and in v in one step at most, in the order of ``_rooms``; of loops, in the mean.

        Args:
            values: weights of the chip's projections in the unit of the result.
            scale: such units per float unit.
        """
        if not self.loops:
            reach = self._all_reach(values)
            return [reach, reach + self._constant() * scale]
        low, high = ranges.by_channel(self._bias)
        current = low - self._reserve, high + self._reserve
        low, high = planned(self._neuron, self._arriving(values), current, START, scale, self._steps)
        return [np.maximum(-low, high) / self._gain()]

    def _returning(self) -> FloatArray:
        """What a spike subtracts by the synapse onto itself, (C_out,) or (1,), float units."""
        drop = self._neuron.subtracted
        return np.zeros(1) if drop is None else weights.per_output(self._neuron.keep_v * drop, np.max)

    def _rooms(self) -> list[float]:
        """What may arrive in one step, weight units: what u holds; for a readout also a share of v over T."""
        room = (spec.U_FOLD - 1) >> spec.WEIGHT_SHIFT
        rooms = [(room - LOOP_SLACK if self.loops else room) / self._gain()]
        if self._neuron.threshold is None:
            rooms.append((spec.V_LIMIT >> spec.WEIGHT_SHIFT) / self._steps - 1)
        return rooms

    def _gain(self) -> float:
        """What a current of 1 in every step adds up to in u."""
        keep_u = self._neuron.keep_v if self.loops else self._neuron.keep_u
        gain = 1 / (1 - keep_u) if keep_u < 1 else float(self._steps)
        return min(gain, float(self._steps)) if self.loops else gain

    def _moved(self) -> FloatArray:
        """What rounding may add to a step's input: every weight moves by at most half a grid step."""
        ones = self._all_reach({p.name: np.ones(p.weight_shape) for p in self.chip})
        return np.asarray(ones * (self._grid.step / 2))

    def _constant(self) -> FloatArray:
        """The largest |bias|, corrections and what the host writes included, float units."""
        bias = weights.per_output(np.abs(self._bias), np.max) + self._reserve
        return reduce(np.add, (self._reach(p, self._float_weight(p)) for p in self.host), bias)

    def _all_reach(self, values: Mapping[str, FloatArray]) -> FloatArray:
        """Largest |current| that the chip's projections bring with these weights, (C_out,) or (1,)."""
        return reduce(np.add, (self._reach(p, values[p.name]) for p in self.chip), np.zeros(1))

    def _arriving(self, values: Mapping[str, FloatArray]) -> tuple[FloatArray, FloatArray]:
        """Lowest and highest current that they bring with these weights, (C_out,) or (1,)."""
        low = high = np.zeros(1)
        for p in self.chip:
            rows = ranges.fan_in_rows(p, values[p.name])
            one = ranges.row_ranges(rows, *self._payloads[p.source])
            low, high = low + one[0], high + one[1]
        return low, high

    def _reach(self, projection: Projection, weight: FloatArray) -> FloatArray:
        """Largest |current| that the projection can bring to one neuron of each output channel."""
        low, high = self._payloads[projection.source]
        return ranges.largest_sum(ranges.fan_in_rows(projection, weight), low, high)

    def _whole_threshold(self, scale: FloatArray) -> FloatArray:
        """The next lower scales at which the thresholds are whole numbers of weight units."""
        threshold = self._neuron.threshold
        if threshold is None:
            return scale
        value = weights.per_output(threshold, np.max)
        uniform = np.array_equal(value, weights.per_output(threshold, np.min))
        if not uniform or len(value) not in (1, len(scale)) or (value <= 0).any():
            return scale
        if self.loops:
            return self._weight_threshold(scale)
        return np.asarray(np.maximum(1.0, np.floor(value * scale)) / value)

    def _weight_threshold(self, scale: FloatArray) -> FloatArray:
        """The next lower scales at which what a spike subtracts is a weight, all with one exponent."""
        value = self._returning()
        if not value.all():
            return scale
        # Far larger ones would leave the smallest threshold no mantissa.
        least = (value * scale).min() * (128 // FINEST)
        wanted = np.minimum(value * scale, least)
        step = 2.0 ** max(1, int(np.ceil(np.log2(wanted.max() / 128))))
        return np.asarray(np.maximum(step, np.floor(wanted / step) * step) / value)

    @property
    def _spread(self) -> FloatArray:
        """The scale, broadcastable to the population."""
        return weights.along(self.scale, len(self._population.shape))

    def population(self) -> Population:
        """The population with a FixedNeuron and a Fixed bias."""
        neuron, who, label = self._neuron, self._population, self._population.label
        bias = None
        if self.host:
            exponent = self._host_exponent()
            mant = np.rint(self._bias * (self._spread * neurons.V_PER_WEIGHT / (1 << exponent)))
            bias = Fixed(mant.astype(np.int64), exponent, spec.BIAS_MANT_BITS, signed=True)
        elif np.any(self._bias):
            current = self._bias * (self._spread * neurons.V_PER_WEIGHT)
            if self.loops:  # what a clock's synapses will bring
                current = weights.with_exponent(self._bias * self._spread, label).value * neurons.V_PER_WEIGHT
            bias = neurons.bias_field(current, label)
        vth = drop = None
        if neuron.threshold is not None:
            on_grid = neurons.on_weight_grid(neuron, bias) and not self.host
            vth = neurons.threshold_field(neuron.threshold * self._spread, neuron.compare, on_grid, label)
            if neuron.subtracted is not None:
                drop = frozen(neurons.in_v_units(neuron.subtracted, self._spread))
        start = neuron.v0 + self._per_channel(self._start) if self._start.any() else neuron.v0
        fixed = FixedNeuron(
            vth,
            du=neurons.decay_field(neuron.keep_u, spec.U_DECAY_OFFSET),
            dv=neurons.decay_field(neuron.keep_v, 0),
            reset=neuron.reset,
            v0=frozen(neurons.in_v_units(start, self._spread)),
            drop=drop,
        )
        return replace(who, neuron=fixed, bias=bias)

    def _host_exponent(self) -> int:
        """The smallest exponent whose mantissa holds the bias and all that the host can add to it."""
        bias = weights.per_output(np.abs(self._bias), np.max)
        reach = reduce(np.add, (self._reach(p, self._float_weight(p)) for p in self.host), bias)
        largest = float((reach * self.scale).max()) * neurons.V_PER_WEIGHT
        # Every rounded term may add half a mantissa.
        exp = neurons.smallest_exponent(largest, slack=len(self.host) + 1)
        if exp is None:
            limit = neurons.MAX_BIAS_MANT << spec.BIAS_EXP_MAX
            raise NmcError(
                "NMC-Q01",
                self._population.label,
                f"a bias of {largest:,.0f} v units from the host next to a threshold of one weight unit, the"
                f" chip holds {limit:,}",
                "train with a larger threshold or smaller weights",
                measured=largest,
                allowed=limit,
            )
        return exp

    def projection(self, projection: Projection) -> Projection:
        """The projection with its integer weights."""
        if projection.on_host:
            return self._host_projection(projection)
        return replace(projection, weight=self.weights[projection.name])

    def _host_projection(self, projection: Projection) -> Projection:
        """16-bit weights whose product with the input, shifted right, gives bias mantissas."""
        weight = self._float_weight(projection)
        unit = weights.along(self.scale, weight.ndim) * neurons.V_PER_WEIGHT / (1 << self._host_exponent())
        per_mantissa = weight * unit
        largest = float(np.abs(per_mantissa).max(initial=0.0))
        top = (1 << (HOST_WEIGHT_BITS - 1)) - 1
        shift = int(np.clip(np.floor(np.log2(top / largest)), 0, 20)) if largest else 0
        mant = np.clip(np.rint(per_mantissa * (1 << shift)), -top, top).astype(np.int64)
        return replace(projection, weight=Fixed(mant, 0, HOST_WEIGHT_BITS, signed=True), host_shift=shift)


def _over(room: FloatArray | float, load: FloatArray) -> FloatArray:
    """room / load; no limit where there is no load."""
    return np.asarray(np.where(load > 0, room / np.where(load > 0, load, 1.0), np.inf))
