"""Every command that reads a model takes a builder and its weights, as it takes a NIR file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
from smallmodels import LINEAR_FILE
from tensorfiles import safetensors

from nmc import api
from nmc.cli import main

COMMANDS = {
    "fit": ["--steps", "4"],
    "sweep": ["--steps", "4", "--weight-bits", "8", "-i", "x.npz", "--calibration", "x.npz"],
    "analyse": ["--steps", "4", "-i", "x.npz", "--calibration", "x.npz"],
    "run": ["--engine", "float", "--steps", "4", "-i", "x.npz"],
    "neurobench": ["--steps", "4", "-i", "x.npz"],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("torch")
    (tmp_path / "module.py").write_text(LINEAR_FILE)
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(2, 3)).astype(np.float32), np.ones(2, np.float32)
    safetensors(tmp_path / "w.safetensors", {"fc.weight": weight, "fc.bias": bias})
    x = rng.random((8, 3))
    np.savez(tmp_path / "x.npz", x=x, y=(x @ weight.T.astype(float) + 1).argmax(1))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    """The document, without the model's file."""
    capsys.readouterr()
    assert main([*arguments, "--format", "json"]) == 0
    return {name: value for name, value in json.loads(capsys.readouterr().out).items() if name != "model"}


def test_a_bundle_takes_none(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "out.nmc", "-i", "x.npz", "--weights", "w.safetensors"]) == 2
    assert "NMC-U02 weights: given with --engine auto, which takes a bundle" in capsys.readouterr().err


def test_a_foreign_file_runs_in_float_with_its_profile(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = {
        "input": nir.Input(input_type={"input": np.array([3])}),
        "fc": nir.Affine(np.eye(3), np.zeros(3)),
        "lif": nir.LIF(np.full(3, 5e-4), np.full(3, 5.0), np.zeros(3), np.ones(3)),
        "output": nir.Output(output_type={"output": np.array([3])}),
    }
    nir.write("x.nir", nir.NIRGraph(nodes=nodes, edges=[("input", "fc"), ("fc", "lif"), ("lif", "output")]))
    command = ["run", "x.nir", "-i", "x.npz", "--engine", "float", "--steps", "4"]
    assert main(command) == 3
    assert "NMC-G06" in capsys.readouterr().err
    assert len(told([*command, "--profile", "nir", "--dt", "1e-4"], capsys)["classes"]) == 8


@pytest.mark.parametrize("command", COMMANDS)
def test_weights_of_a_builder(command: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    builder = ["module.py:build", "--weights", "w.safetensors"]
    api.export("module.py:build", "model.nir", weights="w.safetensors", steps=4)
    found = told([command, *builder, *COMMANDS[command]], capsys)
    assert found == told([command, "model.nir", *COMMANDS[command]], capsys)
    rows = [found, *found.get("points", [])]
    accuracies = [row[name] for row in rows for name in ("accuracy", "ClassificationAccuracy") if name in row]
    assert accuracies == [1.0] * (command != "fit"), "the labels are what these weights answer"
