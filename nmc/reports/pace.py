"""How long a step takes on the chip: the work of the busiest core, then the barrier that all wait for."""

from __future__ import annotations

import math

from nmc import timing
from nmc.chip import Chip, EnergySet
from nmc.ir import Network
from nmc.reports.energy import ACTIVE, Events, synop_term
from nmc.reports.model import Pace


def pace_of(events: Events, chip: Chip, constants: EnergySet) -> Pace | None:
    """The pace of a mapped network in a run; None where the set has no times or there is no mapping.

    step = max over cores (synaptic operations x time + updates x time) + barrier; the counts of a population
    are spread evenly over its neurons.
    """
    network, counts = events.network, events.counts
    if constants.tick_seconds is not None:
        return _ticking(network, counts.steps, constants, constants.tick_seconds)
    if network.mapping is None or constants.seconds(ACTIVE) is None:
        return None
    per_neuron = {one.name: _work(events, one.name, constants) / one.size for one in network.compute}
    work: dict[int, float] = {}
    for tile in network.mapping.tiles:
        work[tile.core] = work.get(tile.core, 0.0) + per_neuron[tile.population] * tile.size
    core = max(work, key=lambda one: (work[one], -one))
    busiest = work[core] / (counts.samples * counts.steps)
    low, high = (constants.seconds(f"barrier_{end}") or 0.0 for end in ("min", "max"))
    step = (busiest + low, busiest + high)
    layers = dict.fromkeys(
        network[tile.population].label for tile in network.mapping.tiles if tile.core == core
    )
    static = None
    if constants.static_watts is not None:
        watts = constants.static_watts * chips_used(network, chip)
        static = (watts * step[0] * counts.steps, watts * step[1] * counts.steps)
    steps, apart = network.depth + counts.steps, timing.interval(network, counts.steps)
    return Pace(
        step,
        " + ".join(layers),
        (step[0] * steps, step[1] * steps),
        (step[0] * apart, step[1] * apart),
        static,
    )


def _ticking(network: Network, steps: int, constants: EnergySet, tick: float) -> Pace:
    """Hardware whose steps have a clock; one chip of it is assumed."""
    static = (constants.static_watts or 0.0) * tick * steps
    latency, interval = tick * (network.depth + steps), tick * timing.interval(network, steps)
    return Pace((tick, tick), "its clock", (latency, latency), (interval, interval), (static, static))


def chips_used(network: Network, chip: Chip) -> int:
    """Chips that hold a core of the network."""
    assert network.mapping is not None
    cores = chip.cores_per_chip
    return len({tile.core // cores for tile in network.mapping.tiles}) if cores else 1


def _work(events: Events, name: str, constants: EnergySet) -> float:
    """Seconds that one core would need for everything that a population did in the run."""
    counts = events.counts
    synapses = math.fsum(
        counts.synops.get(one.name, 0) * (constants.seconds(synop_term(one.synapse)) or 0.0)
        for one in events.network.incoming(name)
        if not one.on_host
    )
    return synapses + counts.updates.get(name, 0) * (constants.seconds(ACTIVE) or 0.0)
