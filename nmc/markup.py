"""Text as HTML in which nothing is markup: layer names, file names and labels are untrusted."""

from __future__ import annotations

import html
from collections.abc import Iterable

from nmc.errors import one_line


def escape(text: str) -> str:
    """One line in which nothing is HTML."""
    return html.escape(one_line(text))


def summary(title: str, lines: Iterable[tuple[str, str]]) -> str:
    """What a notebook shows of a result: a title, and a line for each fact. Both are escaped."""
    rows = "".join(
        f'<tr><td style="text-align: left">{escape(what)}</td>'
        f'<td style="text-align: left">{escape(value)}</td></tr>'
        for what, value in lines
    )
    return f"<div><b>{escape(title)}</b><table><tbody>{rows}</tbody></table></div>"
