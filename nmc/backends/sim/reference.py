"""The readable engines: NumPy, integer, never optimised. Every other engine is compared with these.

``ReferenceEngine`` runs population by population over all steps (time as in the frameworks);
``run_stepwise`` runs the whole network step by step, as the chip does, samples back to back.
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
from nmc.backends import encode
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
            total += current.reshape(shape)
    return total


def _bias(network: Network, population: Population, x: IntArray) -> IntArray:
    """Bias in v units, (N, *shape) where the host feeds the population, broadcastable elsewhere."""
    if encode.has_host_input(network, population):
        assert isinstance(population.bias, Fixed)
        return encode.host_mantissas(network, population, x) << population.bias.exp
    assert population.bias is None or isinstance(population.bias, Fixed)
    return spec.bias_value(population.bias)


class ReferenceEngine:
    """Layer by layer: a population's whole train before the next population starts."""

    name = "reference"

    def run(self, network: Network, x: IntArray, steps: int, record: Collection[str] = ()) -> Trace:
        """See ``backends.base.Engine.run``."""
        collector = Collector(network, len(x), steps, record)
        trains: dict[str, Array] = {}
        for population, incoming in network.walk():
            if population.is_input:
                spikes: Array = encode.train_of(network, x, steps)
                u = v = np.zeros(spikes.shape, np.int32)
            else:
                spikes, u, v = self._population(network, population, incoming, trains, x, steps)
            trains[population.name] = spikes
            collector.add(population.name, spikes, u, v)
        return collector.trace()

    def _population(
        self,
        network: Network,
        population: Population,
        incoming: tuple[Projection, ...],
        trains: dict[str, Array],
        x: IntArray,
        steps: int,
    ) -> tuple[Array, Array, Array]:
        """Spikes, u and v of one population, each (N, T, *shape) int32."""
        shape = (len(x), *population.shape)
        bias = _bias(network, population, x)
        state = _State.cleared(population, shape)
        spikes, us, vs = (np.zeros((len(x), steps, *population.shape), np.int32) for _ in range(3))
        for t in range(steps):
            arriving = {projection.name: trains[projection.source][:, t] for projection in incoming}
            spikes[:, t] = state.advance(population, _sum_currents(incoming, arriving, shape), bias)
            us[:, t], vs[:, t] = state.u, state.v
        return spikes, us, vs


class StepwiseEngine:
    """``run_stepwise`` behind the engine protocol: traces come back in sample time."""

    name = "stepwise"

    def run(self, network: Network, x: IntArray, steps: int, record: Collection[str] = ()) -> Trace:
        """See ``backends.base.Engine.run``."""
        chip = run_stepwise(network, x, steps, [population.name for population in network.populations])
        collector = Collector(network, len(x), steps, record)
        for population in network.populations:
            arrays = (timing.to_sample_time(a, population.time, len(x), steps) for a in chip[population.name])
            collector.add(population.name, *arrays)
        return collector.trace()


@dataclass
class _State:
    """u and v of one population, int64."""

    u: IntArray
    v: IntArray

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
    state = {p.name: _State.cleared(p, p.shape) for p in network.compute}
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
            if encode.has_host_input(network, population):
                bias = bias[min(max((t - population.time) // steps, 0), samples - 1)]
            sent[name][t] = state[name].advance(population, current, bias)
            if name in kept:
                kept[name][1][t], kept[name][2][t] = state[name].u, state[name].v
    return kept


def _arrival(sent: Array, t: int, projection: Projection) -> Array:
    """What reaches the target in chip step t: sent ``cost + delay`` steps ago."""
    step = t - projection.cost - projection.delay
    return sent[step] if step >= 0 else np.zeros(sent.shape[1:], sent.dtype)
