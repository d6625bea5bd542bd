"""``nmc export``: what it writes, what it refuses, what it never replaces."""

from __future__ import annotations

import json
from pathlib import Path

import nirfiles
import numpy as np
import pytest

from nmc.cli import main


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "model.nmc"
    compiled = ["compile", str(nirfiles.DIGITS), "--calibration", str(nirfiles.CALIBRATION)]
    assert main([*compiled, "-o", str(path)]) == 0
    return path


def test_a_script_with_its_arrays(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "for-lava"
    command = ["export", str(bundle), "--samples", "2", "--steps", "3", "-o", str(out)]
    capsys.readouterr()
    assert main([*command, "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "nmc.export/1"
    assert {Path(file) for file in document["files"]} == {path for path in out.rglob("*") if path.is_file()}
    with np.load(out / "expected.npz") as expected:
        assert {expected[name].shape[:2] for name in expected.files} == {(2, 3)}
    assert main(command) == 0, "an earlier export may be replaced"


def test_nothing_else_is_replaced(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "precious").write_text("mine")
    command = ["export", str(bundle), "--samples", "1", "--steps", "1"]
    assert main([*command, "-o", str(tmp_path)]) == 6
    assert main([*command, "-o", str(tmp_path / "precious")]) == 6
    assert main([*command, "--to", "net", "-o", str(tmp_path / "precious")]) == 6
    assert (tmp_path / "precious").read_text() == "mine"
    assert main([*command, "-o", str(tmp_path), "--force"]) == 0
    assert (tmp_path / "precious").read_text() == "mine"
    assert "NMC-W01" in capsys.readouterr().err


def test_a_residual_network_is_no_net_file(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(bundle), "--to", "net", "-o", str(tmp_path / "no.net")]) == 4
    assert "NMC-Q03" in capsys.readouterr().err
    assert not (tmp_path / "no.net").exists()


def test_samples_must_be_positive(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(bundle), "--samples", "0", "-o", str(tmp_path / "out")]) == 2
    assert "NMC-U02 samples" in capsys.readouterr().err
