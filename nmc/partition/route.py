"""Routes over the mesh: along the row first, then along the column; hops and loads of every link.

The chips of a board form one mesh; a link between two chips counts as one hop. Cores of one mesh tile share
a router, so that between them there is no hop.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nmc.chip import Chip
from nmc.ir import FloatArray, IntArray
from nmc.partition.graph import CoreGraph

DIRECTIONS = ("east", "west", "south", "north")


@dataclass(frozen=True)
class Position:
    """Where a core lies: row and column of its router in the mesh of all chips."""

    row: int
    column: int


def has_mesh(chip: Chip) -> bool:
    """Whether the chip file says how cores are linked."""
    return None not in (chip.mesh_rows, chip.mesh_columns, chip.cores_per_tile)


def positions(chip: Chip, cores: IntArray) -> tuple[IntArray, IntArray]:
    """Rows and columns of the cores' routers; all (0, 0) on a chip without a mesh.

    Cores of a router have consecutive numbers, routers count row by row, chips row by row of the board.
    """
    if chip.mesh_rows is None or chip.mesh_columns is None or chip.cores_per_tile is None:
        return np.zeros_like(cores), np.zeros_like(cores)
    per_chip = chip.cores_per_chip or chip.mesh_rows * chip.mesh_columns * chip.cores_per_tile
    number, local = np.divmod(cores, per_chip)
    chip_row, chip_column = np.divmod(number, 1 if chip.board is None else chip.board.columns)
    row, column = np.divmod(local // chip.cores_per_tile, chip.mesh_columns)
    return chip_row * chip.mesh_rows + row, chip_column * chip.mesh_columns + column


def position(chip: Chip, core: int) -> Position:
    """Where one core lies."""
    row, column = positions(chip, np.array([core]))
    return Position(int(row[0]), int(column[0]))


@dataclass(frozen=True, eq=False)
class Links:
    """One number per directed link, (rows, columns) each: the link that leaves router (row, column)."""

    east: FloatArray
    west: FloatArray
    south: FloatArray
    north: FloatArray

    @property
    def worst(self) -> float:
        return max(float(getattr(self, name).max(initial=0.0)) for name in DIRECTIONS)


@dataclass(frozen=True, eq=False)
class Routing:
    """What a placement costs, per inference.

    spike_hops: spikes times links passed. spikes: messages between routers or not. crossings: spikes that
    pass from chip to chip, once per link between chips. worst_link: spikes on the busiest link, ``worst_at``.
    """

    spikes: float
    spike_hops: float
    worst_link: float
    worst_at: tuple[str, int, int]
    crossings: float
    links: Links

    @property
    def mean_hops(self) -> float:
        return self.spike_hops / self.spikes if self.spikes else 0.0


def loads(
    rows: tuple[IntArray, IntArray],
    columns: tuple[IntArray, IntArray],
    spikes: FloatArray,
    shape: tuple[int, int],
) -> Links:
    """Spikes on every link.

    Args:
        rows, columns: of senders and receivers, (e,) each.
        spikes: (e,)
        shape: rows and columns of the mesh.
    """
    (r0, r1), (c0, c1) = rows, columns
    return Links(
        east=_spans(r0, c0, c1, spikes, shape),
        west=_spans(r0, shape[1] - 1 - c0, shape[1] - 1 - c1, spikes, shape)[:, ::-1],
        south=_spans(c1, r0, r1, spikes, shape[::-1]).T,
        north=_spans(c1, shape[0] - 1 - r0, shape[0] - 1 - r1, spikes, shape[::-1])[:, ::-1].T,
    )


def _spans(
    line: IntArray, start: IntArray, stop: IntArray, spikes: FloatArray, shape: tuple[int, int]
) -> FloatArray:
    """Sum of the spikes over start..stop of each line, where start < stop."""
    lines, length = shape
    ahead = stop > start
    flat, weight = line[ahead] * length, spikes[ahead]
    size = lines * length
    change = np.bincount(flat + start[ahead], weight, size) - np.bincount(flat + stop[ahead], weight, size)
    return np.asarray(np.maximum(np.cumsum(change.reshape(shape), axis=1), 0.0))


def mesh_shape(chip: Chip, cores: IntArray) -> tuple[int, int]:
    """Rows and columns of the smallest mesh from the origin that holds the cores."""
    row, column = positions(chip, cores)
    return int(row.max(initial=0)) + 1, int(column.max(initial=0)) + 1


def route(chip: Chip, graph: CoreGraph) -> Routing:
    """Send every edge of the graph over the mesh."""
    r0, c0 = positions(chip, graph.source)
    r1, c1 = positions(chip, graph.target)
    links = loads((r0, r1), (c0, c1), graph.spikes, mesh_shape(chip, graph.cores))
    name = max(DIRECTIONS, key=lambda one: float(getattr(links, one).max(initial=0.0)))
    row, column = np.unravel_index(int(getattr(links, name).argmax()), links.east.shape)
    return Routing(
        spikes=graph.total,
        spike_hops=float((graph.spikes * (np.abs(r0 - r1) + np.abs(c0 - c1))).sum()),
        worst_link=links.worst,
        worst_at=(name, int(row), int(column)),
        crossings=_crossings(chip, links),
        links=links,
    )


def _crossings(chip: Chip, links: Links) -> float:
    """Spikes on the links between chips."""
    if chip.mesh_rows is None or chip.mesh_columns is None:
        return 0.0
    rows, columns = chip.mesh_rows, chip.mesh_columns
    return float(
        links.east[:, columns - 1 :: columns].sum()
        + links.west[:, columns::columns].sum()
        + links.south[rows - 1 :: rows].sum()
        + links.north[rows::rows].sum()
    )
