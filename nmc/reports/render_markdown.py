"""A document as Markdown, for pull requests and job summaries."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nmc.errors import one_line
from nmc.reports.document import Document, Table

_SPECIAL = re.compile(r"([\\`*_\[\]|~])")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def escape(text: str) -> str:
    """One line in which nothing is markup, neither Markdown nor HTML; layer names are untrusted."""
    plain = "".join(_ENTITIES.get(character, character) for character in one_line(text))
    return _SPECIAL.sub(r"\\\1", plain)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _table(table: Table) -> list[str]:
    rows = [[escape(cell) for cell in row] for row in table.rows()]
    if table.has_total:
        rows[-1] = [f"**{cell}**" if cell else "" for cell in rows[-1]]
    return [
        *([f"### {escape(table.title)}", ""] if table.title else []),
        _line([escape(column.title) for column in table.columns]),
        _line(["---:" if column.numeric else ":---" for column in table.columns]),
        *map(_line, rows),
        "",
    ]


def render(document: Document) -> str:
    """The tables, then one bullet per fact."""
    lines = [line for table in document.tables for line in _table(table)]
    lines += [f"- {escape(what)}: {escape(value)}" for what, value in document.facts]
    return "\n".join(lines) + "\n"
