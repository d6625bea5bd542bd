"""From event counts to joules: energy is a price list times what was counted, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nmc.backends.base import Counts
from nmc.ir import GradedRelay, Network, Population
from nmc.report.model import Energy


@dataclass(frozen=True)
class Prices:
    """Joules per event, with where they come from. None: the set does not price that event.

    basis: "simulated", "measured" or "estimated". chip: the chip that the numbers belong to.
    """

    name: str
    chip: str
    basis: str
    source: str
    synop_J: float | None
    update_J: float | None
    spike_J: float | None


def energy_of(network: Network, population: Population, counts: Counts, prices: Prices) -> Energy:
    """Joules per inference of one population: its incoming synapses, its updates, its own spikes.

    Events that enter from outside (the input's own spikes) are not priced.
    """
    arriving = sum(counts.synops.get(one.name, 0) for one in network.incoming(population.name))
    sent = 0 if population.is_input else counts.spikes.get(population.name, 0)

    def joules(events: int, price: float | None) -> float:
        return 0.0 if price is None else events * price / counts.samples

    return Energy.of(
        synapse_J=joules(arriving, prices.synop_J),
        update_J=joules(counts.updates.get(population.name, 0), prices.update_J),
        spike_J=joules(sent, prices.spike_J),
    )


def assumptions(prices: Prices, chip: str) -> tuple[str, ...]:
    """What the energies take for granted, in sentences."""
    said = ["event counts are exact; joules per event are the named set's"]
    if prices.chip != chip:
        said.append(f"no table of joules per event is public for {chip}: estimated with {prices.chip}'s")
    said.append("a graded synaptic operation costs as much as a binary one")
    said.append("every neuron pays the price of an active update in each of its T steps")
    return tuple(said)


def unpriced(network: Network, prices: Prices) -> tuple[str, ...]:
    """What the energies leave out, in sentences."""
    missing = [
        f"{what} (no price in {prices.name})"
        for what, price in (
            ("synaptic operations", prices.synop_J),
            ("neuron updates", prices.update_J),
            ("spikes sent", prices.spike_J),
        )
        if price is None
    ]
    if any(isinstance(population.neuron, GradedRelay) for population in network.populations):
        missing.append("relay populations' updates")
    if any(projection.on_host for projection in network.projections):
        missing.append("the host's multiply-accumulates for the first layer's current")
    missing += ["injection of input", "hops between cores", "barriers", "static power", "embedded CPUs"]
    return tuple(missing)


def total_of(network: Network, counts: Counts, prices: Prices) -> Energy:
    """The whole network's energy under one price list."""
    energies: Sequence[Energy] = [energy_of(network, one, counts, prices) for one in network.populations]
    return Energy.add(energies)
