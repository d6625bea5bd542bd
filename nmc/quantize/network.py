"""The quantization pass: TIMED -> QUANTIZED, population by population.

All projections into a population (or, with threshold profiles, into one of its channels), the threshold,
bias and initial potential share one scale S, in weight units per float unit; scaling them together leaves
the spikes unchanged. v has 64 units per weight unit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from typing import TypeAlias

import numpy as np

from nmc import neuron as spec
from nmc.errors import InternalError, NmcError
from nmc.ir import (
    Conv2d,
    Dense,
    Fixed,
    FixedNeuron,
    FloatArray,
    FloatNeuron,
    GradedRelay,
    InputNeuron,
    Network,
    Population,
    Projection,
    Reset,
    Stage,
    frozen,
)
from nmc.quantize import inputs, neurons, ranges, rounding, weights
from nmc.quantize.calibrate import Statistics
from nmc.quantize.precision import Precision

HOST_WEIGHT_BITS = 16
"""Host projections run on the host's processor; 16 bits make their error invisible after rounding."""


Shared: TypeAlias = dict[tuple[int, int, bytes], Fixed]
"""Rounded weights by id of the float array, bits and bytes of the scale."""


@dataclass(frozen=True)
class Quantizer:
    """The pass with its settings.

    statistics: what calibration measured, per source population; None without data.
    frames: the calibration samples, (N, *shape) or (N, T, *shape), for the input's grid.
    profiles: how many different thresholds a population may have; scaling a channel's weights, bias and
    threshold together leaves its spikes unchanged. 1: one scale per population; None: any number.
    """

    precision: Precision
    statistics: dict[str, Statistics] | None
    frames: FloatArray | None
    profiles: int | None = 1

    def __call__(self, network: Network) -> Network:
        """Contract: TIMED in, QUANTIZED out; names, shapes, levels and delays are untouched.

        Raises:
            NmcError: NMC-Q01, NMC-Q02 where the chip's fields cannot hold a population.
        """
        if network.stage is not Stage.TIMED:
            raise InternalError(f"quantize expects a TIMED network, got {network.stage.name}")
        self.precision.check_names(network)
        populations: dict[str, Population] = {}
        projections: dict[str, Projection] = {}
        shared: Shared = {}
        for population, incoming in network.walk():
            if population.is_input:
                populations[population.name] = replace(
                    population, neuron=inputs.input_grid(population, self.frames)
                )
                neuron = populations[population.name].neuron
                assert isinstance(neuron, InputNeuron)
                reach = max(abs(neuron.lowest), abs(neuron.highest))
                populations[population.name] = replace(populations[population.name], max_payload=reach)
                continue
            if isinstance(population.neuron, GradedRelay):
                for projection in incoming:
                    projections[projection.name] = replace(projection, weight=_relay_weight(projection))
                reach = sum(
                    int(np.abs(projections[p.name].integer_weight).max()) * populations[p.source].max_payload
                    for p in incoming
                )
                populations[population.name] = replace(population, max_payload=reach)
                continue
            scaled = _Scaled(network, population, incoming, populations, self, shared)
            for projection in scaled.chip:
                projections[projection.name] = replace(projection, weight=scaled.weights[projection.name])
            populations[population.name] = scaled.population()
            for projection in scaled.host:
                projections[projection.name] = scaled.host_projection(projection)
        return network.with_(
            stage=Stage.QUANTIZED,
            populations=network.map_populations(populations),
            projections=tuple(projections[p.name] for p in network.projections),
        )


def _relay_weight(projection: Projection) -> Fixed:
    """Relays add exactly: whole weights, unsigned where they can be (no sign bit lost)."""
    assert not isinstance(projection.weight, Fixed)
    weight = np.rint(projection.weight).astype(np.int64)
    if weight.min() >= 0:
        return Fixed(weight, 0, weights.FULL_BITS, signed=False)
    if (weight % weights.grid_step(weights.FULL_BITS)).any():
        raise NmcError(
            "NMC-Q02", projection.origin[-1] if projection.origin else projection.name, "odd negative relay"
        )
    return Fixed(weight >> 1, 1, weights.FULL_BITS, signed=True)


class _Scaled:
    """One population with its scale chosen: (1,), or (C_out,) where every channel has its own."""

    def __init__(
        self,
        network: Network,
        population: Population,
        incoming: tuple[Projection, ...],
        done: dict[str, Population],
        quantizer: Quantizer,
        shared: Shared,
    ) -> None:
        assert isinstance(population.neuron, FloatNeuron)
        self._population = population
        self._neuron = population.neuron
        self._steps = network.steps
        self._done = done
        self._bits = quantizer.precision.bits(population)
        self._statistics = quantizer.statistics
        self.chip = tuple(p for p in incoming if not p.on_host)
        self.host = tuple(p for p in incoming if p.on_host)
        bias = population.bias if population.bias is not None else np.zeros((1,) * len(population.shape))
        assert not isinstance(bias, Fixed)
        self._bias = bias
        sources = [self._source(p) for p in self.chip]
        self.scale = self._choose_scale(sources, quantizer.profiles)
        self.weights = {p.name: self._weight(p, shared) for p in self.chip}
        for projection, source in zip(self.chip, sources, strict=True):
            error = weights.mean_error(source, self.weights[projection.name], self.scale)
            self._bias = self._bias - error.reshape(-1, *(1,) * (len(population.shape) - 1))

    def _choose_scale(self, sources: list[weights.Source], profiles: int | None) -> FloatArray:
        separable = all(isinstance(p.synapse, Conv2d | Dense) for p in (*self.chip, *self.host))
        per_channel = profiles != 1 and separable and self._neuron.threshold is not None
        label = self._population.label
        scale = weights.best_scale(sources, self._bits, self._limit(), label, per_channel=per_channel)
        if profiles is not None:
            scale = weights.to_profiles(scale, profiles)
        return self._whole_threshold(scale)

    def _unit(self, projection: Projection) -> float:
        """Float value of one unit of the source's payload."""
        neuron = self._done[projection.source].neuron
        return neuron.scale if isinstance(neuron, InputNeuron) else 1.0

    def _float_weight(self, projection: Projection) -> FloatArray:
        assert not isinstance(projection.weight, Fixed)
        return projection.weight * self._unit(projection)

    def _weight(self, projection: Projection, shared: Shared) -> Fixed:
        """The projection's weights on the grid; projections that shared an array go on to share one."""
        scale = self.scale * self._unit(projection)
        key = (id(projection.weight), self._bits, scale.tobytes())
        if key not in shared:
            shared[key] = self._rounded(projection, scale)
        return shared[key]

    def _rounded(self, projection: Projection, scale: FloatArray) -> Fixed:
        assert not isinstance(projection.weight, Fixed)
        weight = projection.weight
        nearest = weights.to_grid(weight, scale, self._bits)
        if self._statistics is None or not isinstance(projection.synapse, Conv2d | Dense):
            return nearest
        groups = projection.synapse.groups if isinstance(projection.synapse, Conv2d) else 1
        steps = weight * (weights.along(scale, weight.ndim) / weights.grid_step(self._bits))
        seen = [
            rounding.observations(p, np.rint(self._statistics[p.source].frames / self._unit(p)))
            for p in self.chip
            if p.weight is weight
        ]
        mant = rounding.adaptive(steps, groups, seen, nearest.lowest, nearest.highest)
        found = Fixed(mant, nearest.exp, nearest.bits, nearest.signed)
        # The scale left room for half a step per weight; adaptive rounding may go further.
        planned = self._reach(projection, weight * weights.along(scale, weight.ndim))
        half = self._reach(projection, np.ones(weight.shape)) * weights.grid_step(self._bits) / 2
        return (
            found
            if (self._reach(projection, found.value.astype(np.float64)) <= planned + half).all()
            else nearest
        )

    def _source(self, projection: Projection) -> weights.Source:
        weight = self._float_weight(projection)
        if self._statistics is None:
            return weights.Source(weight, np.zeros(()), np.ones(()))
        mean, variance = self._statistics[projection.source].per_weight(projection)
        unit = self._unit(projection)
        return weights.Source(weight, mean / unit, variance / unit**2)

    def _limit(self) -> FloatArray:
        """The largest scales, (C_out,) or (1,), at which every field still holds its worst case."""
        zero = np.zeros(1)
        limits = [np.full(1, np.inf)]
        if self._neuron.threshold is not None:
            largest = weights.per_output(np.abs(self._neuron.threshold), np.max)
            limits.append(((1 << spec.THRESHOLD_BITS) - 1) / largest)
        bias = weights.per_output(np.abs(self._bias), np.max)
        host = reduce(np.add, (self._reach(p, self._float_weight(p)) for p in self.host), bias)
        slack = len(self.host) + 1
        field = (neurons.MAX_BIAS_MANT - slack) << spec.BIAS_EXP_MAX
        limits.append(_over(field / neurons.V_PER_WEIGHT, host))
        reach = reduce(np.add, (self._reach(p, self._float_weight(p)) for p in self.chip), zero)
        # Rounding to the grid moves every weight by at most half a step.
        half = weights.grid_step(self._bits) / 2
        moved = reduce(np.add, (self._reach(p, np.ones(p.weight_shape)) for p in self.chip), zero) * half
        keep_u = self._neuron.keep_u
        gain = 1 / (1 - keep_u) if keep_u < 1 else float(self._steps)
        room = ((spec.U_FOLD - 1) >> spec.WEIGHT_SHIFT) / gain - moved
        limits.append(_over(self._checked(room, moved), reach))
        if self._neuron.threshold is None:
            room = (spec.V_LIMIT >> spec.WEIGHT_SHIFT) / self._steps - moved - 1
            limits.append(_over(self._checked(room, moved), reach + host))
        return np.asarray(reduce(np.minimum, limits))

    def _checked(self, room: FloatArray, moved: FloatArray) -> FloatArray:
        if (room <= 0).any():
            measured, allowed = int(moved.max()) << spec.WEIGHT_SHIFT, spec.U_FOLD - 1
            raise NmcError(
                "NMC-Q01",
                self._population.label,
                f"even weights of one unit can reach {measured:,}, the chip holds {allowed:,}",
                "lower the fan-in, the payload or T",
                measured=measured,
                allowed=allowed,
            )
        return room

    def _reach(self, projection: Projection, weight: FloatArray) -> FloatArray:
        """Largest |current| that the projection can bring to one neuron of each output channel."""
        rows = ranges.fan_in_rows(projection, np.abs(weight))
        return np.asarray(rows.sum(axis=1) * self._done[projection.source].max_payload)

    def _whole_threshold(self, scale: FloatArray) -> FloatArray:
        """The next lower scales at which the thresholds are whole numbers of weight units."""
        threshold = self._neuron.threshold
        if threshold is None:
            return scale
        value = weights.per_output(threshold, np.max)
        uniform = np.array_equal(value, weights.per_output(threshold, np.min))
        if not uniform or len(value) not in (1, len(scale)) or (value <= 0).any():
            return scale
        return np.asarray(np.maximum(1.0, np.floor(value * scale)) / value)

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
            bias = neurons.bias_field(self._bias * (self._spread * neurons.V_PER_WEIGHT), label)
        vth = drop = None
        if neuron.threshold is not None:
            on_grid = neurons.on_weight_grid(neuron, bias) and not self.host
            vth = neurons.threshold_field(neuron.threshold * self._spread, neuron.compare, on_grid, label)
            if neuron.reset is Reset.SUBTRACT:
                drop = frozen(neurons.in_v_units(neuron.threshold, self._spread))
        fixed = FixedNeuron(
            vth,
            du=neurons.decay_field(neuron.keep_u, spec.U_DECAY_OFFSET),
            dv=neurons.decay_field(neuron.keep_v, 0),
            reset=neuron.reset,
            v0=frozen(neurons.in_v_units(neuron.v0, self._spread)),
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
            raise InternalError(f"{self._population.name}: the scale limit let a host current overflow")
        return exp

    def host_projection(self, projection: Projection) -> Projection:
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
