"""A document as HTML: one file, no script, no outside address; readable on a wide screen and on a phone."""

from __future__ import annotations

import html
from collections.abc import Sequence
from itertools import groupby

from nmc.errors import one_line
from nmc.reports.document import Document, Table


def escape(text: str) -> str:
    """One line in which nothing is HTML; layer names are untrusted."""
    return html.escape(one_line(text))


def _row(cells: Sequence[str], tag: str, numeric: Sequence[bool]) -> str:
    marks = ["" if number else ' class="text"' for number in numeric]
    return (
        "<tr>"
        + "".join(f"<{tag}{m}>{escape(c)}</{tag}>" for c, m in zip(cells, marks, strict=True))
        + "</tr>"
    )


def _table(table: Table) -> str:
    rows, numeric = table.rows(), [column.numeric for column in table.columns]
    foot = f"<tfoot>{_row(rows.pop(), 'th', numeric)}</tfoot>" if table.has_total else ""
    head = _row([column.title for column in table.columns], "th", numeric)
    body = "".join(_row(row, "td", numeric) for row in rows)
    return (
        f'<div class="scroll"><table><caption>{escape(table.title)}</caption>'
        f"<thead>{head}</thead><tbody>{body}</tbody>{foot}</table></div>"
    )


_STYLE = """
.nmc { font-family: sans-serif; color: #222; line-height: 1.35 }
.nmc .cards { display: flex; flex-wrap: wrap; gap: .8em; margin-bottom: 1.5em }
.nmc .card { border: 1px solid #ddd; border-radius: 6px; padding: .5em .9em }
.nmc .card b { display: block; font-size: 1.15em }
.nmc .card span, .nmc dt { color: #666; font-size: .85em }
.nmc figure { margin: 0 0 2em; overflow-x: auto }
.nmc svg { max-width: 100%; min-width: 560px; height: auto }
.nmc .scroll { overflow-x: auto; margin-bottom: 2em }
.nmc table { border-collapse: collapse; font-size: .9em }
.nmc caption { text-align: left; font-weight: bold; margin-bottom: .5em }
.nmc th, .nmc td { padding: .2em .7em; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap }
.nmc .text { text-align: left; white-space: normal }
.nmc dl { display: grid; grid-template-columns: minmax(7em, max-content) 1fr; gap: .3em 1em }
.nmc dd { margin: 0; overflow-wrap: anywhere }
@media (max-width: 600px) { .nmc dl { grid-template-columns: 1fr } .nmc dt { margin-top: .6em } }
"""

_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>nmc</title>
<style>body { margin: 1.5em } @media (max-width: 600px) { body { margin: .8em } }</style>
</head>
<body>
"""


def page(document: Document) -> str:
    """One file that needs nothing else."""
    return f"{_HEAD}{render(document)}\n</body>\n</html>\n"


def render(document: Document) -> str:
    """A fragment for notebooks: the headline, the pictures, the tables, then the facts."""
    cards = "".join(
        f'<div class="card"><span>{escape(what)}</span><b>{escape(value)}</b></div>'
        for what, value in document.headline
    )
    cards = f'<div class="cards">{cards}</div>' if cards else ""
    pictures = "".join(f"<figure>{picture}</figure>" for picture in document.pictures)
    facts = "".join(
        f"<dt>{escape(what)}</dt><dd>{'<br>'.join(escape(value) for _, value in lines)}</dd>"
        for what, lines in groupby(document.facts, key=lambda fact: fact[0])
    )
    return (
        f'<div class="nmc"><style>{_STYLE}</style>'
        f"{cards}{pictures}{''.join(map(_table, document.tables))}<dl>{facts}</dl></div>"
    )
