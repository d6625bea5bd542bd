"""Every scheme of weights gives the same bits on every engine, whole or cut into tiles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import quantnet

from nmc.backends import encode
from nmc.backends.compare import compare
from nmc.backends.engines import engine
from nmc.chip import load_chip
from nmc.ir import Fixed, Network, frozen
from nmc.passes import pipeline, run_passes
from nmc.quantize.precision import Granularity, Precision

SMALL_CORES = replace(load_chip("loihi2"), neurons_per_core=24)
"""Layers of 100 and 3 neurons take several tiles."""


def signed_as(kind: str, network: Network) -> Network:
    """The network with mixed weights, or without negative ones."""
    if kind == "mixed":
        return network
    projections = tuple(replace(p, weight=frozen(np.abs(np.asarray(p.weight)))) for p in network.projections)
    return network.with_(projections=projections)


def compiled(network: Network, bits: int, granularity: Granularity) -> Network:
    """Quantized, cut and placed."""
    return run_passes(network, pipeline(SMALL_CORES, quantnet.images(), Precision(bits, granularity)))


@pytest.mark.parametrize("granularity", ["layer", "channel"])
@pytest.mark.parametrize("bits", range(1, 9))
def test_every_scheme_is_the_same_on_every_engine(bits: int, granularity: Granularity) -> None:
    pytest.importorskip("lava")
    steps = set()
    for kind in ("mixed", "excitatory"):
        network = compiled(signed_as(kind, quantnet.network(spread=5.0)), bits, granularity)
        assert network.mapping is not None
        assert len(network.mapping.tiles) > len(network.compute)
        for projection in network.projections:
            assert isinstance(projection.weight, Fixed)
            assert projection.weight.bits == bits
            assert projection.weight.signed == (kind == "mixed") or bits == 1
            steps.add(projection.weight.exp)
        x = encode.encode(network, quantnet.images(2))
        for other in ("native", "lava-inprocess", "lava-tiles"):
            result = compare(network, x, network.steps, engine("reference"), engine(other))
            assert result.passed, (kind, other, result.first)
            assert result.compared > 2 * network.steps * 100
    assert len(steps) > 1


def test_excitatory_weights_have_twice_the_levels() -> None:
    network = signed_as("excitatory", quantnet.network())
    weight = compiled(network, 4, "layer").projections[0].weight
    assert isinstance(weight, Fixed)
    assert (weight.lowest, weight.highest) == (0, 15)
    assert weight.mant.max() > 7


def test_one_bit_takes_the_sign_of_the_larger_weights() -> None:
    """Mostly negative weights become 0 and -1 on the mixed grid, mostly positive ones 0 and 1."""
    network = quantnet.network()
    for sign in (-1.0, 1.0):
        conv = np.asarray(network.projections[0].weight)
        tilted = frozen(np.where(conv * sign > 0, conv * 3, conv))
        projections = (replace(network.projections[0], weight=tilted), network.projections[1])
        weight = compiled(network.with_(projections=projections), 1, "layer").projections[0].weight
        assert isinstance(weight, Fixed)
        assert set(np.unique(weight.mant)) == {0, int(sign)}
