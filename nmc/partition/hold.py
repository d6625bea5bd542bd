"""Relays instead of synaptic delays, where they save cores.

A delay is a field of every stored weight, so a kernel that is read with several delays is stored several
times, and a core then holds fewer channels of it. A relay holds the spikes themselves: one neuron per source
neuron, and every target at that distance shares it and keeps one copy of its kernel. Deep layers have many
weights and few neurons, so relays win there; early layers keep their delays. Both give the same spikes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nmc.chip import Chip
from nmc.errors import NmcError
from nmc.ir import (
    Conv2d,
    Dense,
    Fixed,
    FixedNeuron,
    GradedRelay,
    Identity,
    Network,
    Population,
    Projection,
)
from nmc.neuron import DECAY_BITS, THRESHOLD_BITS, WEIGHT_SHIFT
from nmc.partition.bound import lower_bound
from nmc.partition.plan import Plan, Planner

TRIALS = 24
"""At most so many groups of layers are tried, each by a whole plan; the ones with most to gain come first."""
FULL = (1 << DECAY_BITS) - 1
WEIGHT = Fixed(np.array(2), 0, 8, signed=False)
GRADED_WEIGHT = Fixed(np.array(1), 0, 8, signed=False)
REPEATER = FixedNeuron(
    vth=Fixed(np.array(1), WEIGHT_SHIFT, THRESHOLD_BITS, signed=False),
    du=Fixed(np.array(FULL), -DECAY_BITS, DECAY_BITS, signed=False),
    dv=Fixed(np.array(FULL), -DECAY_BITS, DECAY_BITS, signed=False),
)
"""Fires where a spike came (2 > 1) and forgets: u loses all of itself, v is what u was not reset from."""

Held = tuple[str, int]
"""(source, steps that its spikes wait)."""


@dataclass(frozen=True)
class _Group:
    """Layers that read the same sources with the same delays. targets: their populations."""

    held: frozenset[Held]
    targets: tuple[str, ...]


def hold(network: Network, chip: Chip) -> Network:
    """Replace delays of convolutions and dense layers by relays as long as the network takes fewer cores.

    Contract: QUANTIZED in, QUANTIZED out; levels stay, every population fires as before. A note says what was
    added.
    """
    groups = _groups(network)
    if not groups or chip.neurons_per_core is None:
        return network
    least = _plan(network, chip)
    if least is None:
        # A layer does not fit with its copies; with one copy it may.
        everything = with_relays(network, groups)
        return network if _plan(everything, chip) is None else _noted(network, everything)
    best, chosen = network, list[_Group]()
    for group in _promising(network, chip, groups, least)[:TRIALS]:
        candidate = with_relays(network, [*chosen, group])
        plan = _plan(candidate, chip)
        if plan is not None and plan.cores < least.cores:
            best, least = candidate, plan
            chosen.append(group)
    return _noted(network, best)


def _plan(network: Network, chip: Chip) -> Plan | None:
    """The fewest cores; None where a layer fits no core."""
    try:
        return Planner(network, chip).plan()
    except NmcError:
        return None


def _noted(before: Network, after: Network) -> Network:
    if after is before:
        return before
    added = [one for one in after.populations if one.name not in {known.name for known in before.populations}]
    size = sum(one.size for one in added)
    note = f"{len(added)} relay populations ({size:,} neurons) hold spikes that would take synaptic delays"
    return after.with_(notes=(*after.notes, f"{note}: fewer cores"))


def _waits(network: Network, one: Projection) -> bool:
    """Whether its weights are stored with a delay that a relay could take over; what comes back keeps it."""
    weighted = isinstance(one.synapse, Conv2d | Dense)
    forward = not one.on_host and not one.lag
    return weighted and one.delay > 0 and forward and not network[one.source].is_input


def _groups(network: Network) -> list[_Group]:
    """Every delayed layer, in the network's order."""
    targets: dict[frozenset[Held], list[str]] = {}
    for population in network.compute:
        held = frozenset(
            (one.source, one.delay) for one in network.incoming(population.name) if _waits(network, one)
        )
        if held:
            targets.setdefault(held, []).append(population.name)
    return [_Group(held, tuple(names)) for held, names in targets.items()]


def _promising(network: Network, chip: Chip, groups: Sequence[_Group], least: Plan) -> list[_Group]:
    """Groups that might gain, most first: cores beyond the bound of the same layers with relays."""
    bounds = {one.population: one.cores for one in lower_bound(with_relays(network, groups), chip).layers}
    gains = []
    for group in groups:
        taken = sum(int(np.prod([len(cut) for cut in least.cuts[name]])) for name in group.targets)
        needed = sum(bounds[name] or 0 for name in group.targets)
        relays = sum(bounds[_name(*held)] or 0 for held in group.held)
        gains.append(taken - needed - relays)
    order = np.argsort(-np.array(gains), kind="stable").tolist()
    return [groups[index] for index in order if gains[index] > 0]


def _name(source: str, steps: int) -> str:
    return f"{source}.held{steps}"


def with_relays(network: Network, groups: Sequence[_Group]) -> Network:
    """The network with relays in front of these layers; relays of one source form a line."""
    targets = {name for group in groups for name in group.targets}
    steps: dict[str, set[int]] = {}
    projections = []
    for one in network.projections:
        if one.target in targets and _waits(network, one):
            steps.setdefault(one.source, set()).add(one.delay)
            one = replace(one, source=_name(one.source, one.delay), delay=0)
        projections.append(one)
    populations: list[Population] = []
    for population in network.populations:
        populations.append(population)
        line = [0, *sorted(steps.get(population.name, ()))]
        for before, after in itertools.pairwise(line):
            relay = _relay(population, after)
            feeder = _name(population.name, before) if before else population.name
            binary = isinstance(relay.neuron, FixedNeuron)
            projections.append(
                Projection(
                    f"{relay.name}.in",
                    feeder,
                    relay.name,
                    Identity(),
                    WEIGHT if binary else GRADED_WEIGHT,
                    delay=after - before - 1,
                    origin=population.origin,
                )
            )
            populations.append(relay)
    return network.with_(populations=tuple(populations), projections=tuple(projections))


def _relay(source: Population, steps: int) -> Population:
    return Population(
        _name(source.name, steps),
        source.shape,
        GradedRelay() if source.max_payload > 1 else REPEATER,
        max_payload=source.max_payload,
        level=source.time + steps,
        origin=(*source.origin, f"{source.label} (held {steps} steps)"),
    )
