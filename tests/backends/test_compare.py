"""The first divergence between two engines: where it is, what arrived, and both states."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import features
import numpy as np
import pytest

from nmc import neuron as spec
from nmc.backends import compare as comparison
from nmc.backends.base import Trace
from nmc.backends.compare import compare
from nmc.backends.sim.reference import ReferenceEngine
from nmc.ir import FixedNeuron, IntArray, Network

NAMES = [
    "IF",
    "CUBA",
    "by subtraction, leaky",
    "to a value below the start",
    "current and bias",
    "sum of sums",
    "vanilla: into the membrane",
    "threshold per neuron",
    "with a bias, which waits for the first data",
]


class _Off:
    """The reference, with one entry of one population changed after the fact."""

    name = "off"

    def __init__(self, population: str, kind: str, index: tuple[int, ...]) -> None:
        self.planted = (population, kind, index)

    def run(self, network: Network, x: IntArray, steps: int, record: Collection[str] = ()) -> Trace:
        trace = ReferenceEngine().run(network, x, steps, record)
        population, kind, index = self.planted
        array = getattr(trace, kind)[population].copy()
        array[index] += 1
        return replace(trace, **{kind: {**getattr(trace, kind), population: array}})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("step", [0, 2])
def test_a_divergence_can_be_computed_by_hand(name: str, step: int) -> None:
    """What arrived, the bias and the state before give the expected state by the specification."""
    feature = next(one for one in features.FEATURES if one.name == name)
    network = feature.network()
    x = feature.samples(network)
    trace = ReferenceEngine().run(network, x, features.STEPS, [p.name for p in network.compute])
    arrived = []
    for population in network.compute:
        stateful = isinstance(population.neuron, FixedNeuron)
        busiest = int(np.abs(trace.u.get(population.name, trace.spikes[population.name])[1, step]).argmax())
        for flat in (0, busiest):
            neuron = tuple(int(i) for i in np.unravel_index(flat, population.shape))
            index = (1, step, *neuron)
            planted = _Off(population.name, "v" if stateful else "spikes", index)
            first = compare(network, x, features.STEPS, ReferenceEngine(), planted).first
            assert first is not None
            assert (first.layer, first.sample, first.step, first.neuron) == (
                population.label,
                1,
                step,
                neuron,
            )
            assert first.got == first.expected + 1
            arrived.append(first.arrived)
            fed = [p for p in network.incoming(population.name) if not p.on_host]
            assert [layer for layer, _ in first.inputs] == [network[p.source].label for p in fed]
            assert sum(current for _, current in first.inputs) == first.arrived
            if not isinstance(population.neuron, FixedNeuron):
                assert first.wanted == comparison.NeuronState(first.arrived, None, None)
                continue
            fields = {
                key: np.broadcast_to(getattr(population.neuron, key).mant, population.shape)[neuron]
                for key in ("vth", "du", "dv")
            }
            drop = population.neuron.drop
            cell = replace(
                population.neuron,
                **{key: replace(getattr(population.neuron, key), mant=mant) for key, mant in fields.items()},
                drop=None if drop is None else np.broadcast_to(drop, population.shape)[neuron],
            )
            spikes, u, v = spec.step(
                cell,
                np.asarray(first.before.u),
                np.asarray(first.before.v),
                np.asarray(first.arrived),
                np.asarray(first.bias),
            )
            assert first.wanted == comparison.NeuronState(int(spikes), int(u), int(v))
            assert first.found == replace(first.wanted, v=int(v) + 1)
            assert f"arrived {first.arrived} (" in str(first)
            assert f"equal in both), bias {first.bias}, before" in str(first)
    assert any(arrived)


def test_the_earliest_on_the_chip_is_named() -> None:
    """A later layer of an earlier step loses against its source at that step."""
    feature = next(one for one in features.FEATURES if one.name == "SEW ADD by relay")
    network = feature.network()
    x = feature.samples(network)

    class Shifted(_Off):
        def run(self, network: Network, x: IntArray, steps: int, record: Collection[str] = ()) -> Trace:
            trace = ReferenceEngine().run(network, x, steps, record)
            u = {name: array + (name in ("b", "out")) for name, array in trace.u.items()}
            return replace(trace, u={name: array.astype(np.int32) for name, array in u.items()})

    first = compare(network, x, features.STEPS, ReferenceEngine(), Shifted("b", "u", ())).first
    assert first is not None
    assert (first.layer, first.kind, first.sample, first.step) == ("layer.b", "u", 0, 0)


def test_progress_counts_engines() -> None:
    feature = next(one for one in features.FEATURES if one.name == "IF")
    network = feature.network()
    done: list[tuple[int, int]] = []
    engines = (ReferenceEngine(), ReferenceEngine())
    compare(network, feature.samples(network), features.STEPS, *engines, lambda *at: done.append(at))
    assert done == [(1, 2), (2, 2)]
