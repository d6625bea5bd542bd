"""Put small tiles of several populations on one core, where the chip allows it.

Every tile keeps its own lists and axons, so what a core holds is at most the sum over its tiles.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np

from nmc.chip import Chip
from nmc.ir import FixedNeuron, IntArray, Mapping, Network, Population, Tile
from nmc.partition.cost import RESOURCES, Cuts, grid_usage
from nmc.partition.stored import as_stored

UNLIMITED = 1 << 62


def share(network: Network, chip: Chip) -> Network:
    """Fewer cores: the fullest tiles first, each onto the first core with room.

    Contract: MAPPED with a grid of tiles per population, one tile per core, in; MAPPED out, cores numbered
    anew in the order of their first tiles.
    """
    assert network.mapping is not None
    if chip.populations_per_core == 1:
        return network
    tiles = network.mapping.tiles
    room = _limits(chip)
    core = _first_fit(_loads(as_stored(network), chip, tiles), room)
    seen: dict[int, int] = {}
    moved = tuple(
        replace(tile, core=seen.setdefault(number, len(seen)))
        for tile, number in zip(tiles, core.tolist(), strict=True)
    )
    return network.with_(mapping=Mapping(network.mapping.chip, moved))


def _limits(chip: Chip) -> IntArray:
    """Room of a core: populations, threshold profiles, then ``RESOURCES``."""
    limits = [chip.populations_per_core, chip.threshold_profiles]
    limits += [getattr(chip, resource.limit) for resource in RESOURCES]
    return np.array([UNLIMITED if one is None else one for one in limits], np.int64)


def _loads(network: Network, chip: Chip, tiles: tuple[Tile, ...]) -> IntArray:
    """(tiles, limits): what each tile takes."""
    axes: dict[str, list[set[tuple[int, int]]]] = {}
    for tile in tiles:
        for intervals, interval in zip(
            axes.setdefault(tile.population, [set() for _ in tile.ranges]), tile.ranges, strict=True
        ):
            intervals.add(interval)
    cuts: dict[str, Cuts] = {name: tuple(tuple(sorted(one)) for one in grid) for name, grid in axes.items()}
    price: dict[tuple[str, tuple[tuple[int, int], ...]], IntArray] = {}
    for name, grid in cuts.items():
        population = network[name]
        usage = grid_usage(network, chip, population, grid, cuts)
        columns = [getattr(usage, resource.usage).reshape(-1) for resource in RESOURCES]
        ones = np.ones_like(columns[0])
        rows = np.stack([ones, ones * profiles(population), *columns], axis=1)
        price |= dict(zip(((name, box) for box in itertools.product(*grid)), rows, strict=True))
    return np.stack([price[tile.population, tile.ranges] for tile in tiles])


def profiles(population: Population) -> int:
    """Different thresholds of a population."""
    neuron = population.neuron
    if not isinstance(neuron, FixedNeuron) or neuron.vth is None:
        return 0
    return len(np.unique(neuron.vth.mant))


def _first_fit(loads: IntArray, room: IntArray) -> IntArray:
    """The core of every tile; full ones come first, so that small ones fill what is left."""
    fill = (loads / room).max(axis=1)
    cores = np.empty(len(loads), np.int64)
    free = np.empty((len(loads), len(room)), np.int64)
    numbers = np.empty(len(loads), np.int64)
    open_cores = used = 0
    smallest = loads.min(axis=0)
    for tile in np.argsort(-fill, kind="stable").tolist():
        fitting = np.flatnonzero((free[:open_cores] >= loads[tile]).all(axis=1))
        if len(fitting):
            at = int(fitting[0])
        else:
            at, open_cores = open_cores, open_cores + 1
            free[at], numbers[at] = room, used
            used += 1
        free[at] -= loads[tile]
        cores[tile] = numbers[at]
        if (free[at] < smallest).any():
            # No tile of all fits any more: closed, the last open one takes its place.
            open_cores -= 1
            free[at], numbers[at] = free[open_cores], numbers[open_cores]
    return cores
