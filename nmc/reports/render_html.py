"""A document as HTML: one file, no script, no outside address; readable on a wide screen and on a phone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from nmc.markup import escape
from nmc.reports.document import Document, Table


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
    title = f'<div class="caption">{escape(table.title)}</div>' if table.title else ""
    return (
        f"{title}"
        f'<div class="scroll"><table aria-label="{escape(table.title)}">'
        f"<thead>{head}</thead><tbody>{body}</tbody>{foot}</table></div>"
    )


# A notebook's colours, by the variables of its themes; elsewhere those of the reader's light or dark mode.
_STYLE = """
.nmc { --back: var(--jp-layout-color1, var(--vscode-editor-background, Canvas));
  --line: rgba(128,128,128,.35); font-family: sans-serif; line-height: 1.35; print-color-adjust: exact }
.nmc .cards { display: flex; flex-wrap: wrap; gap: .8em; margin-bottom: 1.5em }
.nmc .card { border: 1px solid var(--line); border-radius: 6px; padding: .4em .8em }
.nmc .card b { display: block; font-size: 1.1em }
.nmc .card span, .nmc dt { opacity: .7; font-size: .85em }
.nmc .figures { display: grid; gap: 2em;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 36em), 1fr)) }
.nmc figure { margin: 0 0 1em; min-width: 0 }
.nmc figcaption, .nmc .caption { font-weight: bold; margin-bottom: .4em }
.nmc svg { max-width: 100%; height: auto }
.nmc .legend { display: flex; flex-wrap: wrap; gap: .1em 1.2em; font-size: .8em; margin-bottom: .5em;
  max-height: 12em; overflow-y: auto; overflow-wrap: anywhere }
.nmc .mark { display: inline-block; width: .8em; height: .8em; margin-right: .35em;
  outline: 1px solid var(--line) }
.nmc .bar { display: grid; grid-template-columns: minmax(5em, 18em) 1fr 6em; gap: .6em; align-items: center;
  font-size: .8em; height: 1.5em }
.nmc .name { text-align: right; overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
.nmc .value { font-variant-numeric: tabular-nums; white-space: nowrap }
.nmc .track { position: relative; height: 1em }
.nmc .part { position: absolute; top: 0; bottom: 0; min-width: 1px }
.nmc .whisker { position: absolute; top: 30%; bottom: 30%; border: solid currentColor;
  border-width: 0 1px; background: linear-gradient(currentColor, currentColor) center / 100% 1px no-repeat;
  box-sizing: border-box }
.nmc .scroll { overflow-x: auto; margin-bottom: 2em; background:
  linear-gradient(to right, var(--back) 40%, transparent) left / 3em 100% no-repeat local,
  linear-gradient(to left, var(--back) 40%, transparent) right / 3em 100% no-repeat local,
  linear-gradient(to right, rgba(128,128,128,.45), transparent) left / .8em 100% no-repeat,
  linear-gradient(to left, rgba(128,128,128,.45), transparent) right / .8em 100% no-repeat }
.nmc table { border-collapse: separate; border-spacing: 0; font-size: 14px; line-height: 20px }
.nmc th, .nmc td { padding: 3px 10px; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; font-variant-numeric: tabular-nums }
.nmc .text { text-align: left; white-space: normal }
.nmc th.text:first-child, .nmc td.text:first-child { position: sticky; left: 0; background: var(--back) }
.nmc dl { display: grid; grid-template-columns: minmax(7em, max-content) 1fr; gap: .3em 1em }
.nmc dd { margin: 0; overflow-wrap: anywhere }
@media (max-width: 600px) {
  .nmc dl { grid-template-columns: 1fr } .nmc dt { margin-top: .6em }
  .nmc .bar { grid-template-columns: 1fr auto; gap: 0 .6em; height: auto; margin-bottom: .45em }
  .nmc .name { text-align: left } .nmc .value { grid-row: 1; grid-column: 2 }
  .nmc .track { grid-column: 1 / -1; height: .7em }
  .nmc table { width: max-content }
  .nmc .text { max-width: 14em; overflow-wrap: anywhere } .nmc .text:first-child { max-width: 9em }
}
"""

_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>body {{ margin: 1.5em }} @media (max-width: 600px) {{ body {{ margin: .8em }} }}</style>
</head>
<body>
"""


def page(document: Document) -> str:
    """One file that needs nothing else."""
    about = document.headline[0][1] if document.headline else document.kind
    return f"{_HEAD.format(title=escape(f'nmc: {about}'))}{render(document)}\n</body>\n</html>\n"


def render(document: Document) -> str:
    """A fragment for notebooks: the headline, the pictures, the tables, then the facts."""
    cards = "".join(
        f'<div class="card"><span>{escape(what)}</span><b>{escape(value)}</b></div>'
        for what, value in document.headline
    )
    cards = f'<div class="cards">{cards}</div>' if cards else ""
    pictures = f'<div class="figures">{"".join(document.pictures)}</div>' if document.pictures else ""
    facts = "".join(
        f"<dt>{escape(what)}</dt><dd>{'<br>'.join(escape(value) for _, value in lines)}</dd>"
        for what, lines in groupby(document.facts, key=lambda fact: fact[0])
    )
    return (
        f'<div class="nmc"><style>{_STYLE}</style>'
        f"{cards}{pictures}{''.join(map(_table, document.tables))}<dl>{facts}</dl></div>"
    )
