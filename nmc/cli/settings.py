"""Which options hold, and where each comes from: ``--config``, and the command ``config``."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any

import typer

from nmc.cli.options import FormatOption
from nmc.console import ORIGINS, Format, emit

FORWARDS = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Settings of a command that passes options on to another one."""


class Action(str, enum.Enum):
    """What ``nmc config`` does."""

    SHOW = "show"


def use_config(context: typer.Context, path: Path | None) -> Path | None:
    """Options that the command line leaves out take the environment's values, then the file's."""
    if not context.resilient_parsing:
        from nmc.config import find, settings

        found = settings(path or find(Path.cwd()))
        context.default_map = {name: one.value for name, one in found.items()}
        context.meta[ORIGINS] = {name: one.origin for name, one in found.items()}
    return path


def config(
    context: typer.Context,
    action: Annotated[Action, typer.Argument(help="What to do; options of nmc compile may follow.")],
    origin: Annotated[
        bool, typer.Option("--origin", help="Say where each value comes from: option, environment, file.")
    ] = False,
    file: Annotated[
        Path | None, typer.Option("--config", metavar="TOML", help="That file, not the nearest one.")
    ] = None,
    how: FormatOption = Format.TEXT,
) -> None:
    """Show the options that nmc compile and nmc diff would take here."""
    from nmc.config import KEYS, find, read_gates, settings
    from nmc.reports.document import Document, table_of

    path = file or find(Path.cwd())
    found = settings(path)
    given = _parsed(context, [*context.args, *([] if file is None else ["--config", str(file)])])
    rows = []
    for key in KEYS:
        source = given.get_parameter_source(key)
        told = "option" if source is not None and source.name == "COMMANDLINE" else None
        told = told or (found[key].origin if key in found else "default")
        rows.append({"option": key.replace("_", "-"), "value": _plain(given.params[key]), "origin": told})
    gates = [] if path is None else read_gates(path)
    titles = ("option", "value", "origin") if origin else ("option", "value")
    cells = [["-" if row[title] is None else str(row[title]) for title in titles] for row in rows]
    facts = (("file", "none" if path is None else str(path)), ("gates", ", ".join(gates) or "none"))
    members = {"file": None if path is None else str(path), "options": rows, "gates": gates}
    emit(Document("config", members, (table_of("", titles, cells),), facts, records=("options",)), how)


def _parsed(context: typer.Context, arguments: list[str]) -> Any:
    """What ``nmc compile`` understands of these arguments; its model is none of the options."""
    group: Any = context.find_root().command
    command = group.get_command(context, "compile")
    return command.make_context("compile", ["model", *arguments], parent=context.parent)


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    return str(value) if isinstance(value, Path) else value
