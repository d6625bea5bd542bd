"""The quantization pass: TIMED -> QUANTIZED, population by population.

All projections into a population, its threshold, bias and initial potential share one scale S, in weight
units per float unit; scaling them together leaves the spikes unchanged. v has 64 units per weight unit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
    IntArray,
    Network,
    Population,
    Projection,
    Reset,
    Stage,
    frozen,
)
from nmc.quantize import inputs, neurons, ranges, rounding, weights
from nmc.quantize.calibrate import Statistics

HOST_WEIGHT_BITS = 16
"""Host projections run on the host's processor; 16 bits make their error invisible after rounding."""


Shared: TypeAlias = dict[tuple[int, float], Fixed]
"""Rounded weights by (id of the float array, scale)."""


@dataclass(frozen=True)
class Quantizer:
    """The pass with its settings.

    statistics: what calibration measured, per source population; None without data.
    frames: the calibration samples, (N, *shape) or (N, T, *shape), for the input's grid.
    """

    weight_bits: int
    statistics: dict[str, Statistics] | None
    frames: FloatArray | None

    def __call__(self, network: Network) -> Network:
        """Contract: TIMED in, QUANTIZED out; names, shapes, levels and delays are untouched.

        Raises:
            NmcError: NMC-Q01, NMC-Q02 where the chip's fields cannot hold a population.
        """
        if network.stage is not Stage.TIMED:
            raise InternalError(f"quantize expects a TIMED network, got {network.stage.name}")
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
    """One population with its scale chosen."""

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
        self._bits = quantizer.weight_bits
        self.chip = tuple(p for p in incoming if not p.on_host)
        self.host = tuple(p for p in incoming if p.on_host)
        bias = population.bias if population.bias is not None else np.zeros((1,) * len(population.shape))
        assert not isinstance(bias, Fixed)
        self._bias = bias
        self._statistics = quantizer.statistics
        sources = [self._source(p) for p in self.chip]
        best = weights.best_scale(sources, self._bits, self._limit(), population.label)
        self.scale = self._whole_threshold(best)
        self.weights = {p.name: self._weight(p, shared) for p in self.chip}
        for projection, source in zip(self.chip, sources, strict=True):
            error = weights.mean_error(source, self.weights[projection.name], self.scale)
            self._bias = self._bias - error.reshape(-1, *(1,) * (len(population.shape) - 1))

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
        key = (id(projection.weight), scale)
        if key not in shared:
            shared[key] = self._rounded(projection, scale)
        return shared[key]

    def _rounded(self, projection: Projection, scale: float) -> Fixed:
        assert not isinstance(projection.weight, Fixed)
        nearest = weights.to_grid(projection.weight, scale, self._bits)
        if self._statistics is None or not isinstance(projection.synapse, Conv2d | Dense):
            return nearest
        groups = projection.synapse.groups if isinstance(projection.synapse, Conv2d) else 1
        steps = projection.weight * (scale / weights.grid_step(self._bits))
        sharing = [p for p in self.chip if p.weight is projection.weight]
        seen = [
            rounding.observations(p, np.rint(self._statistics[p.source].frames / self._unit(p)))
            for p in sharing
        ]
        mant = rounding.adaptive(steps, groups, seen, nearest.lowest, nearest.highest)
        return Fixed(mant, nearest.exp, nearest.bits, nearest.signed)

    def _source(self, projection: Projection) -> weights.Source:
        weight = self._float_weight(projection)
        if self._statistics is None:
            return weights.Source(weight, np.zeros(()), np.ones(()))
        mean, variance = self._statistics[projection.source].per_weight(projection)
        unit = self._unit(projection)
        return weights.Source(weight, mean / unit, variance / unit**2)

    def _limit(self) -> float:
        """The largest scale at which every field of the population still holds its worst case."""
        largest_bias = float(np.abs(self._bias).max(initial=0.0))
        limits = [np.inf]
        if self._neuron.threshold is not None:
            limits.append(((1 << spec.THRESHOLD_BITS) - 1) / float(np.max(np.abs(self._neuron.threshold))))
        host = largest_bias + sum(self._reach(p, self._float_weight(p)) for p in self.host)
        if host > 0:
            slack = len(self.host) + 1
            field = (neurons.MAX_BIAS_MANT - slack) << spec.BIAS_EXP_MAX
            limits.append(field / (host * neurons.V_PER_WEIGHT))
        reach = sum(self._reach(p, self._float_weight(p)) for p in self.chip)
        # Rounding to the grid moves every weight by at most half a step.
        rounding = (
            sum(self._reach(p, np.ones_like(p.weight)) for p in self.chip) * weights.grid_step(self._bits) / 2
        )
        if reach > 0:
            keep_u = self._neuron.keep_u
            gain = 1 / (1 - keep_u) if keep_u < 1 else float(self._steps)
            room = ((spec.U_FOLD - 1) >> spec.WEIGHT_SHIFT) / gain - rounding
            limits.append(self._room(room, rounding) / reach)
        if self._neuron.threshold is None and reach + host > 0:
            room = (spec.V_LIMIT >> spec.WEIGHT_SHIFT) / self._steps - rounding - 1
            limits.append(self._room(room, rounding) / (reach + host))
        return float(min(limits))

    def _room(self, room: float, rounding: float) -> float:
        if room <= 0:
            measured, allowed = int(rounding) << spec.WEIGHT_SHIFT, spec.U_FOLD - 1
            raise NmcError(
                "NMC-Q01",
                self._population.label,
                f"even weights of one unit can reach {measured:,}, the chip holds {allowed:,}",
                "lower the fan-in, the payload or T",
                measured=measured,
                allowed=allowed,
            )
        return room

    def _reach(self, projection: Projection, weight: FloatArray | Fixed) -> float:
        """Largest |current| that the projection can bring to one neuron, in the weight's units."""
        assert not isinstance(weight, Fixed)
        rows = ranges.fan_in_rows(projection, np.abs(weight))
        return float(rows.sum(axis=1).max()) * self._done[projection.source].max_payload

    def _whole_threshold(self, scale: float) -> float:
        """The next lower scale at which the threshold is a whole number of weight units."""
        threshold = self._neuron.threshold
        if threshold is None or np.ptp(threshold) > 0 or float(np.max(threshold)) <= 0:
            return scale
        value = float(np.max(threshold))
        return float(max(1.0, np.floor(value * scale)) / value)

    def population(self) -> Population:
        """The population with a FixedNeuron and a Fixed bias."""
        neuron, who, label = self._neuron, self._population, self._population.label
        v_scale = self.scale * neurons.V_PER_WEIGHT
        bias = None
        if self.host:
            bias = self._host_bias()
        elif np.any(self._bias):
            bias = neurons.bias_field(self._bias * v_scale, label)
        vth = None
        if neuron.threshold is not None:
            on_grid = neurons.on_weight_grid(neuron, bias) and not self.host
            vth = neurons.threshold_field(neuron.threshold * self.scale, neuron.compare, on_grid, label)
        fixed = FixedNeuron(
            vth,
            du=neurons.decay_field(neuron.keep_u, spec.U_DECAY_OFFSET),
            dv=neurons.decay_field(neuron.keep_v, 0),
            reset=neuron.reset,
            v0=frozen(neurons.in_v_units(neuron.v0, self.scale)),
            drop=self._drop(),
        )
        return replace(who, neuron=fixed, bias=bias)

    def _drop(self) -> IntArray | None:
        """What a soft reset subtracts: the float threshold, whatever the comparison made of vth."""
        if self._neuron.reset is not Reset.SUBTRACT or self._neuron.threshold is None:
            return None
        return frozen(neurons.in_v_units(self._neuron.threshold, self.scale))

    def _host_bias(self) -> Fixed:
        """Bias mantissas on the exponent that also holds what the host adds."""
        mant = np.rint(self._bias * (self.scale * neurons.V_PER_WEIGHT / (1 << self._host_exponent())))
        return Fixed(mant.astype(np.int64), self._host_exponent(), spec.BIAS_MANT_BITS, signed=True)

    def _host_exponent(self) -> int:
        reach = float(np.abs(self._bias).max()) + sum(
            self._reach(p, self._float_weight(p)) for p in self.host
        )
        exp = neurons.smallest_exponent(reach * self.scale * neurons.V_PER_WEIGHT)
        if exp is None:
            raise InternalError(f"{self._population.name}: the scale limit let a host current overflow")
        slack = (len(self.host) + 1) << exp
        return (
            exp
            if reach * self.scale * neurons.V_PER_WEIGHT + slack <= neurons.MAX_BIAS_MANT << exp
            else exp + 1
        )

    def host_projection(self, projection: Projection) -> Projection:
        """16-bit weights whose product with the input, shifted right, gives bias mantissas."""
        per_mantissa = self._float_weight(projection) * (
            self.scale * neurons.V_PER_WEIGHT / (1 << self._host_exponent())
        )
        largest = float(np.abs(per_mantissa).max(initial=0.0))
        top = (1 << (HOST_WEIGHT_BITS - 1)) - 1
        shift = int(np.clip(np.floor(np.log2(top / largest)), 0, 20)) if largest else 0
        mant = np.clip(np.rint(per_mantissa * (1 << shift)), -top, top).astype(np.int64)
        return replace(projection, weight=Fixed(mant, 0, HOST_WEIGHT_BITS, signed=True), host_shift=shift)
