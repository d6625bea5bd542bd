"""The native engine against the reference on random residual networks, in any batch size and thread count."""

from __future__ import annotations

import gen
import pytest
from same import differences

from nmc import timing
from nmc.backends.sim.native import NativeEngine
from nmc.backends.sim.reference import ReferenceEngine

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
