"""Many compiles of one model: accuracy against cores, memory and energy, the Pareto front marked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nmc import api
from nmc.arrays import refuse_foreign_labels
from nmc.chip import load_chip
from nmc.errors import NmcError
from nmc.frontend.opgraph import OpGraph
from nmc.npzfiles import Samples
from nmc.plotting import new_figure, png
from nmc.quantize.precision import Granularity
from nmc.reports import charts
from nmc.reports.document import Column, Document, Table
from nmc.reports.layout import UNKNOWN
from nmc.reports.units import format_energy

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Point:
    """One compile and its run.

    accuracy: None without labels. memory_bits, energy (joules per inference): None where the chip file
    prices none. refusal: why there is no compile; then all results are None. pareto: no other point is at
    least as good in accuracy, cores, memory and energy, and better in one.
    """

    weight_bits: int
    steps: int
    granularity: Granularity
    accuracy: float | None = None
    cores: int | None = None
    memory_bits: int | None = None
    energy: float | None = None
    refusal: str | None = None
    pareto: bool = False


def sweep(
    model: str | Path | OpGraph | Any,
    chip: str,
    samples: Samples,
    calibration: Any,
    *,
    weight_bits: Sequence[int],
    steps: Sequence[int | None] = (None,),
    granularities: Sequence[Granularity] = ("layer",),
    progress: Progress | None = None,
    **options: Any,
) -> tuple[Point, ...]:
    """Compile and run every combination.

    Args:
        model, chip, options: as for ``api.compile``.
        samples: what is run.
        calibration: samples for the compile.
        weight_bits, steps, granularities: what is combined; steps None is what the model says.
        progress: called with (done, all) points.

    Raises:
        NmcError: what holds for every point: a model or data that cannot be read. A point that is refused
            because it does not fit the chip says so in its row.
    """
    read_as = {name: options.pop(name, None) for name in ("profile", "dt", "weights", "input_shape")}
    graph = api.load(model, steps=steps[0], data=np.asarray(samples.x), **read_as)
    target = load_chip(chip)
    grid = [(b, t, g) for g in granularities for t in steps for b in weight_bits]
    points: list[Point] = []
    for bits, t, granularity in grid:
        asked: dict[str, Any] = {"weight_bits": bits, "steps": t, "granularity": granularity}
        try:
            bundle = api.compile(graph, target, calibration, **asked, **options)
        except NmcError as error:
            if error.code[4] not in "QPT":
                raise
            points.append(Point(bits, t or graph.steps or 0, granularity, refusal=str(error)))
        else:
            trace = api.run(bundle, samples.x)
            refuse_foreign_labels("labels", samples.y, trace.output.shape[1])
            total = api.report(bundle, trace).total
            assert total.activity is not None
            priced = bool(target.energy)
            energy = total.activity.energy.total if priced else None
            accuracy = samples.accuracy(trace.classes)
            points.append(
                Point(bits, trace.steps, granularity, accuracy, total.cores, total.memory_bits, energy)
            )
        if progress is not None:
            progress(len(points), len(grid))
    return mark_pareto(points)


def mark_pareto(points: Sequence[Point]) -> tuple[Point, ...]:
    """The points with ``pareto`` set on those that no other one beats."""
    costs = [_costs(point) for point in points]

    def beaten(index: int) -> bool:
        mine = costs[index]
        return any(
            other != mine and all(a <= b for a, b in zip(other, mine, strict=True))
            for j, other in enumerate(costs)
            if j != index and points[j].refusal is None
        )

    return tuple(
        replace(point, pareto=point.refusal is None and not beaten(index))
        for index, point in enumerate(points)
    )


def _costs(point: Point) -> tuple[float, ...]:
    """What is to be small; what is unknown is unknown for every point and counts for none."""
    numbers = (point.cores, point.memory_bits, point.energy)
    return (-(point.accuracy or 0.0), *(float(number or 0) for number in numbers))


def document(points: Sequence[Point], facts: Sequence[tuple[str, str]] = ()) -> Document:
    """For any renderer; schema ``nmc.sweep/1``."""

    def numbers(field: str, form: Callable[[Any], str]) -> tuple[str, ...]:
        values = [getattr(point, field) for point in points]
        return tuple(UNKNOWN if value is None else form(value) for value in values)

    columns = [
        Column("bits", numbers("weight_bits", str), numeric=True),
        Column("steps", numbers("steps", str), numeric=True),
        Column("scales per", tuple(point.granularity for point in points)),
        Column("accuracy", numbers("accuracy", "{:.2%}".format), numeric=True),
        Column("cores", numbers("cores", "{:,}".format), numeric=True),
        Column("memory bits", numbers("memory_bits", "{:,}".format), numeric=True),
        Column("energy", numbers("energy", format_energy), numeric=True),
        Column("Pareto", tuple("*" if point.pareto else "" for point in points)),
    ]
    if any(one.refusal for one in points):
        columns.append(Column("refused", tuple(one.refusal or "" for one in points), rank=1))
    rows = []
    for one in points:
        row = asdict(one)
        row["energy_J"] = row.pop("energy")
        rows.append(row)
    tables = (Table("", tuple(columns)),)
    return Document("sweep", {"points": rows}, tables, tuple(facts), _pictures(points), records=("points",))


def _pictures(points: Sequence[Point]) -> tuple[str, ...]:
    """Accuracy over bits, and over every cost that is known of all compiled points and differs."""
    done = [point for point in points if point.accuracy is not None]
    drawn = []
    for cost in ("weight_bits", "memory_bits", "energy", "cores"):
        values = [getattr(point, cost) for point in done]
        if len(set(values)) > 1 and None not in values:
            size, unit = (1e-6, " [uJ]") if cost == "energy" else (1, "")
            bits = cost == "weight_bits"
            marks = [
                charts.Mark(
                    _group(point),
                    "" if bits else f"{point.weight_bits} bit",
                    value / size,
                    point.accuracy or 0.0,
                    point.pareto,
                )
                for point, value in zip(done, values, strict=True)
            ]
            across = cost.replace("_", " ") + unit
            title = f"Accuracy over {across}; large: Pareto front of all costs"
            drawn.append(charts.scatter(title, across, marks, front=not bits))
    return tuple(drawn)


def _group(point: Point) -> str:
    return f"T = {point.steps}, one scale per {point.granularity}"


def parse_range(text: str, who: str) -> list[int]:
    """``2..8``, ``4,8`` or both mixed, as ascending numbers without repeats. Raises NmcError NMC-U02."""
    found: set[int] = set()
    for part in text.split(","):
        first, dots, last = part.partition("..")
        ends = (first, last) if dots else (first, first)
        if not all(end.strip().isdecimal() for end in ends) or len(text) > 100:
            raise NmcError("NMC-U02", who, f"{part!r} is no number or range", "such as 2..8 or 4,8")
        low, high = int(ends[0]), int(ends[1])
        if not 1 <= low <= high < low + 1000:
            raise NmcError("NMC-U02", who, f"{part!r} is an empty or endless range", "such as 2..8")
        found.update(range(low, high + 1))
    return sorted(found)


def parse_granularities(text: str) -> list[Granularity]:
    """``layer``, ``channel`` or both. Raises NmcError NMC-U02."""
    found: list[Granularity] = []
    for part in text.split(","):
        if part not in ("layer", "channel"):
            raise NmcError("NMC-U02", "granularity", f"is {part!r}", "use layer, channel or both")
        found.append("layer" if part == "layer" else "channel")
    return found


def draw(points: Sequence[Point], path: Path) -> bytes:
    """A PNG: accuracy over memory (over cores where no memory is priced), the Pareto front joined.

    Raises:
        NmcError: NMC-E01 without matplotlib.
    """
    figure = new_figure(path, 7, 4.5)
    axes = figure.add_subplot()
    done = [point for point in points if point.refusal is None and point.accuracy is not None]
    over = "memory_bits" if all(point.memory_bits is not None for point in done) else "cores"
    for steps, granularity in dict.fromkeys((point.steps, point.granularity) for point in done):
        part = [point for point in done if (point.steps, point.granularity) == (steps, granularity)]
        label = f"T = {steps}, one scale per {granularity}"
        axes.plot([getattr(p, over) for p in part], [p.accuracy for p in part], "o", label=label)
        for point in part:
            axes.annotate(
                f"{point.weight_bits} bits", (getattr(point, over), point.accuracy or 0.0), fontsize=7
            )
    front = sorted((getattr(p, over), p.accuracy) for p in done if p.pareto)
    axes.plot([cost for cost, _ in front], [accuracy for _, accuracy in front], "-", color="0.6", zorder=0)
    axes.set(xlabel=over.replace("_", " "), ylabel="accuracy")
    if done:
        axes.legend(fontsize=7)
    return png(figure)
