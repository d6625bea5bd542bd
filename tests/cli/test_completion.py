"""What the shell is told on the tab key: commands, options, values, and names that nmc knows."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from nmc.backends.engines import NAMES
from nmc.chip import chip_names


def asked(shell: str, words: str) -> list[str]:
    """The completions of the last word, as ``nmc --install-completion`` makes a shell ask for them."""
    count = len(words.split(" ")) - 1
    ask = {"COMP_WORDS": words, "COMP_CWORD": str(count), "_TYPER_COMPLETE_ARGS": words}
    environment = {**os.environ, "_NMC_COMPLETE": f"complete_{shell}", **ask}
    command = [sys.executable, "-m", "nmc"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_commands() -> None:
    assert asked("bash", "nmc ne") == ["neurobench"]
    assert {"compile", "config"} <= set(asked("bash", "nmc co"))


def test_options_and_their_values() -> None:
    assert asked("bash", "nmc compile m.nir --weight-b") == ["--weight-bits"]
    assert asked("bash", "nmc compile m.nir --optimize t") == ["traffic"]
    assert asked("bash", "nmc report a.nmc --format h") == ["html"]


def test_names_that_nmc_knows() -> None:
    assert set(chip_names()) <= set(asked("bash", "nmc compile m.nir --chip "))
    assert "loihi1:nahuku-32" in asked("bash", "nmc fit m.nir --chip loihi1:n")
    assert set(NAMES) <= set(asked("bash", "nmc run a.nmc --engine "))


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    assert any("neurobench" in line for line in asked(shell, "nmc ne"))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_that_is_installed_calls_nmc(shell: str) -> None:
    command = [sys.executable, "-m", "nmc", "--show-completion", shell]
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert f"_NMC_COMPLETE=complete_{shell}" in done.stdout
