"""Mapped networks, one Lava process group per tile, equal the reference; a wrong mapping does not."""

from __future__ import annotations

from dataclasses import replace

import gen
import numpy as np
import partitions
import pytest

from nmc import timing
from nmc.backends.compare import compare
from nmc.backends.loihi.lower import lower
from nmc.backends.loihi.tiles import TiledLavaEngine, split
from nmc.backends.sim.reference import ReferenceEngine
from nmc.ir import IntArray, Mapping, Network

SAMPLES, STEPS = 2, 4


def mapped(seed: int) -> tuple[Network, IntArray]:
    network = gen.quantize(timing.balance(gen.float_network(seed, STEPS), 62))
    return partitions.cut(network, seed), gen.stimulus(network, SAMPLES, STEPS, seed)


@pytest.mark.parametrize("seed", range(5))
def test_tiles_equal_the_reference(seed: int) -> None:
    network, x = mapped(seed)
    result = compare(network, x, STEPS, ReferenceEngine(), TiledLavaEngine())
    assert result.passed, result.first


def test_the_partitioners_mapping_is_run() -> None:
    """The packaged network as nmc compiles it for a chip with few neurons per core."""
    from importlib.resources import files

    from nmc import api
    from nmc.chip import load_chip

    chip = replace(load_chip("loihi2"), neurons_per_core=96)
    bundle = api.compile(str(files("nmc") / "data" / "digits_sew.nir"), chip, steps=2)
    network = bundle.network
    assert network.mapping is not None
    assert any(len(network.mapping.of(p.name)) > 2 for p in network.compute)
    x = bundle.golden["x"].astype(np.int64)[:1]
    result = compare(network, x, 2, ReferenceEngine(), TiledLavaEngine())
    assert result.passed, result.first


def test_every_synapse_is_on_one_tile() -> None:
    """As many synapses in all tiles as in the whole layers."""
    network, x = mapped(3)
    program = split(network, lower(network, x, STEPS))
    whole = split(network.with_(mapping=None), lower(network, x, STEPS))
    assert len(program.neurons) > len(whole.neurons)
    assert sum(s.weight.size for s in program.synapses) == sum(s.weight.size for s in whole.synapses)
    assert sum(int(np.prod(n.shape)) for n in program.neurons) == sum(
        int(np.prod(n.shape)) for n in whole.neurons
    )


@pytest.mark.parametrize("change", ["missing", "shrunk"])
def test_a_wrong_mapping_differs(change: str) -> None:
    """A tile that is left out, and one that is a row too small, both show as wrong spikes or states."""
    found = 0
    for seed in range(4):
        network, x = mapped(seed)
        assert network.mapping is not None
        first, *rest = network.mapping.tiles
        (start, stop), *others = first.ranges
        tiles = rest if change == "missing" else [replace(first, ranges=((start, stop), *others)), *rest]
        if change == "shrunk":
            size = others[0][1] - others[0][0] if others else 0
            if size < 2:
                continue
            less = (others[0][0], others[0][1] - 1)
            tiles = [replace(first, ranges=((start, stop), less, *others[1:])), *rest]
        broken = network.with_(mapping=Mapping("none", tuple(tiles)))
        found += not compare(broken, x, STEPS, ReferenceEngine(), TiledLavaEngine()).passed
    assert found >= 2
