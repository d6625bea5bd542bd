"""From what Lava recorded, in chip time, to the trace that every engine returns."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from nmc import timing
from nmc.backends import encode, memory
from nmc.backends.base import Trace
from nmc.backends.collect import Collector
from nmc.backends.loihi.lower import lower
from nmc.backends.loihi.program import Program
from nmc.ir import FixedNeuron, IntArray, Network, Population

Recorded = Callable[[str, str], npt.NDArray[Any]]
"""(population, "spikes" | "u" | "v") -> (chip steps, *shape)."""


def states_needed(network: Network, record: Collection[str]) -> set[str]:
    """Populations whose u and v must be recorded: those asked for, and readouts by potential."""
    names = set(record) | (set(network.outputs) if network.readout == "potential" else set())
    return {p.name for p in network.compute if p.name in names and isinstance(p.neuron, FixedNeuron)}


def trace(
    network: Network,
    x: IntArray,
    steps: int,
    record: Collection[str],
    run: Callable[[Program], Recorded],
) -> Trace:
    """Run all samples, shift every population by its level, count, and read the outputs.

    Args:
        run: runs a program and keeps what it recorded; called once per session (``timing.sessions``).

    Raises:
        NmcError: NMC-W02 when memory does not suffice.
    """
    samples = len(x)
    memory.refuse_whole(network, samples, steps, record)
    sessions = []
    for part in timing.sessions(network, samples):
        program = lower(network, x[part], steps).keep_states_of(states_needed(network, record))
        sessions.append((part.stop - part.start, run(program)))
    collector = Collector(network, samples, steps, record)
    with_states = states_needed(network, record)

    def array(population: Population, what: str) -> npt.NDArray[Any]:
        if population.is_input and what == "spikes":
            return encode.train_of(network, x, steps)
        if what != "spikes" and population.name not in with_states:
            return np.broadcast_to(np.int32(0), (samples, steps, *population.shape))
        name, level = population.name, population.time
        parts = [
            timing.to_sample_time(recorded(name, what), level, count, steps) for count, recorded in sessions
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    for population in network.populations:
        collector.add(population.name, *(array(population, what) for what in ("spikes", "u", "v")))
    return collector.trace()
