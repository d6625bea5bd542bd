"""What every engine promises: the same trace and the same counts for the same integers, bit for bit."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from nmc.ir import IntArray, Network
from nmc.markup import summary

Int32Array = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Counts:
    """Exact event counts of a run, summed over samples and steps.

    spikes, grades: per population, events and sum of payload magnitudes (input populations included).
    updates: per population, membrane updates (neurons x steps x samples; relays and inputs have none).
    synops, graded_synops: per projection, events x fan-out and payload magnitude x fan-out, padding
    excluded. Host projections count as ``host_macs``: multiply-accumulates per sample, done once.
    """

    samples: int
    steps: int
    spikes: dict[str, int] = field(default_factory=dict)
    grades: dict[str, int] = field(default_factory=dict)
    updates: dict[str, int] = field(default_factory=dict)
    synops: dict[str, int] = field(default_factory=dict)
    graded_synops: dict[str, int] = field(default_factory=dict)
    host_macs: dict[str, int] = field(default_factory=dict)

    def __add__(self, other: Counts) -> Counts:
        """Counts of two batches of one network with the same number of steps."""

        def merge(a: dict[str, int], b: dict[str, int]) -> dict[str, int]:
            return {key: a.get(key, 0) + b.get(key, 0) for key in {**a, **b}}

        return Counts(
            self.samples + other.samples,
            self.steps,
            *(
                merge(getattr(self, name), getattr(other, name))
                for name in ("spikes", "grades", "updates", "synops", "graded_synops", "host_macs")
            ),
        )


@dataclass(frozen=True, eq=False)
class Trace:
    """What a run leaves behind.

    output: (N, classes) int64: spike counts of the output population, or its potential after the last
    step. spikes, u, v: per recorded population (N, T, *shape) int32, in sample time (levels removed);
    u and v are the states at the end of the step, v after the reset.
    """

    samples: int
    steps: int
    output: IntArray
    counts: Counts
    spikes: dict[str, Int32Array] = field(default_factory=dict)
    u: dict[str, Int32Array] = field(default_factory=dict)
    v: dict[str, Int32Array] = field(default_factory=dict)

    @property
    def classes(self) -> IntArray:
        """(N,) the class with the largest output; the lowest index wins a tie."""
        return np.asarray(self.output.reshape(self.samples, -1).argmax(axis=1))

    def _repr_html_(self) -> str:
        lines = [
            ("samples x steps", f"{self.samples:,} x {self.steps}"),
            ("output", " x ".join(map(str, self.output.shape))),
            ("spikes", f"{sum(self.counts.spikes.values()):,}"),
            ("synaptic operations", f"{sum(self.counts.synops.values()):,}"),
        ]
        for name, spikes in self.spikes.items():
            shape = " x ".join(map(str, spikes.shape))
            lines.append((f"recorded {name}", f"{shape}, {np.count_nonzero(spikes):,} spikes"))
        return summary("nmc trace", lines)


class Engine(Protocol):
    """Runs a QUANTIZED or MAPPED network."""

    name: str

    def run(self, network: Network, x: IntArray, steps: int, record: Collection[str] = ()) -> Trace:
        """Run every sample from a cleared state.

        Args:
            network: stage QUANTIZED or later.
            x: encoded input (``backends/encode.py``): (N, *shape) frames or (N, T, *shape) trains.
            steps: T.
            record: names of populations whose spikes, u and v are kept.

        Raises:
            NmcError: NMC-E01 when the engine cannot run here, NMC-E02 when it failed, NMC-W02 when memory
                does not suffice, before anything large is allocated.
        """
        ...
