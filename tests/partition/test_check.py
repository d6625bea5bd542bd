"""The independent checker: planted mapping errors are caught and named."""

from __future__ import annotations

from dataclasses import replace

import pytest
from mapped import Chain, weight

from nmc.chip import Chip, load_chip
from nmc.errors import NmcError
from nmc.ir import Conv2d, Dense, Encoding, GradedRelay, Identity, Mapping, Network, SumPool2d, Tile
from nmc.partition.check import check_mapping
from nmc.partition.tile import partition

# One tile per core, as the counts by hand assume.
LOIHI1, LOIHI2 = (replace(load_chip(name), populations_per_core=1) for name in ("loihi1", "loihi2"))


def mapped() -> Network:
    """Two convolutions, a pool, a relay and a dense layer over several Loihi 2 cores."""
    chain = Chain(2, 16, 16)
    a = chain.conv("in", 32)
    b = chain.conv(a, 32)
    c = chain.relay(b, a)
    d = chain.add(c, SumPool2d((4, 4), (4, 4)), weight())
    chain.add(d, Dense(), weight(10, 512))
    return partition(chain.network(), LOIHI2)


def with_tiles(network: Network, *tiles: Tile) -> Network:
    return network.with_(mapping=Mapping("loihi2", tiles))


def caught(network: Network, match: str, chip=LOIHI2) -> NmcError:
    with pytest.raises(NmcError, match=match) as info:
        check_mapping(network, chip)
    assert info.value.code == "NMC-P05"
    assert "\n" not in str(info.value)
    return info.value


def test_a_good_mapping_and_its_utilisation() -> None:
    network = mapped()
    uses = check_mapping(network, LOIHI2)
    assert [use.core for use in uses] == list(range(8))
    assert [use.label for use in uses] == [f"layer.p{n}" for n in (1, 1, 2, 2, 3, 3, 4, 5)]
    first = uses[0]
    assert (first.neurons.used, first.neurons.allowed, first.neurons.share) == (4096, 4096, 1.0)
    assert first.delay_slots.allowed is None
    assert first.delay_slots.share is None
    # p1's first half, 8 x 16 pixels. To p2: its 128 pixels go to the same half, the row beside the border to
    # the other half, too; to the relay: one entry per neuron.
    assert first.output_axons.used == 128 + 16 + 4096
    # 2 channels x 9 taps, 32 weights of 8 bits each: 5 words.
    assert first.synapse_bits.used == 18 * 320
    # The last layer: 512 lists of 10 weights of 20 bits: 210 bits, 4 words.
    assert uses[-1].synapse_bits.used == 512 * 256
    assert uses[-1].input_axons.used == 512


def test_neuron_missing() -> None:
    network = mapped()
    tiles = network.mapping.tiles
    caught(with_tiles(network, *tiles[1:]), r"layer.p1: 4,096 neurons lie on no core")
    cut = replace(tiles[0], ranges=((0, 32), (0, 7), (0, 16)))
    caught(with_tiles(network, cut, *tiles[1:]), r"layer.p1: 512 neurons lie on no core")


def test_neuron_twice() -> None:
    network = mapped()
    tiles = network.mapping.tiles
    extra = replace(tiles[0], core=100, ranges=((0, 1), (0, 1), (0, 1)))
    caught(with_tiles(network, *tiles, extra), r"layer.p1: 1 of its neurons: each has 2 cores, allowed are 1")


@pytest.mark.parametrize("core", [-1, 120, 10**9])
def test_core_out_of_range(core: int) -> None:
    network = mapped()
    tiles = network.mapping.tiles
    error = caught(
        with_tiles(network, *tiles[:-1], replace(tiles[-1], core=core)),
        rf"layer.p5: lies on core {core}, loihi2 has cores 0 to 119",
    )
    assert error.allowed == 119


def test_two_tiles_on_a_core() -> None:
    network = mapped()
    tiles = network.mapping.tiles
    caught(
        with_tiles(network, *tiles[:-1], replace(tiles[-1], core=0)),
        r"layer.p1 \+ layer.p5: core 0 has 2 populations, allowed are 1",
    )


@pytest.mark.parametrize(
    "box", [((0, 11),), ((5, 5), (0, 1)), ((3, 2),), ((-1, 9),), ((0, 0),), ()], ids=repr
)
def test_box_outside_of_the_population(box) -> None:
    network = mapped()
    tiles = network.mapping.tiles
    caught(
        with_tiles(network, *tiles[:-1], replace(tiles[-1], ranges=box)),
        r"layer.p5: tile .* is no box of \(10,\)",
    )


def test_foreign_population_and_input() -> None:
    network = mapped()
    for name in ("ghost", "in"):
        caught(
            with_tiles(network, *network.mapping.tiles, Tile(name, ((0, 1),), 50)),
            f"{name}: is mapped but is no",
        )


def test_no_mapping_and_another_chip() -> None:
    network = mapped()
    caught(network.with_(mapping=None), "is mapped to no chip, not to loihi2")
    caught(network, "is mapped to loihi2, not to loihi1", LOIHI1)


@pytest.mark.parametrize(
    ("limit", "words", "layer"),
    [
        ("neurons_per_core", "neurons", "p1"),
        ("synapse_bits", "bits of synapse memory", "p2"),
        ("input_axons", "input axons", "p3"),
        ("output_axons", "output axons", "p1"),
    ],
)
def test_a_limit_that_is_passed_by_one(limit: str, words: str, layer: str) -> None:
    network = mapped()
    field = "neurons" if limit == "neurons_per_core" else limit
    unlimited = replace(LOIHI2, neurons_per_core=None, synapse_bits=None, input_axons=None, output_axons=None)
    only = with_small_rest(network, layer)
    used = max(
        getattr(use, field).used for use in check_mapping(only, unlimited) if use.tile_bits[0][0] == layer
    )
    check_mapping(only, replace(unlimited, **{limit: used}))
    error = caught(
        only,
        rf"layer.{layer}: core \d has {used:,} {words}, allowed are {used - 1:,}",
        replace(unlimited, **{limit: used - 1}),
    )
    assert (error.measured, error.allowed) == (used, used - 1)


def with_small_rest(network: Network, layer: str) -> Network:
    """The layer's tiles first, so that it is the first to break a limit; every other layer far below it."""
    tiles = [tile for tile in network.mapping.tiles if tile.population == layer]
    rest: list[Tile] = []
    for one in network.compute:
        if one.name != layer:
            # One core per row of pixels or neuron.
            axis = 1 if len(one.shape) == 3 else 0
            for start in range(one.shape[axis]):
                box = [(0, size) for size in one.shape]
                box[axis] = (start, start + 1)
                rest.append(Tile(one.name, tuple(box), 0))
    every = [replace(tile, core=core) for core, tile in enumerate([*tiles, *rest])]
    return network.with_(mapping=Mapping("loihi2", tuple(every)))


def test_delay_slots() -> None:
    chain = Chain(1, 4, 4)
    a = chain.conv("in", 4)
    b = chain.conv(chain.conv(a, 4), 4)
    chain.project(a, b, Conv2d(padding=(1, 1)), weight(4, 4, 3, 3))
    network = partition(chain.network(), LOIHI1)
    # 64 neurons, delay 1: 4 slots each.
    assert [use.delay_slots.used for use in check_mapping(network, LOIHI1)] == [128, 128, 256]
    caught(
        network, r"layer.p3: core 2 has 256 delay slots, allowed are 255", replace(LOIHI1, delay_slots=255)
    )


def test_wrong_level_delay_and_payload() -> None:
    network = mapped()
    late = network.map_populations({"p5": replace(network["p5"], level=9)})
    caught(network.with_(populations=late), r"layer.p5: data of layer.p4 arrive at step 5, it runs from 9")
    slow = tuple(replace(one, delay=63) if one.name == "s0" else one for one in network.projections)
    caught(network.with_(projections=slow), r"layer.p1: projection s0 has 63 steps of delay, allowed are 62")
    loud = network.map_populations({"p3": replace(network["p3"], max_payload=1 << 16)})
    caught(network.with_(populations=loud), r"layer.p3: a spike has 17 payload bits, allowed are 16")
    graded = network.map_populations({"p3": replace(network["p3"], max_payload=2)})
    binary = replace(LOIHI2, payload_bits=0)
    caught(network.with_(populations=graded), r"layer.p3: a spike has 2 payload bits, allowed are 0", binary)


def test_irregular_tiles_are_counted_too() -> None:
    """Boxes that no grid makes: an L of two boxes around a third."""
    chain = Chain(1, 4, 4)
    a = chain.conv("in", 2)
    chain.add(a, Identity(), weight(), neuron=GradedRelay())
    network = chain.network()
    tiles = (
        Tile(a, ((0, 2), (0, 2), (0, 4)), 5),
        Tile(a, ((0, 1), (2, 4), (0, 4)), 7),
        Tile(a, ((1, 2), (2, 4), (0, 1)), 2),
        Tile(a, ((1, 2), (2, 4), (1, 4)), 3),
        Tile("p2", ((0, 2), (0, 4), (0, 4)), 0),
    )
    uses = check_mapping(network.with_(mapping=Mapping("loihi2", tiles)), LOIHI2)
    by_core = {use.core: use for use in uses}
    assert [use.core for use in uses] == [0, 2, 3, 5, 7]
    # Rows 0-1 read rows 0-2; rows 2-3 read rows 1-3, column 0 reads columns 0-1, columns 1-3 all four.
    assert {core: use.input_axons.used for core, use in by_core.items()} == {0: 32, 2: 6, 3: 12, 5: 12, 7: 12}
    assert {core: use.output_axons.used for core, use in by_core.items()} == {0: 0, 2: 2, 3: 6, 5: 16, 7: 8}


@pytest.mark.parametrize(
    ("chip", "bits"),
    [
        # A run of 64 8-bit weights behind 10 bits, 522 bits, is padded to 9 words; one of 1 weight to 1 word.
        (LOIHI1, 10 * 64),
        # 20 bits each and two headers, 1,320 bits, padded once: 21 words.
        (LOIHI2, 21 * 64),
    ],
    ids=["runs padded", "list padded"],
)
def test_a_list_of_two_runs_is_counted_in_words(chip: Chip, bits: int) -> None:
    chain = Chain(3)
    chain.add("in", Dense(), weight(65, 3))
    network = chain.network()
    uses = check_mapping(network.with_(mapping=Mapping(chip.name, (Tile("p1", ((0, 65),), 0),))), chip)
    assert [use.synapse_bits.used for use in uses] == [3 * bits]


def test_host_projections_count_nothing() -> None:
    chain = Chain(1, 4, 4, encoding=Encoding.CURRENT)
    chain.conv("in", 2, on_host=True)
    network = partition(chain.network(), LOIHI1)
    (use,) = check_mapping(network, LOIHI1)
    assert (use.neurons.used, use.synapse_bits.used, use.input_axons.used) == (32, 0, 0)
