"""How a report looks: its two tables, its facts and its JSON members. Renderers only format these."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from nmc.reports import prices
from nmc.reports.charts import charts
from nmc.reports.document import Column, Document, Table
from nmc.reports.model import Activity, Energy, Report, Row, VerifiedRun
from nmc.reports.units import energy_unit, format_memory

UNKNOWN = "-"


def _whole(number: int | None) -> str:
    return UNKNOWN if number is None else f"{number:,}"


def structure_table(report: Report) -> Table:
    """What was built: neurons, parameters, synapses, cores, memory, latency."""
    rows = (*report.rows, report.total)

    def text(title: str, cell: Callable[[Row], str], rank: int = 0) -> Column:
        return Column(title, tuple(map(cell, rows)), rank=rank)

    def number(title: str, cell: Callable[[Row], int | None], rank: int = 0) -> Column:
        return Column(title, tuple(_whole(cell(row)) for row in rows), numeric=True, rank=rank)

    memory = tuple(UNKNOWN if row.memory_bits is None else format_memory(row.memory_bits) for row in rows)
    columns = (
        text("layer", lambda row: row.name),
        text("kind", lambda row: row.kind, rank=2),
        text("shape", lambda row: "x".join(map(str, row.shape)), rank=3),
        number("neurons", lambda row: row.neurons),
        number("parameters", lambda row: row.parameters, rank=4),
        number("synapses", lambda row: row.synapses, rank=5),
        number("cores", lambda row: row.cores),
        Column("memory", memory, numeric=True, rank=1),
        number("latency [steps]", lambda row: row.latency_steps, rank=1),
    )
    return Table(f"{report.network} on {report.chip}", columns, has_total=True)


def activity_table(report: Report) -> Table | None:
    """What a run did: spikes, operations, energy per inference; None where nothing was run."""
    if report.samples is None or report.total.activity is None:
        return None
    rows = (*report.rows, report.total)
    size, unit = energy_unit(report.total.activity.energy.total)

    def column(title: str, cell: Callable[[Activity], str], rank: int = 0) -> Column:
        cells = tuple(UNKNOWN if row.activity is None else cell(row.activity) for row in rows)
        return Column(title, cells, numeric=True, rank=rank)

    def joules(title: str, term: Callable[[Energy], float], rank: int = 0) -> Column:
        return column(f"{title} [{unit}]", lambda one: f"{term(one.energy) / size:.3f}", rank)

    def rate(one: Activity) -> str:
        return UNKNOWN if one.firing_rate is None else f"{one.firing_rate:.4f}"

    columns = (
        Column("layer", tuple(row.name for row in rows)),
        column("spikes", lambda one: _whole(one.spikes)),
        column("rate", rate, rank=1),
        column("synops", lambda one: _whole(one.synops)),
        column("graded synops", lambda one: _whole(one.graded_synops), rank=5),
        column("updates", lambda one: _whole(one.updates), rank=3),
        column("host MACs", lambda one: _whole(one.host_macs), rank=6),
        joules("synapse", lambda energy: energy.synapse, rank=2),
        joules("update", lambda energy: energy.update, rank=2),
        joules("spike", lambda energy: energy.spike, rank=2),
        joules("hops", lambda energy: energy.hop, rank=2),
        joules("energy", lambda energy: energy.total),
    )
    title = f"sums over {report.samples:,} samples x {report.steps} steps; energy per inference"
    return Table(title, columns, has_total=True)


def block_table(report: Report) -> Table | None:
    """Branch and sum of residual blocks apart; None where no sum is a population of its own."""
    rows = [
        (one.block, f"{one.branch:.4f}", f"{one.output:.4f}", f"{one.payload:.4f}") for one in report.blocks
    ]
    titles = ("block", "A: branch", "O: sum", "O: mean payload")
    return _numbers("residual blocks: spikes per neuron and step", titles, rows) if rows else None


def train_table(report: Report) -> Table | None:
    """Spike trains of the recorded layers; None where nothing was recorded."""

    def text(value: float | None, form: str) -> str:
        return UNKNOWN if value is None else format(value, form)

    rows = [
        (
            one.layer,
            f"{one.trains:,}",
            f"{one.silent:.1%}",
            f"{one.always:.1%}",
            f"{one.rate:.4f}",
            text(one.first_step, ".2f"),
            text(one.interval_steps, ".2f"),
            text(one.interval_cv, ".3f"),
            text(one.fano, ".3f"),
        )
        for one in report.trains
    ]
    titles = ("layer", "trains", "silent", "always", "rate", "first step", "interval", "interval CV", "Fano")
    return _numbers("spike trains: one neuron in one sample each", titles, rows) if rows else None


def _numbers(title: str, titles: Sequence[str], rows: Sequence[tuple[str, ...]]) -> Table:
    """A table whose first column is text and whose others are numbers."""
    cells = zip(*rows, strict=True)
    columns = (
        Column(name, one, numeric=i > 0) for i, (name, one) in enumerate(zip(titles, cells, strict=True))
    )
    return Table(title, tuple(columns))


def facts(report: Report) -> tuple[tuple[str, str], ...]:
    """The lines below the tables: (what, value)."""
    lines = [("network", f"{report.network}, T = {report.steps}"), ("import profile", report.profile)]
    accuracy = report.accuracy
    if accuracy is not None:
        loaded = "" if accuracy.float_accuracy is None else f"float {accuracy.float_accuracy:.2%}, "
        lines.append(
            ("accuracy", f"{loaded}integer {accuracy.integer_accuracy:.2%} ({accuracy.samples:,} samples)")
        )
    if report.total.cores is not None:
        of = "" if report.cores_available is None else f" of {report.cores_available:,}"
        lines.append(("cores", f"{report.total.cores:,} used{of} on {report.chip}"))
    if report.total.parameter_bits is not None:
        lines.append(("footprint", _footprint(report.total)))
    lines += [
        ("fullest core", f"{one.used / one.allowed:.1%} of the {one.resource}: core {one.core}, {one.layer}")
        for one in report.peaks
    ]
    if report.total.latency_steps is not None:
        lines.append(
            (
                "latency",
                f"{report.total.latency_steps} steps per sample, a new sample every {report.interval_steps}",
            )
        )
    lines += prices.facts(report)
    lines += [("assumes", text) for text in report.assumptions]
    lines.append(("not priced", ", ".join(report.unpriced)))
    lines += [("verified", _verified(one)) for one in report.verified]
    lines += [("note", text) for text in report.notes]
    return tuple((what, value) for what, value in lines if value)


def _footprint(total: Row) -> str:
    """Of the model, and as it lies on the chip, where lists and copies on several cores come on top."""
    model = f"model {format_memory(total.parameter_bits or 0)} of weights and biases"
    mapped = (
        "" if total.memory_bits is None else f", mapped {format_memory(total.memory_bits)} of synapse memory"
    )
    return model + mapped


def _verified(run: VerifiedRun) -> str:
    verdict = "all equal" if run.passed else f"{run.mismatches:,} differ"
    if not run.counts_equal:
        verdict += ", event counts differ"
    versions = ", ".join(f"{name} {version}" for name, version in run.versions)
    return (
        f"{run.engine} and {run.against}: {run.samples:,} samples x {run.steps} steps, "
        f"{run.compared:,} spikes, u and v: {verdict} "
        f"({versions}; input {run.input_sha256[:12]}, trace {run.trace_sha256[:12]})"
    )


def _activity_data(activity: Activity) -> dict[str, Any]:
    return {
        "spikes": activity.spikes,
        "grades": activity.grades,
        "firing_rate": activity.firing_rate,
        "synops": activity.synops,
        "graded_synops": activity.graded_synops,
        "updates": activity.updates,
        "host_macs": activity.host_macs,
        **prices.energy_data(activity.energy),
        "energy_low_J": activity.energy_range[0],
        "energy_high_J": activity.energy_range[1],
    }


def _row_data(row: Row) -> dict[str, Any]:
    return {
        "neurons": row.neurons,
        "parameters": row.parameters,
        "parameter_bits": row.parameter_bits,
        "synapses": row.synapses,
        "cores": row.cores,
        "memory_bits": row.memory_bits,
        "latency_steps": row.latency_steps,
        "wait_steps": row.wait_steps,
        **({} if row.activity is None else _activity_data(row.activity)),
    }


def _layer_data(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [
        {
            "layer": row.name,
            "population": row.population,
            "kind": row.kind,
            "shape": list(row.shape),
            **_row_data(row),
        }
        for row in rows
    ]


def data(report: Report) -> dict[str, Any]:
    """The JSON members: SI units, names end in the unit; event counts are sums over samples and steps."""
    accuracy = report.accuracy
    return {
        "nmc_version": report.version,
        "network": report.network,
        "chip": report.chip,
        "profile": report.profile,
        "steps": report.steps,
        "samples": report.samples,
        "cores_available": report.cores_available,
        "peaks": [dataclasses.asdict(one) for one in report.peaks],
        "accuracy": None
        if accuracy is None
        else {
            "samples": accuracy.samples,
            "integer": accuracy.integer_accuracy,
            "float": accuracy.float_accuracy,
        },
        "total": _row_data(report.total),
        "layers": _layer_data(report.rows),
        "residual_blocks": [dataclasses.asdict(one) for one in report.blocks],
        "spike_trains": [dataclasses.asdict(one) for one in report.trains],
        "energy_range_J": None if report.energy_range is None else list(report.energy_range),
        "estimates": prices.estimate_data(report.estimates),
        "other_hardware": prices.estimate_data(report.others),
        "literature": None if report.twin is None else prices.twin_data(report.twin),
        "assumptions": list(report.assumptions),
        "unpriced": list(report.unpriced),
        "notes": list(report.notes),
        "verified": [
            {**dataclasses.asdict(one), "versions": dict(one.versions), "passed": one.passed}
            for one in report.verified
        ],
    }


def headline(report: Report) -> tuple[tuple[str, str], ...]:
    """The few numbers that a reader looks for first."""
    lines = [("network", f"{report.network} on {report.chip}, T = {report.steps}")]
    if report.accuracy is not None:
        lines.append(("accuracy", f"{report.accuracy.integer_accuracy:.2%}"))
    if report.energy_range is not None:
        lines.append(("energy per inference", prices.range_text(report.energy_range)))
    if report.total.cores is not None:
        of = "" if report.cores_available is None else f" of {report.cores_available:,}"
        lines.append(("cores", f"{report.total.cores:,}{of}"))
    if report.total.latency_steps is not None:
        lines.append(("latency", f"{report.total.latency_steps} steps"))
    return tuple(lines)


def document(report: Report) -> Document:
    """The report for any renderer; schema ``nmc.report/1``."""
    activity = (activity_table(report), block_table(report), train_table(report))
    tables = [structure_table(report), *activity, prices.price_table(report)]
    return Document(
        "report",
        data(report),
        tuple(one for one in tables if one is not None),
        facts(report),
        charts(report),
        headline(report),
        ("layers",),
    )
