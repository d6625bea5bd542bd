"""``nmc demo``: the whole pipeline on a trained network and images that ship with nmc; no torch, no Lava."""

from __future__ import annotations

import shlex
from importlib.resources import files
from pathlib import Path

from nmc import api, atomic
from nmc.commands import PassObserver
from nmc.errors import InternalError, NmcError
from nmc.npzfiles import read_samples, write_trace
from nmc.progress import Reporter
from nmc.report import layout, render_json, render_markdown
from nmc.report.build import names_of
from nmc.report.document import Document
from nmc.report.model import Accuracy

MODEL, CALIBRATION, TEST = "digits_sew.nir", "digits_calibration.npz", "digits_test.npz"
BUNDLE, TRACE, REPORT_JSON, REPORT_MARKDOWN = "demo.nmc", "trace.npz", "report.json", "report.md"
VERIFIED_SAMPLES = 3


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(exist_ok=True)
    except OSError as error:
        problem = "is not a folder" if isinstance(error, FileExistsError) else error.strerror or str(error)
        raise NmcError("NMC-W01", str(out), problem, "choose another --out") from error


def run_demo(out: Path, progress: Reporter) -> Document:
    """Compile, run, verify and report; everything that is made lies in ``out``; schema ``nmc.demo/1``.

    Raises:
        NmcError: NMC-W01 when ``out`` cannot be written.
    """
    _make_folder(out)
    atomic.ensure_writable(out / BUNDLE, force=True)
    # The model and its data are copied, so that the commands at the end have something to work on.
    for name in (MODEL, CALIBRATION, TEST):
        atomic.atomic_write(out / name, (files("nmc") / "data" / name).read_bytes())
    calibration, test = read_samples(out / CALIBRATION), read_samples(out / TEST)

    graph = api.load(out / MODEL)
    progress.show("compile", 0, None)
    bundle = api.compile(graph, "loihi2", calibration.x, observe=PassObserver(progress))
    bundle.save(out / BUNDLE)
    progress.show("verify", 0, None)
    verification = api.verify(bundle, "stepwise", VERIFIED_SAMPLES)
    if not verification.passed:
        raise NmcError("NMC-V01", "demo", str(verification.first), "report it")
    progress.show("float model", 0, None)
    float_accuracy = test.accuracy(api.run_float(graph, test.x, bundle.network.steps).classes)
    trace = api.run(bundle, test.x, progress=progress.hook("run"))
    accuracy = test.accuracy(trace.classes)
    if accuracy is None:
        raise InternalError("the demo's test images have no labels")
    about = {"engine": "auto", "build_id": bundle.build_id, "accuracy": accuracy}
    write_trace(out / TRACE, trace, names_of(bundle.network), about)
    report = api.report(bundle, trace, accuracy=Accuracy(trace.samples, accuracy, float_accuracy))
    document = layout.document(report)
    atomic.atomic_write(out / REPORT_JSON, render_json.render(document).encode())
    atomic.atomic_write(out / REPORT_MARKDOWN, render_markdown.render(document).encode())

    where = {name: shlex.quote(str(out / name)) for name in (BUNDLE, TRACE, MODEL, CALIBRATION)}
    commands = [
        f"nmc verify {where[BUNDLE]} --against lava --samples {VERIFIED_SAMPLES}",
        f"nmc report {where[BUNDLE]} --trace {where[TRACE]} --format md",
        f"nmc compile {where[MODEL]} --chip loihi1 --calibration {where[CALIBRATION]} -o loihi1.nmc",
    ]
    made = {"bundle": BUNDLE, "report": REPORT_MARKDOWN, "report_json": REPORT_JSON, "trace": TRACE}
    paths = {what: str(out / name) for what, name in made.items()}
    equal = f"{verification.compared:,} spikes and states equal in both forms of the reference engine"
    facts = (
        *document.facts,
        ("verified", equal),
        *((what.replace("_", " "), path) for what, path in paths.items()),
        *(("try next", command) for command in commands),
    )
    members = {**paths, "try_next": commands, "report": document.data}
    return Document("demo", members, document.tables, facts)
