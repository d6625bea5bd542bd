"""The parts of a report's pictures: a titled figure with a legend, and bars that fit any width.

Bars are boxes whose lengths are percentages, so that a phone shows them whole and their text keeps its size.
Everything that comes from outside is escaped; there is no script.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nmc.errors import one_line
from nmc.markup import escape

LONGEST_NAME = 34


@dataclass(frozen=True)
class Part:
    """A piece of a bar, from ``start`` to ``end`` in the chart's unit; title: shown under the pointer."""

    start: float
    end: float
    colour: str
    title: str


@dataclass(frozen=True)
class Bar:
    """One line of a bar chart. value: its number in words. whisker: a range."""

    name: str
    parts: tuple[Part, ...]
    value: str
    whisker: tuple[float, float] | None = None


def figure(title: str, drawing: str, legend: Sequence[tuple[str, str]] = ()) -> str:
    """A drawing under its title; legend: (text, colour) each."""
    marks = "".join(
        f'<span><span class="mark" style="background:{colour}"></span>{escape(text)}</span>'
        for text, colour in legend
    )
    below = f'<div class="legend">{marks}</div>' if marks else ""
    return f"<figure><figcaption>{escape(title)}</figcaption>{below}{drawing}</figure>"


def bar_chart(title: str, bars: Sequence[Bar], legend: Sequence[tuple[str, str]]) -> str:
    """All bars at one scale, the longest one as long as the chart; "" without bars."""
    ends = [part.end for bar in bars for part in bar.parts]
    ends += [bar.whisker[1] for bar in bars if bar.whisker is not None]
    if not bars:
        return ""
    longest = max(ends, default=0.0) or 1.0
    return figure(title, f'<div class="bars">{"".join(_line(bar, longest) for bar in bars)}</div>', legend)


def shorten(name: str, longest: int = LONGEST_NAME) -> str:
    """The end of a long name: what tells layers apart mostly stands there."""
    plain = one_line(name)
    return plain if len(plain) <= longest else f"…{plain[1 - longest :]}"


def _line(bar: Bar, longest: float) -> str:
    boxes = [
        _box("part", max(part.start, 0.0), part.end, longest, part.title, f";background:{part.colour}")
        for part in bar.parts
    ]
    if bar.whisker is not None:
        boxes.append(_box("whisker", *bar.whisker, longest, f"{bar.name}: range over all constants"))
    return (
        f'<div class="bar"><span class="name" title="{escape(bar.name)}">{escape(shorten(bar.name))}</span>'
        f'<span class="track">{"".join(boxes)}</span><span class="value">{escape(bar.value)}</span></div>'
    )


def _box(kind: str, start: float, end: float, longest: float, title: str, more: str = "") -> str:
    left, width = 100 * start / longest, 100 * (end - start) / longest
    return (
        f'<span class="{kind}" title="{escape(title)}"'
        f' style="left:{left:.2f}%;width:{width:.2f}%{more}"></span>'
    )
