"""The verification record: what ``nmc verify`` compared, kept in the bundle and shown by the report.

It holds no dates and no paths: the same comparison with the same versions writes the same bytes.
"""

from __future__ import annotations

import dataclasses
import itertools
import platform
import re
from importlib import metadata
from typing import Any

from nmc import __version__
from nmc.backends.compare import Verification
from nmc.errors import NmcError
from nmc.records import Record
from nmc.reports.model import VerifiedRun

SCHEMA = "nmc.verified/1"
MAX_RUNS = 100
_FIELDS = {field.name for field in dataclasses.fields(VerifiedRun)}


def versions_of(*engines: str) -> tuple[tuple[str, str], ...]:
    """(package, version) of everything whose arithmetic took part, by name."""
    behind = {"lava": "lava-nc", "torch": "torch"}
    packages = {package for start, package in behind.items() for name in engines if name.startswith(start)}
    found = {name: metadata.version(name) for name in {"numpy", *packages}}
    return tuple(sorted({**found, "nmc": __version__, "python": platform.python_version()}.items()))


def record_of(result: Verification) -> VerifiedRun:
    """What of a comparison is kept."""
    return VerifiedRun(
        engine=result.engine,
        against=result.against,
        samples=result.samples,
        steps=result.steps,
        compared=result.compared,
        mismatches=result.total,
        counts_equal=result.counts_equal,
        input_sha256=result.input_sha256,
        trace_sha256=result.trace_sha256,
        versions=versions_of(result.engine, result.against),
    )


def added(runs: tuple[VerifiedRun, ...], new: VerifiedRun) -> tuple[VerifiedRun, ...]:
    """The runs with one more; it takes the place of an earlier run of the same engines on the same input.

    Raises:
        NmcError: NMC-U02 when there are ``MAX_RUNS`` already.
    """

    def key(run: VerifiedRun) -> tuple[str, str, int, str]:
        return run.engine, run.against, run.steps, run.input_sha256

    kept = {key(run): run for run in (*runs, new)}
    if len(kept) > MAX_RUNS:
        raise NmcError(
            "NMC-U02",
            "verify",
            f"the bundle holds {len(runs)} verification runs, {MAX_RUNS} are kept",
            "use --no-record, or compile the bundle again",
            measured=len(kept),
            allowed=MAX_RUNS,
        )
    return tuple(kept[one] for one in sorted(kept))


def to_json(runs: tuple[VerifiedRun, ...], build_id: str) -> dict[str, Any]:
    """The document ``verified.json``; ``build_id`` says what was verified."""
    return {
        "schema": SCHEMA,
        "build_id": build_id,
        "runs": [{**dataclasses.asdict(run), "versions": dict(run.versions)} for run in runs],
    }


def from_json(value: Any, build_id: str, who: str) -> tuple[VerifiedRun, ...]:
    """The runs of such a document.

    Raises:
        NmcError: NMC-F06 for any other document, and for the record of another build.
    """
    document = Record(value, {"schema", "build_id", "runs"}, who)
    if document.text("schema") != SCHEMA:
        document.refuse("schema", f"is {document.text('schema')[:40]}, expected {SCHEMA}")
    if document.text("build_id") != build_id:
        document.refuse("build_id", "is another network's: this one was not verified")
    items = document.items("runs")
    if not 1 <= len(items) <= MAX_RUNS:
        document.refuse("runs", f"are {len(items)}, 1 to {MAX_RUNS} are allowed")
    runs = tuple(_run(item, f"{who}: run {index}") for index, item in enumerate(items))
    if any(added((one,), two) != (one, two) for one, two in itertools.pairwise(runs)):
        document.refuse("runs", "are not in order, or the same")
    return runs


def _run(item: Any, who: str) -> VerifiedRun:
    record = Record(item, _FIELDS, who)
    for key in ("input_sha256", "trace_sha256"):
        if not re.fullmatch("[0-9a-f]{64}", record.text(key)):
            record.refuse(key, "is no SHA-256")
    versions = record.raw("versions")
    names = versions if isinstance(versions, dict) else {}
    if not names or not all(isinstance(text, str) and len(text) <= 100 for text in names.values()):
        record.refuse("versions", "is no object of texts")
    return VerifiedRun(
        engine=record.text("engine"),
        against=record.text("against"),
        samples=record.integer("samples", 1),
        steps=record.integer("steps", 1),
        compared=record.integer("compared"),
        mismatches=record.integer("mismatches"),
        counts_equal=record.flag("counts_equal"),
        input_sha256=record.text("input_sha256"),
        trace_sha256=record.text("trace_sha256"),
        versions=tuple(sorted(names.items())),
    )
