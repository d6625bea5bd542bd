"""What the commands do, from paths to documents; ``cli`` only parses and prints."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nmc import api, atomic
from nmc.arrays import refuse_foreign_labels
from nmc.backends import encode
from nmc.backends.base import Counts
from nmc.backends.engines import described
from nmc.backends.engines import engine as engine_by_name
from nmc.bundle import Bundle, is_bundle
from nmc.chip import Chip, constraint_names, load_chip
from nmc.constraints import Constraints, load_constraints
from nmc.errors import CATALOGUE, EXIT_OK, NmcError
from nmc.frontend.lint import Finding
from nmc.frontend.opgraph import OpGraph
from nmc.npzfiles import (
    SampleFile,
    TraceFile,
    is_trace,
    read_samples,
    read_trace,
    write_trace,
)
from nmc.passes import PassDone, describe, pipeline
from nmc.progress import Reporter
from nmc.reports import layout, render_junit, render_sarif
from nmc.reports.build import build_report, names_of
from nmc.reports.changes import Diff
from nmc.reports.document import Document, Table, table_of
from nmc.reports.model import Accuracy
from nmc.running import answers

LOOKED_AT = 256
"""The first samples of a data set tell whether it is in another unit."""
CONFUSION_CLASSES = 20
"""Larger tables of answers stand in the JSON document only."""


def check_output(path: Path, force: bool, inputs: Iterable[Path]) -> None:
    """Refuse (NMC-W01) an output that could not be written, before any work."""
    atomic.ensure_writable(path, force=force, inputs=inputs)


def write_text(path: Path, text: str) -> None:
    """Write a whole text file or nothing (NMC-W01)."""
    atomic.atomic_write(path, text.encode())


# --- compile ----------------------------------------------------------------------------------------


class PassObserver:
    """Shows, prints and times the passes of one compile."""

    def __init__(self, progress: Reporter, print_after: str | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress
        self._print_after = print_after

    def within(self, name: str, done: int, total: int) -> None:
        """How far a pass is."""
        self._progress.show(f"compile: {name}", done, total)

    def __call__(self, done: PassDone) -> None:
        self.seconds[done.name] = done.seconds
        self._progress.show(f"compile: {done.name} done", len(self.seconds), None)
        if done.name == self._print_after:
            print(describe(done.network), file=sys.stderr)


def compile_model(
    model: Path,
    out: Path | None,
    calibration: Path | None,
    options: Mapping[str, Any],
    progress: Reporter,
    *,
    force: bool,
    print_after: str | None,
    timed: bool,
) -> Document:
    """Compile, save and describe; with ``stop_after`` nothing is saved.

    Args:
        options: of ``api.compile``; and ``convert``, the method by which an ANN is converted first, or None.
    """
    inputs = [model] if calibration is None else [model, calibration]
    if out is not None:
        check_output(out, force or is_bundle(out), inputs)
    elif options["stop_after"] is None:
        raise NmcError(
            "NMC-U01", "nmc compile", "--out is missing", "say where the bundle goes: -o model.nmc"
        )
    chip = load_chip(options["chip"])
    passes = [step.name for step in pipeline(chip, None)]
    if print_after not in (None, *passes):
        raise NmcError("NMC-U03", str(print_after), "is no pass", f"passes are: {', '.join(passes)}")
    data = None if calibration is None else read_samples(calibration).x
    observer = PassObserver(progress, print_after)
    rest = {**options, "chip": chip}
    method = rest.pop("convert")
    source = model if method is None else _converted(model, data, method, rest)
    bundle = api.compile(source, data=data, observe=observer, progress=observer.within, **rest)
    report = layout.document(api.report(bundle))
    tables, facts = report.tables, report.facts
    members: dict[str, Any] = {"report": report.data}
    if out is not None and options["stop_after"] is None:
        bundle.save(out)
        facts = (("bundle", str(out)), *facts)
        members["bundle"] = str(out)
    if timed:
        rows = [(name, f"{seconds:.3f}") for name, seconds in observer.seconds.items()]
        tables = (*tables, table_of("passes", ("pass", "seconds"), rows))
        members["passes"] = [{"pass": name, "time_s": seconds} for name, seconds in observer.seconds.items()]
    return dataclasses.replace(
        report, kind="compile", data=members, tables=tables, facts=facts, records=("report", "layers")
    )


# --- run --------------------------------------------------------------------------------------------


def _converted(model: Path, data: Any, method: str, options: dict[str, Any]) -> OpGraph:
    """The spiking network of an ANN; the options that only its builder needs are taken out."""
    for name, value in (("--calibration", data), ("--steps", options["steps"])):
        if value is None:
            raise NmcError("NMC-U01", "nmc compile", f"--convert without {name}", "conversion measures both")
    weights = options.pop("weights")
    return api.convert(model, data, options["steps"], method, chip=options["chip"], weights=weights)


def run_model(
    model: Path,
    samples: Path,
    engine: str,
    steps: int | None,
    layers: tuple[str, ...],
    out: Path | None,
    force: bool,
    progress: Reporter,
    **read_as: Any,
) -> Document:
    """Run samples, write the trace, and describe both; ``read_as``: of ``api.run_float``, for models."""
    if out is not None:
        check_output(out, force or is_trace(out), (model, samples))
    if engine == "float":
        if out is not None or layers:
            problem = f"{'--out' if out is not None else '--record'} with --engine float, which has no trace"
            remedy = "record layers with nmc export --to nirdata"
            raise NmcError("NMC-U02", "nmc run", problem, remedy)
        return _run_float(model, samples, steps, **read_as)
    if layers and out is None:
        raise NmcError(
            "NMC-U01", "nmc run", "--record without --out", "say where the trace goes: -o trace.npz"
        )
    bundle = api.read(model)
    data = read_samples(samples)
    refuse_foreign_labels(str(samples), data.y, answers(bundle.network))
    name = engine_by_name(engine).name
    trace = api.run(bundle, data.x, name, steps, layers, progress=progress.hook("run"))
    accuracy = data.accuracy(trace.classes)
    report = api.report(
        bundle,
        trace,
        accuracy=None if accuracy is None else Accuracy(trace.samples, accuracy),
        notes=encode.oddities(bundle.network, data.x),
    )
    document = layout.document(report)
    members: dict[str, Any] = {"engine": name, "report": document.data}
    facts = (("engine", described(engine, name)), *document.facts)
    if out is not None:
        about = {"engine": name, "build_id": bundle.build_id, "accuracy": accuracy}
        write_trace(out, trace, names_of(bundle.network), about)
        members["trace"] = str(out)
        facts = (("trace", str(out)), *facts)
    return dataclasses.replace(document, kind="run", data=members, facts=facts, records=("report", "layers"))


def evaluate_bundle(
    path: Path,
    samples: Path,
    engine: str,
    steps: int | None,
    journal: Path | None,
    progress: Reporter,
) -> Document:
    """Run a whole data set, one shard in memory at a time; schema ``nmc.evaluate/1``."""
    bundle = api.read(path)
    result = api.evaluate(bundle, samples, engine, steps, journal=journal, progress=progress.hook("evaluate"))
    accuracy = None if result.accuracy is None else Accuracy(result.counts.samples, result.accuracy)
    report = layout.document(
        build_report(
            bundle.network,
            bundle.chip,
            result.counts,
            config=bundle.config,
            accuracy=accuracy,
            notes=encode.oddities(bundle.network, next(SampleFile(samples).batches(LOOKED_AT)).x),
        )
    )
    ran = described(engine, result.engine)
    facts = [("engine", ran), ("shards", f"{result.shards:,}, of which {result.reused:,} reused")]
    confusion = result.confusion
    members = {
        "engine": result.engine,
        "shards": result.shards,
        "reused": result.reused,
        "confusion": None if confusion is None else confusion.tolist(),
        "report": report.data,
    }
    tables = report.tables
    if confusion is not None and len(confusion) <= CONFUSION_CLASSES:
        titles = ("class", *(f"as {answer}" for answer in range(len(confusion))))
        rows = [(str(label), *map(str, row)) for label, row in enumerate(confusion.tolist())]
        tables = (*tables, table_of("samples of each class, by answer", titles, rows))
    facts = [*facts, *report.facts]
    return dataclasses.replace(
        report,
        kind="evaluate",
        data=members,
        tables=tables,
        facts=tuple(facts),
        records=("report", "layers"),
    )


def _run_float(model: Path, samples: Path, steps: int | None, **read_as: Any) -> Document:
    """The float model's answer; it has no integers, so there are no counts."""
    data = read_samples(samples)
    result = api.run_float(model, data.x, steps, **read_as)
    refuse_foreign_labels(str(samples), data.y, result.output.shape[1])
    classes = result.classes
    accuracy = data.accuracy(classes)
    members = {"engine": "float", "samples": len(classes), "accuracy": accuracy, "classes": classes.tolist()}
    facts = [("engine", "float"), ("samples", f"{len(classes):,}")]
    if accuracy is not None:
        facts.append(("accuracy", f"{accuracy:.2%}"))
    return Document("run", members, (), tuple(facts))


# --- diff -------------------------------------------------------------------------------------------


def diff_builds(
    old: Path, new: Path, gates: Sequence[str], config: Path | None
) -> tuple[Diff, NmcError | None]:
    """What changed; the error (NMC-V03) names the gates that fail."""
    from nmc.config import find, read_gates

    path = config or find(Path.cwd())
    found = api.diff(old, new, [*gates, *(() if path is None else read_gates(path))])
    failure = None if found.passed else NmcError("NMC-V03", str(new), found.failure)
    return found, failure


# --- sweep ------------------------------------------------------------------------------------------


def sweep_model(
    model: Path,
    samples: Path,
    calibration: Path | None,
    chip: str,
    options: Mapping[str, Any],
    plot: Path | None,
    force: bool,
    progress: Reporter,
) -> Document:
    """Every combination compiled and run; the plot is written where one is asked for."""
    from nmc import sweep

    if plot is not None:
        check_output(plot, force, [model, samples] if calibration is None else [model, samples, calibration])
    data = read_samples(samples)
    known = None if calibration is None else read_samples(calibration).x
    points = sweep.sweep(model, chip, data, known, progress=progress.hook("sweep"), **options)
    facts = [("model", str(model)), ("chip", chip), ("samples", f"{len(data.x):,}")]
    if known is None:
        facts.append(("note", "no calibration data: nothing is clipped, rounded or corrected by their error"))
    if plot is not None:
        atomic.atomic_write(plot, sweep.draw(points, plot))
        facts.append(("plot", str(plot)))
    return sweep.document(points, facts)


# --- report, check, chips ---------------------------------------------------------------------------


def report_bundle(path: Path, trace: Path | None, constants: str | None, *, drawn: bool = False) -> Document:
    """The report of a bundle, with what a trace counted; ``drawn``: with pictures of its mapping."""
    bundle = api.read(path)
    recorded = None if trace is None else read_trace(trace)
    document = _report(bundle, path, trace, recorded, constants)
    return (
        with_pictures(document, bundle, None if recorded is None else recorded.counts) if drawn else document
    )


def with_pictures(document: Document, bundle: Bundle, counts: Counts | None) -> Document:
    """A report with its core map and links; without counts every neuron is taken to fire alike."""
    from nmc.reports.pictures import pictures

    spikes = None if counts is None else {name: n / counts.samples for name, n in counts.spikes.items()}
    drawings = (*document.pictures, *pictures(bundle.network, bundle.chip, spikes))
    return dataclasses.replace(document, pictures=drawings)


def _report(
    bundle: Bundle, path: Path, trace: Path | None, recorded: TraceFile | None, constants: str | None
) -> Document:
    if recorded is None:
        return layout.document(api.report(bundle, constants=constants))
    if recorded.about.get("build_id") != bundle.build_id:
        raise NmcError("NMC-D02", str(trace), f"is a trace of another build than {path}", "run that bundle")
    accuracy = recorded.about.get("accuracy")
    populations = {label: name for name, label in names_of(bundle.network).items()}
    report = build_report(
        bundle.network,
        bundle.chip,
        recorded.counts,
        config=bundle.config,
        constants=constants,
        accuracy=None if accuracy is None else Accuracy(recorded.counts.samples, accuracy),
        verified=bundle.verified,
        spikes={populations[name]: array for name, array in recorded.spikes.items() if name in populations},
    )
    return layout.document(report)


@dataclasses.dataclass(frozen=True)
class Checked:
    """What ``nmc check`` found. status: the exit status of the first finding that is an error."""

    findings: tuple[tuple[str, Finding], ...]
    document: Document
    status: int

    def to_sarif(self) -> str:
        """SARIF 2.1.0."""
        return render_sarif.render(self.findings)

    def to_junit(self) -> str:
        """A case for each file; it fails with its first error."""
        failures: dict[str, str] = dict.fromkeys(self.document.data["files"], "")
        for file, one in self.findings:
            if one.severity == "error" and not failures[file]:
                failures[file] = f"{one.code} {one.who}: {one.problem}; {one.remedy}"
        return render_junit.render(
            "nmc check", [render_junit.Case("nmc.check", *one) for one in failures.items()]
        )


def check_files(paths: Sequence[Path]) -> Checked:
    """All findings on files; schema ``nmc.check/1``."""
    findings = tuple((str(path), one) for path in paths for one in api.check(path))
    rows = [(file, one.severity, one.code, one.who, one.problem, one.remedy) for file, one in findings]
    table = table_of("", ("file", "severity", "code", "who", "problem", "remedy"), rows)
    errors = [one for _, one in findings if one.severity == "error"]
    files = [str(path) for path in paths]
    facts = (
        ("files", ", ".join(files) if len(files) < 4 else f"{len(files)}"),
        ("findings", f"{len(findings)}, of which {len(errors)} errors"),
    )
    members = {
        "files": files,
        "findings": [{"file": file, **dataclasses.asdict(one)} for file, one in findings],
    }
    status = CATALOGUE[errors[0].code].exit_status if errors else EXIT_OK
    document = Document("check", members, (table,) if rows else (), facts, records=("findings",))
    return Checked(findings, document, status)


def list_chips() -> Document:
    """Every chip with its main limits; schema ``nmc.chips/1``."""
    known = [load_chip(name) for name in api.chips()]

    def limit(value: int | None) -> str:
        return layout.UNKNOWN if value is None else f"{value:,}"

    rows = [
        (
            one.name,
            one.title,
            limit(one.cores),
            limit(one.neurons_per_core),
            limit(one.synapse_bits),
            str(one.payload_bits),
            ", ".join(constants.name for constants in one.energy),
        )
        for one in known
    ]
    titles = (
        "chip",
        "title",
        "cores",
        "neurons/core",
        "synapse bits/core",
        "payload bits",
        "energy constants",
    )
    members = [
        {
            "chip": one.name,
            "title": one.title,
            "cores": one.cores,
            "neurons_per_core": one.neurons_per_core,
            "synapse_memory_bits": one.synapse_bits,
            "payload_bits": one.payload_bits,
            "energy_constants": [constants.name for constants in one.energy],
        }
        for one in known
    ]
    checked = [one for one in map(load_constraints, constraint_names()) if one is not None]
    tables = [table_of("", titles, rows)]
    title = "checked by nmc fit, not compiled for"
    tables.append(
        table_of(title, ("chip", "title", "family"), [(c.name, c.title, c.family) for c in checked])
    )
    facts = (("one chip in full", "nmc chips NAME"),)
    others = [{"chip": one.name, "title": one.title, "family": one.family} for one in checked]
    return Document("chips", {"chips": members, "constraints": others}, tuple(tables), facts)


def show_chip(name: str) -> Document:
    """Every number of one chip with its basis and source; schema ``nmc.chip-facts/1``."""
    constraints = load_constraints(name)
    if constraints is not None:
        known = [dataclasses.asdict(one) for one in constraints.facts]
        members = {"chip": constraints.name, "title": constraints.title, "facts": known, "energy": []}
        return Document("chip-facts", members, (_facts_table(constraints),))
    chip = load_chip(name)
    tables = [_facts_table(chip)]
    for constants in chip.energy:
        prices = [(one.name, _price(one.joules, "J"), _price(one.seconds, "s")) for one in constants.terms]
        title = (
            f"energy constants {constants.name} of {constants.chip} ({constants.basis}; {constants.source})"
        )
        tables.append(table_of(title, ("event", "energy", "time"), prices))
    members = {
        "chip": chip.name,
        "title": chip.title,
        "facts": [dataclasses.asdict(one) for one in chip.facts],
        "energy": [
            {
                "constants": constants.name,
                "chip": constants.chip,
                "basis": constants.basis,
                "source": constants.source,
                "terms": [
                    {"event": one.name, "energy_J": one.joules, "time_s": one.seconds}
                    for one in constants.terms
                ],
            }
            for constants in chip.energy
        ],
    }
    return Document("chip-facts", members, tuple(tables))


def _facts_table(chip: Chip | Constraints) -> Table:
    rows = [(one.key, _value(one.value), one.basis, one.source) for one in chip.facts]
    return table_of(f"{chip.name}: {chip.title}", ("limit", "value", "basis", "source"), rows)


def _value(value: Any) -> str:
    if value is None:
        return layout.UNKNOWN
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _price(value: float | None, unit: str) -> str:
    return layout.UNKNOWN if value is None else f"{value:.4g} {unit}"
