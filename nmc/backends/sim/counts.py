"""Event counts from spike tensors; the definition that every engine's own counters are tested against."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nmc import synapse
from nmc.backends.base import Counts
from nmc.ir import GradedRelay, IntArray, Network


def weight_shape(weight: Any) -> tuple[int, ...]:
    """Shape of a projection's weight, float or Fixed."""
    return tuple(getattr(weight, "mant", weight).shape)


class Counter:
    """Adds up spikes population by population; call ``add`` once per population and batch.

    The network is read when a projection's counts are needed; nothing is kept but integers.
    """

    def __init__(self, network: Network, samples: int, steps: int) -> None:
        self._network = network
        self.counts = Counts(samples, steps)

    def add(self, name: str, spikes: npt.NDArray[Any]) -> None:
        """Count one population's spikes (N, T, *shape)."""
        axes = (0, 1)
        events = np.count_nonzero(spikes, axis=axes).astype(np.int64)
        self.add_sums(name, events, np.abs(spikes).sum(axis=axes, dtype=np.int64))

    def add_sums(self, name: str, events: IntArray, grades: IntArray) -> None:
        """Take one population's spikes as sums over samples and steps: how many, and of what magnitude.

        Args:
            events, grades: (*shape) int64.
        """
        population = self._network[name]
        self.counts.spikes[name] = int(events.sum())
        self.counts.grades[name] = int(grades.sum())
        stateful = not population.is_input and not isinstance(population.neuron, GradedRelay)
        self.counts.updates[name] = (
            population.size * self.counts.samples * self.counts.steps if stateful else 0
        )
        for projection in self._network.outgoing(name):
            shape = weight_shape(projection.weight)
            targets = synapse.fan_out(projection.synapse, shape, population.shape)
            on_chip = not projection.on_host
            self.counts.synops[projection.name] = int((events * targets).sum()) if on_chip else 0
            self.counts.graded_synops[projection.name] = int((grades * targets).sum()) if on_chip else 0
            self.counts.host_macs[projection.name] = (
                0 if on_chip else int(targets.sum()) * self.counts.samples
            )
