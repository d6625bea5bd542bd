"""Help is quick, complete and shows an example for every command."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest

from nmc.cli import COMMANDS as EXAMPLES
from nmc.cli import app, main
from nmc.errors import CATALOGUE, EXIT_DOES_NOT_FIT, EXIT_INTERRUPTED, EXIT_NO_ENGINE, EXIT_OK

COMMANDS = ["demo", "compile", "run", "evaluate", "verify", "report", "diff", "check", "chips", "fit"]
COMMANDS += ["export", "doctor", "explain", "sweep", "neurobench", "config", "analyse"]


def test_the_commands_are_there() -> None:
    import typer

    assert list(typer.main.get_command(app).commands) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"Example: nmc {command}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(("name", "example"), [(name, example) for _, name, example in EXAMPLES])
def test_every_example_is_understood(name: str, example: str) -> None:
    """The parser takes it: no option in it is unknown, none that is needed is missing."""
    import typer

    words = shlex.split(example)
    assert words[:2] == ["nmc", name]
    command = typer.main.get_command(app)
    with command.make_context("nmc", words[1:], resilient_parsing=True) as context:
        command.commands[name].make_context(name, words[2:], parent=context)


def test_the_help_of_nmc_itself_has_an_example_and_the_exit_codes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Example: nmc demo" in shown
    for status in (EXIT_OK, EXIT_NO_ENGINE, EXIT_DOES_NOT_FIT, EXIT_INTERRUPTED):
        assert f" {status} " in shown.partition("Exit codes:")[2]


def test_no_help_loses_what_stands_in_brackets() -> None:
    """They would be taken for markup, and not be shown."""
    import typer

    for name, command in typer.main.get_command(app).commands.items():
        texts = [command.help or "", *(getattr(one, "help", None) or "" for one in command.params)]
        assert not [(name, text) for text in texts if "[" in text]


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    out = capsys.readouterr().out
    assert all(command in out for command in COMMANDS)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from nmc.cli import main; status = main(['--help']);"
        "print(sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    loaded = set(done.stderr.replace("'", "").strip("[]\n").split(", "))
    assert loaded.isdisjoint({"numpy", "torch", "lava", "h5py", "nir", "networkx", "scipy"})


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == "nmc 0.1.0\n"


def test_explain_lists_every_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "nmc.explain/1"
    assert [one["code"] for one in document["codes"]] == list(CATALOGUE)


@pytest.mark.parametrize("code", sorted(CATALOGUE))
def test_explain_knows_every_code(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", code.lower()]) == 0
    out = capsys.readouterr().out
    entry = CATALOGUE[code]
    assert entry.title in out
    assert entry.explanation in out
