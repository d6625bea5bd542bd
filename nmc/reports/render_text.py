"""A document for a terminal. Columns that do not fit are left out by rank, and named."""

from __future__ import annotations

import io
from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from nmc.errors import one_line
from nmc.reports.document import Column, Document, Table

_GAP = 3
"""Characters between two columns."""


def fitting(table: Table, width: int) -> tuple[list[Column], list[str]]:
    """The columns that fit into ``width`` characters, and the titles of those that do not."""
    columns, dropped = list(table.columns), []
    while sum(max(map(len, (one.title, *one.cells))) + _GAP for one in columns) > width:
        last = max(columns, key=lambda one: one.rank)
        if last.rank == 0:
            break
        columns.remove(last)
        dropped.append(last.title)
    return columns, dropped


def _text(value: str) -> Text:
    # Text, not str: a layer name could hold rich's markup.
    return Text(one_line(value))


def _rich(table: Table, columns: list[Column]) -> RichTable:
    title = _text(table.title) if table.title else None
    result = RichTable(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        result.add_column(_text(column.title), justify="right" if column.numeric else "left", overflow="fold")
    rows = Table("", tuple(columns)).rows()
    for index, row in enumerate(rows):
        is_total = table.has_total and index == len(rows) - 1
        before_total = table.has_total and index == len(rows) - 2
        result.add_row(*map(_text, row), style="bold" if is_total else "", end_section=before_total)
    return result


def renderables(document: Document, width: int) -> Iterator[RenderableType]:
    """The parts of a document for a rich console of that width."""
    for table in document.tables:
        columns, dropped = fitting(table, width)
        yield _rich(table, columns)
        if dropped:
            yield _text(f"left out for lack of width: {', '.join(dropped)}")
    margin = max((len(what) for what, _ in document.facts), default=0)
    for what, value in document.facts:
        yield _text(f"{what:<{margin}}  {value}")


def write(document: Document, console: Console) -> None:
    """Print to a console; facts are never wrapped, so that a path can be copied."""
    for part in renderables(document, console.width):
        console.print(part, soft_wrap=isinstance(part, Text))


def render(document: Document, width: int = 120, encoding: str = "utf-8") -> str:
    """Plain text without colours or trailing spaces, in characters that the encoding has."""
    sink = io.TextIOWrapper(io.BytesIO(), encoding, errors="backslashreplace")
    write(document, Console(file=sink, width=width, color_system=None, _environ={}))
    sink.seek(0)
    return "\n".join(line.rstrip() for line in sink.read().splitlines()) + "\n"
