"""From event counts to joules: energy is a named set of constants times what was counted, nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from nmc.backends.base import Counts
from nmc.chip import Chip, EnergySet
from nmc.ir import Conv2d, Dense, GradedRelay, Network, Population, SumPool2d, Synapse
from nmc.partition.messages import Messages, messages_of
from nmc.reports.model import Energy

ACTIVE, IDLE = "update_active", "update_idle"
SPIKE = "spike"
MESSAGE, WITHIN, EAST_WEST, NORTH_SOUTH = "message_out", "hop_tile", "hop_east_west", "hop_north_south"


def synop_term(synapse: Synapse) -> str:
    """The constant that prices an operation of such a synapse, by how its list is stored."""
    if isinstance(synapse, Conv2d | SumPool2d):
        return "synop_conv"
    return "synop_dense" if isinstance(synapse, Dense) else "synop_sparse"


@dataclass(frozen=True, eq=False)
class Events:
    """What a run made happen, per population; messages: per inference, {} before mapping."""

    network: Network
    counts: Counts
    messages: Mapping[str, Messages]

    @classmethod
    def of(cls, network: Network, chip: Chip, counts: Counts) -> Events:
        """The counts of a run, with the messages that its spikes cause on the mapped network."""
        if network.mapping is None:
            return cls(network, counts, {})
        spikes = {name: count / counts.samples for name, count in counts.spikes.items()}
        return cls(network, counts, messages_of(network, chip, spikes))


def energy_of(events: Events, population: Population, constants: EnergySet, *, idle: bool = False) -> Energy:
    """Joules per inference of one population: incoming synapses, updates, own spikes and their way.

    What a set does not price costs nothing; ``unpriced`` says so. An input's own events are not priced.

    Args:
        events: of a run.
        population: of that network.
        constants: prices.
        idle: price updates of neurons that do not fire as idle ones. Which neurons a chip takes for idle is
            not counted, so that the truth lies between this and the price of active ones.
    """
    counts, name = events.counts, population.name

    def joules(number: float, term: str) -> float:
        return number * (constants.joules(term) or 0.0)

    # fsum, here and wherever floats are added: sum() rounds otherwise from Python 3.12 on.
    synapse = math.fsum(
        joules(counts.synops.get(one.name, 0), synop_term(one.synapse))
        for one in events.network.incoming(name)
    )
    updates = counts.updates.get(name, 0)
    sent = 0 if population.is_input else counts.spikes.get(name, 0)
    active = min(sent, updates) if idle and constants.joules(IDLE) is not None else updates
    update = joules(active, ACTIVE) + joules(updates - active, IDLE)
    way = events.messages.get(name)
    hop = 0.0
    if way is not None:
        hop = joules(way.sent, MESSAGE) + joules(way.sent, WITHIN)
        hop += joules(way.east_west, EAST_WEST) + joules(way.north_south, NORTH_SOUTH)
    samples = counts.samples
    return Energy.of(synapse / samples, update / samples, joules(sent, SPIKE) / samples, hop)


def total_of(events: Events, constants: EnergySet, *, idle: bool = False) -> Energy:
    """The whole network's energy."""
    network = events.network
    return Energy.add([energy_of(events, one, constants, idle=idle) for one in network.populations])


def assumptions(constants: EnergySet, chip: str) -> tuple[str, ...]:
    """What the energies take for granted, in sentences."""
    said = []
    if constants.chip != chip:
        said.append(f"no joules per event are public for {chip}: an estimate with those of {constants.chip}")
    return (
        *said,
        "event counts are exact, joules per event are those of the named constants",
        "a graded synaptic operation costs as much as a binary one",
        "rows price every update as active; the low end of a range takes neurons that do not fire for idle",
        "a population's spikes are spread evenly over its cores to count messages and hops",
    )


def unpriced(network: Network, constants: EnergySet) -> tuple[str, ...]:
    """What the energies leave out."""
    terms = {synop_term(one.synapse): "synaptic operations" for one in network.projections}
    terms |= {ACTIVE: "neuron updates", SPIKE: "spikes sent"}
    if network.mapping is not None:
        terms |= {MESSAGE: "messages sent", EAST_WEST: "hops along rows", NORTH_SOUTH: "hops along columns"}
    missing = [
        f"{what} (no {term} in {constants.name})"
        for term, what in terms.items()
        if constants.joules(term) is None
    ]
    if network.mapping is None:
        missing.append("messages and hops (not mapped)")
    if any(isinstance(population.neuron, GradedRelay) for population in network.populations):
        missing.append("sums in relay populations")
    if any(projection.on_host for projection in network.projections):
        missing.append("the host's multiply-accumulates for the first layer")
    static = () if constants.static_watts is not None else (f"static power (not in {constants.name})",)
    return (*missing, "input injection", "barriers", *static, "embedded CPUs")
