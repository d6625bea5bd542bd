"""The command line: a thin layer over ``api``. Results on stdout, progress and refusals on stderr.

Heavy imports stand inside the commands, so that help and usage errors come at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from nmc import __version__
from nmc.cli import building, looking, settings, using
from nmc.console import run_guarded

COMMANDS: tuple[tuple[Callable[..., object], str, str], ...] = (
    (building.demo, "demo", "nmc demo --out nmc-demo"),
    (building.compile_, "compile", "nmc compile model.nir -o model.nmc --chip loihi2 --calibration x.npz"),
    (using.run, "run", "nmc run model.nmc -i test.npz --record all -o trace.npz"),
    (using.evaluate, "evaluate", "nmc evaluate model.nmc -i test.npz --journal test.jsonl"),
    (using.verify, "verify", "nmc verify model.nmc --runtime --samples 3"),
    (using.report, "report", "nmc report model.nmc --trace trace.npz --format md -o report.md"),
    (using.diff, "diff", "nmc diff main.nmc branch.nmc --gate energy=+5% --gate cores=+0"),
    (looking.check, "check", "nmc check model.nir --sarif findings.sarif"),
    (looking.chips, "chips", "nmc chips loihi1"),
    (building.fit, "fit", "nmc fit model.nir --chip loihi1:nahuku-32"),
    (building.export, "export", "nmc export model.nmc --to lava -o for-lava"),
    (looking.doctor, "doctor", "nmc doctor --format json"),
    (looking.explain, "explain", "nmc explain NMC-P03"),
    (building.sweep, "sweep", "nmc sweep model.nir -i test.npz --calibration x.npz --weight-bits 2..8"),
    (looking.neurobench, "neurobench", "nmc neurobench model.nir -i test.npz"),
    (settings.config, "config", "nmc config show --origin --chip loihi1"),
    (building.analyse, "analyse", "nmc analyse model.nir -i test.npz --calibration x.npz --weight-bits 4"),
)
"""Every command with its name and the example that its help shows, in the order of ``nmc --help``."""


EPILOG = """Example: nmc demo; then what it says to try next.

Exit codes: 0 ok, 1 gate or verification failed, 2 usage, 3 bad input, 4 does not fit the chip, 5 engine not
available, 6 cannot write or out of memory, 70 internal error, 130 interrupted."""


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"nmc {__version__}")
        raise typer.Exit


def _global(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Show the Python traceback of a failure; allowed anywhere.")
    ] = False,
) -> None:
    """What stands before a command."""


def _application() -> typer.Typer:
    result = typer.Typer(
        help="Compile trained spiking networks to Loihi-class chips, run them bit-exactly, report the cost.",
        epilog=EPILOG,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    result.callback()(_global)
    for function, name, example in COMMANDS:
        forwards = settings.FORWARDS if function is settings.config else None
        result.command(name, epilog=f"Example: {example}", context_settings=forwards)(function)
    return result


app = _application()


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status; every failure is one line on stderr.

    Args:
        argv: the arguments without the program's name; those of the process by default.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    show_traceback = "--traceback" in arguments
    arguments = [one for one in arguments if one != "--traceback"] or ["--help"]
    command = typer.main.get_command(app)
    if "_NMC_COMPLETE" in os.environ:
        command.main(arguments, prog_name="nmc")  # prints what the shell asked for and exits

    def invoke() -> object:
        # Not command.main: it has its own ideas about Ctrl-C, closed pipes and usage errors.
        try:
            with command.make_context("nmc", arguments) as context:
                return command.invoke(context)
        except typer.Exit as done:
            return done.exit_code

    return run_guarded(invoke, show_traceback=show_traceback)
