"""The native engine against the reference on random residual networks, in any batch size and thread count."""

from __future__ import annotations

import gen
import numpy as np
import pytest
from same import differences

from nmc import timing
from nmc.backends.sim.native import NativeEngine
from nmc.backends.sim.reference import ReferenceEngine
from nmc.ir import (
    Conv2d,
    Encoding,
    Fixed,
    FixedNeuron,
    GradedRelay,
    Identity,
    InputNeuron,
    Network,
    Population,
    Projection,
    Stage,
)

NETWORKS = 200
CHUNK = 20
STEPS = 6


@pytest.mark.parametrize("first", range(0, NETWORKS, CHUNK))
def test_random_networks(monkeypatch: pytest.MonkeyPatch, first: int) -> None:
    engines = []
    for isa in ("", "avx2", "portable"):
        monkeypatch.setenv("NMC_NATIVE_ISA", isa)
        engines += [NativeEngine(1), NativeEngine(2)]
    spikes = 0
    for seed in range(first, first + CHUNK):
        network = gen.quantize(timing.balance(gen.float_network(seed, STEPS), (62, 0, 1)[seed % 3]))
        samples = (1, 3, 8)[seed % 3]
        x = gen.stimulus(network, samples, STEPS, seed)
        names = [population.name for population in network.populations]
        truth = ReferenceEngine().run(network, x, STEPS, names)
        spikes += sum(truth.counts.spikes[p.name] for p in network.compute)
        for engine in engines:
            wrong = differences(truth, engine.run(network, x, STEPS, names))
            assert not wrong, f"seed {seed}, {engine.isa}, {engine.threads} threads: {wrong}"
    assert spikes > 1000, "silent networks prove nothing"


@pytest.mark.parametrize("seed", range(5))
def test_results_do_not_depend_on_the_batch(seed: int) -> None:
    network = gen.quantize(timing.balance(gen.float_network(seed, STEPS), 62))
    x = gen.stimulus(network, 40, STEPS, seed)
    names = [population.name for population in network.compute]
    engine = NativeEngine()
    whole = engine.run(network, x, STEPS, names)
    counts = None
    for start, stop in ((0, 1), (1, 4), (4, 40)):
        part = engine.run(network, x[start:stop], STEPS, names)
        counts = part.counts if counts is None else counts + part.counts
        assert (part.output == whole.output[start:stop]).all()
        for name in names:
            assert (part.spikes[name] == whole.spikes[name][start:stop]).all()
            assert (part.v[name] == whole.v[name][start:stop]).all()
    assert counts == whole.counts


@pytest.mark.parametrize("steps", [1, 31, 33, 70])
def test_any_number_of_steps(steps: int) -> None:
    """Longer than the engine's chunks of 32 steps, whose state is carried over."""
    for seed in range(8):
        network = gen.quantize(timing.balance(gen.float_network(seed, steps), 62))
        x = gen.stimulus(network, 2, steps, seed)
        names = [population.name for population in network.compute]
        truth = ReferenceEngine().run(network, x, steps, names)
        wrong = differences(truth, NativeEngine(1).run(network, x, steps, names))
        assert not wrong, f"seed {seed}: {wrong}"


def _pyramid(encoding: Encoding) -> Network:
    """Maps from 1 MB to a few bytes: the engine runs the first images one by one and the last together.

    Early maps are read again late, across the engine's phases.
    """
    rng = np.random.default_rng(0)
    source = Population("input", (2, 64, 64), InputNeuron(encoding, highest=3), max_payload=3, level=0)
    populations, projections = [source], []

    def add(
        name: str,
        sources: dict[str, tuple[int, int]],
        channels: int,
        size: int,
        relay: bool,
        threshold: int = 600,
    ) -> None:
        shape = (channels, size, size)
        for other, (kernel, stride) in sources.items():
            below = next(p for p in populations if p.name == other).shape[0]
            if relay:
                op, weight = Identity(), Fixed(np.array(1), 0, 8, True)
            else:
                op = Conv2d((stride, stride), (kernel // 2, kernel // 2))
                weight = Fixed(rng.integers(-90, 128, (channels, below, kernel, kernel)), 0, 8, True)
            projections.append(Projection(f"{other}->{name}", other, name, op, weight))
        neuron = GradedRelay() if relay else _integrator(threshold)
        populations.append(Population(name, shape, neuron, max_payload=2, level=len(populations)))

    add("a", {"input": (3, 1)}, 8, 64, relay=False)
    add("b", {"a": (3, 2)}, 8, 32, relay=False)
    add("c", {"b": (3, 1), "a": (1, 2)}, 8, 32, relay=False)
    add("d", {"b": (1, 1), "c": (1, 1)}, 8, 32, relay=True)
    add("e", {"d": (5, 4), "a": (1, 8)}, 33, 8, relay=False)
    add("f", {"e": (3, 4), "d": (3, 16)}, 40, 2, relay=False)
    return Network("pyramid", Stage.QUANTIZED, tuple(populations), tuple(projections), ("f", "e"), 40)


def _integrator(threshold: int) -> FixedNeuron:
    zero, full = Fixed(np.array(0), -12, 12, False), Fixed(np.array(4000), -12, 12, False)
    return FixedNeuron(Fixed(np.array(threshold), 6, 17, False), full, zero)


@pytest.mark.parametrize("encoding", [Encoding.SPIKES, Encoding.GRADED])
@pytest.mark.parametrize(("samples", "steps"), [(5, 24), (3, 40)])
def test_large_and_small_maps(encoding: Encoding, samples: int, steps: int) -> None:
    network = _pyramid(encoding)
    x = gen.stimulus(network, samples, steps, 1)
    names = [population.name for population in network.populations]
    truth = ReferenceEngine().run(network, x, steps, names)
    assert min(truth.counts.spikes[name] for name in names) > 100
    for threads in (1, 2):
        wrong = differences(truth, NativeEngine(threads).run(network, x, steps, names))
        assert not wrong, f"{threads} threads: {wrong}"
