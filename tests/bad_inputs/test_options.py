"""Bad options, outputs and data through the command line: code, status, one line, nothing written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nirfiles
import numpy as np
import pytest

from nmc import api
from nmc.cli import main
from nmc.errors import CATALOGUE

COMPILE = ["compile", "model.nir", "-o", "out.nmc"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a good model, data and a compiled bundle."""
    monkeypatch.chdir(tmp_path)
    nirfiles.whole(tmp_path / "model.nir")
    np.savez(tmp_path / "good.npz", x=np.zeros((2, 1, 8, 8), np.float32), y=np.zeros(2, np.int64))
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    out = tmp_path_factory.mktemp("compiled") / "good.nmc"
    assert (
        main(["compile", str(nirfiles.DIGITS), "-o", str(out), "--calibration", str(nirfiles.CALIBRATION)])
        == 0
    )
    return out.read_bytes()


def refused(arguments: list[str], code: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Run, expect a refusal that leaves the folder as it was, return the line."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert main(arguments) == CATALOGUE[code].exit_status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {code} "), err
    assert err.count("\n") == 1
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    return err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([*COMPILE, "--chip", "loihi22"], "NMC-C01", "did you mean loihi2?"),
        ([*COMPILE, "--chip", "nowhere/chip.toml"], "NMC-C01", "no such chip file"),
        ([*COMPILE, "--steps", "0"], "NMC-U02", "T = 0"),
        ([*COMPILE, "--steps", "-3"], "NMC-U02", "T = -3"),
        ([*COMPILE, "--steps", str(1 << 31)], "NMC-U02", "steps"),
        ([*COMPILE, "--weight-bits", "9"], "NMC-U02", "weight_bits"),
        ([*COMPILE, "--profile", "snntorc"], "NMC-U03", "snntorch"),
        ([*COMPILE, "--dt", "0"], "NMC-U02", "dt"),
        ([*COMPILE, "--stop-after", "quantise"], "NMC-U03", "quantize"),
        ([*COMPILE, "--print-after", "quantise"], "NMC-U03", "quantize"),
        ([*COMPILE, "--nope"], "NMC-U01", "--nope"),
        ([*COMPILE, "--seed", "-1"], "NMC-U02", "seed"),
        (["compile", "model.py", "-o", "out.nmc"], "NMC-U02", "model.py:build"),
        (["compile", "model.nir", "-o", "pipe"], "NMC-W01", "is not a regular file"),
        (["check", "--sarif", "pipe", "model.nir"], "NMC-W01", "is not a regular file"),
        (["diff", "pipe", "pipe"], "NMC-F01", "is a pipe"),
        (["compile", "model.nir"], "NMC-U01", "--out"),
        (["compile", "model.nir", "-o", "missing/out.nmc"], "NMC-W01", "missing/out.nmc"),
        (["compile", "model.nir", "-o", "model.nir/out.nmc"], "NMC-W01", "model.nir/out.nmc"),
        (["compile", "model.nir", "-o", "."], "NMC-W01", "is a directory"),
        (["compile", "model.nir", "-o", "model.nir", "--force"], "NMC-W01", "is also an input"),
        (["compile", "model.nir", "-o", "good.npz"], "NMC-W01", "--force"),
        ([*COMPILE, "--calibration", "missing.npz"], "NMC-D01", "missing.npz"),
        (["chips", "loihi3"], "NMC-C01", "did you mean"),
        (["demo", "--out", "model.nir"], "NMC-W01", "is not a folder"),
        (["demo", "--out", "missing/demo"], "NMC-W01", "missing/demo"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_compile_options(
    arguments: list[str], code: str, said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(arguments, code, folder, capsys)


@pytest.mark.parametrize(
    ("arrays", "code"),
    [
        ({"z": np.zeros(3)}, "NMC-D01"),
        ({"x": np.array([None, "x"], dtype=object)}, "NMC-D01"),
        ({"x": np.zeros((2, 1, 8, 9))}, "NMC-D02"),
        ({"x": np.zeros((0, 1, 8, 8))}, "NMC-D02"),
        ({"x": np.full((2, 1, 8, 8), np.nan)}, "NMC-D02"),
        ({"x": np.zeros((2, 1, 8, 8)), "y": np.zeros(3, np.int64)}, "NMC-D02"),
        ({"x": np.zeros((2, 1, 8, 8)), "y": np.zeros(2)}, "NMC-D02"),
        ({"x": np.zeros((2, 1, 8, 8)), "y": np.array([1, 10])}, "NMC-D02"),
        ({"x": np.zeros((2, 1, 8, 8)), "y": np.array([-1, 9])}, "NMC-D02"),
        ({"x": np.array([["a", "b"]])}, "NMC-D02"),
    ],
    ids=[
        *("no x", "objects", "shape", "no sample", "NaN", "labels too many", "labels not whole"),
        *("labels from 1", "labels from -1", "texts"),
    ],
)
def test_run_data(
    arrays: dict[str, np.ndarray],
    code: str,
    folder: Path,
    compiled: bytes,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (folder / "good.nmc").write_bytes(compiled)
    np.savez(folder / "bad.npz", **arrays)
    refused(["run", "good.nmc", "-i", "bad.npz", "-o", "trace.npz"], code, folder, capsys)


@pytest.mark.parametrize(
    ("arrays", "code"),
    [
        ({"x": np.zeros((2, 1, 8, 9))}, "NMC-D03"),
        ({"x": np.full((2, 1, 8, 8), np.inf)}, "NMC-D03"),
        ({"x": np.zeros((0, 1, 8, 8))}, "NMC-D03"),
        ({"x": np.full((2, 8, 1, 8, 8), 0.25)}, "NMC-D03"),
        ({"x": np.array([["a", "b"]])}, "NMC-D02"),
    ],
    ids=["shape", "infinite", "empty", "analog trains", "texts"],
)
def test_calibration_data(
    arrays: dict[str, np.ndarray], code: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(folder / "bad.npz", **arrays)
    refused([*COMPILE, "--calibration", "bad.npz"], code, folder, capsys)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--steps", "0"], "NMC-U02", "T = 0"),
        (["--engine", "refrence"], "NMC-U03", "reference"),
        (["--record", "conv9", "-o", "trace.npz"], "NMC-U03", "conv9"),
        (["--record", "all"], "NMC-U01", "-o trace.npz"),
        (["-o", "missing/trace.npz"], "NMC-W01", "missing/trace.npz"),
        (["-o", "good.npz"], "NMC-W01", "is also an input"),
        (["-o", "good.nmc"], "NMC-W01", "is also an input"),
        (["-o", "pipe"], "NMC-W01", "is not a regular file"),
        (["-o", "/dev/full"], "NMC-W01", "is not a regular file"),
        (["--engine", "float"], "NMC-U02", "is a bundle"),
        (["--engine", "float", "-o", "trace.npz"], "NMC-U02", "--out with --engine float"),
        (["--engine", "float", "--record", "all"], "NMC-U02", "--record with --engine float"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_run_options(
    arguments: list[str],
    code: str,
    said: str,
    folder: Path,
    compiled: bytes,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (folder / "good.nmc").write_bytes(compiled)
    assert said in refused(["run", "good.nmc", "-i", "good.npz", *arguments], code, folder, capsys)


@pytest.mark.parametrize("command", ["report", "verify", "run"])
@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing", "text"])
def test_damaged_bundles(
    command: str, damage: str, folder: Path, compiled: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "bad.nmc"
    data = bytearray(compiled)
    data[len(data) // 2] ^= 1
    contents = {"flipped": bytes(data), "truncated": compiled[: len(compiled) // 2], "text": b"hello" * 99}
    if damage in contents:
        path.write_bytes(contents[damage])
    code = "NMC-F06" if damage in ("flipped", "truncated") else "NMC-F01"
    extra = ["-i", "good.npz"] if command == "run" else []
    refused([command, "bad.nmc", *extra], code, folder, capsys)
    if damage != "missing":
        assert main(["check", "bad.nmc", "--format", "json"]) == 3
        assert json.loads(capsys.readouterr().out)["findings"][0]["code"] == code


def test_a_trace_of_another_build_is_refused(
    folder: Path, compiled: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "good.nmc").write_bytes(compiled)
    assert main(["run", "good.nmc", "-i", "good.npz", "-o", "trace.npz"]) == 0
    assert main(["compile", "model.nir", "-o", "other.nmc", "--chip", "loihi1"]) == 0
    refused(["report", "other.nmc", "--trace", "trace.npz"], "NMC-D02", folder, capsys)
    refused(["report", "good.nmc", "--trace", "good.npz"], "NMC-D01", folder, capsys)
    with np.load("trace.npz") as file:
        arrays = dict(file)
    arrays["meta"] = np.array(str(arrays["meta"]).replace('"input": ', '"outside": '))
    np.savez("foreign.npz", **arrays)
    refused(["report", "good.nmc", "--trace", "foreign.npz"], "NMC-D02", folder, capsys)
    refused(["report", "good.nmc", "--constants", "davies"], "NMC-U03", folder, capsys)


def nmc(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A real process."""
    return subprocess.run(
        [sys.executable, "-m", "nmc", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("compile", "missing.nir", "-o", "out.nmc"), "NMC-F01"),
        (("compile", "model.nir", "-o", "model.nir/out.nmc"), "NMC-W01"),
        (("compile", "model.nir", "-o", "out.nmc", "--stpes", "4"), "NMC-U01"),
    ],
    ids=["missing file", "unwritable output", "unknown option"],
)
def test_a_process_ends_with_one_line_and_the_status(
    arguments: tuple[str, ...], code: str, folder: Path
) -> None:
    before = sorted(folder.iterdir())
    done = nmc(*arguments, cwd=folder, LC_ALL="C", PYTHONUTF8="0", COLUMNS="1", TERM="dumb")
    assert done.returncode == CATALOGUE[code].exit_status
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: {code} ")
    assert done.stderr.count("\n") == 1
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("arguments", ["explain", "--help", "--version", "chips --format json"])
def test_a_closed_reader_is_no_failure(arguments: str, folder: Path) -> None:
    """The reader goes before anything is written."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "nmc", *arguments.split()]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False, cwd=folder)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_ascii_terminal_is_served(folder: Path) -> None:
    done = nmc("explain", cwd=folder, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "NMC-F01" in done.stdout
    assert "\\u" not in done.stdout


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_behind_stdout(folder: Path) -> None:
    command = f'"{sys.executable}" -m nmc explain > /dev/full'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 6
    assert done.stderr.startswith("error: NMC-W01 standard output: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [["compile", "model.nir"], ["run", "good.nmc", "-i", "good.npz"]])
def test_the_output_is_checked_before_the_work(
    command: list[str],
    folder: Path,
    compiled: bytes,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def never(*arguments: object, **named: object) -> None:
        raise AssertionError("too late")

    (folder / "good.nmc").write_bytes(compiled)
    for name in ("compile", "run", "read", "load"):
        monkeypatch.setattr(api, name, never)
    refused([*command, "-o", "model.nir/out"], "NMC-W01", folder, capsys)
