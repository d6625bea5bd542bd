"""From a network and its counts to a ``Report``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from nmc import __version__, synapse, timing
from nmc.backends.base import Counts
from nmc.backends.sim.counts import weight_shape
from nmc.chip import Chip, EnergySet, other_hardware
from nmc.errors import NmcError
from nmc.ir import Fixed, FixedNeuron, FloatNeuron, GradedRelay, InputNeuron, Network, Population, Stage
from nmc.neuron import DECAY_BITS, U_DECAY_OFFSET
from nmc.partition.check import CoreUse, check_mapping
from nmc.quantize.reset_loops import is_clock, is_looped
from nmc.reports.energy import Events, assumptions, energy_of, total_of, unpriced
from nmc.reports.model import Accuracy, Activity, Estimate, Peak, Report, Row, VerifiedRun, total_row
from nmc.reports.pace import pace_of
from nmc.reports.rates import block_rates
from nmc.reports.trains import statistics
from nmc.reports.twin import twin_of


def kind_of(network: Network, population: Population) -> str:
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
    if is_clock(network, population):
        return "clock"
    if isinstance(neuron, FixedNeuron) and is_looped(network, population):
        return "LIF, soft reset" if neuron.du.mant.any() else "IF, soft reset"
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
    return {name: sum(map(_size, tensors)) for name, tensors in _parameters(network).items()}


def parameter_bits_of(network: Network) -> dict[str, int | None]:
    """What ``parameters_of`` counts, in bits as quantized; None where a number is float."""
    result: dict[str, int | None] = {}
    for name, tensors in _parameters(network).items():
        fixed = [one for one in tensors if isinstance(one, Fixed)]
        complete = len(fixed) == len(tensors)
        result[name] = sum(one.mant.size * one.bits for one in fixed) if complete else None
    return result


def _parameters(network: Network) -> dict[str, list[object]]:
    seen: set[int] = set()
    result: dict[str, list[object]] = {}
    for population, incoming in network.walk():
        tensors: list[object] = [one.weight for one in incoming]
        if population.bias is not None:
            tensors.append(population.bias)
        new = {id(_stored(one)): one for one in tensors if _stored(one).ndim and id(_stored(one)) not in seen}
        seen |= set(new)
        result[population.name] = list(new.values())
    return result


def _size(tensor: object) -> int:
    return _stored(tensor).size


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


def activity_of(
    events: Events, population: Population, constants: EnergySet, others: Sequence[EnergySet]
) -> Activity:
    """One population's share of what happened; ``others``: what the range of energies is taken over."""
    network, counts, name = events.network, events.counts, population.name
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
        energy=energy_of(events, population, constants),
        energy_range=(
            min(energy_of(events, population, one, idle=True).total for one in (constants, *others)),
            max(energy_of(events, population, one).total for one in (constants, *others)),
        ),
    )


def neurons_of(population: Population) -> int:
    """Neurons that the chip holds; an input has none."""
    return 0 if population.is_input else population.size


def cores_of(network: Network, population: Population) -> int | None:
    """Cores that hold a part of a population; None before mapping."""
    if network.mapping is None:
        return None
    return len({tile.core for tile in network.mapping.of(population.name)})


def _waits(network: Network, population: Population) -> int | None:
    """Steps that the path which arrives first is held back; None before timing."""
    if population.level is None:
        return None
    return max((one.delay for one in network.incoming(population.name)), default=0)


def _memory_of(uses: tuple[CoreUse, ...]) -> dict[str, int]:
    """Bits of synapse memory per population."""
    memory: dict[str, int] = {}
    for use in uses:
        for population, bits in use.tile_bits:
            memory[population] = memory.get(population, 0) + bits
    return memory


def _peaks(uses: tuple[CoreUse, ...]) -> tuple[Peak, ...]:
    """Per limited resource, the fullest core; the lowest core number wins a tie."""
    peaks = []
    for resource in uses[0].resources() if uses else ():
        fullest = max(uses, key=lambda use: use.resources()[resource].used)
        one = fullest.resources()[resource]
        if one.allowed is not None:
            peaks.append(Peak(resource, fullest.label, fullest.core, one.used, one.allowed))
    return tuple(peaks)


def build_report(
    network: Network,
    chip: Chip,
    counts: Counts | None = None,
    *,
    config: Mapping[str, Any] | None = None,
    constants: str | None = None,
    accuracy: Accuracy | None = None,
    notes: tuple[str, ...] = (),
    verified: tuple[VerifiedRun, ...] = (),
    spikes: Mapping[str, npt.NDArray[Any]] | None = None,
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
        verified: the bundle's verification record.
        spikes: (N, T, *shape) per population whose spikes were recorded.

    Raises:
        NmcError: NMC-U03 for constants that the chip has not got, NMC-P05 for a mapping over a limit, NMC-D02
            for counts of another network.
    """
    if counts is not None:
        _check_counts(network, counts)
    first = _constants(chip, constants)
    uses = () if network.mapping is None else check_mapping(network, chip)
    memory = _memory_of(uses)
    parameters, names = parameters_of(network), names_of(network)
    bits = parameter_bits_of(network)
    events = None if counts is None else Events.of(network, chip, counts)
    rows = tuple(
        Row(
            name=names[one.name],
            population=one.name,
            kind=kind_of(network, one),
            shape=one.shape,
            neurons=neurons_of(one),
            parameters=parameters[one.name],
            synapses=synapses_of(network, one),
            cores=cores_of(network, one),
            memory_bits=memory.get(one.name),
            latency_steps=one.level,
            wait_steps=_waits(network, one),
            activity=None if events is None else activity_of(events, one, first, chip.energy),
            parameter_bits=bits[one.name],
        )
        for one in network.populations
    )
    steps = network.steps if counts is None else counts.steps
    total = total_row(rows, steps, None if counts is None else counts.samples)
    if network.mapping is not None:
        # Layers that share a core each count it.
        total = replace(total, cores=network.mapping.cores_used)
    return Report(
        network=network.name,
        chip=chip.name,
        version=__version__,
        profile=str((config or {}).get("profile", "")),
        steps=steps,
        samples=None if counts is None else counts.samples,
        rows=rows,
        total=total,
        cores_available=chip.cores,
        peaks=_peaks(uses),
        estimates=() if events is None else _estimates(events, chip, first),
        others=()
        if events is None
        else tuple(_estimate(events, chip, one) for one in other_hardware() if one.joules("synop")),
        twin=None if counts is None else twin_of(network, counts),
        accuracy=accuracy,
        assumptions=() if counts is None else assumptions(first, chip.base),
        unpriced=() if counts is None else unpriced(network, first),
        notes=(*network.notes, *notes),
        verified=verified,
        interval_steps=timing.interval(network, steps) if network.stage >= Stage.TIMED else 0,
        blocks=() if counts is None else block_rates(network, counts),
        trains=statistics({names[name]: array for name, array in (spikes or {}).items()}),
    )


def _check_counts(network: Network, counts: Counts) -> None:
    """Refuse (NMC-D02) counts that are not one for each population and projection: they would read as 0."""
    populations = {one.name for one in network.populations}
    projections = {one.name for one in network.projections}
    per = dict(spikes=populations, grades=populations, updates=populations)
    per |= dict(synops=projections, graded_synops=projections, host_macs=projections)
    for kind, names in per.items():
        if set(getattr(counts, kind)) != names:
            remedy = "report on the bundle that was run"
            raise NmcError("NMC-D02", network.name, f"the run's {kind} are of another network", remedy)


def _constants(chip: Chip, name: str | None) -> EnergySet:
    """The chip's set of that name, or its first; an empty set, which prices nothing, where it has none."""
    if name is None and not chip.energy:
        return EnergySet("none", chip.name, "unsourced", "the chip file has no energy constants", ())
    return chip.energy_set(name)


def _estimates(events: Events, chip: Chip, first: EnergySet) -> tuple[Estimate, ...]:
    """The run under every set of constants that the chip has, ``first`` before the others."""
    sets = [first, *(one for one in chip.energy if one.name != first.name)]
    return tuple(_estimate(events, chip, one) for one in sets)


def _estimate(events: Events, chip: Chip, constants: EnergySet) -> Estimate:
    return Estimate(
        constants.name,
        constants.chip,
        constants.basis,
        constants.source,
        constants.known_error,
        total_of(events, constants, idle=True),
        total_of(events, constants),
        pace_of(events, chip, constants),
    )
