"""Charts of a report: firing rates, energy by term, when each layer works, accuracy over cost.

Boxes and plain shapes with titles, and no script. Layer names are untrusted and escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nmc.markup import escape
from nmc.reports.figures import LONGEST_NAME, Bar, Part, bar_chart, figure, shorten
from nmc.reports.model import Activity, Energy, Report, Row
from nmc.reports.units import energy_unit, format_energy

FAINT = "#b8b8b8"
TERMS: tuple[tuple[str, str], ...] = (
    ("synapse", "#4c78a8"),
    ("update", "#f58518"),
    ("spike", "#54a24b"),
    ("hop", "#b279a2"),
)
NEURON, RELAY = "#4c78a8", "#bab0ac"


@dataclass(frozen=True)
class Mark:
    """A point of a scatter plot. group: what shares a colour; label: stands beside it; best: drawn large."""

    group: str
    label: str
    cost: float
    accuracy: float
    best: bool


def charts(report: Report) -> tuple[str, ...]:
    """All charts that the report has numbers for."""
    drawn = [rates(report), blocks(report), energies(report), schedule(report)]
    return tuple(one for one in drawn if one)


def rates(report: Report) -> str:
    """Spikes per neuron and step of every layer; relays apart."""
    bars = []
    for row, activity in _active(report):
        if activity.firing_rate is not None:
            colour = RELAY if row.kind == "relay" else NEURON
            part = Part(0.0, activity.firing_rate, colour, f"{row.name}: {activity.spikes:,} spikes")
            bars.append(Bar(row.name, (part,), f"{activity.firing_rate:.4f}"))
    legend = [("neurons", NEURON)]
    if any(row.kind == "relay" for row in report.rows):
        legend.append(("relays of sums", RELAY))
    return bar_chart("Firing rate: spikes per neuron and step", bars, legend)


def blocks(report: Report) -> str:
    """Firing rates of residual blocks, the branch and what the block sends apart."""
    bars = []
    for one in report.blocks:
        block = shorten(one.block, LONGEST_NAME - 2)
        for name, colour, value in (("A", NEURON, one.branch), ("O", RELAY, one.output)):
            part = Part(0.0, value, colour, f"{one.block}: {name} {value:.4f}")
            bars.append(Bar(f"{block} {name}", (part,), f"{value:.4f}"))
    legend = [("A: spikes of the branch", NEURON), ("O = A + S: neurons that send anything", RELAY)]
    return bar_chart("Residual blocks: firing rates of branch and sum", bars, legend)


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
    return bar_chart(title, bars, TERMS)


def _stack(name: str, energy: Energy, size: float) -> tuple[Part, ...]:
    parts, start = [], 0.0
    for term, colour in TERMS:
        joules = getattr(energy, term)
        if joules:
            title = f"{name}: {term} {format_energy(joules)}"
            parts.append(Part(start, start + joules / size, colour, title))
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
        parts = [Part(start, end, NEURON, title)]
        waits = row.wait_steps or 0
        if waits:
            title = f"{row.name}: its shortest path waits {waits} steps"
            parts.insert(0, Part(start - waits, start, FAINT, title))
        bars.append(Bar(row.name, tuple(parts), str(row.latency_steps)))
    legend = [("works on the sample", NEURON), ("shortest path waits for the longest", FAINT)]
    return bar_chart("Time on the chip: steps of one sample; numbers: first step of a layer", bars, legend)


def scatter(title: str, across: str, marks: Sequence[Mark], *, front: bool = True) -> str:
    """Accuracy (0 to 1, upwards) over a cost. The line joins what no cheaper point reaches, or, without
    ``front``, a line the points of each group."""
    if not marks:
        return ""
    width, height, left, top, bottom = 460, 320, 60, 12, 46
    groups = list(dict.fromkeys(mark.group for mark in marks))
    colours = {name: TERMS[index % len(TERMS)][1] for index, name in enumerate(groups)}
    costs, shares = [mark.cost for mark in marks], [mark.accuracy for mark in marks]
    most = max(costs) or 1.0
    low, high = max(0.0, min(shares) - 0.02), min(1.0, max(shares) + 0.02)

    def place(cost: float, accuracy: float) -> tuple[float, float]:
        x = left + cost / most * (width - left - 36)
        return x, height - bottom - (accuracy - low) / (high - low or 1.0) * (height - bottom - top)

    shapes = [f'<path d="M{left} {top}V{height - bottom}H{width - 8}" fill="none" stroke="currentColor"/>']
    for accuracy in (low, (low + high) / 2, high):
        x, y = place(0.0, accuracy)
        shapes.append(f'<text x="{x - 6}" y="{y + 4:.1f}" text-anchor="end">{accuracy:.1%}</text>')
    for cost in (0.0, most / 2, most):
        x, _ = place(cost, low)
        text = f"{cost:,.0f}" if most >= 1000 else f"{cost:.4g}"
        shapes.append(f'<text x="{x:.1f}" y="{height - bottom + 18}" text-anchor="middle">{text}</text>')
    joined = [_rising(marks)] if front else [[m for m in marks if m.group == name] for name in groups]
    for line in joined:
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in sorted(place(m.cost, m.accuracy) for m in line))
        shapes.append(f'<polyline points="{points}" fill="none" stroke="#999"/>')
    for mark in marks:
        x, y = place(mark.cost, mark.accuracy)
        said = f"{mark.group} {mark.label}: {mark.accuracy:.2%} at {mark.cost:,.4g}"
        shapes.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{5 if mark.best else 3}" fill="{colours[mark.group]}">'
            f"<title>{escape(said)}</title></circle>"
            f'<text x="{x + 7:.1f}" y="{y - 5:.1f}" font-size="10">{escape(mark.label)}</text>'
        )
    middle = (left + width) / 2
    shapes.append(f'<text x="{middle}" y="{height - 8}" text-anchor="middle">{escape(across)}</text>')
    drawing = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}" role="img" font-family="sans-serif" font-size="13" fill="currentColor">'
        f"<title>{escape(title)}</title>{''.join(shapes)}</svg>"
    )
    return figure(title, drawing, list(colours.items()))


def _rising(marks: Sequence[Mark]) -> list[Mark]:
    """The marks of which none is cheaper and at least as accurate, by cost."""
    kept: list[Mark] = []
    for mark in sorted(marks, key=lambda one: (one.cost, -one.accuracy)):
        if not kept or mark.accuracy > kept[-1].accuracy:
            kept.append(mark)
    return kept


def _active(report: Report) -> list[tuple[Row, Activity]]:
    return [(row, row.activity) for row in report.rows if row.activity is not None and row.neurons]
