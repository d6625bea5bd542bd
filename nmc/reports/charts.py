"""Charts of a report as SVG text: firing rates, energy by term, when each layer works, accuracy over cost.

Plain shapes with titles; no script, no style sheet, no font but the viewer's. Layer names are untrusted and
escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nmc.errors import one_line
from nmc.reports.model import Activity, Energy, Report, Row
from nmc.reports.render_html import escape
from nmc.reports.units import energy_unit, format_energy

LABEL, PLOT, VALUE = 250, 420, 110
"""Widths of the columns for names, bars and numbers."""
ROW, TOP = 18, 44
LONGEST_NAME = 36
INK, FAINT = "#333", "#ddd"
TERMS: tuple[tuple[str, str], ...] = (
    ("synapse", "#4c78a8"),
    ("update", "#f58518"),
    ("spike", "#54a24b"),
    ("hop", "#b279a2"),
)
NEURON, RELAY = "#4c78a8", "#bab0ac"


@dataclass(frozen=True)
class Bar:
    """One line of a bar chart. parts: (from, to, colour, title) in the chart's unit. whisker: a range."""

    name: str
    parts: tuple[tuple[float, float, str, str], ...]
    value: str
    whisker: tuple[float, float] | None = None


def charts(report: Report) -> tuple[str, ...]:
    """All charts that the report has numbers for."""
    drawn = [rates(report), energies(report), schedule(report)]
    return tuple(one for one in drawn if one)


def rates(report: Report) -> str:
    """Spikes per neuron and step of every layer; relays apart."""
    bars = []
    for row, activity in _active(report):
        if activity.firing_rate is not None:
            colour = RELAY if row.kind == "relay" else NEURON
            title = f"{row.name}: {activity.spikes:,} spikes"
            bars.append(
                Bar(row.name, ((0.0, activity.firing_rate, colour, title),), f"{activity.firing_rate:.4f}")
            )
    legend = [("neurons", NEURON)]
    if any(row.kind == "relay" for row in report.rows):
        legend.append(("relays of sums", RELAY))
    return _chart("Firing rate: spikes per neuron and step", bars, legend)


def energies(report: Report) -> str:
    """Energy per inference of every layer, stacked by term; the whisker is the range over all constants."""
    if not report.estimates or report.total.activity is None:
        return ""
    size, unit = energy_unit(report.total.activity.energy.total)
    bars = []
    for row, activity in _active(report):
        if activity.energy_range[1] > 0:
            low, high = (end / size for end in activity.energy_range)
            value = f"{activity.energy.total / size:.3g} {unit}"
            bars.append(Bar(row.name, _stack(row.name, activity.energy, size), value, (low, high)))
    constants = report.estimates[0].constants
    title = f"Energy per inference with {constants}, by term [{unit}]; lines: range over all constants"
    return _chart(title, bars, TERMS)


def _stack(name: str, energy: Energy, size: float) -> tuple[tuple[float, float, str, str], ...]:
    parts, start = [], 0.0
    for term, colour in TERMS:
        joules = getattr(energy, term)
        if joules:
            parts.append((start, start + joules / size, colour, f"{name}: {term} {format_energy(joules)}"))
            start += joules / size
    return tuple(parts)


def schedule(report: Report) -> str:
    """When each layer works on one sample, in chip steps; what waits for a longer path is drawn before it."""
    bars = []
    for row in report.rows:
        if row.latency_steps is None:
            continue
        start, end = float(row.latency_steps), float(row.latency_steps + report.steps)
        title = f"{row.name}: steps {row.latency_steps} to {row.latency_steps + report.steps - 1}"
        parts = [(start, end, NEURON, title)]
        waits = row.wait_steps or 0
        if waits:
            parts.insert(
                0, (start - waits, start, FAINT, f"{row.name}: its shortest path waits {waits} steps")
            )
        bars.append(Bar(row.name, tuple(parts), str(row.latency_steps)))
    legend = [("works on the sample", NEURON), ("shortest path waits for the longest", FAINT)]
    return _chart("Time on the chip: steps of one sample, first step at the right", bars, legend)


def scatter(
    title: str, across: str, points: Sequence[tuple[str, float, float, bool]], groups: Sequence[str]
) -> str:
    """Accuracy (0 to 1, upwards) over a cost; (group, cost, accuracy, Pareto) each; the front is joined."""
    if not points:
        return ""
    width, height, left, bottom = 640, 360, 70, 50
    top_cost = max(cost for _, cost, _, _ in points) or 1.0
    low = min(accuracy for _, _, accuracy, _ in points)
    high = max(accuracy for _, _, accuracy, _ in points)
    low, high = max(0.0, low - 0.02), min(1.0, high + 0.02)

    def place(cost: float, accuracy: float) -> tuple[float, float]:
        x = left + cost / top_cost * (width - left - 20)
        return x, height - bottom - (accuracy - low) / (high - low or 1.0) * (height - bottom - TOP)

    colours = [colour for _, colour in TERMS]
    shapes = [f'<path d="M{left} {TOP}V{height - bottom}H{width - 20}" fill="none" stroke="{INK}"/>']
    for accuracy in (low, (low + high) / 2, high):
        x, y = place(0.0, accuracy)
        shapes.append(f'<text x="{x - 6}" y="{y + 4:.1f}" text-anchor="end">{accuracy:.1%}</text>')
    for cost in (0.0, top_cost / 2, top_cost):
        x, _ = place(cost, low)
        shapes.append(f'<text x="{x:.1f}" y="{height - bottom + 16}" text-anchor="middle">{cost:,.4g}</text>')
    front = sorted(place(cost, accuracy) for _, cost, accuracy, best in points if best)
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in front)
    shapes.append(f'<polyline points="{line}" fill="none" stroke="#999"/>')
    for name, cost, accuracy, best in points:
        x, y = place(cost, accuracy)
        colour = colours[groups.index(name) % len(colours)]
        shapes.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{5 if best else 3}" fill="{colour}">'
            f"<title>{escape(f'{name}: {accuracy:.2%} at {cost:,.4g}')}</title></circle>"
        )
    shapes.append(
        f'<text x="{(left + width) / 2}" y="{height - 12}" text-anchor="middle">{escape(across)}</text>'
    )
    legend = [(name, colours[index % len(colours)]) for index, name in enumerate(groups)]
    return _svg(width, height, title, shapes, legend)


# --- drawing ----------------------------------------------------------------------------------------


def _active(report: Report) -> list[tuple[Row, Activity]]:
    return [(row, row.activity) for row in report.rows if row.activity is not None and row.neurons]


def _chart(title: str, bars: Sequence[Bar], legend: Sequence[tuple[str, str]]) -> str:
    if not bars:
        return ""
    ends = [end for bar in bars for _, end, _, _ in bar.parts]
    ends += [bar.whisker[1] for bar in bars if bar.whisker is not None]
    scale = PLOT / (max(ends, default=0.0) or 1.0)
    shapes = []
    for index, bar in enumerate(bars):
        y = TOP + index * ROW
        short = (
            bar.name
            if len(one_line(bar.name)) <= LONGEST_NAME
            else f"…{one_line(bar.name)[1 - LONGEST_NAME :]}"
        )
        shapes.append(
            f'<text x="{LABEL - 8}" y="{y + 12}" text-anchor="end">{escape(short)}'
            f"<title>{escape(bar.name)}</title></text>"
        )
        for start, end, colour, text in bar.parts:
            x, width = LABEL + max(start, 0.0) * scale, max((end - max(start, 0.0)) * scale, 0.5)
            shapes.append(
                f'<rect x="{x:.1f}" y="{y + 2}" width="{width:.1f}" height="{ROW - 5}" fill="{colour}">'
                f"<title>{escape(text)}</title></rect>"
            )
        if bar.whisker is not None:
            low, high = (LABEL + end * scale for end in bar.whisker)
            middle = y + 2 + (ROW - 5) / 2
            shapes.append(
                f'<path d="M{low:.1f} {middle - 3}v6m0 -3H{high:.1f}m0 -3v6" stroke="{INK}" fill="none"/>'
            )
        shapes.append(f'<text x="{LABEL + PLOT + 8}" y="{y + 12}">{escape(bar.value)}</text>')
    return _svg(LABEL + PLOT + VALUE, TOP + len(bars) * ROW + 8, title, shapes, legend)


def _svg(
    width: int, height: int, title: str, shapes: Sequence[str], legend: Sequence[tuple[str, str]]
) -> str:
    marks = []
    x = 0
    for text, colour in legend:
        marks.append(f'<rect x="{x}" y="24" width="10" height="10" fill="{colour}"/>')
        marks.append(f'<text x="{x + 14}" y="33">{escape(text)}</text>')
        x += 30 + 7 * len(one_line(text))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}" role="img" font-family="sans-serif" font-size="12" fill="{INK}">'
        f"<title>{escape(title)}</title>"
        f'<text x="0" y="14" font-weight="bold">{escape(title)}</text>'
        f"{''.join(marks)}{''.join(shapes)}</svg>\n"
    )
