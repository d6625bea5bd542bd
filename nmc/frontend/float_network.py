"""The float engine of a FLOAT or TIMED Network: what calibration sees, before anything is an integer.

All samples at once, layer by layer over all steps; populations that feed each other step by step.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import reduce

import numpy as np

from nmc import ir, synapse
from nmc.errors import InternalError, NmcError
from nmc.frontend.float_engine import Array, as_trains, current
from nmc.ir import Compare, FloatArray, FloatNeuron, GradedRelay, Network


def run_network(
    network: Network, x: FloatArray, steps: int, record: Collection[str] = ()
) -> dict[str, FloatArray]:
    """Execute a FLOAT or TIMED Network in float64, layer by layer; levels and delays play no role.

    Input scales, rounding and clips are ignored: they belong to the integers.

    Args:
        network: with one input population.
        x: (N, *shape) frames, held for every step, or (N, T, *shape) trains.
        steps: T.
        record: a population's name keeps its spikes (payloads); ``"current/" + name`` keeps the sum of
            the projections into it, bias excluded; ``"v/" + name`` keeps v before the reset.

    Returns:
        Under every recorded key (N, T, *shape); under ``"output/" + name`` per output population
        (N, *shape): spike counts, or for a readout that never fires v after the last step.

    Raises:
        NmcError: NMC-U03 for an unknown key in ``record``, NMC-D02 for data that do not fit.
    """
    wanted = set(record)
    for key in wanted:
        if key.removeprefix("current/").removeprefix("v/") not in network:
            raise NmcError(
                "NMC-U03", key, "no population of that name", "see the names in network.populations"
            )
    readers = {p.name: {one.target for one in network.outgoing(p.name)} for p in network.populations}
    spikes: dict[str, Array] = {}
    result: dict[str, FloatArray] = {}
    for segment in network.segments:
        loop = len(segment) > 1 or any(p.source == p.target for p in network.incoming(segment[0].name))
        if loop:
            runs = _run_loop(network, segment, spikes, len(x), steps)
        else:
            runs = {segment[0].name: _run_layer(network, segment[0], spikes, x, steps)}
        for name, run in runs.items():
            population, full = network[name], (steps, *network[name].shape)
            spikes[name] = run.spikes
            for key, array in ((name, run.spikes), (f"v/{name}", run.v), (f"current/{name}", run.current)):
                if key in wanted:
                    result[key] = np.broadcast_to(array, (len(array), *full))
            if name in network.outputs:
                fires = getattr(population.neuron, "threshold", None) is not None
                result[f"output/{name}"] = run.spikes.sum(axis=1) if fires else run.v[:, -1]
        for population in segment:
            for projection in network.incoming(population.name):
                readers[projection.source].discard(population.name)
                if not readers[projection.source] and projection.source in spikes:
                    del spikes[projection.source]
    return result


@dataclass(frozen=True, eq=False)
class _PopulationRun:
    """Of one population, each (N, T or 1, *shape): current without bias, v before the reset, payloads."""

    current: FloatArray
    v: FloatArray
    spikes: FloatArray


def _run_layer(
    network: Network, population: ir.Population, spikes: Mapping[str, Array], x: FloatArray, steps: int
) -> _PopulationRun:
    """A population whose sources are done."""
    if population.is_input:
        train = as_trains(x, population.shape, steps, population.label)
        return _PopulationRun(train, train, train)
    currents = []
    for p in network.incoming(population.name):
        one = current(p.synapse, _float_weight(p), spikes[p.source]).reshape(len(x), -1, *population.shape)
        if p.lag:
            late = np.zeros((len(x), steps, *population.shape))
            late[:, p.lag :] = one[:, : max(0, steps - p.lag)] if one.shape[1] > 1 else one
            one = late
        currents.append(one)
    total = reduce(np.add, currents, np.zeros((1, 1, *population.shape)))
    if isinstance(population.neuron, GradedRelay):
        train = np.broadcast_to(total, (len(total), steps, *population.shape))
        return _PopulationRun(total, train, train)
    cell = _FloatCell(population, len(x))
    shape = (len(x), steps, *population.shape)
    sent, before = np.zeros(shape), np.empty(shape)
    for t in range(steps):
        sent[:, t], before[:, t] = cell.step(total[:, t if total.shape[1] > 1 else 0])
    return _PopulationRun(total, before, sent)


def _run_loop(
    network: Network,
    segment: Collection[ir.Population],
    spikes: Mapping[str, Array],
    samples: int,
    steps: int,
) -> dict[str, _PopulationRun]:
    """Populations that feed each other, one step of all of them after the other."""
    runs = {
        p.name: _PopulationRun(*(np.zeros((samples, steps, *p.shape)) for _ in range(3))) for p in segment
    }
    cells = {p.name: _FloatCell(p, samples) for p in segment if not isinstance(p.neuron, GradedRelay)}
    for t in range(steps):
        for population in segment:
            run = runs[population.name]
            for p in network.incoming(population.name):
                if t >= p.lag:
                    train = runs[p.source].spikes if p.source in runs else spikes[p.source]
                    sent = train[:, t - p.lag] if train.shape[1] > 1 else train[:, 0]
                    arriving = synapse.apply(p.synapse, _float_weight(p), sent)
                    run.current[:, t] += arriving.reshape(samples, *population.shape)
            a = run.current[:, t]
            cell = cells.get(population.name)
            run.spikes[:, t], run.v[:, t] = (a, a) if cell is None else cell.step(a)
    return runs


def _float_weight(projection: ir.Projection) -> FloatArray:
    if isinstance(projection.weight, ir.Fixed):
        raise InternalError(
            f"projection {projection.name} is quantized; the float engine runs FLOAT and TIMED"
        )
    return projection.weight


class _FloatCell:
    """A FloatNeuron population with its state, (N, *shape)."""

    def __init__(self, population: ir.Population, samples: int) -> None:
        neuron = population.neuron
        if not isinstance(neuron, FloatNeuron) or isinstance(population.bias, ir.Fixed):
            raise InternalError(
                f"population {population.name} is quantized; the float engine runs FLOAT and TIMED"
            )
        self._neuron = neuron
        self._bias: FloatArray | float = 0.0 if population.bias is None else population.bias
        self._u: Array = np.zeros((samples, *population.shape))
        self._v: Array = np.broadcast_to(neuron.v0, self._u.shape)

    def step(self, a: Array) -> tuple[Array, Array]:
        """Spikes and v before the reset, of the current (N, *shape)."""
        neuron = self._neuron
        self._u = neuron.keep_u * self._u + a
        v = neuron.keep_v * self._v + self._u + self._bias
        if neuron.threshold is None:
            self._v = v
            return np.zeros_like(v), v
        over = v > neuron.threshold if neuron.compare is Compare.GREATER else v >= neuron.threshold
        self._v = np.where(over, 0.0 if neuron.subtracted is None else v - neuron.subtracted, v)
        return over.astype(np.float64), v
