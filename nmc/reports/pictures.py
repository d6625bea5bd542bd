"""Pictures of a mapping: which layer lies where, and how busy every link is.

Figures with an SVG of plain shapes and titles (a browser shows them under the pointer); no script. Layer
names are untrusted and escaped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nmc.chip import Chip
from nmc.ir import Network
from nmc.markup import escape
from nmc.partition.check import CoreUse, check_mapping
from nmc.partition.graph import Traffic, core_graph, tiles_by_core
from nmc.partition.route import Links, Routing, has_mesh, mesh_shape, positions, route
from nmc.reports.figures import figure

CELL = 12
"""Side of a router in the picture."""
MARGIN = 2
WIDTH = 600
"""Pixels that a small mesh is enlarged to, threefold at most."""
GOLDEN_ANGLE = 137.508
"""Degrees between the hues of layers that follow each other: neighbours differ, none repeats soon."""
FAINTEST = 0.25
"""Opacity of a core that holds next to nothing."""
DETAILED = 4000
"""Links, or cores, from which on a picture says less under the pointer, so that a page stays small."""
LEVELS = 24
"""Colours of such links."""
HEAT = ((255, 255, 230), (253, 174, 97), (165, 0, 38))
"""Colours of an idle, a middling and the busiest link."""


def pictures(network: Network, chip: Chip, spikes: Traffic | None = None) -> tuple[str, ...]:
    """The core map and the links of a MAPPED network; () where the chip has no mesh.

    Args:
        spikes: per inference of each population; by default a uniform rate.
    """
    if network.mapping is None or not has_mesh(chip):
        return ()
    routing = route(chip, core_graph(network, spikes))
    return core_map(network, chip, check_mapping(network, chip)), link_map(routing, chip)


def core_map(network: Network, chip: Chip, uses: Sequence[CoreUse] = ()) -> str:
    """Every core that is used, in its layer's colour; a core that layers share has stripes of each.

    Args:
        network: MAPPED.
        chip: with a mesh; "" without one, as there is nothing to draw.
        uses: what each core holds: the fuller a core, the stronger its colour.
    """
    tiles, shares = tiles_by_core(network), {use.core: _shares(use) for use in uses}
    if chip.mesh_rows is None or not tiles:
        return ""
    cores = np.array(sorted(tiles), np.int64)
    rows, columns = mesh_shape(chip, cores)
    hues = {one.name: index * GOLDEN_ANGLE % 360 for index, one in enumerate(network.compute)}
    side = math.ceil(math.sqrt(chip.cores_per_tile or 1))
    shapes = [_chips(chip, rows, columns)]
    row, column = positions(chip, cores)
    for core, r, c in zip(cores.tolist(), row.tolist(), column.tolist(), strict=True):
        down, right = divmod(core % (chip.cores_per_tile or 1), side)
        size = (CELL - 2) / side
        x, y = MARGIN + c * CELL + 1 + right * size, MARGIN + r * CELL + 1 + down * size
        width, (full, text) = size / len(tiles[core]), shares.get(core, (1.0, ""))
        strength = f' fill-opacity="{FAINTEST + (1 - FAINTEST) * full:.2f}"' if core in shares else ""
        for number, tile in enumerate(tiles[core]):
            title = f"core {core}: {network[tile.population].label}, {tile.size:,} neurons"
            title += text if len(cores) <= DETAILED else ""
            shapes.append(
                f'<rect x="{x + number * width:.2f}" y="{y:.2f}" width="{width:.2f}" height="{size:.2f}"'
                f' fill="{_hue(hues[tile.population])}"{strength}><title>{escape(title)}</title></rect>'
            )
    legend = [(network[name].label, _hue(hue)) for name, hue in hues.items()]
    caption = (
        f"Core map: {network.name} on {chip.name}, {len(cores):,} cores; a stronger colour is a fuller core"
    )
    return figure(caption, _svg(*_outline(chip, rows, columns), caption, shapes), legend)


def _shares(use: CoreUse) -> tuple[float, str]:
    """How full the core's fullest resource is, 0..1 (one layer of one is not full), and each in words."""
    shares = {name: one.share for name, one in use.resources().items() if one.share is not None}
    full = [share for name, share in shares.items() if name != "populations"]
    return max(full, default=1.0), "".join(f"; {part:.0%} {name}" for name, part in shares.items())


def link_map(routing: Routing, chip: Chip) -> str:
    """Every link in the colour of its load, relative to the busiest."""
    links = routing.links
    rows, columns = links.east.shape
    shapes = [_chips(chip, rows, columns)]
    lines = list(_lines(links))
    shapes += (_in_levels if len(lines) > DETAILED else _one_by_one)(lines, links.worst or 1.0)
    name, r, c = routing.worst_at
    caption = (
        f"Links: {routing.spike_hops:,.0f} spike-hops per inference; busiest link {name} of row {r}, "
        f"column {c}: {routing.worst_link:,.0f} spikes"
    )
    legend = [(f"{share:.0%} of the busiest link", _heat(share)) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    return figure(caption, _svg(*_outline(chip, rows, columns), caption, shapes), legend)


@dataclass(frozen=True)
class _Line:
    """A loaded link: from x, y by right, down."""

    x: float
    y: float
    right: int
    down: int
    load: float
    place: str


def _lines(links: Links) -> Iterator[_Line]:
    """Both directions of a pair of routers lie side by side."""
    steps = {"east": (0, 1, -2), "west": (0, -1, 2), "south": (1, 0, 2), "north": (-1, 0, -2)}
    for name, (down, right, aside) in steps.items():
        loads = getattr(links, name)
        for r, c in zip(*(axis.tolist() for axis in np.nonzero(loads)), strict=True):
            x, y = MARGIN + (c + 0.5) * CELL, MARGIN + (r + 0.5) * CELL
            dx, dy = (0, aside) if right else (aside, 0)
            place = f"{name} of row {r}, column {c}"
            yield _Line(x + dx, y + dy, right * CELL, down * CELL, float(loads[r, c]), place)


def _one_by_one(lines: Sequence[_Line], worst: float) -> list[str]:
    return [
        f'<line x1="{one.x}" y1="{one.y}" x2="{one.x + one.right}" y2="{one.y + one.down}"'
        f' stroke="{_heat(one.load / worst)}" stroke-width="3">'
        f"<title>{escape(f'{one.place}: {one.load:,.0f} spikes per inference')}</title></line>"
        for one in lines
    ]


def _in_levels(lines: Sequence[_Line], worst: float) -> list[str]:
    """One path for all links of a colour; the busiest ones are drawn last."""
    paths: list[list[str]] = [[] for _ in range(LEVELS)]
    for one in lines:
        level = math.ceil(one.load / worst * LEVELS) - 1
        paths[level].append(f"M{one.x:g} {one.y:g}l{one.right} {one.down}")
    return [
        f'<path d="{"".join(path)}" stroke="{_heat((level + 1) / LEVELS)}" stroke-width="3" fill="none"/>'
        for level, path in enumerate(paths)
        if path
    ]


def _svg(rows: int, columns: int, caption: str, shapes: list[str]) -> str:
    width, height = columns * CELL + 2 * MARGIN, rows * CELL + 2 * MARGIN
    size = min(3.0, max(1.0, WIDTH / width))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width * size:.0f}"'
        f' height="{height * size:.0f}" role="img"><title>{escape(caption)}</title>{"".join(shapes)}</svg>'
    )


def _outline(chip: Chip, rows: int, columns: int) -> tuple[int, int]:
    """Rows and columns of the whole chips that a mesh of that size touches."""
    high, wide = chip.mesh_rows or rows, chip.mesh_columns or columns
    return -(-rows // high) * high, -(-columns // wide) * wide


def _chips(chip: Chip, rows: int, columns: int) -> str:
    """Outlines of the chips that the picture touches."""
    high, wide = chip.mesh_rows or rows, chip.mesh_columns or columns
    return "".join(
        f'<rect x="{MARGIN + c * CELL}" y="{MARGIN + r * CELL}" width="{wide * CELL}" height="{high * CELL}"'
        ' fill="#f6f6f6" stroke="#999"/>'
        for r in range(0, rows, high)
        for c in range(0, columns, wide)
    )


def _hue(degrees: float) -> str:
    return f"hsl({degrees:.0f},65%,55%)"


def _heat(share: float) -> str:
    low, high = (HEAT[0], HEAT[1]) if share < 0.5 else (HEAT[1], HEAT[2])
    part = share * 2 if share < 0.5 else share * 2 - 1
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(low, high, strict=True))
    return f"rgb({red},{green},{blue})"
