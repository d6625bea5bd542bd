"""A layer whose neurons differ in delay is one list per source neuron, and one axon."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from mapped import LIF, Chain

from nmc.chip import load_chip
from nmc.ir import Conv2d, Dense, Fixed, Network, Population, Projection, Stage, Synapse
from nmc.partition.bound import lower_bound
from nmc.partition.check import check_mapping
from nmc.partition.cost import bits_per_weight, list_bits
from nmc.partition.graph import core_graph
from nmc.partition.stored import as_stored
from nmc.partition.tile import partition
from nmc.rules import verify

CHIP = load_chip("loihi2")
OUTPUTS = 24


def layer(delays: np.ndarray, op: Synapse, overlap: bool = False) -> Network:
    """input -> p1 -> out, each channel of ``out`` with a delay of its own: one projection per delay.

    overlap: every channel has weights in all of them.
    """
    chain = Chain(6, 4, 4)
    first = chain.conv("in", 10)
    network = chain.network()
    source = network[first]
    dense = isinstance(op, Dense)
    mant = np.random.default_rng(0).integers(1, 100, (OUTPUTS, source.size) if dense else (OUTPUTS, 10, 3, 3))
    shape = (OUTPUTS,) if dense else (OUTPUTS, *source.shape[1:])
    out = Population("out", shape, LIF, level=source.time + 1, origin=("out",))
    projections = []
    for delay in np.unique(delays).tolist():
        rows = (delays == delay) | overlap
        weight = Fixed(mant * rows.reshape(-1, *[1] * (mant.ndim - 1)), 1, 8, True)
        projections.append(Projection(f"d{delay}", first, "out", op, weight, delay, lag=delay))
    return network.with_(
        populations=(*network.populations, out),
        projections=(*network.projections, *projections),
        outputs=("out",),
    )


OPERATORS = {"dense": Dense(), "convolution": Conv2d(padding=(1, 1))}
DIFFERENT = np.arange(OUTPUTS) % 7
ALIKE = np.full(OUTPUTS, 6)


@pytest.mark.parametrize("name", OPERATORS)
def test_delays_of_their_own_cost_what_one_delay_costs(name: str) -> None:
    own, alike = (layer(delays, OPERATORS[name]) for delays in (DIFFERENT, ALIKE))
    verify(own, Stage.QUANTIZED)
    assert len(own.incoming("out")) == 7
    mapped, reference = (partition(one, CHIP) for one in (own, alike))
    assert mapped.mapping == reference.mapping
    assert mapped.projections == own.projections
    assert check_mapping(mapped, CHIP) == check_mapping(reference, CHIP)
    assert core_graph(mapped).total == core_graph(reference).total
    assert lower_bound(own, CHIP) == lower_bound(alike, CHIP)


def test_lists_hold_a_delay_with_every_weight() -> None:
    mapped = partition(layer(DIFFERENT, Dense()), CHIP)
    (weighted, *_) = mapped.incoming("out")
    assert not weighted.delay
    bits = dict(pair for use in check_mapping(mapped, CHIP) for pair in use.tile_bits)["out"]
    width = bits_per_weight(CHIP, weighted) + CHIP.delay_bits
    assert bits == 160 * list_bits(CHIP, OUTPUTS, width)


@pytest.mark.parametrize("name", OPERATORS)
def test_weights_of_one_neuron_with_several_delays_are_lists_of_their_own(name: str) -> None:
    network = layer(DIFFERENT, OPERATORS[name], overlap=True)
    assert as_stored(network) is network
    mapped = partition(network, CHIP)
    alone = partition(layer(ALIKE, OPERATORS[name]), CHIP)
    several, one = (
        sum(use.synapse_bits.used for use in check_mapping(each, CHIP)) for each in (mapped, alone)
    )
    assert several > 6 * one / 2


def test_other_formats_stay_apart() -> None:
    network = layer(DIFFERENT, Dense())
    *others, last = network.projections
    assert isinstance(last.weight, Fixed)
    narrow = replace(last, weight=Fixed(last.weight.mant >> 4, 5, 4, True))
    changed = network.with_(projections=(*others, narrow))
    assert len(as_stored(network).projections) == 2
    assert len(as_stored(changed).projections) == 3


def test_a_layer_of_many_delays_fits_where_a_list_per_delay_does_not() -> None:
    """As in lava-dl's recorded ntidigits network, whose neurons have 63 different delays."""
    network = layer(np.arange(OUTPUTS), Dense())
    chip = replace(CHIP, synapse_bits=64 * 12 * 160, input_axons=200)
    mapped = partition(network, chip)
    assert sum(tile.population == "out" for tile in mapped.mapping.tiles) == 1
    assert max(use.input_axons.used for use in check_mapping(mapped, chip)) <= 200
