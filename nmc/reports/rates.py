"""How often the blocks of a residual network fire: branch (A) and block output (O) apart, as SVG text."""

from __future__ import annotations

from collections.abc import Sequence

from nmc.backends.base import Counts
from nmc.ir import GradedRelay, Identity, Network
from nmc.markup import escape
from nmc.reports.model import BlockRates

WIDTH, HEIGHT = 760, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 34, 84
TICKS = 5
LINES = (
    ("branch", "A: spikes of the branch's last neuron", "#0b6fa4"),
    ("output", "O: neurons that send anything", "#c2410c"),
    ("payload", "O: mean of what is sent", "#6b7280"),
)


def block_rates(network: Network, counts: Counts) -> tuple[BlockRates, ...]:
    """Rates of every residual sum that is a relay population, in order.

    Args:
        network: lowered with ``joins="relay"``, TIMED or later. The branch is the addend with the highest
            level: the path that passes through the block's layers.
    """
    found = []
    for population in network.compute:
        incoming = network.incoming(population.name)
        one_to_one = all(isinstance(one.synapse, Identity) for one in incoming)
        if not isinstance(population.neuron, GradedRelay) or len(incoming) < 2 or not one_to_one:
            continue
        branch = max((network[one.source] for one in incoming), key=lambda source: source.time)
        chances = counts.samples * counts.steps
        found.append(
            BlockRates(
                population.label.removesuffix(".add"),
                counts.spikes[branch.name] / (branch.size * chances),
                counts.spikes[population.name] / (population.size * chances),
                counts.grades[population.name] / (population.size * chances),
            )
        )
    return tuple(found)


def rate_chart(title: str, blocks: Sequence[BlockRates]) -> str:
    """A picture of the rates, block by block; nothing in it comes from outside. Block names are escaped."""
    top = _ceiling(max((max(b.branch, b.output, b.payload) for b in blocks), default=0.0))
    step = (WIDTH - LEFT - RIGHT) / max(1, len(blocks))
    shapes = [_axis(top)]
    for number, block in enumerate(blocks):
        x = LEFT + (number + 0.5) * step
        shapes.append(
            f'<text transform="translate({x + 4:.1f},{HEIGHT - BOTTOM + 12}) rotate(-60)" text-anchor="end">'
            f"{escape(block.block)}</text>"
        )
    for index, (field, text, colour) in enumerate(LINES):
        points = []
        for number, block in enumerate(blocks):
            value = float(getattr(block, field))
            x, y = LEFT + (number + 0.5) * step, _height(value, top)
            points.append(f"{x:.1f},{y:.1f}")
            shapes.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}">'
                f"<title>{escape(f'{block.block}, {text}: {value:.3f}')}</title></circle>"
            )
        joined = " ".join(points)
        shapes.append(f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        x = LEFT + index * 236
        shapes.append(f'<rect x="{x}" y="{HEIGHT - 14}" width="10" height="10" fill="{colour}"/>')
        shapes.append(f'<text x="{x + 14}" y="{HEIGHT - 5}">{escape(text)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}"'
        f' height="{HEIGHT}" role="img" font-family="sans-serif" font-size="11">'
        f"<title>{escape(title)}</title>"
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
        f'<text x="{LEFT}" y="18" font-size="13">{escape(title)}</text>{"".join(shapes)}</svg>\n'
    )


def _ceiling(value: float) -> float:
    """A round number at or above the value, which the ticks divide evenly."""
    for top in (0.1, 0.25, 0.5, 1.0, 2.0, 2.5, 5.0, 10.0):
        if value <= top:
            return top
    return float(-(-value // TICKS) * TICKS)


def _height(value: float, top: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top)


def _axis(top: float) -> str:
    lines = []
    for tick in range(TICKS + 1):
        value = top * tick / TICKS
        y = _height(value, top)
        lines.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#ddd"/>')
        lines.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    return "".join(lines)
