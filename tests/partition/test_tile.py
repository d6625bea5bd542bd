"""The partitioner: fewest cores, widest channel groups, every limit kept, refusals that name the layer."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from dataclasses import replace
from math import ceil, prod

import gen
import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from mapped import Chain, weight

from nmc import timing
from nmc.chip import Chip, load_chip
from nmc.errors import NmcError
from nmc.ir import Conv2d, Dense, Encoding, Mapping, Network, Stage, Tile
from nmc.partition.check import check_mapping
from nmc.partition.cost import RESOURCES, cut, grid_usage
from nmc.partition.place import Position, position
from nmc.partition.tile import partition

# Without sharing: one tile per core, as the counts by hand assume.
LOIHI1, LOIHI2, CPU = (
    replace(load_chip(name), populations_per_core=1) for name in ("loihi1", "loihi2", "lava-cpu")
)
FREE = replace(CPU, name="free")


def cores(network: Network, chip: Chip) -> int:
    mapping = partition(network, chip).mapping
    assert mapping is not None
    return mapping.cores_used


def ranges(network: Network, chip: Chip, name: str) -> list[tuple[tuple[int, int], ...]]:
    mapping = partition(network, chip).mapping
    assert mapping is not None
    return [tile.ranges for tile in mapping.of(name)]


def layer(channels: int, size: int, **more) -> tuple[Network, str]:
    chain = Chain(1, size, size)
    name = chain.conv("in", channels, **more)
    return chain.network(), name


def test_a_layer_that_fits_takes_one_core_and_inputs_take_none() -> None:
    network, name = layer(4, 8)
    mapped = partition(network, LOIHI1)
    assert mapped.stage is Stage.MAPPED
    assert (mapped.chip, mapped.mapping.chip) == ("loihi1", "loihi1")
    (tile,) = mapped.mapping.tiles
    assert (tile.population, tile.core, tile.ranges) == (name, 0, ((0, 4), (0, 8), (0, 8)))
    assert network.mapping is None


def test_fewest_cores_then_widest_channels() -> None:
    # 8 x 16 x 16 = 2048 neurons on cores of 1024: two cores; all 8 channels of half the plane come before
    # half of the channels.
    network, name = layer(8, 16)
    assert ranges(network, LOIHI1, name) == [((0, 8), (0, 8), (0, 16)), ((0, 8), (8, 16), (0, 16))]


def test_few_cores_beat_wide_channels() -> None:
    # 20 channels of 16 x 16 on 1024: 4 channels per core take 5 cores. With all 20 channels a core holds 51
    # pixels, as 3 x 16 (48): 6 cores.
    network, name = layer(20, 16)
    found = ranges(network, LOIHI1, name)
    assert len(found) == 5
    assert found[0] == ((0, 4), (0, 16), (0, 16))


def test_squarest_plane_at_equal_channels() -> None:
    # 64 channels leave 16 of 256 pixels per core: 4 x 4 has the smallest halo.
    network, name = layer(64, 16)
    assert ranges(network, LOIHI1, name)[0] == ((0, 64), (0, 4), (0, 4))


@pytest.mark.parametrize("resource", [one.limit for one in RESOURCES])
def test_every_limit_splits_a_layer(resource: str) -> None:
    chain = Chain(8, 8, 8)
    a = chain.conv("in", 16)
    b = chain.conv(a, 16)
    chain.conv(b, 32)
    network = chain.network()
    mapped = partition(network, FREE)
    assert mapped.mapping.cores_used == 3
    field = next(one.usage for one in RESOURCES if one.limit == resource)
    largest = max(getattr(use, field).used for use in check_mapping(mapped, FREE))
    assert cores(network, replace(FREE, **{resource: largest})) == 3
    tight = replace(FREE, **{resource: largest - 1})
    assert cores(network, tight) > 3
    check_mapping(partition(network, tight), tight)


def test_inputs_break_no_limit() -> None:
    # One input neuron feeds 30 cores; were it on a core itself, it would need 30 output axons.
    chain = Chain(1)
    chain.add("in", Dense(), weight(30, 1))
    assert cores(chain.network(), replace(LOIHI1, neurons_per_core=1, output_axons=29)) == 30


def test_relays_take_neurons_and_host_projections_no_core() -> None:
    chain = Chain(1, 8, 8, encoding=Encoding.CURRENT)
    a = chain.conv("in", 4, on_host=True)
    b = chain.conv(a, 4)
    c = chain.relay(b, a)
    network = chain.network()
    mapping = partition(network, LOIHI2).mapping
    assert [tile.population for tile in mapping.tiles] == [a, b, c]
    uses = check_mapping(partition(network, LOIHI2), LOIHI2)
    assert [use.neurons.used for use in uses] == [256, 256, 256]
    assert [use.input_axons.used for use in uses] == [0, 64, 512]


def test_published_core_counts_are_never_exceeded() -> None:
    # lava-dl yolo_kp/run.ipynb: cores per layer that Intel's compiler took; channels, kernel, stride from its
    # table of layers. Weights had 4 to 8 bits there; 5 is what fits most rows (test_cost.py).
    rows = [
        (16, 3, 2, 224),
        (32, 3, 2, 112),
        (64, 3, 2, 56),
        (128, 3, 2, 28),
        (256, 3, 1, 56),
        (256, 3, 2, 16),
        (512, 3, 1, 32),
        (256, 1, 1, 14),
        (512, 3, 1, 32),
        (48, 1, 1, 4),
    ]
    chain = Chain(3, 448, 448)
    last = "in"
    for channels, kernel, stride, _ in rows:
        c_in = chain.populations[-1].shape[0]
        op = Conv2d((stride, stride), (kernel // 2, kernel // 2))
        last = chain.add(last, op, weight(channels, c_in, kernel, kernel, bits=5))
    mapped = partition(chain.network(), replace(LOIHI2, cores=None))
    taken = [len(mapped.mapping.of(one.name)) for one in mapped.compute]
    assert sum(published for *_, published in rows) == 574
    assert all(ours <= published for ours, (*_, published) in zip(taken, rows, strict=True)), taken


def test_neurons_bound_is_nearly_reached() -> None:
    chain = Chain(3, 64, 64)
    last = chain.conv("in", 64, kernel=7, stride=2)
    for channels, stride in ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1)):
        last = chain.conv(last, channels, stride=stride)
    network = chain.network()
    for chip in (LOIHI1, LOIHI2):
        wide = replace(chip, cores=None)
        bound = sum(ceil(one.size / wide.neurons_per_core) for one in network.compute)
        assert bound <= cores(network, wide) <= 1.25 * bound


# --- refusals ---------------------------------------------------------------------------------------


def refused(code: str, network: Network, chip: Chip, match: str) -> NmcError:
    with pytest.raises(NmcError, match=match) as info:
        partition(network, chip)
    assert info.value.code == code
    return info.value


def test_too_many_cores() -> None:
    network, _ = layer(64, 64)
    error = refused(
        "NMC-P01", network, LOIHI1, r"net: needs 256 cores, loihi1 has 128 \(layer.p1 takes the most, 256\)"
    )
    assert (error.measured, error.allowed) == (256, 128)
    assert error.remedy == "use a board with more chips: --chip loihi1:kapoho-bay has 256"
    assert partition(network, load_chip("loihi1:kapoho-bay")).mapping.cores_used == 256


def test_the_smallest_board_that_suffices_is_named() -> None:
    network, _ = layer(65, 64)
    error = refused("NMC-P01", network, LOIHI1, "needs 260 cores")
    assert "--chip loihi1:nahuku-8 " in error.remedy
    alone = replace(LOIHI1, boards=())
    assert refused("NMC-P01", network, alone, "needs 260").remedy.startswith("use fewer channels")


def test_one_neuron_exceeds_the_memory() -> None:
    # A 1 x 1 neuron of a 3x3 convolution on 2,000 channels: 18,000 lists of one word = 1,152,000 bits.
    chain = Chain(2000, 3, 3)
    chain.conv("in", 1)
    error = refused(
        "NMC-P02", chain.network(), LOIHI1, r"layer.p1: one neuron needs 1,152,000 bits of synapse memory"
    )
    assert (error.measured, error.allowed) == (1_152_000, 1_048_576)


def test_too_many_input_axons() -> None:
    chain = Chain(4097)
    chain.add("in", Dense(), weight(10, 4097))
    refused("NMC-P03", chain.network(), LOIHI1, r"layer.p1: one neuron needs 4,097 input axons, .* has 4,096")


def test_too_many_output_axons() -> None:
    chain = Chain(1)
    a = chain.add("in", Dense(), weight(1, 1))
    chain.add(a, Dense(), weight(30, 1))
    chip = replace(LOIHI1, neurons_per_core=1, output_axons=29)
    refused(
        "NMC-P04", chain.network(), chip, r"layer.p1: one neuron needs 30 output axons, a loihi1 core has 29"
    )


def test_too_long_a_delay() -> None:
    chain = Chain(1, 2, 2)
    a = chain.conv("in", 1)
    b = a
    for _ in range(3):
        b = chain.conv(b, 1)
    chain.project(a, b, Conv2d(padding=(1, 1)), weight(1, 1, 3, 3))
    refused(
        "NMC-P02", chain.network(), replace(LOIHI1, delay_slots=3), "layer.p4: one neuron needs 4 delay slots"
    )


# --- properties -------------------------------------------------------------------------------------

sizes = st.integers(1, 12)


@st.composite
def chips(draw) -> Chip:
    """Small cores, so that small layers split; any limit may be missing."""
    limit = lambda low, high: draw(st.none() | st.integers(low, high))  # noqa: E731
    return replace(
        draw(st.sampled_from([LOIHI1, LOIHI2])),
        cores=None,
        neurons_per_core=limit(1, 300),
        synapse_bits=limit(20_000, 200_000),
        input_axons=limit(160, 400),
        output_axons=limit(200, 2000),
        delay_slots=limit(64, 4000),
        payload_bits=16,
    )


@st.composite
def convolutions(draw) -> Network:
    """One or two convolutions of any stride, padding, dilation and grouping, and a dense layer."""
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    chain = Chain(groups * draw(st.integers(1, 3)), draw(sizes), draw(sizes))
    last = "in"
    for _ in range(draw(st.integers(1, 2))):
        c_in, height, width = chain.populations[-1].shape
        if c_in % groups:
            break
        pad = draw(st.integers(0, 2)), draw(st.integers(0, 2))
        dilation = draw(st.integers(1, 2)), draw(st.integers(1, 2))
        kernel = tuple(
            draw(st.integers(1, max(1, min(4, (size + 2 * p - 1) // d + 1))))
            for size, p, d in zip((height, width), pad, dilation, strict=True)
        )
        stride = draw(st.integers(1, 3)), draw(st.integers(1, 3))
        channels = groups * draw(st.integers(1, 8))
        op = Conv2d(stride, pad, dilation, groups)
        last = chain.add(last, op, weight(channels, c_in // groups, *kernel))
    chain.add(last, Dense(), weight(draw(sizes), prod(chain.populations[-1].shape)))
    return chain.network()


@settings(max_examples=120, deadline=None)
@given(convolutions(), chips())
def test_partition_passes_the_independent_check(network: Network, chip: Chip) -> None:
    try:
        mapped = partition(network, chip)
    except NmcError as error:
        refusal = error.code
    else:
        refusal = ""
    if refusal:
        event(refusal)
        assert refusal in ("NMC-P02", "NMC-P03", "NMC-P04")
        return
    uses = check_mapping(mapped, chip)
    assert sum(use.neurons.used for use in uses) == sum(one.size for one in network.compute)


@settings(max_examples=120, deadline=None)
@given(convolutions(), st.randoms(use_true_random=False))
def test_formulas_equal_the_checkers_enumeration(network: Network, random) -> None:
    """Any grid, good or bad: ``cost`` and ``check`` agree on every resource of every core."""
    lengths = {one.name: [random.randint(1, size) for size in one.shape] for one in network.compute}
    cuts = {name: tuple(map(cut, network[name].shape, length)) for name, length in lengths.items()}
    chip = replace(random.choice([LOIHI1, LOIHI2]), **{one.limit: None for one in RESOURCES}, cores=None)
    uses = check_mapping(mapped_as(network, chip, cuts), chip)
    for one in network.compute:
        usage = grid_usage(network, chip, one, cuts[one.name], cuts)
        for resource in RESOURCES:
            counted = [getattr(use, resource.usage).used for use in uses if use.tile_bits[0][0] == one.name]
            assert getattr(usage, resource.usage).ravel().tolist() == counted, resource


def mapped_as(network: Network, chip: Chip, cuts: dict) -> Network:
    """The network cut as told, one tile per core in order."""
    boxes = [(one.name, box) for one in network.compute for box in itertools.product(*cuts[one.name])]
    tiles = tuple(Tile(name, box, core) for core, (name, box) in enumerate(boxes))
    return network.with_(stage=Stage.MAPPED, mapping=Mapping(chip.name, tiles))


@pytest.mark.parametrize("seed", range(60))
def test_random_residual_networks_pass_the_check(seed: int) -> None:
    network = gen.quantize(timing.balance(gen.float_network(seed), 62))
    rng = np.random.default_rng(seed)
    chip = replace(LOIHI2, cores=None, neurons_per_core=int(rng.integers(1, 80)))
    check_mapping(partition(network, chip), chip)


# What a tile sends depends on how its targets are cut, so a smaller core may by chance lead to fewer output
# axons; every other resource is the tile's own.
LOCAL = [one for one in RESOURCES if one.limit != "output_axons"]


@settings(max_examples=80, deadline=None)
@given(convolutions(), chips(), st.sampled_from(LOCAL), st.integers(1, 99))
def test_cores_never_fall_when_a_capacity_shrinks(
    network: Network, chip: Chip, resource, percent: int
) -> None:
    chip = replace(chip, output_axons=None)
    limit = getattr(chip, resource.limit)
    smaller = replace(chip, **{resource.limit: max(1, (limit or 10_000) * percent // 100)})
    try:
        few = cores(network, chip)
        many = cores(network, smaller)
    except NmcError:
        return
    assert many >= few


PRINT = """
import sys
from mapped import Chain
from nmc.chip import load_chip
from nmc.partition.tile import partition
from nmc.ir import Conv2d
from nmc.partition.hold import hold
from mapped import weight
chip = load_chip("loihi1:nahuku-8")
chain = Chain(2, 2, 2)
sums = [chain.conv("in", 256)]
for _ in range(3):
    shared, op = weight(256, 256, 3, 3), Conv2d((1, 1), (1, 1))
    inner = chain.add(sums[-1], op, shared)
    for source in sums[:-1]: chain.project(source, inner, op, shared)
    sums.append(chain.conv(inner, 256))
held = hold(chain.network(), chip)
assert held.notes
print([one.name for one in held.populations], partition(held, chip).mapping)
"""


def test_same_relays_and_mapping_for_any_hash_seed_and_thread_count() -> None:
    support = os.path.dirname(gen.__file__)
    printed = {
        subprocess.run(
            [sys.executable, "-c", PRINT],
            env={**os.environ, "PYTHONHASHSEED": n, "OMP_NUM_THREADS": n, "PYTHONPATH": support},
            check=True,
            capture_output=True,
            timeout=60,
        ).stdout
        for n in ("1", "2")
    }
    assert len(printed) == 1


def test_positions_run_row_by_row() -> None:
    # 4 cores per mesh tile, 8 columns on Loihi 1; 16 columns of single cores on Loihi 2.
    assert [position(LOIHI1, core) for core in (0, 3, 4, 31, 32, 127)] == [
        Position(0, 0),
        Position(0, 0),
        Position(0, 1),
        Position(0, 7),
        Position(1, 0),
        Position(3, 7),
    ]
    assert position(LOIHI2, 17) == Position(1, 1)
    assert position(CPU, 5) == Position(0, 0)
