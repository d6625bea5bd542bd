"""Runs a planned network: samples in groups, layer by layer over all steps, loops step by step.

Trains are (T, N, H, W, C), T = 1 where a layer sends the same in every step. A layer's currents are made for
a block of steps at a time, so that the memory is bounded by the spikes of the layers that are still needed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from nmc.backends.base import Int32Array, Trace
from nmc.backends.sim.counts import Counter
from nmc.backends.sim.torch_operators import COLUMN_BYTES, Arrival, Cell, room
from nmc.backends.sim.torch_plan import Layer
from nmc.ir import Encoding, Fixed, InputNeuron, IntArray, Network, Population

GROUP_BYTES = 256 << 20
"""Samples run together while their trains stay below this,"""
BLOCK_BYTES = 32 << 20
"""and steps while their currents stay below this."""
SITE_BYTES = 24
"""Currents, their sum and the states of one neuron and step, at most."""


@dataclass
class Results:
    """What a run leaves behind, filled group by group, in torch's order."""

    events: dict[str, IntArray]
    grades: dict[str, IntArray]
    outputs: dict[str, IntArray]
    kept: dict[str, tuple[Int32Array, Int32Array, Int32Array]]


@dataclass(frozen=True)
class Sizes:
    """How a run is cut: samples per group, steps per block; bytes that a group takes on the device."""

    group: int
    block: int
    bytes: int


def sizes(
    network: Network,
    layers: dict[str, Layer],
    device: torch.device,
    samples: int,
    steps: int,
    budget: int,
) -> Sizes:
    """The cut that keeps trains below ``budget`` bytes, one sample at least."""
    each = _live_bytes(network, layers, steps)
    widest = max(population.size for population in network.populations)
    # Kernels count the elements of one step's maps in 32 bits.
    group = max(1, min(samples, budget // each, ((1 << 31) - 1) // widest))
    block = max(1, min(steps, room(device, BLOCK_BYTES) // (group * widest * SITE_BYTES)))
    columns = 2 * room(device, COLUMN_BYTES)
    return Sizes(group, block, group * (each + block * widest * SITE_BYTES) + columns)


def _live_bytes(network: Network, layers: dict[str, Layer], steps: int) -> int:
    """Bytes of one sample's trains where most are needed at once, and of the largest state."""
    live = peak = 0
    ends = _last_uses(network)
    position = 0
    for segment in network.segments:
        live += sum(_train_bytes(layers[p.name], steps) for p in segment)
        peak = max(peak, live)
        position += len(segment)
        for name in [name for name, end in ends.items() if end < position]:
            live -= _train_bytes(layers[name], steps)
            del ends[name]
    return peak + 16 * max(population.size for population in network.populations)


def _train_bytes(layer: Layer, steps: int) -> int:
    return layer.population.size * int(layer.payload.itemsize) * (1 if layer.constant else steps)


def _last_uses(network: Network) -> dict[str, int]:
    """Position of the last population that needs each population's train."""
    position = {population.name: index for index, population in enumerate(network.populations)}
    return {
        name: max([at, *(position[p.target] for p in network.outgoing(name))])
        for name, at in position.items()
    }


class Run:
    """One call of the engine.

    Args:
        layers: from ``torch_plan.Planner``.
        x: encoded input, payloads in the declared range.
        cut: from ``sizes``.
    """

    def __init__(
        self,
        network: Network,
        layers: dict[str, Layer],
        device: torch.device,
        x: IntArray,
        steps: int,
        record: Collection[str],
        cut: Sizes,
    ) -> None:
        self.network, self.layers, self.device = network, layers, device
        self.x, self.steps, self.cut = x, steps, cut
        samples = len(x)
        names = [population.name for population in network.populations]
        self.results = Results(
            {name: np.zeros(network[name].shape, np.int64) for name in names},
            {name: np.zeros(network[name].shape, np.int64) for name in names},
            {name: np.zeros((samples, network[name].size), np.int64) for name in network.outputs},
            {name: self._kept(name, samples) for name in record},
        )

    def _kept(self, name: str, samples: int) -> tuple[Int32Array, Int32Array, Int32Array]:
        shape = (samples, self.steps, *self.network[name].shape)
        return np.zeros(shape, np.int32), np.zeros(shape, np.int32), np.zeros(shape, np.int32)

    def trace(self) -> Trace:
        """Run everything."""
        samples = len(self.x)
        for first in range(0, samples, self.cut.group):
            self._group(slice(first, min(first + self.cut.group, samples)))
        counter = Counter(self.network, samples, self.steps)
        for name, events in self.results.events.items():
            counter.add_sums(name, events, self.results.grades[name])
        kept = self.results.kept
        return Trace(
            samples,
            self.steps,
            np.concatenate([self.results.outputs[name] for name in self.network.outputs], axis=1),
            counter.counts,
            *({name: arrays[kind] for name, arrays in kept.items()} for kind in range(3)),
        )

    def _group(self, group: slice) -> None:
        """A group of samples through all layers; trains are dropped behind their last reader."""
        ends = _last_uses(self.network)
        trains: dict[str, Tensor] = {}
        position = 0
        for segment in self.network.segments:
            running = [self._start(population, group, trains) for population in segment]
            looped = len(segment) > 1 or any(
                p.source == segment[0].name for p in self.network.incoming(segment[0].name)
            )
            block = 1 if looped else self.cut.block
            for first in range(0, self.steps, block):
                for layer in running:
                    layer.advance(first, min(first + block, self.steps), trains)
            for layer in running:
                self._finish(layer, group)
            position += len(segment)
            for name in [name for name in trains if ends[name] < position]:
                del trains[name]

    def _start(self, population: Population, group: slice, trains: dict[str, Tensor]) -> _Running:
        layer = self.layers[population.name]
        channels, height, width = layer.map
        samples = group.stop - group.start
        kept = self.results.kept.get(population.name)
        running = _Running(layer, self.steps, None if kept is None else tuple(a[group] for a in kept))
        if population.is_input:
            trains[population.name] = self._input(layer, group)
        else:
            lead = (1 if layer.constant else self.steps, samples)
            trains[population.name] = torch.zeros(
                (*lead, height, width, channels), dtype=layer.payload, device=self.device
            )
        running.train = trains[population.name]
        if layer.cell is not None:
            running.start(layer.cell, samples, self._bias(layer, layer.cell, trains))
        return running

    def _input(self, layer: Layer, group: slice) -> Tensor:
        x = self.x[group]
        neuron = layer.population.neuron
        assert isinstance(neuron, InputNeuron)
        train = x[:, : self.steps] if neuron.encoding is Encoding.SPIKES else x[:, None]
        channels, height, width = layer.map
        maps = train.reshape(*train.shape[:2], channels, height, width)
        small = np.array(maps.transpose(1, 0, 3, 4, 2), np.int32, order="C")
        return torch.from_numpy(small).to(self.device, layer.payload)

    def _bias(self, layer: Layer, cell: Cell, trains: dict[str, Tensor]) -> Tensor | None:
        """What is added to v in each step; for host input as ``encode.host_mantissas``, per sample."""
        if not layer.host:
            return cell.bias
        own = layer.population.bias
        assert isinstance(own, Fixed)
        total = torch.zeros((), dtype=torch.int64, device=self.device)
        for arrival in layer.host:
            current = arrival.current(trains[arrival.projection.source][0], torch.int64)
            half = (1 << arrival.projection.host_shift) >> 1
            total = total + ((current + half) >> arrival.projection.host_shift)
        total = total << own.exp
        return (total if cell.bias is None else total + cell.bias).to(cell.dtype)

    def _finish(self, running: _Running, group: slice) -> None:
        """Count, and read the output."""
        layer, name, shape = running.layer, running.layer.population.name, running.layer.population.shape
        repeats = self.steps if layer.constant else 1
        events = grades = sent = torch.zeros((), dtype=torch.int64, device=self.device)
        # In blocks, because torch makes int64 of whatever it sums.
        for part in running.train.split(self.cut.block):
            events = events + (part != 0).sum(dim=(0, 1))
            if layer.cell is None:
                magnitudes = part.to(torch.int64).abs() if layer.signed else part
                grades = grades + magnitudes.sum(dim=(0, 1))
            if name in self.network.outputs:
                sent = sent + part.sum(dim=0)
        if layer.cell is not None:
            grades = events
        self.results.events[name] += _in_order(events[None, None], shape)[0, 0] * repeats
        self.results.grades[name] += _in_order(grades[None, None], shape)[0, 0] * repeats
        if name in self.network.outputs:
            result = sent * repeats
            if self.network.readout == "potential":
                result = running.v if layer.cell is not None else torch.zeros_like(sent)
            rows = _in_order(result[None], shape)
            self.results.outputs[name][group] = rows.reshape(len(rows), -1)


@dataclass
class _Running:
    """A layer on its way through the steps of a group of samples."""

    layer: Layer
    steps: int
    kept: tuple[Int32Array, ...] | None
    train: Tensor = field(default_factory=lambda: torch.empty(0))
    u: Tensor = field(default_factory=lambda: torch.empty(0))
    v: Tensor = field(default_factory=lambda: torch.empty(0))
    bias: Tensor | None = None
    constant: dict[str, Tensor] = field(default_factory=dict)

    def start(self, cell: Cell, samples: int, bias: Tensor | None) -> None:
        channels, height, width = self.layer.map
        shape = (samples, height, width, channels)
        self.u = torch.zeros(shape, dtype=cell.dtype, device=cell.v0.device)
        self.v = cell.v0.expand(shape).clone()
        self.bias = bias

    def advance(self, first: int, last: int, trains: dict[str, Tensor]) -> None:
        """Steps ``first`` to ``last - 1``."""
        if not self.layer.population.is_input:
            if self.layer.cell is not None:
                self._fire(self.layer.cell, first, last, trains)
                return
            current = self._current(self.layer.arrivals, first, last, trains)
            if self.layer.constant:
                self.train[:] = current
            else:
                self.train[first:last] = current
        if self.kept is not None:
            part = self.train if self.layer.constant else self.train[first:last]
            self.kept[0][:, first:last] = _in_order(part, self.layer.population.shape)

    def _current(
        self, arrivals: Collection[Arrival], first: int, last: int, trains: dict[str, Tensor]
    ) -> Tensor:
        """(steps, N, H, W, C), one step where all of them are equal."""
        total: Tensor | None = None
        for arrival in arrivals:
            name, lag = arrival.projection.name, arrival.projection.lag
            part = self.constant.get(name)
            if part is None:
                sent = _sent(trains[arrival.projection.source], first, last, lag)
                part = arrival.current(sent.flatten(0, 1), self.layer.sums).unflatten(0, sent.shape[:2])
                if len(trains[arrival.projection.source]) == 1 and self.steps > 1 and not lag:
                    self.constant[name] = part
            total = part if total is None else total + part
        if total is None:
            return torch.zeros_like(self.train[:1], dtype=self.layer.sums)
        return total

    def _fire(self, cell: Cell, first: int, last: int, trains: dict[str, Tensor]) -> None:
        run = self._step_by_step if self.layer.fused is None else self._in_one_kernel
        states = run(cell, first, last, trains)
        if self.kept is not None:
            shape = self.layer.population.shape
            for kept, maps in zip(self.kept, (self.train[first:last], *states), strict=True):
                kept[:, first:last] = _in_order(maps, shape)

    def _step_by_step(
        self, cell: Cell, first: int, last: int, trains: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """u and v after each step, (steps, N, H, W, C), or after the last where nobody records them."""
        current = self._current(self.layer.arrivals, first, last, trains)
        us, vs = [], []
        for t in range(first, last):
            now = current[min(t - first, len(current) - 1)]
            spikes, self.u, self.v = cell.advance(now, self.u, self.v, self.bias)
            self.train[t] = spikes
            if self.kept is not None:
                us.append(self.u)
                vs.append(self.v)
        return torch.stack(us or [self.u]), torch.stack(vs or [self.v])

    def _in_one_kernel(
        self, cell: Cell, first: int, last: int, trains: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Likewise."""
        from nmc.backends.sim import triton_layer  # needs Triton

        fused = self.layer.fused
        assert fused is not None
        others = [arrival for arrival in self.layer.arrivals if arrival is not fused.arrival]
        spikes = self.train[first:last]
        kept = None
        if self.kept is not None:
            kept = torch.empty_like(spikes, dtype=torch.int32), torch.empty_like(spikes, dtype=torch.int32)
        triton_layer.fire(
            fused.product,
            fused.arrival.shift,
            cell,
            fused.parameters,
            trains[fused.arrival.projection.source][first:last],
            self._current(others, first, last, trains) if others else None,
            self.u,
            self.v,
            spikes,
            kept,
        )
        return kept or (self.u[None], self.v[None])


def _sent(train: Tensor, first: int, last: int, lag: int) -> Tensor:
    """What arrives in steps ``first`` to ``last - 1``: nothing in the first ``lag`` steps; one step where the
    train is constant."""
    if not lag:
        return train if len(train) == 1 else train[first:last]
    if len(train) == 1:
        train = train.expand(last, *train.shape[1:])
    part = train[max(first - lag, 0) : max(last - lag, 0)]
    return functional.pad(part, (0,) * 8 + (last - first - len(part), 0))


def _in_order(maps: Tensor, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """(T, N, H, W, C) on the device -> (N, T, *shape)."""
    steps, samples = maps.shape[:2]
    return np.asarray(maps.permute(1, 0, 4, 2, 3).reshape(samples, steps, *shape).cpu().numpy())
