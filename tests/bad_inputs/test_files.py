"""Broken model files through the command line: code, status, one line, nothing written."""

from __future__ import annotations

import json
from pathlib import Path

import nirfiles
import pytest

from nmc.cli import main
from nmc.errors import CATALOGUE


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", nirfiles.BROKEN)
def test_compile_refuses(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, code = nirfiles.BROKEN[name]
    make(folder / "model.nir")
    before = sorted(folder.iterdir())
    assert main(["compile", "model.nir", "-o", "out.nmc"]) == CATALOGUE[code].exit_status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {code} ")
    assert err.count("\n") == 1
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("name", nirfiles.BROKEN)
def test_check_finds_it(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, code = nirfiles.BROKEN[name]
    make(folder / "model.nir")
    status = main(["check", "model.nir", "--format", "json"])
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert err == ""
    assert document["schema"] == "nmc.check/1"
    assert code in [finding["code"] for finding in document["findings"] if finding["severity"] == "error"]
    assert status == CATALOGUE[document["findings"][0]["code"]].exit_status == 3


def test_several_faults_are_found_at_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def two_faults(file: object) -> None:
        nirfiles.nan_weight(file)
        nirfiles.edge_to_nowhere(file)

    nirfiles.edit(two_faults)(folder / "model.nir")
    assert main(["check", "model.nir", "--format", "json"]) == 3
    codes = {finding["code"] for finding in json.loads(capsys.readouterr().out)["findings"]}
    assert {"NMC-G04", "NMC-G01"} <= codes


def test_a_good_file_has_no_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nirfiles.whole(folder / "model.nir")
    assert main(["check", "model.nir"]) == 0
    assert "of which 0 errors" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["a\nb.nir", "\x1b[31mred.nir", "quote'\".nir", "x" * 250 + ".nir"])
def test_a_strange_name_stays_one_line(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", name, "-o", "out.nmc"]) == 3
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "\x1b" not in err


def test_a_model_is_no_bundle(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nirfiles.whole(folder / "model.nir")
    assert main(["run", "model.nir", "-i", str(nirfiles.CALIBRATION)]) == 3
    err = capsys.readouterr().err
    assert err.startswith("error: NMC-F01 model.nir: is a model, not a bundle; compile it first")
    assert err.count("\n") == 1
