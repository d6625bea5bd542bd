"""The quantization pass: TIMED -> QUANTIZED, population by population, first to last.

Each population is quantized knowing what the integers before it do on the calibration data, so that it
takes back their error in the mean as well as its own (``population.py`` has the rules for one population).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nmc.chip import Chip
from nmc.errors import InternalError, NmcError
from nmc.ir import (
    Conv2d,
    Dense,
    Fixed,
    FloatArray,
    FloatNeuron,
    GradedRelay,
    InputNeuron,
    Network,
    Population,
    Projection,
    Stage,
)
from nmc.quantize import calibrate, correct, inputs, neurons, ranges, weights
from nmc.quantize.calibrate import Statistics
from nmc.quantize.emulate import Emulator
from nmc.quantize.population import ScaledPopulation, Shared
from nmc.quantize.precision import Precision


@dataclass(frozen=True, eq=False)
class Quantized:
    """network: QUANTIZED. scales: weight units per float unit, (1,) or (C_out,), per scaled population."""

    network: Network
    scales: dict[str, FloatArray]


@dataclass(frozen=True)
class Quantizer:
    """The pass with its settings.

    statistics: what calibration measured, per source population; None without data.
    frames: the calibration samples, (N, *shape) or (N, T, *shape), for the input's grid and the emulation.
    profiles: how many different thresholds a population may have; scaling a channel's weights, bias and
    threshold together leaves its spikes unchanged. 1: one scale per population; None: any number.
    start_values: whether v may start elsewhere than at the reset potential, to take back an error of timing.
    loops: soft resets will be synapses of neurons onto themselves (``reset_loops.py``): what they must hold.
    """

    precision: Precision
    statistics: dict[str, Statistics] | None
    frames: FloatArray | None
    profiles: int | None = 1
    start_values: bool = False
    loops: bool = False

    @classmethod
    def for_chip(
        cls,
        chip: Chip,
        precision: Precision,
        statistics: dict[str, Statistics] | None,
        frames: FloatArray | None,
    ) -> Quantizer:
        """With what the chip can do."""
        profiles = precision.profiles(chip)
        return cls(precision, statistics, frames, profiles, chip.start_values, chip.loops_resets)

    def __call__(self, network: Network) -> Network:
        """Contract: TIMED in, QUANTIZED out; names, shapes, levels and delays are untouched.

        Raises:
            NmcError: NMC-Q01, NMC-Q02 where the chip's fields cannot hold a population.
        """
        return self.run(network).network

    def run(self, network: Network) -> Quantized:
        """The same, with the scales that were chosen."""
        if network.stage is not Stage.TIMED:
            raise InternalError(f"quantize expects a TIMED network, got {network.stage.name}")
        self.precision.check_names(network)
        work = _Work(self, network)
        for segment in network.segments:
            for population in segment:
                work.add(population)
            work.emulate(segment)
        done = network.with_(
            stage=Stage.QUANTIZED,
            notes=(*network.notes, *work.notes),
            populations=network.map_populations(work.populations),
            projections=tuple(work.projections[p.name] for p in network.projections),
        )
        return Quantized(done, work.scales)


class _Work:
    """One run of the pass: what is done so far."""

    def __init__(self, quantizer: Quantizer, network: Network) -> None:
        self._quantizer = quantizer
        self._network = network
        frames = quantizer.frames
        self._samples = None if frames is None else calibrate.choose(network, frames)
        self.populations: dict[str, Population] = {}
        self.projections: dict[str, Projection] = {}
        self.scales: dict[str, FloatArray] = {}
        self.notes: list[str] = []
        self._payloads: dict[str, tuple[int, int]] = {
            p.name: (0, 1) for p in network.populations if isinstance(p.neuron, FloatNeuron)
        }
        self._shared: Shared = {}
        self._emulator: Emulator | None = None

    def add(self, population: Population) -> None:
        """Quantize the next population and the projections into it."""
        incoming = self._network.incoming(population.name)
        if population.is_input:
            self._put(self._input(population))
        elif isinstance(population.neuron, GradedRelay):
            for projection in incoming:
                self.projections[projection.name] = replace(projection, weight=_relay_weight(projection))
            self._put(self._relay(population))
        else:
            self._put(self._neurons(population))

    def emulate(self, segment: Sequence[Population]) -> None:
        """Run populations that have all been quantized on the calibration data."""
        if self._emulator is None or segment[0].is_input:
            return
        self._emulator.add(
            [
                (
                    self.populations[one.name],
                    [self.projections[projection.name] for projection in self._network.incoming(one.name)],
                )
                for one in segment
            ]
        )

    def _put(self, population: Population) -> None:
        self.populations[population.name] = population
        if isinstance(population.neuron, InputNeuron):
            neuron = population.neuron
            self._payloads[population.name] = (min(0, neuron.lowest), max(0, neuron.highest))

    def _relay(self, population: Population) -> Population:
        low = high = 0
        for one in self._network.incoming(population.name):
            rows = ranges.fan_in_rows(one, self.projections[one.name].integer_weight)
            part = ranges.row_ranges(rows, *self._payloads[one.source])
            low, high = low + int(part[0].min()), high + int(part[1].max())
        self._payloads[population.name] = (low, high)
        return replace(population, max_payload=max(-low, high))

    def _neurons(self, population: Population) -> Population:
        scaled = self._scaled(population, self.populations, self._payloads)
        scaled.round(self._shared, self._emulator)
        incoming = (*scaled.chip, *scaled.host)
        if any(isinstance(p.synapse, Conv2d | Dense) for p in incoming):
            self.notes += neurons.decay_notes(scaled.float_neuron, self._network.steps, population.label)
        known = self._emulator is not None and all(
            p.source == population.name or self._emulator.knows(p.source) for p in incoming
        )
        if known and self._emulator and self._quantizer.statistics is not None and scaled.learned:
            wanted = self._quantizer.statistics[population.name]
            correct.match_rates(scaled, self._emulator, wanted.mean)
            if self._quantizer.start_values or scaled.loops:
                correct.match_course(scaled, self._emulator, wanted.course)
        for projection in incoming:
            self.projections[projection.name] = scaled.projection(projection)
        self.scales[population.name] = scaled.scale
        return scaled.population()

    def _scaled(
        self, population: Population, done: Mapping[str, Population], payloads: Mapping[str, tuple[int, int]]
    ) -> ScaledPopulation:
        quantizer = self._quantizer
        bits = quantizer.precision.bits(population)
        return ScaledPopulation(
            self._network,
            population,
            done,
            payloads,
            quantizer.statistics,
            bits,
            quantizer.profiles,
            loops=quantizer.loops,
        )

    def _input(self, population: Population) -> Population:
        """The input on the grid with which the layers behind it lose least, and the emulation started."""
        grids = inputs.grids(population, self._quantizer.frames)
        found = self._best(population, grids) if len(grids) > 1 else grids[0]
        reach = max(abs(found.lowest), abs(found.highest))
        result = replace(population, neuron=found, max_payload=reach)
        if self._samples is not None and self._quantizer.statistics is not None:
            self._emulator = Emulator(self._network, result, inputs.on_grid(found, self._samples))
        return result

    def _best(self, population: Population, grids: list[InputNeuron]) -> InputNeuron:
        """The split of the sum's bits between payloads and weights that loses least; the first, finest grid
        unless another is clearly better."""
        targets = {
            p.target: self._network[p.target]
            for p in self._network.outgoing(population.name)
            if not p.on_host and not isinstance(self._network[p.target].neuron, GradedRelay)
        }
        errors: list[float] = []
        refusal: NmcError | None = None
        for grid in grids:
            payload = (min(0, grid.lowest), max(0, grid.highest))
            done = {population.name: replace(population, neuron=grid)}
            lost = inputs.grid_error(grid, self._samples)
            try:
                errors.append(
                    sum(
                        self._scaled(
                            target, done, {population.name: payload, target.name: (0, 1)}
                        ).expected_error({population.name: lost})
                        for target in targets.values()
                        if all(
                            p.source in (population.name, target.name)
                            for p in self._network.incoming(target.name)
                        )
                    )
                )
            except NmcError as error:
                refusal = refusal or error
                errors.append(np.inf)
        if refusal is not None and not np.isfinite(errors).any():
            raise refusal
        best = int(np.argmin(errors))
        return grids[best] if errors[best] < CLEARLY * errors[0] else grids[0]


CLEARLY = 0.8
"""A coarser input grid must leave less than this share of the finest one's error."""


def _relay_weight(projection: Projection) -> Fixed:
    """Relays add exactly: whole weights, unsigned where they can be (no sign bit lost)."""
    assert not isinstance(projection.weight, Fixed)
    weight = np.rint(projection.weight).astype(np.int64)
    if weight.min() >= 0:
        return Fixed(weight, 0, weights.FULL_BITS, signed=False)
    if (weight % weights.Grid.coarsest(weights.FULL_BITS).step).any():
        raise NmcError(
            "NMC-Q02", projection.origin[-1] if projection.origin else projection.name, "odd negative relay"
        )
    return Fixed(weight >> 1, 1, weights.FULL_BITS, signed=True)
