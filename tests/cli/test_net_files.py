"""lava-dl's ``.net`` files on the command line: check, compile, run, export again."""

from __future__ import annotations

import json
from pathlib import Path

import netfiles
import numpy as np
import pytest

import nmc
from nmc.cli import main


def test_from_net_to_net(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, bundle, again = (
        netfiles.write(tmp_path / "x.net", netfiles.chain()),
        tmp_path / "x.nmc",
        tmp_path / "y.net",
    )
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).integers(0, 2, (3, 8, 2, 5, 6)))
    for command in (
        ["check", path],
        ["compile", path, "-o", bundle, "--chip", "loihi1"],
        ["run", bundle, "-i", tmp_path / "x.npz", "--engine", "reference"],
        ["export", bundle, "--to", "net", "-o", again],
        ["check", again],
    ):
        assert main([*map(str, command)]) == 0, command
    capsys.readouterr()
    assert nmc.compile(again, "loihi1").network.steps == 8
    assert main(["check", str(again), "--format", "json"]) == 0
    assert '"error"' not in capsys.readouterr().out


def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layers = netfiles.chain()
    layers[1]["neuron"] = layers[1]["neuron"] | {"type": "SDNN"}
    path = netfiles.write(tmp_path / "x.net", layers)
    for command in (
        ["compile", path, "-o", tmp_path / "x.nmc"],
        ["fit", path],
        ["run", path, "-i", path],
        ["export", path, "--to", "nir", "-o", tmp_path / "x.nir"],
    ):
        capsys.readouterr()
        assert main([*map(str, command)]) in (2, 3), command
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert line.startswith("error: NMC-")
        assert "Traceback" not in line
    capsys.readouterr()
    assert main(["check", str(path), "--format", "json"]) == 3
    shown = json.dumps(json.loads(capsys.readouterr().out))
    assert "layer1.conv" in shown
    assert "SDNN" in shown
    assert not list(tmp_path.glob("*.nmc"))
    assert not list(tmp_path.glob("*.nir"))
