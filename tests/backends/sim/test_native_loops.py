"""Loops and lags in the native engine: step by step, over chunks of steps and groups of images."""

from __future__ import annotations

import gen
import lavanets
import numpy as np
import pytest

from nmc import timing
from nmc.backends.compare import compare
from nmc.backends.sim.native import NativeEngine
from nmc.backends.sim.reference import ReferenceEngine
from nmc.errors import NmcError
from nmc.ir import FloatNeuron, Identity, Network, Projection, frozen


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


def feeding_themselves(seed: int) -> Network:
    """A random network in which every neuron has a synapse onto itself, and no other loop."""
    free = gen.float_network(seed, 6)
    rng = np.random.default_rng(seed)
    loops = []
    for population in free.compute:
        if not isinstance(population.neuron, FloatNeuron):
            continue
        per_channel = (population.shape[0], *[1] * (len(population.shape) - 1))
        weight = 2.0 * rng.integers(-20, 12, per_channel if rng.random() < 0.5 else ())
        name = population.name
        loops.append(Projection(f"own.{name}", name, name, Identity(), frozen(weight, np.float64), lag=1))
    return gen.quantize(timing.balance(free.with_(projections=(*free.projections, *loops)), 62))


@pytest.mark.parametrize("path", ["auto", "dense"])
def test_neurons_that_only_feed_themselves(path: str) -> None:
    """They run over all steps of a chunk at once; what they sent last goes on into the next chunk."""
    engine = native(path)
    for seed in range(12):
        steps, network = (1, 6, 33, 70)[seed % 4], feeding_themselves(seed)
        result = compare(network, gen.stimulus(network, 5, steps, seed), steps, ReferenceEngine(), engine)
        assert result.passed, f"network {seed}: {result.first}"
