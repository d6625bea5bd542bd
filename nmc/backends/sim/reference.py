"""The readable engines: NumPy, integer, never optimised. Every other engine is compared with these.

``ReferenceEngine`` runs population by population over all steps (time as in the frameworks), those of a
loop together; ``run_stepwise`` runs the whole network step by step, as the chip does, samples back to back.
The law that joins them is in ``timing.py``.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nmc import neuron as spec
from nmc import synapse, timing
from nmc.backends import encode, memory
from nmc.backends.base import Trace
from nmc.backends.collect import Collector
from nmc.ir import Fixed, FixedNeuron, GradedRelay, IntArray, Network, Population, Projection

Array = npt.NDArray[Any]


def _sum_currents(
    projections: Collection[Projection], arriving: dict[str, Array], shape: tuple[int, ...]
) -> IntArray:
    """Sum of weights times payloads, (N, *shape), over the chip projections."""
    total: IntArray = np.zeros(shape, np.int64)
    for projection in projections:
        if not projection.on_host:
            current = synapse.apply_integer(
                projection.synapse, projection.integer_weight, arriving[projection.name]
            )
            total += synapse.onto(current, shape[1:])
    return total


def _bias(network: Network, population: Population, x: IntArray) -> IntArray:
    """Bias in v units, (N, *shape) where the host feeds the population, broadcastable elsewhere."""
    if encode.has_host_input(network, population):
        assert isinstance(population.bias, Fixed)
        return encode.host_mantissas(network, population, x) << population.bias.exp
    assert population.bias is None or isinstance(population.bias, Fixed)
    return spec.bias_value(population.bias)


class ReferenceEngine:
    """Layer by layer: a population's whole train before the next population starts; loops step by step."""

    name = "reference"

    def run(self, network: Network, x: IntArray, steps: int, record: Collection[str] = ()) -> Trace:
        """See ``backends.base.Engine.run``."""
        memory.refuse_whole(network, len(x), steps, record)
        collector = Collector(network, len(x), steps, record)
        trains: dict[str, Array] = {}
        for population in network.inputs:
            train = trains[population.name] = encode.train_of(network, x, steps)
            zero = np.zeros(train.shape, np.int32)
            collector.add(population.name, train, zero, zero)
        for segment in network.segments:
            layers = [_Layer(network, one, x, steps) for one in segment if not one.is_input]
            trains |= {layer.population.name: layer.spikes for layer in layers}
            for t in range(steps):
                for layer in layers:
                    layer.advance(t, trains)
            for layer in layers:
                collector.add(layer.population.name, layer.spikes, layer.u, layer.v)
        return collector.trace()


class _Layer:
    """One population on its way through the steps of all samples: spikes, u and v, (N, T, *shape) int32."""

    def __init__(self, network: Network, population: Population, x: IntArray, steps: int) -> None:
        self.population, self._incoming = population, network.incoming(population.name)
        self._shape = (len(x), *population.shape)
        self._bias = _bias(network, population, x)
        self._state = _State.cleared(population, self._shape)
        self.spikes, self.u, self.v = (
            np.zeros((len(x), steps, *population.shape), np.int32) for _ in range(3)
        )

    def advance(self, t: int, trains: dict[str, Array]) -> None:
        """Take step ``t``; the trains hold what was sent up to ``t``, less each projection's lag."""
        arriving = {p.name: _sent(trains[p.source], t - p.lag) for p in self._incoming}
        current = _sum_currents(self._incoming, arriving, self._shape)
        self.spikes[:, t] = self._state.advance(self.population, current, self._bias)
        self.u[:, t], self.v[:, t] = self._state.u, self._state.v


def _sent(train: Array, t: int) -> Array:
    """(N, *shape) sent in step ``t``; nothing before the first."""
    return train[:, t] if t >= 0 else np.zeros_like(train[:, 0])


class StepwiseEngine:
    """``run_stepwise`` behind the engine protocol: traces come back in sample time."""

    name = "stepwise"

    def run(self, network: Network, x: IntArray, steps: int, record: Collection[str] = ()) -> Trace:
        """See ``backends.base.Engine.run``."""
        memory.refuse_whole(network, len(x), steps, [population.name for population in network.populations])
        collector = Collector(network, len(x), steps, record)
        sessions = [x[part] for part in timing.sessions(network, len(x))]
        runs = [
            run_stepwise(network, part, steps, [p.name for p in network.populations]) for part in sessions
        ]
        for population in network.populations:
            name, level = population.name, population.time
            parts = (
                [timing.to_sample_time(array, level, len(part), steps) for array in run[name]]
                for part, run in zip(sessions, runs, strict=True)
            )
            collector.add(name, *map(np.concatenate, zip(*parts, strict=True)))
        return collector.trace()


@dataclass
class _State:
    """u and v of one population, int64."""

    u: IntArray
    v: IntArray

    @classmethod
    def at_rest(cls, shape: tuple[int, ...]) -> _State:
        return cls(np.zeros(shape, np.int64), np.zeros(shape, np.int64))

    @classmethod
    def cleared(cls, population: Population, shape: tuple[int, ...]) -> _State:
        neuron = population.neuron
        v0 = neuron.v0 if isinstance(neuron, FixedNeuron) else np.zeros((), np.int64)
        return cls(np.zeros(shape, np.int64), np.broadcast_to(v0, shape).astype(np.int64))

    def advance(self, population: Population, current: IntArray, bias: IntArray) -> Array:
        """One step; returns the payloads that are sent."""
        if isinstance(population.neuron, GradedRelay):
            return current
        assert isinstance(population.neuron, FixedNeuron)
        spikes, self.u, self.v = spec.step(population.neuron, self.u, self.v, current, bias)
        return spikes


def run_stepwise(
    network: Network, x: IntArray, steps: int, record: Collection[str]
) -> dict[str, tuple[Array, Array, Array]]:
    """The network as the chip runs it: one step everywhere at once, one sample straight after the other.

    Args:
        network: QUANTIZED or later, so that levels and delays are set.
        x: encoded input of N samples.
        steps: T, also the interval between samples.
        record: names of populations.

    Returns:
        per recorded population spikes, u and v, each (chip steps, *shape) int32, in chip time.
    """
    samples = len(x)
    total = timing.total_steps(network, samples, steps)
    train = encode.train_of(network, x, steps).reshape(
        samples * steps, *x.shape[-len(network.inputs[0].shape) :]
    )
    sent: dict[str, Array] = {p.name: np.zeros((total, *p.shape), np.int32) for p in network.populations}
    kept = {name: (sent[name], np.zeros_like(sent[name]), np.zeros_like(sent[name])) for name in record}
    state = {p.name: _State.at_rest(p.shape) for p in network.compute}
    biases = {p.name: _bias(network, p, x) for p in network.compute}
    for t in range(total):
        for population, incoming in network.walk():
            name = population.name
            if population.is_input:
                if t < len(train):
                    sent[name][t] = train[t]
                continue
            if timing.is_cleared(population, t, steps):
                state[name] = _State.cleared(population, population.shape)
            arriving = {p.name: _arrival(sent[p.source], t, p)[None] for p in incoming}
            current = _sum_currents(incoming, arriving, (1, *population.shape))[0]
            bias = biases[name]
            if not timing.has_started(network, population, t):
                bias = np.zeros((), np.int64)
            elif encode.has_host_input(network, population):
                bias = bias[min(max((t - population.time) // steps, 0), samples - 1)]
            sent[name][t] = state[name].advance(population, current, bias)
            if name in kept:
                kept[name][1][t], kept[name][2][t] = state[name].u, state[name].v
    return kept


def _arrival(sent: Array, t: int, projection: Projection) -> Array:
    """What reaches the target in chip step t: sent ``cost + delay`` steps ago."""
    step = t - projection.cost - projection.delay
    return sent[step] if step >= 0 else np.zeros(sent.shape[1:], sent.dtype)
