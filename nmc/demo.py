"""``nmc demo``: the whole pipeline on a trained network and images that ship with nmc; no torch, no Lava."""

from __future__ import annotations

import os
import shlex
import sys
from importlib.resources import files
from pathlib import Path

from nmc import api, atomic
from nmc.backends.compare import Verification
from nmc.backends.engines import engine as engine_by_name
from nmc.backends.loihi.run import unavailable as lava_unavailable
from nmc.commands import PassObserver, with_pictures
from nmc.errors import InternalError, NmcError
from nmc.npzfiles import read_samples, write_trace
from nmc.progress import Reporter
from nmc.reports import layout, render_html, render_json, render_markdown
from nmc.reports.build import names_of
from nmc.reports.document import Document
from nmc.reports.model import Accuracy, Report

CHIP = "loihi2"
MODEL, CALIBRATION, TEST = "digits_sew.nir", "digits_calibration.npz", "digits_test.npz"
BUNDLE, TRACE = "demo.nmc", "trace.npz"
REPORT_JSON, REPORT_MARKDOWN, REPORT_HTML = "report.json", "report.md", "report.html"
VERIFIED_SAMPLES = 3


def run_demo(out: Path, progress: Reporter) -> Document:
    """Compile, run, verify and report; everything that is made lies in ``out``; schema ``nmc.demo/1``.

    Raises:
        NmcError: NMC-W01 when ``out`` cannot be written.
    """
    _make_folder(out)
    # The model and its data are copied, so that the commands at the end have something to work on.
    for name in (MODEL, CALIBRATION, TEST):
        atomic.atomic_write(out / name, (files("nmc") / "data" / name).read_bytes())
    test = read_samples(out / TEST)
    graph = api.load(out / MODEL)
    bundle = api.compile(graph, CHIP, read_samples(out / CALIBRATION).x, observe=PassObserver(progress))
    bundle.save(out / BUNDLE)
    progress.show("verify", 0, None)
    verification = api.verify(bundle, "stepwise", VERIFIED_SAMPLES)
    if not verification.passed:
        raise NmcError("NMC-V01", "demo", str(verification.first), "please report it")
    bundle = bundle.with_verification(verification)
    bundle.save(out / BUNDLE)
    progress.show("float model", 0, None)
    float_accuracy = test.accuracy(api.run_float(graph, test.x, bundle.network.steps).classes)
    engine = engine_by_name("auto").name
    trace = api.run(bundle, test.x, engine, progress=progress.hook("run"))
    integer_accuracy = test.accuracy(trace.classes)
    if integer_accuracy is None:
        raise InternalError("the demo's images have no labels")
    about = {"engine": engine, "build_id": bundle.build_id, "accuracy": integer_accuracy}
    write_trace(out / TRACE, trace, names_of(bundle.network), about)
    accuracy = Accuracy(trace.samples, integer_accuracy, float_accuracy)
    report = api.report(bundle, trace, accuracy=accuracy)
    document = layout.document(report)
    atomic.atomic_write(out / REPORT_JSON, render_json.render(document).encode())
    atomic.atomic_write(out / REPORT_MARKDOWN, render_markdown.render(document).encode())
    page = render_html.page(with_pictures(document, bundle, trace.counts))
    atomic.atomic_write(out / REPORT_HTML, page.encode())
    return _document(report, verification, out)


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(exist_ok=True)
    except OSError as error:
        problem = "is not a folder" if isinstance(error, FileExistsError) else error.strerror or str(error)
        raise NmcError("NMC-W01", str(out), problem, "choose another --out") from error


def _document(report: Report, verification: Verification, out: Path) -> Document:
    """The short form for the screen: one table, the main figures, what was written, what to try next."""
    whole = layout.document(report)
    made = {
        "bundle": BUNDLE,
        "report_html": REPORT_HTML,
        "report_markdown": REPORT_MARKDOWN,
        "report_json": REPORT_JSON,
        "trace": TRACE,
    }
    paths = {what: str(out / name) for what, name in made.items()}
    activity = report.total.activity
    if activity is None:
        raise InternalError("the demo's report has no run")
    told = dict(whole.facts)
    size = f"{report.total.neurons:,} neurons, {report.total.parameters:,} parameters, T = {report.steps}"
    equal = f"{verification.compared:,} spikes and states, step by step against layer by layer: equal"
    commands = next_commands(out)
    facts = (
        ("network", f"{report.network}: {size}"),
        ("accuracy", told["accuracy"]),
        ("spikes", f"{activity.spikes:,} in {report.samples:,} samples, {activity.synops:,} synops"),
        ("cores", told["cores"]),
        ("latency", told["latency"]),
        *(fact for fact in whole.facts if fact[0] == "energy/inference"),
        *(("", text) for text in report.assumptions[:1]),
        ("verified", equal),
        *((what.replace("_", " "), path) for what, path in paths.items()),
        *(("try next", command) for command in commands),
    )
    members = {**paths, "try_next": commands, "verified_values": verification.compared, "report": whole.data}
    return Document("demo", members, whole.tables[1:], facts)


def next_commands(out: Path) -> list[str]:
    """Three command lines that work from here."""
    nmc = program()
    bundle, trace, model, calibration, other = (
        shlex.quote(str(out / name)) for name in (BUNDLE, TRACE, MODEL, CALIBRATION, "loihi1.nmc")
    )
    against = "stepwise" if lava_unavailable() else "lava"
    return [
        f"{nmc} verify {bundle} --against {against} --samples {VERIFIED_SAMPLES}",
        f"{nmc} report {bundle} --trace {trace}",
        f"{nmc} compile {model} --chip loihi1 --calibration {calibration} -o {other}",
    ]


def program() -> str:
    """How the reader can call nmc: by its path where only ``uv run`` had put it on the search path."""
    if "UV_RUN_RECURSION_DEPTH" not in os.environ:
        return "nmc"
    script = Path(sys.executable).parent / "nmc"
    return shlex.quote(os.path.relpath(script)) if script.exists() else "uv run nmc"
