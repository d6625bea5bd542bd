"""From event counts to joules: energy is a named set of constants times what was counted, nothing else."""

from __future__ import annotations

from nmc.backends.base import Counts
from nmc.chip import EnergySet
from nmc.ir import Conv2d, Dense, GradedRelay, Network, Population, SumPool2d, Synapse
from nmc.reports.model import Energy

UPDATE = "update_active"
SPIKE = "spike"


def synop_term(synapse: Synapse) -> str:
    """The constant that prices an operation of such a synapse, by how its list is stored."""
    if isinstance(synapse, Conv2d | SumPool2d):
        return "synop_conv"
    return "synop_dense" if isinstance(synapse, Dense) else "synop_sparse"


def energy_of(network: Network, population: Population, counts: Counts, constants: EnergySet) -> Energy:
    """Joules per inference of one population: its incoming synapses, its updates, its own spikes.

    What a set does not price costs nothing; ``unpriced`` says so. An input's own events are not priced.
    """

    def joules(events: int, term: str) -> float:
        return events * (constants.joules(term) or 0.0) / counts.samples

    synapse = sum(
        joules(counts.synops.get(one.name, 0), synop_term(one.synapse))
        for one in network.incoming(population.name)
    )
    sent = 0 if population.is_input else counts.spikes.get(population.name, 0)
    return Energy.of(synapse, joules(counts.updates.get(population.name, 0), UPDATE), joules(sent, SPIKE))


def total_of(network: Network, counts: Counts, constants: EnergySet) -> Energy:
    """The whole network's energy."""
    return Energy.add([energy_of(network, one, counts, constants) for one in network.populations])


def assumptions(constants: EnergySet, chip: str) -> tuple[str, ...]:
    """What the energies take for granted, in sentences."""
    said = []
    if constants.chip != chip:
        said.append(f"no joules per event are public for {chip}: an estimate with those of {constants.chip}")
    return (
        *said,
        "event counts are exact, joules per event are those of the named constants",
        "a graded synaptic operation costs as much as a binary one",
        "every neuron pays for an active update in each of its T steps",
    )


def unpriced(network: Network, constants: EnergySet) -> tuple[str, ...]:
    """What the energies leave out."""
    terms = {synop_term(one.synapse): "synaptic operations" for one in network.projections}
    terms |= {UPDATE: "neuron updates", SPIKE: "spikes sent"}
    missing = [
        f"{what} (no {term} in {constants.name})"
        for term, what in terms.items()
        if constants.joules(term) is None
    ]
    if any(isinstance(population.neuron, GradedRelay) for population in network.populations):
        missing.append("sums in relay populations")
    if any(projection.on_host for projection in network.projections):
        missing.append("the host's multiply-accumulates for the first layer")
    return (
        *missing,
        "input injection",
        "messages and hops between cores",
        "barriers",
        "static power",
        "embedded CPUs",
    )
