"""Costs of small layers, computed by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from mapped import LIF, Chain, weight

from nmc.chip import Chip, load_chip
from nmc.ir import Conv2d, Dense, Encoding, Fixed, Identity, Network, SumPool2d
from nmc.partition.cost import Cuts, Usage, cut, grid_usage, list_bits, time_slots

LOIHI1, LOIHI2 = load_chip("loihi1"), load_chip("loihi2")


def whole(network: Network, name: str) -> Cuts:
    return tuple(cut(size, size) for size in network[name].shape)


def usage(network: Network, chip: Chip, name: str, cuts: Cuts | None = None, **targets: Cuts) -> Usage:
    targets = {one.name: targets.get(one.name, whole(network, one.name)) for one in network.compute}
    return grid_usage(network, chip, network[name], cuts or whole(network, name), targets)


def test_cut() -> None:
    assert cut(10, 4) == ((0, 4), (4, 8), (8, 10))
    assert cut(4, 4) == cut(4, 9) == ((0, 4),)


def test_list_bits_of_loihi1() -> None:
    # 64 weights of 8 bits: 10 + 512 = 522 bits, 9 words of 64 = 576. 65 weights: a run of 64 and one of
    # 1 (10 + 8 = 18 bits, one word): 576 + 64.
    assert list_bits(LOIHI1, np.array([0, 1, 64, 65, 128]), 8).tolist() == [0, 64, 576, 640, 1152]


def test_list_bits_of_loihi2() -> None:
    # Headers per run, padding per list: 65 weights are 520 + 2 * 10 = 540 bits, 9 words.
    assert list_bits(LOIHI2, np.array([0, 1, 64, 65, 128]), 8).tolist() == [0, 64, 576, 576, 1088]


@pytest.mark.parametrize(
    ("weights", "bits", "lists", "percent"),
    [
        # mnist/run.ipynb, fully connected, 8-bit weights and a 12-bit index: 64x10, 128x64, 784x50
        (10, 20, 64, 1.60),
        (64, 20, 128, 16.80),
        (50, 20, 784, 78.40),
        # yolo_kp/run.ipynb, convolutions: lists are input channels x taps, the weights of a list the tile's
        # output channels; the layers' weights have 4 to 7 bits.
        (48, 7, 512, 19.20),
        (64, 5, 2304, 86.40),
        (256, 5, 512, 67.20),
        (64, 4, 2304, 72.00),
        (128, 5, 1152, 79.20),
        (128, 5, 576, 39.60),
        (64, 5, 288, 10.80),
        (32, 7, 144, 3.60),
        (16, 6, 27, 0.34),
    ],
)
def test_list_format_reproduces_the_published_tables_of_loihi2(
    weights: int, bits: int, lists: int, percent: float
) -> None:
    assert LOIHI2.synapse_bits is not None
    share = lists * int(list_bits(LOIHI2, weights, bits)) / LOIHI2.synapse_bits
    assert round(100 * share, 2) == percent


def test_oxford_table_of_loihi2() -> None:
    # oxford/run.ipynb prints words: 200 lists of 85 weights take 5,400; 256 lists of 100 take 8,064, that is
    # 31.5 on average where a full list takes 32: some of its weights are zero and not stored.
    assert 200 * int(list_bits(LOIHI2, 85, 20)) // 64 == 5400
    assert int(list_bits(LOIHI2, 100, 20)) // 64 == 32


def test_convolution_on_loihi2() -> None:
    chain = Chain(16, 8, 8)
    name = chain.conv("in", 32)
    network = chain.network()
    halves = (cut(32, 32), cut(8, 4), cut(8, 8))
    got = usage(network, LOIHI2, name, halves)
    # Tile 32 x 4 x 8 = 1024 neurons.
    assert got.neurons.tolist() == [[[1024], [1024]]]
    # 16 channels x 9 taps = 144 lists of 32 weights: 32 * 8 + 10 = 266 bits = 5 words = 320 bits; 144 * 320.
    assert got.synapse_bits.tolist() == [[[46_080], [46_080]]]
    # Rows 0-3 read rows 0-4 (padding above), rows 4-7 read rows 3-7: 5 rows x 8 columns, all channels in one.
    assert got.input_axons.tolist() == [[[40], [40]]]
    assert got.output_axons.tolist() == [[[0], [0]]]
    # No delay: 2 slots a neuron.
    assert got.delay_slots.tolist() == [[[2048], [2048]]]


def test_convolution_on_loihi1_stores_indices() -> None:
    chain = Chain(16, 8, 8)
    name = chain.conv("in", 32)
    # 144 lists of 32 weights with 8 + 10 bits: 32 * 18 + 10 = 586 bits = 10 words = 640 bits.
    assert usage(chain.network(), LOIHI1, name).synapse_bits.item() == 144 * 640


def test_channel_groups_of_a_tile() -> None:
    chain = Chain(16, 4, 4)
    name = chain.conv("in", 32)
    got = usage(chain.network(), LOIHI2, name, (cut(32, 20), cut(4, 4), cut(4, 4)))
    # 20 weights: 170 bits, 3 words; 12 weights: 106 bits, 2 words; each core its share of the kernel.
    assert got.synapse_bits.ravel().tolist() == [144 * 192, 144 * 128]
    # Both cores listen to all 16 pixels.
    assert got.input_axons.ravel().tolist() == [16, 16]


def test_stride_kernel_and_padding_at_the_border() -> None:
    chain = Chain(1, 7, 9)
    name = chain.add("in", Conv2d((2, 3), (1, 0)), weight(1, 1, 3, 2))
    assert chain.network()[name].shape == (1, 4, 3)
    got = usage(chain.network(), LOIHI2, name, (cut(1, 1), cut(4, 2), cut(3, 2)))
    # Rows 0-1 start at -1 and 1 and read 0,1 | 1,2,3: 4 rows. Rows 2-3 start at 3, 5: 3,4,5 | 5,6: 4 rows.
    # Columns 0-1 start at 0, 3: 0,1,3,4; column 2 starts at 6: 6,7. (2, 5 and 8 are read by nobody.)
    assert got.input_axons[0].tolist() == [[16, 8], [16, 8]]


def test_dilation_leaves_holes() -> None:
    chain = Chain(1, 9, 9)
    name = chain.add("in", Conv2d(dilation=(4, 4)), weight(1, 1, 3, 3))
    got = usage(chain.network(), LOIHI2, name, (cut(1, 1), cut(1, 1), cut(1, 1)))
    # One output pixel reads rows and columns 0, 4, 8.
    assert got.input_axons.item() == 9


def test_grouped_convolution() -> None:
    chain = Chain(8, 4, 4)
    name = chain.conv("in", 16, groups=4)  # 2 input and 4 output channels per group
    got = usage(chain.network(), LOIHI2, name, (cut(16, 6), cut(4, 4), cut(4, 4)))
    # Channels 0-5: 4 of group 0, 2 of group 1; 6-11: 2 + 4; 12-15: 4. A list of up to 4 weights takes one
    # word; 2 channels x 9 taps = 18 lists per group touched.
    assert got.synapse_bits.ravel().tolist() == [2 * 18 * 64, 2 * 18 * 64, 18 * 64]


def test_pool() -> None:
    chain = Chain(8, 4, 4)
    name = chain.add("in", SumPool2d((2, 2), (2, 2)), weight())
    got = usage(chain.network(), LOIHI2, name, (cut(8, 4), cut(2, 1), cut(2, 2)))
    # 4 channels x 4 taps, one weight in one word each. A row of the result reads 2 rows of 4 pixels.
    assert got.synapse_bits.ravel().tolist() == [4 * 4 * 64] * 4
    assert got.input_axons.ravel().tolist() == [8] * 4


def test_dense() -> None:
    chain = Chain(3, 2, 2)
    name = chain.add("in", Dense(), weight(100, 12))
    got = usage(chain.network(), LOIHI2, name, (cut(100, 70),))
    # 12 lists. 70 weights of 8 + 12 bits, two headers: 1420 bits = 23 words; 30 weights: 610 bits = 10 words.
    assert got.synapse_bits.tolist() == [12 * 23 * 64, 12 * 10 * 64]
    assert got.input_axons.tolist() == [12, 12]


def test_identity() -> None:
    chain = Chain(4, 3, 3)
    name = chain.add("in", Identity(), weight())
    got = usage(chain.network(), LOIHI2, name, (cut(4, 3), cut(3, 3), cut(3, 3)))
    assert got.input_axons.ravel().tolist() == [27, 9]
    assert got.synapse_bits.ravel().tolist() == [27 * 64, 9 * 64]


@pytest.mark.parametrize(("bits", "words"), [(2, 2), (4, 3), (5, 3), (6, 4), (7, 4), (8, 5)])
def test_narrow_weights_take_less(bits: int, words: int) -> None:
    chain = Chain(1, 4, 4)
    name = chain.add("in", Conv2d(), weight(32, 1, 1, 1, bits=bits))
    # Loihi 2: 32 weights and a header: 74, 138, 170, 202, 234, 266 bits.
    assert usage(chain.network(), LOIHI2, name).synapse_bits.item() == words * 64


def test_seven_bits_are_stored_as_eight_on_loihi1() -> None:
    costs = []
    for bits in (6, 7, 8):
        chain = Chain(1, 4, 4)
        name = chain.add("in", Conv2d(), weight(32, 1, 1, 1, bits=bits))
        costs.append(usage(chain.network(), LOIHI1, name).synapse_bits.item())
    # 32 * (6 + 10) + 10 = 522 bits = 9 words; 32 * (8 + 10) + 10 = 586 bits = 10 words.
    assert costs == [9 * 64, 10 * 64, 10 * 64]


def two_paths(shared: bool, skip: bool) -> Network:
    """Two convolutions into one population: from p1 and from p2, or (skip) from p1 and from p3 behind p2."""
    chain = Chain(4, 4, 4)
    kernel = weight(8, 4, 3, 3)
    a = chain.conv("in", 4)
    b = chain.conv("in", 4)
    if skip:
        b = chain.conv(b, 4)
    target = chain.add(b, Conv2d(padding=(1, 1)), kernel)
    chain.project(a, target, Conv2d(padding=(1, 1)), kernel if shared else weight(8, 4, 3, 3))
    return chain.network()


def test_shared_kernels_are_stored_once() -> None:
    # 4 x 9 lists of 8 weights: 74 bits, 2 words.
    once = 36 * 128
    assert usage(two_paths(True, False), LOIHI2, "p3").synapse_bits.item() == once
    assert usage(two_paths(False, False), LOIHI2, "p3").synapse_bits.item() == 2 * once
    # Each source has its own 16 axons all the same.
    assert usage(two_paths(True, False), LOIHI2, "p3").input_axons.item() == 32


def test_another_delay_is_another_copy_with_the_delay_in_every_weight() -> None:
    network = two_paths(True, True)
    assert [one.delay for one in network.incoming("p4")] == [0, 1]
    # Delayed copy: 8 weights of 8 + 6 bits: 122 bits, 2 words as well on Loihi 2.
    assert usage(network, LOIHI2, "p4").synapse_bits.item() == 2 * 36 * 128
    # On Loihi 1: 8 * 18 + 10 = 154 bits = 3 words; 8 * 24 + 10 = 202 bits = 4 words.
    assert usage(network, LOIHI1, "p4").synapse_bits.item() == 36 * (192 + 256)
    # 128 neurons with delay 1: 4 slots each.
    assert usage(network, LOIHI1, "p4").delay_slots.item() == 128 * 4


@pytest.mark.parametrize(("delay", "slots"), [(0, 2), (1, 4), (2, 4), (3, 8), (6, 8), (7, 16), (62, 64)])
def test_time_slots(delay: int, slots: int) -> None:
    # Davies 2018: 8 slots at 1024 compartments (8192 in all); the 6-bit field reaches 62 with 64 slots.
    assert time_slots(delay) == slots


def test_output_axons_of_a_convolution() -> None:
    chain = Chain(1, 8, 8)
    a = chain.conv("in", 6)
    b = chain.conv(a, 10)
    network = chain.network()
    target = (cut(10, 5), cut(8, 4), cut(8, 8))  # 2 channel groups x 2 halves
    # Rows 3 and 4 are read by both halves, so a row costs 8 pixels x readers (1,1,1,2,2,1,1,1) = 80 in all,
    # times the 2 channel groups of the target: 160; a population axon takes 2 slots on Loihi 1, 1 on Loihi 2.
    assert usage(network, LOIHI2, a, **{b: target}).output_axons.item() == 160
    assert usage(network, LOIHI1, a, **{b: target}).output_axons.item() == 320
    # Cut by rows 0-1, 2-3, 4-5, 6-7: 2 * 8 * (1 + 1, 1 + 2, 2 + 1, 1 + 1).
    got = usage(network, LOIHI2, a, (cut(6, 6), cut(8, 2), cut(8, 8)), **{b: target})
    assert got.output_axons.ravel().tolist() == [32, 48, 48, 32]
    # Cut by channels: every core sends all of its pixels to all.
    got = usage(network, LOIHI2, a, (cut(6, 3), cut(8, 8), cut(8, 8)), **{b: target})
    assert got.output_axons.ravel().tolist() == [160, 160]


def test_output_axons_of_groups_and_pools() -> None:
    chain = Chain(1, 2, 2)
    a = chain.conv("in", 8)
    b = chain.conv(a, 8, kernel=1, groups=4)
    c = chain.add(a, SumPool2d((2, 2), (2, 2)), weight())
    network = chain.network()
    # a in halves of 4 channels; b in pairs of channels: each pair is one group and reads 2 channels of a.
    got = usage(
        network, LOIHI2, a, (cut(8, 4), cut(2, 2), cut(2, 2)), **{b: (cut(8, 2), cut(2, 2), cut(2, 2))}
    )
    # To b: 2 of its 4 cores x 4 pixels. To c (one core): 4 pixels.
    assert got.output_axons.ravel().tolist() == [12, 12]
    # c in two channel halves 0-5, 6-7: the first half of a reaches only c's first core, the second half both.
    got = usage(
        network, LOIHI2, a, (cut(8, 4), cut(2, 2), cut(2, 2)), **{c: (cut(8, 6), cut(1, 1), cut(1, 1))}
    )
    assert got.output_axons.ravel().tolist() == [4 + 4, 4 + 8]


def test_output_axons_of_dense_and_identity() -> None:
    chain = Chain(1, 2, 2)
    a = chain.conv("in", 4)
    chain.add(a, Identity(), weight())
    d = chain.add(a, Dense(), weight(30, 16))
    network = chain.network()
    # 16 neurons: one entry each to the identity's core, one for each of d's 3 cores. Discrete: 1 slot.
    for chip in (LOIHI1, LOIHI2):
        assert usage(network, chip, a, **{d: (cut(30, 10),)}).output_axons.item() == 16 * (1 + 3)


def test_host_projections_cost_nothing() -> None:
    chain = Chain(3, 8, 8, encoding=Encoding.CURRENT)
    name = chain.conv("in", 16, on_host=True)
    got = usage(chain.network(), LOIHI1, name)
    assert (got.neurons.item(), got.synapse_bits.item(), got.input_axons.item()) == (1024, 0, 0)


def test_weights_wider_than_the_chip_are_stored_at_its_width() -> None:
    chain = Chain(1, 1, 1)
    name = chain.add("in", Dense(), Fixed(np.full((32, 1), 254), 0, 9, True), neuron=LIF)
    network = chain.network()
    narrow = replace(network.projections[0], weight=weight(32, 1))
    assert (
        usage(network, LOIHI2, name).synapse_bits.item()
        == usage(network.with_(projections=(narrow,)), LOIHI2, name).synapse_bits.item()
    )
