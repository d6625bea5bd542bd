"""Mapping errors of many kinds, planted one by one into a good mapping: the checker names each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from mapped import LIF, Chain, weight

from nmc.chip import Chip, load_chip
from nmc.errors import NmcError
from nmc.ir import Conv2d, Dense, Fixed, Mapping, Network, Tile
from nmc.partition.check import check_mapping
from nmc.partition.place import place
from nmc.partition.tile import partition

CHIP = replace(load_chip("loihi2"), neurons_per_core=600, delay_slots=4800, threshold_profiles=8)


def good() -> Network:
    """Shared cores, a relay, a delayed projection, convolutions and a dense layer, placed."""
    chain = Chain(2, 10, 10)
    a = chain.conv("in", 12)
    b = chain.conv(a, 12)
    c = chain.relay(chain.conv(b, 12), a)
    d = chain.conv(c, 4, stride=2)
    chain.add(d, Dense(), weight(10, 100))
    return place(partition(chain.network(), CHIP), CHIP)


GOOD = good()
TILES = GOOD.mapping.tiles
Planted = tuple[Network, Chip]


def tiles(*changed: Tile) -> Planted:
    return GOOD.with_(mapping=Mapping(GOOD.mapping.chip, changed)), CHIP


def of(name: str) -> list[Tile]:
    return [tile for tile in TILES if tile.population == name]


def without(*gone: Tile) -> list[Tile]:
    return [tile for tile in TILES if tile not in gone]


def stretched(tile: Tile, axis: int, start: int, stop: int) -> Tile:
    ranges = list(tile.ranges)
    ranges[axis] = (ranges[axis][0] + start, ranges[axis][1] + stop)
    return replace(tile, ranges=tuple(ranges))


def merged(names: tuple[str, ...]) -> list[Tile]:
    """All tiles of these populations on the core of the first one's."""
    core = of(names[0])[0].core
    return [replace(tile, core=core) if tile.population in names else tile for tile in TILES]


def tight(**limits: int) -> Planted:
    return GOOD, replace(CHIP, **limits)


def most(field: str) -> int:
    return max(getattr(use, field).used for use in check_mapping(GOOD, CHIP))


def edited(name: str, **changes: object) -> Planted:
    return GOOD.with_(populations=GOOD.map_populations({name: replace(GOOD[name], **changes)})), CHIP


def projected(index: int, **changes: object) -> Planted:
    projections = list(GOOD.projections)
    projections[index] = replace(projections[index], **changes)
    return GOOD.with_(projections=tuple(projections)), CHIP


def many_thresholds() -> Planted:
    vth = Fixed(np.arange(1, 13).reshape(12, 1, 1), 6, 17, False)
    return edited("p1", neuron=replace(LIF, vth=vth))


FIRST, LAST = TILES[0], TILES[-1]
PLANTED: dict[str, tuple[Callable[[], Planted], str]] = {
    "a tile is gone": (lambda: tiles(*without(FIRST)), "neurons lie on no core"),
    "a tile is there twice": (lambda: tiles(*TILES, replace(FIRST, core=99)), "each has 2 cores"),
    "a tile is twice on its core": (lambda: tiles(*TILES, FIRST), "each has 2 cores"),
    "tiles overlap by a row": (
        lambda: tiles(*without(of("p2")[0]), stretched(of("p2")[0], 1, 0, 1)),
        "each has 2 cores|no box",
    ),
    "a row is left out": (
        lambda: tiles(*without(of("p1")[0]), stretched(of("p1")[0], 1, 1, 0)),
        "10|no core",
    ),
    "one channel is left out": (
        lambda: tiles(*without(of("p1")[0]), stretched(of("p1")[0], 0, 0, -1)),
        "neurons lie on no core",
    ),
    "a tile leaves its population": (
        lambda: tiles(*without(LAST), stretched(LAST, 0, 0, 1)),
        r"is no box of \(10,\)",
    ),
    "a tile starts below zero": (lambda: tiles(*without(LAST), stretched(LAST, 0, -1, 0)), "is no box"),
    "a tile is empty": (lambda: tiles(*TILES, replace(LAST, ranges=((3, 3),))), "is no box"),
    "a tile has another rank": (
        lambda: tiles(*without(LAST), replace(LAST, ranges=((0, 5), (0, 2)))),
        "is no box",
    ),
    "a core below zero": (lambda: tiles(*without(LAST), replace(LAST, core=-1)), "lies on core -1"),
    "a core beyond the chip": (lambda: tiles(*without(LAST), replace(LAST, core=120)), "lies on core 120"),
    "a tile of no population": (
        lambda: tiles(*TILES, replace(LAST, population="p9", core=99)),
        "is no population that takes cores",
    ),
    "a tile of the input": (
        lambda: tiles(*TILES, Tile("in", ((0, 2), (0, 10), (0, 10)), 99)),
        "is no population that takes cores",
    ),
    "names exchanged": (
        lambda: tiles(*(replace(one, population="p5") if one.population == "p6" else one for one in TILES)),
        "no box|no core",
    ),
    "another chip": (
        lambda: (GOOD.with_(mapping=Mapping("loihi1", TILES)), CHIP),
        "is mapped to loihi1, not to loihi2",
    ),
    "no mapping": (lambda: (GOOD.with_(mapping=None), CHIP), "is mapped to no chip"),
    "too many populations on a core": (
        lambda: (GOOD, replace(CHIP, populations_per_core=most("populations") - 1)),
        "populations, allowed are",
    ),
    "too many neurons on a core": (lambda: tiles(*merged(("p1", "p2"))), "neurons, allowed are 600"),
    "too much memory": (
        lambda: tight(synapse_bits=most("synapse_bits") - 1),
        "bits of synapse memory, allowed",
    ),
    "too many input axons": (lambda: tight(input_axons=most("input_axons") - 1), "input axons, allowed"),
    "too many output axons": (lambda: tight(output_axons=most("output_axons") - 1), "output axons, allowed"),
    "too many delay slots": (lambda: tight(delay_slots=most("delay_slots") - 1), "delay slots, allowed"),
    "too many thresholds": (many_thresholds, "threshold profiles, allowed are 8"),
    "a level too high": (lambda: edited("p6", level=9), "arrive at step 6, it runs from 9"),
    "a delay too short": (lambda: projected(4, delay=0), r"arrive at step|steps of delay"),
    "a delay too long": (lambda: projected(1, delay=63), "63 steps of delay, allowed are 62"),
    "a payload on a binary chip": (
        lambda: (edited("p4", max_payload=3)[0], replace(CHIP, payload_bits=0)),
        "2 payload bits, allowed are 0",
    ),
    "a wider payload than the chip's": (
        lambda: (edited("p4", max_payload=1 << 16)[0], CHIP),
        "17 payload bits, allowed are 16",
    ),
    "a projection added behind the mapping's back": (
        lambda: (
            GOOD.with_(
                projections=(
                    *GOOD.projections,
                    replace(GOOD.projections[4], name="x", weight=weight()),
                )
            ),
            replace(CHIP, synapse_bits=most("synapse_bits")),
        ),
        "bits of synapse memory, allowed",
    ),
}


def test_the_mapping_is_good() -> None:
    uses = check_mapping(GOOD, CHIP)
    assert max(use.populations.used for use in uses) > 1
    assert any(one.delay for one in GOOD.projections)
    assert sum(use.neurons.used for use in uses) == sum(one.size for one in GOOD.compute)
    assert isinstance(GOOD.projections[0].synapse, Conv2d)


@pytest.mark.parametrize("kind", PLANTED)
def test_planted_error_is_caught(kind: str) -> None:
    plant, match = PLANTED[kind]
    network, chip = plant()
    with pytest.raises(NmcError, match=match) as info:
        check_mapping(network, chip)
    assert info.value.code == "NMC-P05"
