"""Which core lies where: a space-filling start, then swaps that shorten routes and relieve the busiest links.

``in_order`` is the plain placement, row by row over the mesh; ``place`` improves on it. Everything is
bounded by counts of sweeps, never by time, and draws from one seeded generator: same input, same mapping.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from nmc.chip import Chip
from nmc.ir import IntArray, Mapping, Network, Tile
from nmc.partition.graph import CoreGraph, Traffic, core_graph
from nmc.partition.route import Position, has_mesh, position, positions
from nmc.partition.swap import Layout, improve

__all__ = ["Position", "in_order", "place", "position"]

Box = tuple[str, tuple[tuple[int, int], ...]]
"""A population's name and one half-open range per axis."""
Progress = Callable[[int, int], None]


def in_order(boxes: Sequence[Box]) -> tuple[Tile, ...]:
    """One core per box, in the order of the boxes."""
    return tuple(Tile(name, ranges, core) for core, (name, ranges) in enumerate(boxes))


def place(
    network: Network,
    chip: Chip,
    traffic: Traffic | None = None,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Network:
    """Move whole cores so that spikes take fewer hops and no link is overloaded.

    Contract: MAPPED in, MAPPED out; only core numbers change, tiles that share a core still do. As many
    chips are used as the cores need. Without a mesh in the chip file nothing moves.

    Args:
        traffic: spikes per inference of each population; by default a uniform rate.
        seed: of the swaps' order.
        progress: called with (done, all) sweeps.
    """
    if not has_mesh(chip):
        return network
    graph = core_graph(network, traffic)
    return move(network, graph.cores, best_cores(graph, chip, seed, progress))


def move(network: Network, cores: IntArray, to: IntArray) -> Network:
    """The network with what lies on ``cores[i]`` on core ``to[i]``."""
    assert network.mapping is not None
    table = dict(zip(cores.tolist(), to.tolist(), strict=True))
    tiles = tuple(replace(tile, core=table[tile.core]) for tile in network.mapping.tiles)
    return network.with_(mapping=Mapping(network.mapping.chip, tiles))


def best_cores(graph: CoreGraph, chip: Chip, seed: int = 0, progress: Progress | None = None) -> IntArray:
    """(n,) the new core of each of ``graph.cores``."""
    slots = available(chip, len(graph.cores))
    rows, columns = positions(chip, slots)
    start = Layout.of(graph, rows, columns, curve(rows, columns))
    return slots[improve(start, np.random.default_rng(seed), progress).slot_of]


def available(chip: Chip, count: int) -> IntArray:
    """The cores of the fewest chips that hold ``count``, in the squarest part of the board."""
    if chip.cores_per_chip is None:
        return np.arange(count)
    if chip.board is None:
        return np.arange(max(count, chip.cores_per_chip))
    chips = min(-(-count // chip.cores_per_chip), chip.board.chips)
    shapes = [
        (rows, -(-chips // rows))
        for rows in range(1, chip.board.rows + 1)
        if -(-chips // rows) <= chip.board.columns
    ]
    rows, columns = min(shapes, key=lambda shape: (_half_perimeter(chip, *shape), shape))
    block = [row * chip.board.columns + column for row in range(rows) for column in range(columns)]
    block = [number for number in block if number < chip.board.chips][:chips]
    return np.concatenate([np.arange(chip.cores_per_chip) + number * chip.cores_per_chip for number in block])


def _half_perimeter(chip: Chip, rows: int, columns: int) -> int:
    return rows * (chip.mesh_rows or 1) + columns * (chip.mesh_columns or 1)


def curve(rows: IntArray, columns: IntArray) -> IntArray:
    """Order of the positions along a Hilbert curve; equal positions keep their order."""
    side = 1 << int(max(rows.max(initial=0), columns.max(initial=0), 1)).bit_length()
    x, y = columns.copy(), rows.copy()
    distance = np.zeros_like(x)
    half = side // 2
    while half:
        right, down = (x & half) > 0, (y & half) > 0
        distance += half * half * ((3 * right) ^ down)
        # The standard turn: lower quadrants are transposed, the right one also mirrored.
        mirror = ~down & right
        x, y = np.where(mirror, side - 1 - x, x), np.where(mirror, side - 1 - y, y)
        x, y = np.where(down, x, y), np.where(down, y, x)
        half //= 2
    return np.argsort(distance, kind="stable")
