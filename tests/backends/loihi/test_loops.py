"""Random networks with loops and lags in Lava's models: one sample a session, biases from the level on."""

from __future__ import annotations

import features
import gen
import lavanets
import pytest

from nmc import timing
from nmc.backends.compare import compare
from nmc.backends.engines import engine
from nmc.backends.sim.reference import ReferenceEngine


def differing(name: str, seeds: range) -> list[int]:
    wrong, loops = [], 0
    for seed in seeds:
        network, x = lavanets.network_of(seed, on_host=seed % 3 == 1, loops=True)
        loops += network.remembers
        result = compare(network, x, lavanets.STEPS, ReferenceEngine(), engine(name))
        wrong += [] if result.passed else [seed]
    assert loops > len(seeds) // 2
    return wrong


def test_random_loops_in_process() -> None:
    assert differing("lava-inprocess", range(10)) == []


def test_random_loops_tile_by_tile() -> None:
    """Every population on two cores: a loop within one population runs between its own tiles."""
    split = 0
    for seed in range(6):
        network = gen.quantize(timing.balance(gen.with_loops(gen.float_network(seed, 5), seed), 62))
        mapped = features.halved(network)
        assert mapped.mapping is not None
        split += any(len(mapped.mapping.of(p.target)) > 1 for p in network.projections if p.lag)
        result = compare(
            mapped, gen.stimulus(network, 2, 5, seed), 5, ReferenceEngine(), engine("lava-tiles")
        )
        assert result.passed, f"network {seed}: {result.first}"
    assert split > 2


def test_a_bias_that_starts_with_the_chip_is_heard_in_the_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """The teeth: without waiting, spikes that a bias causes before the first data come back in its steps."""
    monkeypatch.setattr(timing, "has_started", lambda network, population, step: True)
    assert len(differing("lava-inprocess", range(10))) > 0
