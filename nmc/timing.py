"""Time on the chip: when data arrive, which path waits, when a population is cleared.

On the chip every projection costs one step; in the frameworks all layers share a step. The law
(tests/test_law.py):

    stepwise(network)[population][n * T + t + level] == layerwise(network)[population][n, t]

for every sample n, step t and population, once every path into a population has been given the same
length and the population is cleared when its own first step comes.

A projection with lag may take as many chip steps more, so that a population can feed itself: the step that
its synapses cost is the step that recurrence takes in the frameworks. It can carry what must not arrive:
spikes of one sample into the next, past the reset, and spikes that a bias causes before the first step. So
networks with lags (``Network.remembers``) run one sample at a time, and each bias starts at its level.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from nmc.errors import InternalError, NmcError
from nmc.ir import FloatNeuron, GradedRelay, Identity, Network, Population, Projection, Stage, frozen

RELAY_THRESHOLD = 0.5
"""A binary relay gets 0 or 1 and keeps nothing, so any threshold between them repeats its input."""


def levels(network: Network) -> dict[str, int]:
    """Longest path from the inputs, in steps, where a lag takes steps back; no level is below 0.

    Raises:
        NmcError: NMC-T01 for a loop with more synapses than lag, which no delay can balance.
    """
    return _risen(network, dict.fromkeys((population.name for population in network.populations), 0))


def settle(network: Network) -> Network:
    """Levels raised where data arrive later than they did, and delays that fit them again.

    Contract: TIMED or later in, the same stage out; no level falls, and one rises no further than it must.

    Raises:
        NmcError: NMC-T01 for a loop that takes more steps on the chip than in the network.
    """
    level = _risen(network, {population.name: population.time for population in network.populations})
    populations = tuple(replace(one, level=level[one.name]) for one in network.populations)
    projections = tuple(
        one if one.on_host else replace(one, delay=level[one.target] + one.lag - level[one.source] - one.cost)
        for one in network.projections
    )
    return network.with_(populations=populations, projections=projections)


def _risen(network: Network, result: dict[str, int]) -> dict[str, int]:
    """Levels no lower than these, so that nothing arrives late; see ``levels``."""
    cause: dict[str, Projection] = {}
    risen = ""
    for _ in range(len(result) + 1):
        risen = ""
        for population, incoming in network.walk():
            for projection in incoming:
                arrival = result[projection.source] + projection.cost - projection.lag
                if arrival > result[population.name]:
                    result[population.name], risen = arrival, population.name
                    cause[risen] = projection
        if not risen:
            return result
    raise _too_short(network, cause, risen)


def _too_short(network: Network, cause: Mapping[str, Projection], risen: str) -> NmcError:
    """The refusal of the loop that raises its own levels.

    Args:
        cause: what raised each population last. risen: a population that rose in the last of so many rounds
            that only a loop can have raised it.
    """
    name = risen
    for _ in cause:
        name = cause[name].source  # behind the loop at most once round
    loop = [cause[name]]
    while loop[-1].source != name:
        loop.append(cause[loop[-1].source])
    steps, lag = sum(p.cost for p in loop), sum(p.lag for p in loop)
    members = {p.source: network[p.source].label for p in reversed(loop)}
    names = list(members)
    first = min(range(len(names)), key=lambda index: network.populations.index(network[names[index]]))
    labels = [members[name] for name in (*names[first:], *names[: first + 1])]
    return NmcError(
        "NMC-T01",
        labels[0],
        f"the loop {' -> '.join(labels)} takes {steps} steps on the chip, {lag} in the network",
        "let every layer of the loop read the spikes of the step before",
        measured=steps,
        allowed=lag,
    )


def balance(network: Network, max_delay: int) -> Network:
    """Give every population its level and every projection the delay that makes the law hold.

    Contract: FLOAT in, TIMED out. ``level(target) == level(source) + cost + delay - lag`` for every chip
    projection. A delay beyond ``max_delay`` becomes relay populations on a delay line that all late
    targets of one source share, never a clipped number. Host projections wait on the host.

    Raises:
        NmcError: NMC-T01 for a loop that takes more steps on the chip than in the network.
    """
    if network.stage is not Stage.FLOAT:
        raise InternalError(f"balance expects a FLOAT network, got {network.stage.name}")
    level = levels(network)
    projections: list[Projection] = []
    lines: dict[str, _DelayLine] = {
        p.name: _DelayLine(p, level[p.name], max_delay + 1) for p in network.populations
    }
    for projection in network.projections:
        if projection.on_host:
            projections.append(projection)
            continue
        distance = level[projection.target] + projection.lag - level[projection.source]
        source, delay = lines[projection.source].tap(distance)
        projections.append(replace(projection, source=source, delay=delay))
    populations: list[Population] = []
    for population in network.populations:
        populations.append(replace(population, level=level[population.name]))
        populations.extend(lines[population.name].relays())
    for line in lines.values():
        projections.extend(line.projections())
    timed = network.with_(stage=Stage.TIMED, populations=tuple(populations), projections=tuple(projections))
    return timed.with_(notes=(*network.notes, alone(timed))) if network.remembers else timed


def alone(network: Network) -> str:
    """The note of a network that remembers: what its loops cost."""
    apart = interval(network, network.steps)
    return f"spikes that come back reach past a sample's end: samples run one at a time, {apart} steps apart"


@dataclass
class _DelayLine:
    """Relays behind one source, one every ``reach`` steps, as many as its latest target needs."""

    source: Population
    level: int
    reach: int
    length: int = 0

    def _name(self, index: int) -> str:
        return self.source.name if index == 0 else f"{self.source.name}.delay{index}"

    def tap(self, distance: int) -> tuple[str, int]:
        """Population and delay from which a spike arrives ``distance`` steps after the source sent it."""
        relays = (distance - 1) // self.reach
        self.length = max(self.length, relays)
        return self._name(relays), distance - relays * self.reach - 1

    def relays(self) -> list[Population]:
        graded = self.source.max_payload > 1 or self.source.is_input
        neuron = GradedRelay() if graded else FloatNeuron(frozen(RELAY_THRESHOLD, np.float64), keep_v=0.0)
        return [
            Population(
                self._name(index),
                self.source.shape,
                neuron,
                max_payload=self.source.max_payload,
                level=self.level + index * self.reach,
                origin=(*self.source.origin, f"{self.source.label} (delay line {index})"),
            )
            for index in range(1, self.length + 1)
        ]

    def projections(self) -> list[Projection]:
        one = frozen(1.0, np.float64)
        return [
            Projection(
                f"{self._name(index)}.in",
                self._name(index - 1),
                self._name(index),
                Identity(),
                one,
                delay=self.reach - 1,
                origin=self.source.origin,
            )
            for index in range(1, self.length + 1)
        ]


def is_cleared(population: Population, step: int, steps: int) -> bool:
    """Whether u and v are cleared before chip step ``step`` (from 0); samples follow each other every
    ``steps``. In Lava: ``LIFReset(reset_interval=steps, reset_offset=level + 1)``, steps counted from 1."""
    return step >= population.time and (step - population.time) % steps == 0


def has_started(network: Network, population: Population, step: int) -> bool:
    """Whether the population's bias acts in chip step ``step`` (from 0): always, unless spikes that it
    causes before the sample could arrive in it."""
    return not network.remembers or step >= population.time


def total_steps(network: Network, samples: int, steps: int) -> int:
    """Chip steps until the deepest population has seen the last step of the last sample."""
    return samples * steps + network.depth


def to_sample_time(array: npt.NDArray[Any], level: int, samples: int, steps: int) -> npt.NDArray[Any]:
    """(chip steps, *shape) -> (samples, steps, *shape): the law's index shift."""
    window = array[level : level + samples * steps]
    return window.reshape(samples, steps, *array.shape[1:])


def sessions(network: Network, samples: int) -> tuple[slice, ...]:
    """Which samples may follow each other in one run of the chip: all of them, or each alone where spikes
    of one would still arrive in the next (``Network.remembers``)."""
    if not network.remembers:
        return (slice(0, samples),)
    return tuple(slice(n, n + 1) for n in range(samples))


def interval(network: Network, steps: int) -> int:
    """Chip steps from one sample to the next: T, or all of a sample's where each runs alone."""
    return total_steps(network, 1, steps) if network.remembers else steps
