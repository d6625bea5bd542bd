"""What the integers quantized so far do on the calibration data, one population after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from nmc import neuron as spec
from nmc import synapse
from nmc.errors import InternalError
from nmc.ir import (
    Encoding,
    Fixed,
    FixedNeuron,
    FloatArray,
    InputNeuron,
    IntArray,
    Network,
    Population,
    Projection,
)
from nmc.quantize import ranges

Train: TypeAlias = npt.NDArray[Any]

BATCH = 16
"""Samples times steps whose currents are computed at once."""
SINGLE_EXACT = 1 << 24
"""float32 holds every whole number below this."""


class Emulator:
    """Runs each population over all samples and steps as soon as it is quantized; keeps what is needed.

    means: mean payload per source neuron, (*shape), payload units. Trains are dropped after their last use.
    """

    def __init__(self, network: Network, source: Population, x: IntArray) -> None:
        """x: the encoded samples, (N, *shape) or (N, T, *shape)."""
        neuron = source.neuron
        assert isinstance(neuron, InputNeuron)
        train = neuron.encoding is Encoding.SPIKES
        self._steps = network.steps
        self._left = {one.name: len(network.outgoing(one.name)) for one in network.populations}
        self._trains: dict[str, Train] = {source.name: x[:, : self._steps] if train else x[:, None]}
        self.means: dict[str, FloatArray] = {source.name: self._trains[source.name].mean(axis=(0, 1))}
        self._samples = len(x)

    @property
    def observations(self) -> int:
        """Samples times steps."""
        return self._samples * self._steps

    def knows(self, name: str) -> bool:
        """Whether the population has been run; what closes a loop is read before it has."""
        return name in self.means

    def current(self, population: Population, incoming: Sequence[Projection]) -> IntArray:
        """Input current in v units, bias excluded, (N, T or 1, *shape); of the sources that have been run."""
        total = np.zeros((1, 1, *population.shape), np.int64)
        for projection in incoming:
            if not projection.on_host and self.knows(projection.source):
                arriving = self._sum(population, projection) << spec.WEIGHT_SHIFT
                total = total + self._late(arriving, projection.lag)
        return total

    def _late(self, current: IntArray, lag: int) -> IntArray:
        """The current ``lag`` steps later, 0 before."""
        if not lag:
            return current
        late = np.zeros((len(current), self._steps, *current.shape[2:]), np.int64)
        late[:, lag:] = current[:, : max(0, self._steps - lag)] if current.shape[1] > 1 else current
        return late

    def bias(self, population: Population, incoming: Sequence[Projection]) -> IntArray:
        """Bias current in v units, broadcastable to (N, *shape)."""
        bias = population.bias
        assert bias is None or isinstance(bias, Fixed)
        host = [projection for projection in incoming if projection.on_host]
        if bias is None or not host:
            return spec.bias_value(bias)
        mant = bias.mant
        for projection in host:
            current = self._sum(population, projection)[:, 0]
            mant = mant + spec.written_by_host(current, projection.host_shift)
        return np.asarray(mant << bias.exp)

    def _sum(self, population: Population, projection: Projection) -> IntArray:
        """Weights times payloads, (N, T or 1, *shape)."""
        train = self._trains[projection.source]
        rows = train.reshape(-1, *train.shape[2:])
        weight = projection.integer_weight
        reach = np.abs(ranges.fan_in_rows(projection, weight)).sum(axis=1).max(initial=0)
        # Half the time and memory, and as exact, where every partial sum is a whole float32.
        single = int(reach) * int(np.abs(train).max(initial=0)) < SINGLE_EXACT
        dtype = np.float32 if single else np.float64
        result = np.empty((len(rows), *population.shape), np.int64)
        for start in range(0, len(rows), BATCH):
            part = slice(start, start + BATCH)
            result[part] = np.rint(synapse.apply(projection.synapse, weight, rows[part], dtype))
        return result.reshape(*train.shape[:2], *population.shape)

    def fire(
        self, population: Population, current: IntArray, bias: IntArray, own: Sequence[Projection] = ()
    ) -> Train:
        """Spikes (N, T, *shape), int8; ``own``: projections from the population to itself."""
        if not isinstance(population.neuron, FixedNeuron):
            raise InternalError(f"{population.name} does not fire")
        return self._together([(population, current, bias, own)])[population.name]

    def _together(
        self, members: Sequence[tuple[Population, IntArray, IntArray, Sequence[Projection]]]
    ) -> dict[str, Train]:
        """Trains of populations that feed each other, one step of all of them after the other.

        Args:
            members: population, current of the sources that have been run (v units), bias, and the
                projections from the members.
        """
        trains: dict[str, Train] = {}
        states = {}
        for population, *_ in members:
            neuron, shape = population.neuron, (self._samples, *population.shape)
            fires = isinstance(neuron, FixedNeuron)
            trains[population.name] = np.zeros(
                (self._samples, self._steps, *population.shape), np.int8 if fires else np.int64
            )
            v0 = neuron.v0 if isinstance(neuron, FixedNeuron) else np.zeros((), np.int64)
            states[population.name] = np.zeros(shape, np.int64), np.broadcast_to(v0, shape).astype(np.int64)
        for t in range(self._steps):
            for population, current, bias, inner in members:
                arriving = current[:, t if current.shape[1] > 1 else 0] >> spec.WEIGHT_SHIFT
                for p in inner:
                    if t >= p.lag:
                        sent = trains[p.source][:, t - p.lag]
                        part = synapse.apply_integer(p.synapse, p.integer_weight, sent)
                        arriving = arriving + part.reshape(len(sent), *population.shape)
                name = population.name
                if isinstance(population.neuron, FixedNeuron):
                    trains[name][:, t], *state = spec.step(population.neuron, *states[name], arriving, bias)
                    states[name] = state[0], state[1]
                else:
                    trains[name][:, t] = arriving
        return trains

    def add(self, segment: Sequence[tuple[Population, Sequence[Projection]]]) -> None:
        """Run finished populations that feed each other, or one that nobody waits for, each with its
        incoming projections; their sources' trains are dropped when nobody needs them any more."""
        names = {population.name for population, _ in segment}
        members = [
            (
                population,
                self.current(population, incoming),
                self.bias(population, incoming),
                [p for p in incoming if p.source in names],
            )
            for population, incoming in segment
        ]
        (population, current, _, inner), *others = members
        if isinstance(population.neuron, FixedNeuron) or inner or others:
            trains = self._together(members)
        else:
            trains = {population.name: current >> spec.WEIGHT_SHIFT}
        for name, train in trains.items():
            self.means[name] = train.mean(axis=(0, 1))
            self._trains[name] = train
        for name in names:
            if not self._left[name]:
                del self._trains[name]
        for _, incoming in segment:
            for projection in incoming:
                self._left[projection.source] -= 1
                if not self._left[projection.source]:
                    del self._trains[projection.source]
