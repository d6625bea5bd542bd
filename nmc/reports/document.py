"""What a renderer gets: tables of strings, facts, and the same thing as data for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Column:
    """A title and the text of every row's cell.

    rank: columns of the highest rank are left out first where space is short; 0 always stays.
    """

    title: str
    cells: tuple[str, ...]
    numeric: bool = False
    rank: int = 0


@dataclass(frozen=True)
class Table:
    """Columns of equal length; ``has_total``: the last row is the total of the others."""

    title: str
    columns: tuple[Column, ...]
    has_total: bool = False

    def rows(self) -> list[tuple[str, ...]]:
        """The cells, row by row."""
        return list(zip(*(column.cells for column in self.columns), strict=True))


def table_of(title: str, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table of plain texts, given row by row."""
    columns = zip(*rows, strict=True) if rows else [()] * len(titles)
    return Table(title, tuple(Column(*one) for one in zip(titles, map(tuple, columns), strict=True)))


@dataclass(frozen=True)
class Document:
    """A result of a command.

    kind: the JSON document says ``"schema": "nmc.<kind>/1"``. data: its other members. facts: (what,
    value) lines below the tables. pictures: HTML figures of nmc's own making (``reports.figures``), their
    texts escaped. headline: the few numbers that matter most. Only HTML shows these two. records: the way
    in ``data`` to the list of objects that CSV writes, such as ("report", "layers"); () where there is none.
    """

    kind: str
    data: dict[str, Any]
    tables: tuple[Table, ...] = ()
    facts: tuple[tuple[str, str], ...] = field(default=())
    pictures: tuple[str, ...] = ()
    headline: tuple[tuple[str, str], ...] = ()
    records: tuple[str, ...] = ()
