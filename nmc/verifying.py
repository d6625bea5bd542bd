"""``nmc verify``: two engines compared, said as a document, kept in the bundle."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from nmc import api, golden
from nmc.backends.compare import Verification
from nmc.backends.engines import engine as engine_by_name
from nmc.bundle import Bundle
from nmc.errors import NmcError
from nmc.npzfiles import read_samples
from nmc.progress import Reporter
from nmc.reports import layout
from nmc.reports.build import names_of
from nmc.reports.document import Column, Document, Table
from nmc.running import runnable


def verify_bundle(
    path: Path,
    engine: str,
    against: str,
    samples: int,
    data: Path | None,
    steps: int | None,
    record: bool,
    progress: Reporter,
) -> tuple[Document, NmcError | None]:
    """Compare two engines and, where ``record`` says so, keep the result in the bundle.

    Returns:
        the document, and the error: NMC-V01 names the first divergence, NMC-W01 says why nothing was kept.
    """
    bundle = api.read(path)
    x = None if data is None else read_samples(data).x
    hook = progress.hook(f"verify {engine} against {against}")
    hook(0, 2)
    result = api.verify(bundle, against, samples, engine=engine, x=x, steps=steps, progress=hook)
    document, problem = verification_document(bundle, result), _keep(path, bundle, result) if record else None
    if result.first is not None:
        problem = NmcError("NMC-V01", str(path), str(result.first))
    elif not result.passed:
        problem = NmcError("NMC-V01", str(path), f"{engine} and {against} count events differently")
    return document, problem


def replay_bundle(path: Path, engine: str) -> tuple[Document, NmcError | None]:
    """Run the bundle's golden samples; the error (NMC-V01) names the first divergence from what it holds."""
    bundle = api.read(path)
    result = golden.replay(bundle.golden, runnable(bundle), engine_by_name(engine))
    return result.document(), None if result.passed else NmcError("NMC-V01", str(path), result.first)


def _keep(path: Path, verified: Bundle, result: Verification) -> NmcError | None:
    """Add the result to the file's record, whole or not at all; what went wrong, if anything did."""
    try:
        # Read anew: another verification of the same build may have written its record meanwhile.
        bundle = api.read(path)
        if bundle.build_id != verified.build_id:
            return NmcError("NMC-W01", str(path), "was compiled anew meanwhile", "verify it again")
        bundle.with_verification(result).save(path)
    except NmcError as error:
        return error
    return None


def verification_document(bundle: Bundle, result: Verification) -> Document:
    """Mismatches per layer; schema ``nmc.verify/1``."""
    names = names_of(bundle.network)
    kinds = ("spikes", "u", "v")
    layers = [
        {"layer": names[name], "population": name, **{kind: found.get(kind) for kind in kinds}}
        for name, found in result.mismatches.items()
    ]
    columns = [Column("layer", tuple(str(one["layer"]) for one in layers))]
    for kind in kinds:
        cells = tuple(layout.UNKNOWN if one[kind] is None else f"{one[kind]:,}" for one in layers)
        columns.append(Column(f"{kind} unequal", cells, numeric=True))
    verdict = "equal" if result.passed else "different"
    facts = [
        ("engines", f"{result.engine} and {result.against}"),
        ("samples", f"{result.samples:,} x {result.steps} steps, {result.compared:,} values compared"),
        ("mismatches", f"{result.total:,}; event counts {'equal' if result.counts_equal else 'different'}"),
        ("verdict", verdict),
    ]
    if result.first is not None:
        facts.append(("first divergence", str(result.first)))
    members = {
        "engine": result.engine,
        "against": result.against,
        "samples": result.samples,
        "steps": result.steps,
        "compared": result.compared,
        "mismatches": result.total,
        "counts_equal": result.counts_equal,
        "passed": result.passed,
        "input_sha256": result.input_sha256,
        "trace_sha256": result.trace_sha256,
        "first_divergence": None if result.first is None else dataclasses.asdict(result.first),
        "layers": layers,
    }
    return Document("verify", members, (Table("", tuple(columns)),), tuple(facts), records=("layers",))
