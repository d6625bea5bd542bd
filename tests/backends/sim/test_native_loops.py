"""Loops and lags in the native engine: step by step, over chunks of steps and groups of images."""

from __future__ import annotations

import gen
import lavanets
import pytest

from nmc import timing
from nmc.backends.compare import compare
from nmc.backends.sim.native import NativeEngine
from nmc.backends.sim.reference import ReferenceEngine
from nmc.errors import NmcError


def native(path: str) -> NativeEngine:
    try:
        return NativeEngine(2, path)
    except NmcError as error:
        pytest.skip(f"no native engine here: {error.problem}")


@pytest.mark.parametrize("path", ["auto", "event", "dense"])
def test_random_networks_with_loops(path: str) -> None:
    """Up to 70 steps: several chunks of 32, so that lags of 1 to 8 reach over their borders."""
    engine, compared = native(path), 0
    for seed in range(16):
        steps = (6, 40, 70)[seed % 3]
        network, _ = lavanets.network_of(seed, on_host=seed % 4 == 1, loops=True)
        result = compare(network, gen.stimulus(network, 3, steps, seed), steps, ReferenceEngine(), engine)
        assert result.passed, f"network {seed}: {result.first}"
        compared += result.compared
    assert compared > 100_000


def test_more_images_than_a_group() -> None:
    network = gen.quantize(timing.balance(gen.with_loops(gen.float_network(3, 6), 3), 62))
    assert network.remembers
    result = compare(network, gen.stimulus(network, 35, 36, 3), 36, ReferenceEngine(), native("auto"))
    assert result.passed, str(result.first)
