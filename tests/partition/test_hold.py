"""Relays instead of synaptic delays: the same spikes, fewer cores, and nothing where nothing is gained."""

from __future__ import annotations

from dataclasses import replace

import gen
import numpy as np
import pytest
from mapped import Chain, weight

from nmc import timing
from nmc.backends.sim.reference import ReferenceEngine
from nmc.chip import load_chip
from nmc.errors import NmcError
from nmc.ir import Conv2d, Dense, FixedNeuron, Network, Stage
from nmc.partition.check import check_mapping
from nmc.partition.hold import _groups, hold, with_relays
from nmc.partition.tile import partition
from nmc.quantize import ranges
from nmc.rules import verify

CHIP = replace(load_chip("loihi1"), neurons_per_core=512, cores=None, populations_per_core=1)
STEPS = 5


def delayed(network: Network) -> list[str]:
    return [p.name for p in network.projections if p.delay and isinstance(p.synapse, Conv2d | Dense)]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("loops", [False, True])
def test_relays_repeat_every_spike_when_it_is_due(seed: int, loops: bool) -> None:
    free = gen.float_network(seed, STEPS)
    network = gen.quantize(timing.balance(gen.with_loops(free, seed) if loops else free, 62))
    held = with_relays(network, _groups(network))
    verify(held, Stage.QUANTIZED)
    ranges.prove(held)
    inputs = {one.name for one in network.inputs}
    assert all(p.source in inputs or p.lag for p in held.projections if p.name in delayed(held))
    x = gen.stimulus(network, 2, STEPS, seed)
    names = [one.name for one in network.compute]
    before, after = (ReferenceEngine().run(one, x, STEPS, names) for one in (network, held))
    for name in names:
        assert np.array_equal(before.spikes[name], after.spikes[name]), name
        assert np.array_equal(before.v[name], after.v[name]), name


def test_some_of_the_random_networks_have_something_to_hold() -> None:
    networks = [gen.quantize(timing.balance(gen.float_network(seed, STEPS), 62)) for seed in range(12)]
    added = [len(with_relays(one, _groups(one)).populations) - len(one.populations) for one in networks]
    assert sum(count > 0 for count in added) >= 4


def stage(channels: int, size: int, blocks: int = 3) -> Network:
    """SEW ADD by distribution: every block reads the stage's input and every earlier block's spikes."""
    chain = Chain(2, size, size)
    sums = [chain.conv("in", channels)]
    for _ in range(blocks):
        shared = weight(channels, channels, 3, 3)
        op = Conv2d((1, 1), (1, 1))
        inner = chain.add(sums[-1], op, shared)
        for source in sums[:-1]:
            chain.project(source, inner, op, shared)
        sums.append(chain.conv(inner, channels))
    return chain.network()


def test_deep_narrow_layers_are_held() -> None:
    network = stage(256, 2)
    held = hold(network, CHIP)
    before, after = (partition(one, CHIP, "cores").mapping.cores_used for one in (network, held))
    assert after < 0.8 * before
    check_mapping(partition(held, CHIP), CHIP)
    relays = [one for one in held.populations if one.name not in {p.name for p in network.populations}]
    assert relays
    assert f"{len(relays)} relay populations" in held.notes[-1]
    assert all(isinstance(one.neuron, FixedNeuron) and one.label.endswith("steps)") for one in relays)


def test_layers_with_one_relay_share_it() -> None:
    """Two layers behind the same sum: one line of relays for both."""
    network = stage(128, 4, blocks=2)
    held = with_relays(network, _groups(network))
    waits = {(p.source, p.delay) for p in network.projections if p.name in delayed(network)}
    assert len(held.populations) - len(network.populations) == len(waits)


def test_wide_maps_keep_their_delays() -> None:
    """Many neurons and few weights: a relay would take more than the second kernel copy."""
    network = stage(8, 32)
    assert delayed(network)
    assert hold(network, CHIP) is network


def test_a_layer_that_only_fits_with_one_copy() -> None:
    """A neuron's kernel takes 128 x 9 words: a core of 2,500 holds two copies, block 3 needs three."""
    network, chip = stage(128, 4), replace(CHIP, synapse_bits=2500 * 64)
    with pytest.raises(NmcError, match="one neuron needs 221,184 bits of synapse memory"):
        partition(network, chip)
    held = hold(network, chip)
    check_mapping(partition(held, chip), chip)
