"""From a network and its counts to a ``Report``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from nmc import __version__, synapse
from nmc.backends.base import Counts
from nmc.backends.sim.counts import weight_shape
from nmc.ir import Fixed, FixedNeuron, FloatNeuron, GradedRelay, InputNeuron, Network, Population, Stage
from nmc.neuron import DECAY_BITS, U_DECAY_OFFSET
from nmc.report.energy import Prices, assumptions, energy_of, total_of, unpriced
from nmc.report.model import Accuracy, Activity, Estimate, Report, Row, total_row


def kind_of(population: Population) -> str:
    """What a population is, in a reader's words."""
    neuron = population.neuron
    if isinstance(neuron, InputNeuron):
        return f"input ({neuron.encoding.value})"
    if isinstance(neuron, GradedRelay):
        return "relay"
    if isinstance(neuron, FloatNeuron):
        fires, keeps_v, keeps_u = neuron.threshold is not None, neuron.keep_v == 1, neuron.keep_u != 0
    else:
        fires, keeps_v = neuron.vth is not None, bool((neuron.dv.mant == 0).all())
        keeps_u = bool((neuron.du.mant + U_DECAY_OFFSET < 1 << DECAY_BITS).any())
    if not fires:
        return "readout"
    if keeps_u:
        return "CUBA"
    return "IF" if keeps_v else "LIF"


def _stored(array: object) -> np.ndarray:  # type: ignore[type-arg]
    """The numbers of a weight or a bias, float or Fixed."""
    return np.asarray(array.mant if isinstance(array, Fixed) else array)


def parameters_of(network: Network) -> dict[str, int]:
    """Distinct stored weights and biases per population.

    A tensor that several projections share is counted where it comes first. Scalars are constants of a
    pool or of a relay, not parameters.
    """
    seen: set[int] = set()
    result = {}
    for population, incoming in network.walk():
        tensors = [_stored(one.weight) for one in incoming]
        if population.bias is not None:
            tensors.append(_stored(population.bias))
        new = {id(one): one.size for one in tensors if one.ndim and id(one) not in seen}
        seen |= set(new)
        result[population.name] = sum(new.values())
    return result


def synapses_of(network: Network, population: Population) -> int:
    """Connections into a population on the chip, without sharing."""
    return sum(
        synapse.synapse_count(one.synapse, weight_shape(one.weight), network[one.source].shape)
        for one in network.incoming(population.name)
        if not one.on_host
    )


def names_of(network: Network) -> dict[str, str]:
    """The user's name of every population; where several share it, with the population's own name."""
    times = Counter(population.label for population in network.populations)
    return {
        one.name: one.label if times[one.label] == 1 else f"{one.label} [{one.name}]"
        for one in network.populations
    }


def activity_of(network: Network, population: Population, counts: Counts, prices: Prices) -> Activity:
    """One population's share of the counts."""
    name = population.name
    incoming = network.incoming(name)
    outgoing = network.outgoing(name)
    # The host turns such an input into bias currents: none of its values enters the chip as an event.
    stays_outside = population.is_input and all(one.on_host for one in outgoing)
    spikes = 0 if stays_outside else counts.spikes.get(name, 0)
    chances = neurons_of(population) * counts.steps * counts.samples
    return Activity(
        spikes=spikes,
        grades=0 if stays_outside else counts.grades.get(name, 0),
        synops=sum(counts.synops.get(one.name, 0) for one in incoming),
        graded_synops=sum(counts.graded_synops.get(one.name, 0) for one in incoming),
        updates=counts.updates.get(name, 0),
        host_macs=sum(counts.host_macs.get(one.name, 0) for one in incoming),
        firing_rate=spikes / chances if chances else None,
        energy=energy_of(network, population, counts, prices),
    )


def neurons_of(population: Population) -> int:
    """Neurons that the chip holds; an input has none."""
    return 0 if population.is_input else population.size


def build_report(
    network: Network,
    chip: Chip,
    counts: Counts | None = None,
    *,
    config: Mapping[str, Any] | None = None,
    constants: str | None = None,
    accuracy: Accuracy | None = None,
    notes: tuple[str, ...] = (),
) -> Report:
    """Everything that a compile, and a run where ``counts`` are given, has to say about itself.

    Args:
        network: of any stage; cores and memory are known once it is MAPPED, latencies once it is TIMED.
        chip: the chip that it was compiled for.
        counts: exact event counts of a run.
        config: of the compile; its "profile" says how the model file was interpreted.
        constants: name of the set that prices the rows; the chip's first set where it is None.
        accuracy: on the samples of the run.
        notes: said after the network's own notes.

    Raises:
        NmcError: NMC-U03 for constants that the chip does not have.
    """
    sets = prices_of(chip, constants)
    memory = memory_of(network, chip)
    parameters, names = parameters_of(network), names_of(network)
    rows = tuple(
        Row(
            name=names[one.name],
            population=one.name,
            kind=kind_of(one),
            shape=one.shape,
            neurons=neurons_of(one),
            parameters=parameters[one.name],
            synapses=synapses_of(network, one),
            cores=cores_of(network, one),
            memory_bits=memory.get(one.name),
            latency_steps=one.level,
            activity=None if counts is None else activity_of(network, one, counts, sets[0]),
        )
        for one in network.populations
    )
    priced = counts is not None
    return Report(
        network=network.name,
        chip=chip.name,
        version=__version__,
        profile=str((config or {}).get("profile", "")),
        steps=network.steps if counts is None else counts.steps,
        samples=None if counts is None else counts.samples,
        rows=rows,
        total=total_row(
            rows,
            network.steps if counts is None else counts.steps,
            None if counts is None else counts.samples,
        ),
        cores_available=chip.cores,
        estimates=()
        if counts is None
        else tuple(Estimate(one.name, one.basis, one.source, total_of(network, counts, one)) for one in sets),
        accuracy=accuracy,
        assumptions=assumptions(sets[0], chip.name) if priced else (),
        unpriced=unpriced(network, sets[0]) if priced else (),
        notes=(*network.notes, *notes),
    )
