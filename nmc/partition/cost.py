"""What the tiles of a population cost their cores, by formula.

A population is cut into a grid: every axis into intervals; each box of the grid lies on one core. All
costs are then products of one number per axis, so a whole grid is priced at once. ``check.py`` counts
the same from the finished mapping by enumeration.

Sources: list formats and axon slots, nengo-loihi ``block.py`` (``bits_per_axon``, ``slots_per_axon``)
and the utilisation tables quoted in ``chips/loihi2.toml``; population axons, Davies 2018.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from typing import TypeAlias

import numpy as np

from nmc.chip import Chip
from nmc.ir import (
    Conv2d,
    Dense,
    Fixed,
    Identity,
    IntArray,
    Network,
    Population,
    Projection,
    Shape,
    SumPool2d,
    Synapse,
)
from nmc.synapse import parts

Cut: TypeAlias = tuple[tuple[int, int], ...]
"""Half-open intervals that cover one axis, in order."""
Cuts: TypeAlias = tuple[Cut, ...]
"""One Cut per axis of a population."""


@dataclass(frozen=True, eq=False)
class Usage:
    """What each tile of a grid takes of its core; int64, one entry per tile, axes as the population's.

    neurons; synapse_bits of synapse memory; input_axons: table entries where spikes arrive;
    output_axons: entries for the cores that spikes are sent to; delay_slots: neurons times the time
    slots in which delayed input waits.
    """

    neurons: IntArray
    synapse_bits: IntArray
    input_axons: IntArray
    output_axons: IntArray
    delay_slots: IntArray


@dataclass(frozen=True)
class Resource:
    """One limit: the field of ``Usage``, the field of ``Chip`` and the error when one neuron breaks it."""

    usage: str
    limit: str
    words: str
    code: str


RESOURCES = (
    Resource("neurons", "neurons_per_core", "neurons", "NMC-P02"),
    Resource("synapse_bits", "synapse_bits", "bits of synapse memory", "NMC-P02"),
    Resource("input_axons", "input_axons", "input axons", "NMC-P03"),
    Resource("output_axons", "output_axons", "output axons", "NMC-P04"),
    Resource("delay_slots", "delay_slots", "delay slots", "NMC-P02"),
)


def cut(size: int, length: int) -> Cut:
    """Intervals of the given length; the last may be shorter."""
    return tuple((start, min(start + length, size)) for start in range(0, size, length))


def list_bits(chip: Chip, weights: IntArray | int, bits_per_weight: int) -> IntArray:
    """Memory of synapse lists with that many weights each.

    Runs of at most ``run_length`` weights, each with a header; padded to words per run or per list.
    """
    count = np.asarray(weights, np.int64)
    full, rest = np.divmod(count, chip.run_length)

    def words(bits: IntArray | int) -> IntArray:
        return np.asarray(-(-np.asarray(bits, np.int64) // chip.word_bits) * chip.word_bits)

    header = chip.run_header_bits
    if chip.pad_runs:
        last = np.where(rest > 0, words(rest * bits_per_weight + header), 0)
        return np.asarray(full * words(chip.run_length * bits_per_weight + header) + last)
    return words(count * bits_per_weight + header * (full + (rest > 0)))


def bits_per_weight(chip: Chip, projection: Projection) -> int:
    """Width of one stored weight: its code, its index in the list, and its delay where there is one."""
    assert isinstance(projection.weight, Fixed)
    shared = isinstance(projection.synapse, (Conv2d, SumPool2d))
    index = chip.kernel_index_bits if shared else chip.dense_index_bits
    return chip.stored_bits(projection.weight.bits) + index + (chip.delay_bits if projection.delay else 0)


def time_slots(delay: int) -> int:
    """Steps that input may wait: a power of two that holds the delay, the step itself and the next one."""
    return 1 << (delay + 1).bit_length()


def reached(
    synapse: Conv2d | SumPool2d, axis: int, kernel: int, size: int, start: int, stop: int
) -> IntArray:
    """Source rows (axis 0) or columns (axis 1) of ``size`` that target rows start..stop read, sorted."""
    dilation = synapse.dilation[axis] if isinstance(synapse, Conv2d) else 1
    first = np.arange(start, stop) * synapse.stride[axis] - synapse.padding[axis]
    positions = np.unique(first[:, None] + np.arange(kernel) * dilation)
    return positions[(positions >= 0) & (positions < size)]


def _outer(*factors: IntArray) -> IntArray:
    return np.asarray(reduce(np.multiply.outer, factors))


def kernel_of(projection: Projection) -> tuple[int, int]:
    """Rows and columns of a convolution's or pool's window."""
    if isinstance(projection.synapse, SumPool2d):
        return projection.synapse.kernel
    shape = projection.weight_shape
    return shape[2], shape[3]


def _sizes(intervals: Cut) -> IntArray:
    return np.array([stop - start for start, stop in intervals], np.int64)


def grid_usage(
    network: Network, chip: Chip, population: Population, cuts: Cuts, target_cuts: Mapping[str, Cuts]
) -> Usage:
    """Price every tile of a population that is cut so.

    Args:
        network: QUANTIZED.
        chip: list formats and slots; its limits are not looked at.
        population: the one that is cut.
        cuts: how.
        target_cuts: how its targets are cut, by name.
    """
    neurons = _outer(*(_sizes(intervals) for intervals in cuts))
    incoming = [one for one in network.incoming(population.name) if not one.on_host]
    bits, arriving = np.zeros_like(neurons), np.zeros_like(neurons)
    stored: set[tuple[int, int, Synapse]] = set()
    for projection in incoming:
        source = network[projection.source]
        arriving += _input_axons(projection, source, population, cuts, neurons)
        # Lists are kept once per core for all projections that share weights, delay and operator.
        key = (id(projection.weight), projection.delay, projection.synapse)
        if key not in stored:
            stored.add(key)
            bits += _synapse_bits(chip, projection, source, population, cuts, neurons)
    sent = np.zeros_like(neurons)
    for projection in network.outgoing(population.name):
        sent += _output_axons(chip, projection, population, cuts, neurons, target_cuts[projection.target])
    slots = time_slots(max((one.delay for one in incoming), default=0))
    return Usage(neurons, bits, arriving, sent, neurons * slots)


def one_neuron(network: Network, chip: Chip, population: Population) -> tuple[int, int]:
    """(bits of synapse memory, input axons) that one neuron away from the border takes of its core.

    Delays are left out, as if every kernel were stored once.
    """
    cuts = ((0, 1),), *(((0, 1),) for _ in population.shape[1:])
    alone = np.ones((1,) * len(population.shape), np.int64)
    bits = axons = 0
    stored: set[tuple[int, Synapse]] = set()
    for one in network.incoming(population.name):
        source = network[one.source]
        if one.on_host:
            continue
        if isinstance(one.synapse, Conv2d | SumPool2d):
            axons += int(np.prod(np.minimum(kernel_of(one), source.shape[1:])))
        else:
            axons += int(_input_axons(one, source, population, cuts, alone).max())
        if (id(one.weight), one.synapse) not in stored:
            stored.add((id(one.weight), one.synapse))
            bits += int(_synapse_bits(chip, replace(one, delay=0), source, population, cuts, alone).max())
    return bits, axons


def _input_axons(
    projection: Projection, source: Population, target: Population, cuts: Cuts, neurons: IntArray
) -> IntArray:
    """Convolution and pool: one population axon per source pixel that the tile reads, whatever the channels.

    Dense: one per source neuron. Identity: one per neuron of the tile and part of the source.
    """
    synapse = projection.synapse
    if isinstance(synapse, Dense):
        return np.full_like(neurons, source.size)
    if isinstance(synapse, Identity):
        return neurons * parts(synapse, source.size, target.size)
    kernel = kernel_of(projection)
    rows, columns = (
        np.array(
            [reached(synapse, axis, kernel[axis], source.shape[1 + axis], *i).size for i in cuts[1 + axis]]
        )
        for axis in (0, 1)
    )
    return _outer(np.ones(len(cuts[0]), np.int64), rows, columns)


def _synapse_bits(
    chip: Chip,
    projection: Projection,
    source: Population,
    target: Population,
    cuts: Cuts,
    neurons: IntArray,
) -> IntArray:
    """Convolution: a list per input channel and tap, with the tile's output channels of that group.

    It is stored once per core, whatever the number of pixels. Pool: the same, every channel a group.
    Dense: a list per source neuron with the tile's neurons. Identity: a list of one weight per synapse.
    """
    width = bits_per_weight(chip, projection)
    synapse = projection.synapse
    if isinstance(synapse, Dense):
        return source.size * list_bits(chip, neurons, width)
    if isinstance(synapse, Identity):
        return neurons * parts(synapse, source.size, target.size) * list_bits(chip, 1, width)
    per_cut = kernel_bits(chip, projection, cuts[0])
    return _outer(per_cut, *(np.ones(len(intervals), np.int64) for intervals in cuts[1:]))


def kernel_bits(chip: Chip, projection: Projection, channels: Cut) -> IntArray:
    """Memory of the lists of a convolution or pool, per interval of output channels."""
    synapse, width = projection.synapse, bits_per_weight(chip, projection)
    taps = int(np.prod(kernel_of(projection)))
    if isinstance(synapse, SumPool2d):
        return np.asarray(_sizes(channels) * taps * list_bits(chip, 1, width))
    assert isinstance(synapse, Conv2d)
    c_out, c_in = projection.weight_shape[:2]
    per_group = c_out // synapse.groups
    if synapse.groups == 1:
        return np.asarray(c_in * taps * list_bits(chip, _sizes(channels), width))
    return _grouped_lists(chip, np.array(channels, np.int64), per_group, width) * c_in * taps


def _grouped_lists(chip: Chip, channels: IntArray, per_group: int, width: int) -> IntArray:
    """Memory of one list per group that intervals (k, 2) of channels touch, with their channels of it."""
    start, stop = channels.T
    first, last = start // per_group, (stop - 1) // per_group
    head = np.minimum(stop, (first + 1) * per_group) - start
    tail = np.where(last > first, stop - last * per_group, 0)
    whole = np.maximum(last - first - 1, 0) * list_bits(chip, per_group, width)
    return np.asarray(list_bits(chip, head, width) + list_bits(chip, tail, width) + whole)


def _output_axons(
    chip: Chip, projection: Projection, source: Population, cuts: Cuts, neurons: IntArray, target_cuts: Cuts
) -> IntArray:
    """Entries of the source's tiles for one projection.

    Convolution and pool: per pixel of the tile and core that reads it, ``population_slots``. Dense: per
    neuron and core; identity: per neuron; both ``discrete_slots``.
    """
    synapse = projection.synapse
    if isinstance(synapse, Dense):
        return neurons * len(target_cuts[0]) * chip.discrete_slots
    if isinstance(synapse, Identity):
        return neurons * chip.discrete_slots
    readers = readers_per_position(projection, source.shape, target_cuts)
    pixels = [
        np.array([one[start:stop].sum() for start, stop in cuts[1 + axis]])
        for axis, one in enumerate(readers)
    ]
    return _outer(groups_reached(projection, cuts[0], target_cuts), *pixels) * chip.population_slots


def readers_per_position(
    projection: Projection, source: Shape, target_cuts: Cuts
) -> tuple[IntArray, IntArray]:
    """How many intervals of the target's rows (columns) read each row (column) of a plane's source."""
    synapse, kernel = projection.synapse, kernel_of(projection)
    assert isinstance(synapse, (Conv2d, SumPool2d))
    first, second = (
        _readers(synapse, axis, kernel[axis], source[1 + axis], target_cuts[1 + axis]) for axis in (0, 1)
    )
    return first, second


@lru_cache(maxsize=1024)
def _readers(synapse: Conv2d | SumPool2d, axis: int, kernel: int, size: int, cuts: Cut) -> IntArray:
    """How many of the intervals read each of a source's positions; deep networks ask this again and again."""
    readers = np.zeros(size, np.int64)
    for start, stop in cuts:
        readers[reached(synapse, axis, kernel, size, start, stop)] += 1
    readers.setflags(write=False)
    return readers


def groups_reached(projection: Projection, channels: Cut, target_cuts: Cuts) -> IntArray:
    """Per interval of the source's channels: intervals of the target's channels that read one of them."""
    read = np.array([channels_read(projection, *interval) for interval in target_cuts[0]])
    mine = np.array(channels)
    touch = (read[:, 0] < mine[:, 1:]) & (mine[:, :1] < read[:, 1])
    return np.asarray(touch.sum(axis=1))


def channels_read(projection: Projection, start: int, stop: int) -> tuple[int, int]:
    """Source channels that the target channels start..stop read, as a half-open interval."""
    if isinstance(projection.synapse, SumPool2d):
        return start, stop
    assert isinstance(projection.synapse, Conv2d)
    c_out, c_in = projection.weight_shape[:2]
    per_group = c_out // projection.synapse.groups
    return start // per_group * c_in, -(-stop // per_group) * c_in
