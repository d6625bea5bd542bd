"""Which core gets which tile: in order, row by row over the mesh, chip by chip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nmc.chip import Chip
from nmc.ir import Tile

Box = tuple[str, tuple[tuple[int, int], ...]]
"""A population's name and one half-open range per axis."""


@dataclass(frozen=True)
class Position:
    """Where a core lies: row and column of its mesh tile."""

    row: int
    column: int


def place(boxes: Sequence[Box]) -> tuple[Tile, ...]:
    """One core per box, in the order of the boxes."""
    return tuple(Tile(name, ranges, core) for core, (name, ranges) in enumerate(boxes))


def position(chip: Chip, core: int) -> Position:
    """Row and column of a core's mesh tile; cores of one mesh tile have consecutive numbers."""
    columns, per_tile = chip.mesh_columns, chip.cores_per_tile
    if columns is None or per_tile is None:
        return Position(0, 0)
    row, column = divmod(core // per_tile, columns)
    return Position(row, column)
