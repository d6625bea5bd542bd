"""Two builds, from bundles or from report documents, compared and held against gates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nmc import bundle as bundle_format
from nmc.bundle import Bundle
from nmc.errors import NmcError
from nmc.reports.changes import STRUCTURE, Diff, Side, compare_builds
from nmc.reports.gates import Gate, Numbers, parse_gate
from nmc.safeio import Limits, parse_json, read_bytes

REPORT_SCHEMA = "nmc.report/1"
HOLDS_REPORT = ("nmc.compile/1", "nmc.run/1", "nmc.evaluate/1")
NOT_COMPARED = ("layer", "population", "kind", "shape")
REPORT_LIMITS = Limits(max_file_bytes=256 << 20)


def diff(
    old: Bundle | str | Path, new: Bundle | str | Path, gates: Sequence[str | Gate] | None = None
) -> Diff:
    """What changed from one build to another.

    Args:
        old, new: bundles, paths of bundles, or paths of JSON documents of ``nmc report``, ``run``,
            ``evaluate`` or ``compile``. Bundles are compared by the activity of their golden samples.
        gates: such as ``"energy=+5%"``; see ``reports.gates``.

    Raises:
        NmcError: NMC-F* for files that cannot be read, NMC-U02 for a malformed gate. A gate that fails does
            not raise: see ``Diff.passed``.
    """
    stated = [gates] if isinstance(gates, str) else gates or ()
    known = [one if isinstance(one, Gate) else parse_gate(one) for one in stated]
    return compare_builds(_side(old), _side(new), known)


def _side(build: Bundle | str | Path) -> Side:
    if isinstance(build, Bundle):
        return _of_bundle(build, build.build_id[:12])
    path = Path(build)
    if path.suffix == ".nmc" or bundle_format.is_bundle(path):
        return _of_bundle(bundle_format.read(path), str(path))
    return Side(str(path), _read_report(path))


def _of_bundle(bundle: Bundle, name: str) -> Side:
    if bundle.report is None:
        raise NmcError("NMC-D01", name, "holds no report", "compile it fully, with this nmc")
    return Side(name, _checked(bundle.report, name), bundle.network)


def _read_report(path: Path) -> Numbers:
    who = str(path)
    document = parse_json(read_bytes(path, REPORT_LIMITS), who, REPORT_LIMITS, code="NMC-D01")
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema in HOLDS_REPORT:
        return _checked(document.get("report"), who)
    if schema != REPORT_SCHEMA:
        remedy = "write one with nmc report ... --format json -o report.json"
        raise NmcError("NMC-D01", who, f"is no report (schema {str(schema)[:40]})", remedy)
    return _checked(document, who)


def _checked(report: Any, who: str) -> Numbers:
    """The report, once it is known to have what a comparison reads."""

    def numeric(value: object) -> bool:
        return value is None or (isinstance(value, int | float) and not isinstance(value, bool))

    def row(value: object) -> bool:
        named = isinstance(value, dict) and all(
            isinstance(value.get(k), str) for k in ("layer", "population")
        )
        return named and isinstance(value, dict) and set(STRUCTURE) <= set(value) and numbers(value)

    def numbers(value: dict[str, Any]) -> bool:
        return all(numeric(one) for name, one in value.items() if name not in NOT_COMPARED)

    sound = (
        isinstance(report, dict)
        and {"network", "chip", "profile", "steps", "samples", "accuracy", "total", "layers"} <= set(report)
        and isinstance(report["total"], dict)
        and numbers(report["total"])
        and numeric(report["samples"])
        and isinstance(report["layers"], list)
        and all(map(row, report["layers"]))
        and (
            report["accuracy"] is None
            or (
                isinstance(report["accuracy"], dict) and numeric(report["accuracy"].get("integer", "missing"))
            )
        )
    )
    if not sound:
        raise NmcError("NMC-D01", who, "holds a malformed report", "write it again with this nmc")
    return dict(report)
