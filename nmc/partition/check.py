"""The independent checker: it reads the finished mapping, enumerates synapses and counts again.

It shares no code with ``cost.py`` and ``tile.py``: there, costs are products of intervals; here every
pair of a source pixel and a core that reads it is listed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nmc.chip import Chip
from nmc.errors import NmcError
from nmc.ir import (
    Conv2d,
    Dense,
    Fixed,
    Identity,
    IntArray,
    Network,
    Population,
    Projection,
    SumPool2d,
    Tile,
)


@dataclass(frozen=True)
class Use:
    """used of allowed; allowed is None where the chip states no limit."""

    used: int
    allowed: int | None

    @property
    def share(self) -> float | None:
        """0..1, None without a limit."""
        return None if self.allowed is None else self.used / self.allowed


@dataclass(frozen=True)
class CoreUse:
    """What one core holds.

    label: the user's names of its layers. tile_bits: (population, bits of synapse memory) of each of its
    tiles; every tile keeps lists and axons of its own.
    """

    core: int
    label: str
    tile_bits: tuple[tuple[str, int], ...]
    populations: Use
    threshold_profiles: Use
    neurons: Use
    synapse_bits: Use
    input_axons: Use
    output_axons: Use
    delay_slots: Use

    def resources(self) -> dict[str, Use]:
        """By the words that messages use."""
        return {
            "populations": self.populations,
            "threshold profiles": self.threshold_profiles,
            "neurons": self.neurons,
            "bits of synapse memory": self.synapse_bits,
            "input axons": self.input_axons,
            "output axons": self.output_axons,
            "delay slots": self.delay_slots,
        }


def check_mapping(network: Network, chip: Chip) -> tuple[CoreUse, ...]:
    """Recompute every limit from the mapping alone.

    Returns:
        What each core holds, by core number.

    Raises:
        NmcError: NMC-P05 naming layer, limit, used and allowed: a neuron on no core or on two, a core outside
            of the chip or with too many tiles, a limit of a core, a wrong level, a delay or a payload that
            the chip has not got.
    """
    if network.mapping is None or network.mapping.chip != chip.name:
        mapped = network.mapping.chip if network.mapping else "no chip"
        raise NmcError(
            "NMC-P05", network.name, f"is mapped to {mapped}, not to {chip.name}", "compile it again"
        )
    _check_times(network, chip)
    owners = _owners(network, chip)
    arriving: Counts = defaultdict(int)
    sent: Counts = defaultdict(int)
    for projection in network.projections:
        if not projection.on_host and _in_its_lists(network, projection)[0] is projection:
            _count_axons(network, chip, projection, owners, arriving, sent)
    uses = []
    tiles: dict[int, list[Tile]] = defaultdict(list)
    for tile in network.mapping.tiles:
        tiles[tile.core].append(tile)
    for core in sorted(tiles):
        use = _use(network, chip, core, tiles[core], (arriving[core], sent[core]))
        for words, one in use.resources().items():
            if one.allowed is not None and one.used > one.allowed:
                raise _broken(use.label, f"core {core}", words, one.used, one.allowed)
        uses.append(use)
    return tuple(uses)


Counts = defaultdict[int, int]
Owners = dict[str, IntArray]


def _broken(who: str, where: str, words: str, used: int, allowed: int) -> NmcError:
    return NmcError(
        "NMC-P05",
        who,
        f"{where} has {used:,} {words}, allowed are {allowed:,}",
        measured=used,
        allowed=allowed,
    )


def _check_times(network: Network, chip: Chip) -> None:
    """Levels follow from delays; delays and payloads exist on the chip."""
    for one in network.projections:
        source, target = network[one.source], network[one.target]
        if one.delay > chip.max_delay:
            raise _broken(target.label, f"projection {one.name}", "steps of delay", one.delay, chip.max_delay)
        arrival = source.time + (0 if one.on_host else 1 + one.delay - one.lag)
        if not one.on_host and arrival != target.time:
            raise NmcError(
                "NMC-P05",
                target.label,
                f"data of {source.label} arrive at step {arrival}, it runs from {target.time}",
            )
        bits = len(f"{source.max_payload:b}") if source.max_payload > 1 else 0
        if not one.on_host and bits > chip.payload_bits:
            raise _broken(source.label, "a spike", "payload bits", bits, chip.payload_bits)


def _owners(network: Network, chip: Chip) -> Owners:
    """The core of every neuron, in the population's shape."""
    assert network.mapping is not None
    owners: Owners = {one.name: np.full(one.shape, -1, np.int64) for one in network.compute}
    for tile in network.mapping.tiles:
        if tile.population not in owners:
            raise NmcError("NMC-P05", tile.population, "is mapped but is no population that takes cores")
        label = network[tile.population].label
        if tile.core < 0 or (chip.cores is not None and tile.core >= chip.cores):
            raise NmcError(
                "NMC-P05",
                label,
                f"lies on core {tile.core}, {chip.name} has cores 0 to {(chip.cores or 0) - 1}",
                measured=tile.core,
                allowed=None if chip.cores is None else chip.cores - 1,
            )
        owner = owners[tile.population]
        inside = len(tile.ranges) == owner.ndim and all(
            0 <= start < stop <= size for (start, stop), size in zip(tile.ranges, owner.shape, strict=False)
        )
        if not inside:
            raise NmcError("NMC-P05", label, f"tile {tile.ranges} is no box of {owner.shape}")
        box = owner[tuple(slice(start, stop) for start, stop in tile.ranges)]
        if (box >= 0).any():
            raise _broken(label, f"{int((box >= 0).sum()):,} of its neurons: each", "cores", 2, 1)
        box[...] = tile.core
    for name, owner in owners.items():
        if (owner < 0).any():
            raise NmcError(
                "NMC-P05", network[name].label, f"{int((owner < 0).sum()):,} neurons lie on no core"
            )
    return owners


# --- axons ------------------------------------------------------------------------------------------


def _count_axons(
    network: Network, chip: Chip, projection: Projection, owners: Owners, arriving: Counts, sent: Counts
) -> None:
    """Add one projection's entries to the cores where its spikes arrive and to those that send them."""
    source = network[projection.source]
    inner = owners.get(source.name)
    target = owners[projection.target]
    shared = isinstance(projection.synapse, (Conv2d, SumPool2d))
    slots = chip.population_slots if shared else chip.discrete_slots
    # One entry where a core listens to an axon, one for each core that sends it to this one.
    width = 1 + max(int(owner.max()) for owner in owners.values())
    listened, linked = [], []
    for unit, sender, reader in _pairs(projection, source, inner, target):
        listened.append(np.unique(unit * width + reader))
        linked.append(np.unique((unit * width + reader) * width + sender))
    _add(arriving, np.unique(np.concatenate(listened)) % width, 1)
    if inner is not None:
        _add(sent, np.unique(np.concatenate(linked)) % width, slots)


def _add(counts: Counts, cores: IntArray, each: int) -> None:
    found, times = np.unique(cores, return_counts=True)
    for core, number in zip(found.tolist(), times.tolist(), strict=True):
        counts[core] += number * each


def _pairs(
    projection: Projection, source: Population, inner: IntArray | None, target: IntArray
) -> Iterator[tuple[IntArray, IntArray, IntArray]]:
    """(axon's pixel or neuron in the source, sending core, reading core), repetitions allowed."""
    senders = np.zeros(source.shape, np.int64) if inner is None else inner
    if isinstance(projection.synapse, Identity):
        readers = np.resize(target.reshape(-1), source.size)  # its parts follow each other
        yield np.arange(source.size), senders.reshape(-1), readers
    elif isinstance(projection.synapse, Dense):
        for core in np.unique(target):
            yield np.arange(source.size), senders.reshape(-1), np.full(source.size, core)
    else:
        yield from _plane_pairs(projection, senders, target)


def _plane_pairs(
    projection: Projection, senders: IntArray, target: IntArray
) -> Iterator[tuple[IntArray, IntArray, IntArray]]:
    """Every tap of every target pixel, for each pair of channel groups that lie on different cores."""
    synapse = projection.synapse
    assert isinstance(synapse, (Conv2d, SumPool2d))
    kernel = synapse.kernel if isinstance(synapse, SumPool2d) else _mant(projection).shape[2:]
    dilation = synapse.dilation if isinstance(synapse, Conv2d) else (1, 1)
    _, height, width = senders.shape
    planes = _distinct_planes(projection, senders, target)
    for ky in range(kernel[0]):
        for kx in range(kernel[1]):
            y = np.arange(target.shape[1]) * synapse.stride[0] + ky * dilation[0] - synapse.padding[0]
            x = np.arange(target.shape[2]) * synapse.stride[1] + kx * dilation[1] - synapse.padding[1]
            rows, columns = np.nonzero((y >= 0) & (y < height))[0], np.nonzero((x >= 0) & (x < width))[0]
            pixel = (y[rows, None] * width + x[columns]).reshape(-1)
            for from_channel, to_channel in planes:
                sender = senders[from_channel].reshape(-1)[pixel]
                yield pixel, sender, target[to_channel][np.ix_(rows, columns)].reshape(-1)


def _distinct_planes(projection: Projection, senders: IntArray, target: IntArray) -> set[tuple[int, int]]:
    """Connected (source channel, target channel), one of each kind: channels on the same cores are alike."""
    first_sender = np.unique(
        senders.reshape(len(senders), -1), axis=0, return_index=True, return_inverse=True
    )
    first_target = np.unique(target.reshape(len(target), -1), axis=0, return_index=True, return_inverse=True)
    pairs: set[tuple[int, int]] = set()
    for channel in range(len(target)):
        if isinstance(projection.synapse, Conv2d):
            c_out, c_in = _mant(projection).shape[:2]
            group = channel * projection.synapse.groups // c_out
            read = range(group * c_in, (group + 1) * c_in)
        else:
            read = range(channel, channel + 1)
        to_kind = int(first_target[1][first_target[2].reshape(-1)[channel]])
        kinds = np.unique(first_sender[2].reshape(-1)[list(read)])
        pairs.update((int(first_sender[1][kind]), to_kind) for kind in kinds)
    return pairs


def _mant(projection: Projection) -> IntArray:
    assert isinstance(projection.weight, Fixed)
    return projection.weight.mant


# --- memory -----------------------------------------------------------------------------------------


def _use(network: Network, chip: Chip, core: int, tiles: list[Tile], axons: tuple[int, int]) -> CoreUse:
    """One core; ``axons``: entries that arrive and that are sent."""
    neurons = slots = profiles = 0
    bits = []
    for tile in tiles:
        incoming = [one for one in network.incoming(tile.population) if not one.on_host]
        done: list[Projection] = []
        memory = 0
        for one in incoming:
            first = _in_its_lists(network, one)[0] is one
            if first and not any(_same_lists(one, other) for other in done):
                done.append(one)
                memory += _memory(network, chip, one, tile)
        bits.append((tile.population, memory))
        waiting = 1
        while waiting < max((one.delay for one in incoming), default=0) + 2:
            waiting *= 2
        neurons += tile.size
        slots += tile.size * waiting
        profiles += _thresholds(network[tile.population], tile)
    labels = dict.fromkeys(network[tile.population].label for tile in tiles)
    return CoreUse(
        core=core,
        label=" + ".join(labels),
        tile_bits=tuple(bits),
        populations=Use(len(tiles), chip.populations_per_core),
        threshold_profiles=Use(profiles, chip.threshold_profiles),
        neurons=Use(neurons, chip.neurons_per_core),
        synapse_bits=Use(sum(memory for _, memory in bits), chip.synapse_bits),
        input_axons=Use(axons[0], chip.input_axons),
        output_axons=Use(axons[1], chip.output_axons),
        delay_slots=Use(slots, chip.delay_slots),
    )


def _thresholds(population: Population, tile: Tile) -> int:
    """Different thresholds in a tile."""
    vth = getattr(population.neuron, "vth", None)
    if vth is None:
        return 0
    if vth.mant.size == 1:
        return 1
    mine = np.broadcast_to(vth.mant, population.shape)[tuple(slice(*one) for one in tile.ranges)]
    return len(np.unique(mine))


def _in_its_lists(network: Network, projection: Projection) -> list[Projection]:
    """Projections whose weights stand in one list per source neuron, each weight with its delay.

    They join the same populations by the same operator in the same format, and no neuron has weights in two.
    """
    if isinstance(projection.synapse, (Conv2d, Dense)):
        alike = [
            one
            for one in network.incoming(projection.target)
            if _format(one) == _format(projection) and not one.on_host
        ]
        if len(alike) > 1:
            rows = np.stack([_mant(one).reshape(len(_mant(one)), -1).any(axis=1) for one in alike])
            if np.count_nonzero(rows, axis=0).max() < 2:
                return alike
    return [projection]


def _format(one: Projection) -> tuple[object, ...]:
    weight = one.weight
    assert isinstance(weight, Fixed)
    return (one.source, one.synapse, weight.mant.shape, weight.exp, weight.bits, weight.signed)


def _same_lists(a: Projection, b: Projection) -> bool:
    return a.weight is b.weight and a.delay == b.delay and a.synapse == b.synapse


def _memory(network: Network, chip: Chip, projection: Projection, tile: Tile) -> int:
    """Bits of all lists that one core stores for a projection, list by list."""
    total = 0
    delayed = any(one.delay for one in _in_its_lists(network, projection))
    for count, length in _lists(network, projection, tile).items():
        total += length * _list_bits(chip, projection, count, delayed=delayed)
    return total


def _lists(network: Network, projection: Projection, tile: Tile) -> dict[int, int]:
    """How many lists of how many weights: {weights: lists}."""
    synapse = projection.synapse
    lists: dict[int, int] = defaultdict(int)
    if isinstance(synapse, Identity):
        joined = network[projection.source].size // network[projection.target].size
        lists[1] = joined * tile.size
    elif isinstance(synapse, Dense):
        lists[tile.size] = network[projection.source].size
    elif isinstance(synapse, SumPool2d):
        for _ in range(*tile.ranges[0]):
            lists[1] += synapse.kernel[0] * synapse.kernel[1]
    else:
        c_out, c_in, kernel_h, kernel_w = _mant(projection).shape
        members: dict[int, int] = defaultdict(int)
        for channel in range(*tile.ranges[0]):
            members[channel * synapse.groups // c_out] += 1
        for count in members.values():
            lists[count] += c_in * kernel_h * kernel_w
    return lists


def _list_bits(chip: Chip, projection: Projection, weights: int, *, delayed: bool) -> int:
    """One list, run by run."""
    assert isinstance(projection.weight, Fixed)
    code = chip.weight_bits
    for candidate in sorted(chip.weight_codes, reverse=True):
        if candidate >= projection.weight.bits:
            code = candidate
    kernel = isinstance(projection.synapse, (Conv2d, SumPool2d))
    each = code + (chip.kernel_index_bits if kernel else chip.dense_index_bits)
    if delayed:
        each += chip.delay_bits
    total = 0
    while weights > 0:
        run = min(weights, chip.run_length)
        total += chip.run_header_bits + run * each
        if chip.pad_runs:
            total += -total % chip.word_bits
        weights -= run
    return total + -total % chip.word_bits
