"""Traces from arrays in sample time: what is counted, what is kept, how the output is read."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from nmc.backends.base import Trace
from nmc.backends.sim.counts import Counter
from nmc.ir import IntArray, Network

Array = npt.NDArray[Any]


class Collector:
    """Builds a Trace from populations that are done, in sample time."""

    def __init__(self, network: Network, samples: int, steps: int, record: Collection[str]) -> None:
        self._network = network
        self._counter = Counter(network, samples, steps)
        self._record = record
        self._kept: dict[str, tuple[Array, ...]] = {}
        self._outputs: dict[str, IntArray] = {}

    def add(self, name: str, spikes: Array, u: Array, v: Array) -> None:
        """Take one population's arrays, each (N, T, *shape)."""
        self._counter.add(name, spikes)
        if name in self._record:
            self._kept[name] = tuple(np.ascontiguousarray(array, np.int32) for array in (spikes, u, v))
        if name in self._network.outputs:
            result = v[:, -1] if self._network.readout == "potential" else spikes.sum(axis=1, dtype=np.int64)
            self._outputs[name] = result.reshape(len(result), -1).astype(np.int64)

    def trace(self) -> Trace:
        """The run's trace, once every population has been added."""
        output = np.concatenate([self._outputs[name] for name in self._network.outputs], axis=1)
        spikes, u, v = ({name: arrays[i] for name, arrays in self._kept.items()} for i in range(3))
        counts = self._counter.counts
        return Trace(counts.samples, counts.steps, output, counts, spikes, u, v)
