"""Commands that look things up: files, chips, this installation, error codes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nmc.cli.options import (
    DtOption,
    ForceOption,
    FormatOption,
    JunitOption,
    ModelArgument,
    ProfileOption,
    StepsOption,
    WeightsOption,
)
from nmc.console import Format, emit, nearest
from nmc.errors import CATALOGUE, EXIT_NO_ENGINE, EXIT_OK, NmcError


def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help=".nir, .net or .nmc files.")],
    sarif: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the findings as SARIF too.")
    ] = None,
    junit: JunitOption = None,
    force: ForceOption = False,
    how: FormatOption = Format.TEXT,
) -> int:
    """List everything that is wrong with files, all findings at once."""
    from nmc import commands

    for path in (sarif, junit):
        if path is not None:
            commands.check_output(path, force, files)
    found = commands.check_files(files)
    if sarif is not None:
        commands.write_text(sarif, found.to_sarif())
    if junit is not None:
        commands.write_text(junit, found.to_junit())
    emit(found.document, how)
    return found.status


def chips(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Show one chip in full.")] = None,
    how: FormatOption = Format.TEXT,
) -> None:
    """List the chips that nmc knows, or one chip's limits and where each number comes from."""
    from nmc import commands

    emit(commands.list_chips() if name is None else commands.show_chip(name), how)


def doctor(how: FormatOption = Format.TEXT) -> int:
    """Say what is installed, which engines can run, and the remedy for what is missing."""
    from nmc.doctor import diagnose, document

    checks = diagnose()
    emit(document(checks), how)
    return EXIT_OK if all(one.ok for one in checks if one.required) else EXIT_NO_ENGINE


def explain(
    code: Annotated[str | None, typer.Argument(metavar="[CODE]", help="Such as NMC-P03.")] = None,
    how: FormatOption = Format.TEXT,
) -> None:
    """Say what an error code means; without a code, list them all."""
    from nmc.reports.document import Document, table_of

    wanted = list(CATALOGUE) if code is None else [code.upper()]
    if wanted[0] not in CATALOGUE:
        raise NmcError("NMC-U03", wanted[0], "is no error code", nearest(wanted[0], CATALOGUE))
    entries = [(name, CATALOGUE[name]) for name in wanted]
    rows = [(name, str(one.exit_status), one.title, one.explanation) for name, one in entries]
    codes = [
        {"code": name, "exit_status": one.exit_status, "title": one.title, "explanation": one.explanation}
        for name, one in entries
    ]
    titles = ("code", "exit status", "title", "meaning")
    if code is not None:
        emit(Document("explain", {"codes": codes}, (), tuple(zip(titles, rows[0], strict=True))), how)
    else:
        emit(Document("explain", {"codes": codes}, (table_of("", titles, rows),)), how)


def neurobench(
    model: ModelArgument,
    samples: Annotated[
        Path | None,
        typer.Option("--input", "-i", metavar="NPZ", help="x, and y; none: static metrics only."),
    ] = None,
    profile: ProfileOption = None,
    dt: DtOption = None,
    weights: WeightsOption = None,
    steps: StepsOption = None,
    how: FormatOption = Format.TEXT,
) -> None:
    """NeuroBench's metrics of a float model, under its names and definitions."""
    from nmc import api
    from nmc.npzfiles import read_samples
    from nmc.reports.neurobench import document

    data = None if samples is None else read_samples(samples)
    x, y = (None, None) if data is None else (data.x, data.y)
    found = api.neurobench(model, x, y, profile=profile, dt=dt, weights=weights, steps=steps)
    emit(document(found, str(model)), how)
