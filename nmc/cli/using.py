"""Commands that use bundles: run, evaluate, verify, report, diff."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nmc.cli.options import (
    BundleArgument,
    DtOption,
    ForceOption,
    FormatOption,
    JunitOption,
    ProfileOption,
    StepsOption,
    WeightsOption,
    engine_names,
    refuse_reading,
)
from nmc.console import Format, emit
from nmc.errors import EXIT_OK, NmcError


def run(
    model: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle; a model with --engine float.")],
    samples: Annotated[Path, typer.Option("--input", "-i", metavar="NPZ", help="x, and y if known.")],
    engine: Annotated[
        str,
        typer.Option(help="auto, reference, native, torch, lava, ... or float.", autocompletion=engine_names),
    ] = "auto",
    steps: StepsOption = None,
    profile: ProfileOption = None,
    dt: DtOption = None,
    weights: WeightsOption = None,
    record: Annotated[str, typer.Option(metavar="LAYER,...", help="Layers to keep, or all.")] = "",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="NPZ", help="The trace to write.")
    ] = None,
    force: ForceOption = False,
    how: FormatOption = Format.TEXT,
) -> None:
    """Run samples; print accuracy (where y is known), event counts and energy."""
    from nmc import commands
    from nmc.progress import Reporter

    layers = tuple(name for name in record.split(",") if name)
    read_as = {"profile": profile, "dt": dt, "weights": weights}
    if engine != "float":
        refuse_reading(f"--engine {engine}", **read_as)
    with Reporter() as progress:
        document = commands.run_model(model, samples, engine, steps, layers, out, force, progress, **read_as)
    emit(document, how)


def evaluate(
    bundle: BundleArgument,
    samples: Annotated[Path, typer.Option("--input", "-i", metavar="NPZ", help="x, and y for accuracy.")],
    engine: Annotated[
        str, typer.Option(help="auto, reference, native, torch, lava, ...", autocompletion=engine_names)
    ] = "auto",
    steps: StepsOption = None,
    journal: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep what is done there; a second start goes on from it."),
    ] = None,
    how: FormatOption = Format.TEXT,
) -> None:
    """Run a data set of any size in bounded memory: accuracy, answers per class, event counts, energy."""
    from nmc import commands
    from nmc.progress import Reporter

    with Reporter() as progress:
        document = commands.evaluate_bundle(bundle, samples, engine, steps, journal, progress)
    emit(document, how)


def verify(
    bundle: BundleArgument,
    against: Annotated[
        str,
        typer.Option(
            help="The engine to compare with, or golden: what the bundle itself holds.",
            autocompletion=engine_names,
        ),
    ] = "lava-inprocess",
    runtime: Annotated[
        bool, typer.Option("--runtime", help="Compare with Lava's runtime: --against lava.")
    ] = False,
    engine: Annotated[
        str | None, typer.Option(help="The engine that is taken as right (reference), or held to the golden.")
    ] = None,
    samples: Annotated[int, typer.Option(help="How many samples.")] = 3,
    data: Annotated[
        Path | None,
        typer.Option("--input", "-i", metavar="NPZ", help="Samples; by default the bundle's own."),
    ] = None,
    steps: StepsOption = None,
    record: Annotated[
        bool, typer.Option("--record/--no-record", help="Keep the result in the bundle, for the report.")
    ] = True,
    how: FormatOption = Format.TEXT,
) -> int:
    """Compare two engines bit by bit; exit status 1 and the first divergence where they differ."""
    from nmc.progress import Reporter
    from nmc.verifying import replay_bundle, verify_bundle

    if runtime and against not in ("lava", "lava-inprocess"):
        raise NmcError("NMC-U02", "runtime", f"given together with --against {against}", "give one of them")
    if against == "golden":
        document, failure = replay_bundle(bundle, engine or "auto")
        emit(document, how)
        if failure is not None:
            raise failure
        return EXIT_OK
    against = "lava" if runtime else against
    with Reporter() as progress:
        document, failure = verify_bundle(
            bundle, engine or "reference", against, samples, data, steps, record, progress
        )
    emit(document, how)
    if failure is not None:
        raise failure
    return EXIT_OK


def report(
    bundle: BundleArgument,
    trace: Annotated[Path | None, typer.Option(metavar="NPZ", help="A trace that nmc run wrote.")] = None,
    constants: Annotated[str | None, typer.Option(help="The energy set that prices the layers.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write there instead of stdout.")] = None,
    force: ForceOption = False,
    how: FormatOption = Format.TEXT,
) -> None:
    """Per layer: neurons, synapses, cores, memory, latency; with a trace also spikes, operations, energy."""
    from nmc import commands
    from nmc.console import render

    if out is not None:
        commands.check_output(out, force, (bundle,) if trace is None else (bundle, trace))
    document = commands.report_bundle(bundle, trace, constants, drawn=how is Format.HTML)
    if out is None:
        emit(document, how)
    else:
        commands.write_text(out, render(document, how))


def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="A bundle, or a JSON report of one.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="What it is compared with.")],
    gate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC=LIMIT", help="Such as energy=+5%, accuracy=-0.5pp or cores=+0; again for more."
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="TOML",
            help="More gates from table gates of a file; by default the nearest nmc.toml or pyproject.toml.",
        ),
    ] = None,
    junit: JunitOption = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write there instead of stdout.")] = None,
    force: ForceOption = False,
    how: FormatOption = Format.TEXT,
) -> int:
    """Say what changed between two builds; exit status 1 where a gate fails."""
    from nmc import commands
    from nmc.console import render

    if out is not None:
        commands.check_output(out, force, (old, new))
    if junit is not None:
        commands.check_output(junit, force, (old, new))
    found, failure = commands.diff_builds(old, new, gate or [], config)
    if junit is not None:
        commands.write_text(junit, found.to_junit())
    if out is None:
        emit(found.document(), how)
    else:
        commands.write_text(out, render(found.document(), how))
    if failure is not None:
        raise failure
    return EXIT_OK
