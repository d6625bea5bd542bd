"""From what Lava recorded, in chip time, to the trace that every engine returns."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from nmc import timing
from nmc.backends import encode
from nmc.backends.base import Int32Array, Trace
from nmc.backends.sim.counts import Counter
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
    counter = Counter(network, samples, steps)
    kept: tuple[dict[str, Int32Array], ...] = ({}, {}, {})
    outputs: list[IntArray] = [np.zeros((samples, 0), np.int64)]
    with_states = states_needed(network, record)

    def array(population: Population, what: str) -> Int32Array:
        if population.is_input and what == "spikes":
            return np.ascontiguousarray(encode.train_of(network, x, steps), np.int32)
        if what != "spikes" and population.name not in with_states:
            return np.zeros((samples, steps, *population.shape), np.int32)
        chip_time = recorded(population.name, what)
        shifted = timing.to_sample_time(chip_time, population.time, samples, steps)
        return np.ascontiguousarray(shifted, np.int32)

    for population in network.populations:
        spikes = array(population, "spikes")
        counter.add(population.name, spikes)
        if population.name in record:
            for target, what in zip(kept, ("spikes", "u", "v"), strict=True):
                target[population.name] = spikes if what == "spikes" else array(population, what)
        if population.name in network.outputs:
            potential = network.readout == "potential"
            result = array(population, "v")[:, -1] if potential else spikes.sum(axis=1, dtype=np.int64)
            outputs.append(result.reshape(samples, -1).astype(np.int64))
    return Trace(samples, steps, np.concatenate(outputs, axis=1), counter.counts, *kept)
