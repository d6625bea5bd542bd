"""A document as HTML: no script and no outside address."""

from __future__ import annotations

import html
from collections.abc import Sequence

from nmc.errors import one_line
from nmc.reports.document import Document, Table


def escape(text: str) -> str:
    """One line in which nothing is HTML; layer names are untrusted."""
    return html.escape(one_line(text))


def _row(cells: Sequence[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _table(table: Table) -> str:
    rows = table.rows()
    foot = f"<tfoot>{_row(rows.pop(), 'th')}</tfoot>" if table.has_total else ""
    head = _row([column.title for column in table.columns], "th")
    body = "".join(_row(row, "td") for row in rows)
    return (
        f"<table><caption>{escape(table.title)}</caption>"
        f"<thead>{head}</thead><tbody>{body}</tbody>{foot}</table>"
    )


_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>nmc</title>
<style>
body { font-family: sans-serif; margin: 2em }
table { border-collapse: collapse; margin-bottom: 2em }
caption { text-align: left; font-weight: bold; margin-bottom: .5em }
th, td { padding: .2em .8em; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left }
</style>
</head>
<body>
"""


def page(document: Document) -> str:
    """One file that needs nothing else."""
    return f"{_HEAD}{render(document)}\n</body>\n</html>\n"


def render(document: Document) -> str:
    """A fragment for notebooks: the tables, the facts as a list, then the pictures."""
    items = "".join(f"<li>{escape(what)}: {escape(value)}</li>" for what, value in document.facts)
    pictures = "".join(f"<figure>{picture}</figure>" for picture in document.pictures)
    return "".join(map(_table, document.tables)) + f"<ul>{items}</ul>" + pictures
