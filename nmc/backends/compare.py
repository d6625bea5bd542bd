"""Two engines, one network, the same samples: equal in every spike, u and v, or where they first differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nmc.backends.base import Engine, Trace
from nmc.ir import FixedNeuron, IntArray, Network

KINDS = ("spikes", "u", "v")


@dataclass(frozen=True)
class Divergence:
    """The earliest unequal entry in chip time: which layer, sample, step and neuron, expected and got."""

    layer: str
    kind: str
    sample: int
    step: int
    neuron: tuple[int, ...]
    expected: int
    got: int

    def __str__(self) -> str:
        where = ", ".join(map(str, self.neuron))
        return (
            f"{self.layer}: sample {self.sample}, step {self.step}, neuron ({where}): "
            f"{self.kind} expected {self.expected}, got {self.got}"
        )


@dataclass(frozen=True)
class Verification:
    """Result of a comparison.

    mismatches: per population, unequal entries of spikes, u and v. compared: entries compared in all.
    """

    engine: str
    against: str
    samples: int
    steps: int
    compared: int
    mismatches: dict[str, dict[str, int]]
    counts_equal: bool
    first: Divergence | None

    @property
    def passed(self) -> bool:
        return self.first is None and self.counts_equal

    @property
    def total(self) -> int:
        return sum(sum(kinds.values()) for kinds in self.mismatches.values())


def compare(network: Network, x: IntArray, steps: int, expected: Engine, tested: Engine) -> Verification:
    """Run both engines on the same samples, recording everything."""
    names = [population.name for population in network.compute]
    one = expected.run(network, x, steps, record=names)
    two = tested.run(network, x, steps, record=names)
    mismatches: dict[str, dict[str, int]] = {}
    compared = 0
    earliest: tuple[int, Divergence] | None = None
    for name in names:
        population = network[name]
        stateful = isinstance(population.neuron, FixedNeuron)
        mismatches[name] = {}
        for kind in KINDS if stateful else KINDS[:1]:
            a, b = _array(one, kind, name), _array(two, kind, name)
            unequal = a != b
            compared += a.size
            mismatches[name][kind] = int(unequal.sum())
            if unequal.any():
                first = _first(population.label, kind, a, b, unequal)
                when = first.sample * steps + first.step + population.time
                if earliest is None or when < earliest[0]:
                    earliest = (when, first)
    return Verification(
        expected.name,
        tested.name,
        len(x),
        steps,
        compared,
        mismatches,
        one.counts == two.counts,
        earliest[1] if earliest else None,
    )


def _array(trace: Trace, kind: str, name: str) -> npt.NDArray[Any]:
    arrays: dict[str, npt.NDArray[Any]] = getattr(trace, kind)
    return arrays[name]


def _first(
    label: str, kind: str, a: npt.NDArray[Any], b: npt.NDArray[Any], unequal: npt.NDArray[Any]
) -> Divergence:
    # Sample and step are the two leading axes, so C order is time order.
    index = tuple(int(i) for i in np.unravel_index(int(unequal.argmax()), unequal.shape))
    return Divergence(label, kind, index[0], index[1], index[2:], int(a[index]), int(b[index]))
