"""From what Lava recorded, in chip time, to the trace that every engine returns."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from nmc import timing
from nmc.backends import encode
from nmc.backends.base import Trace
from nmc.backends.collect import Collector
from nmc.ir import FixedNeuron, IntArray, Network, Population

Recorded = Callable[[str, str], npt.NDArray[Any]]
"""(population, "spikes" | "u" | "v") -> (chip steps, *shape)."""


def states_needed(network: Network, record: Collection[str]) -> set[str]:
    """Populations whose u and v must be recorded: those asked for, and readouts by potential."""
    names = set(record) | (set(network.outputs) if network.readout == "potential" else set())
    return {p.name for p in network.compute if p.name in names and isinstance(p.neuron, FixedNeuron)}


def trace(network: Network, x: IntArray, steps: int, record: Collection[str], recorded: Recorded) -> Trace:
    """Shift every population by its level, count, and read the outputs."""
    samples = len(x)
    collector = Collector(network, samples, steps, record)
    with_states = states_needed(network, record)

    def array(population: Population, what: str) -> npt.NDArray[Any]:
        if population.is_input and what == "spikes":
            return encode.train_of(network, x, steps)
        if what != "spikes" and population.name not in with_states:
            return np.broadcast_to(np.int32(0), (samples, steps, *population.shape))
        return timing.to_sample_time(recorded(population.name, what), population.time, samples, steps)

    for population in network.populations:
        collector.add(population.name, *(array(population, what) for what in ("spikes", "u", "v")))
    return collector.trace()
