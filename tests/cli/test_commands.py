"""The commands on the packaged network: what they print, what they write, what they refuse to overwrite."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import nirfiles
import numpy as np
import pytest

from nmc import api, demo
from nmc.backends.sim import native_abi
from nmc.cli import main

TEST = nirfiles.CALIBRATION.with_name("digits_test.npz")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bundle, 20 labelled samples and the trace of their run."""
    folder = tmp_path_factory.mktemp("made")
    with np.load(TEST) as data:
        np.savez(folder / "x.npz", x=data["x"][:20], y=data["y"][:20])
    compiled = ["compile", str(nirfiles.DIGITS), "--calibration", str(nirfiles.CALIBRATION)]
    assert main([*compiled, "-o", str(folder / "model.nmc")]) == 0
    run = ["run", str(folder / "model.nmc"), "-i", str(folder / "x.npz"), "--record", "stage3.1.if2"]
    assert main([*run, "-o", str(folder / "trace.npz")]) == 0
    return folder


def printed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Run with ``--format json``, expect success and one strict document on stdout."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    capsys.readouterr()
    assert main([*arguments, "--format", "json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out, parse_constant=refuse)
    return document


def test_compile_says_where_the_bundle_is_and_what_it_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model.nmc"
    document = printed(
        ["compile", str(nirfiles.DIGITS), "-o", str(out), "--chip", "loihi1", "--time-passes"], capsys
    )
    assert document["schema"] == "nmc.compile/1"
    assert document["bundle"] == str(out)
    assert document["report"]["chip"] == "loihi1"
    assert document["report"]["samples"] is None
    assert document["report"]["profile"].startswith("spikingjelly")
    assert [one["pass"] for one in document["passes"]][-1] == "check-mapping"
    assert api.read(out).network.chip == "loihi1"


def test_compile_may_replace_a_bundle_but_no_other_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model.nmc"
    command = ["compile", str(nirfiles.DIGITS), "-o", str(out)]
    assert main(command) == 0
    first = out.read_bytes()
    assert main(command) == 0
    assert out.read_bytes() == first
    out.write_text("precious")
    assert main(command) == 6
    assert out.read_text() == "precious"
    assert "--force" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0
    assert out.read_bytes() == first


def test_stop_after_and_print_after(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compile", str(nirfiles.DIGITS), "--stop-after", "balance", "--print-after", "balance"]
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert err.startswith("network digits_sew at TIMED, T = 8")
    assert "stage1.0.if1" in err
    assert "bundle" not in out
    assert list(tmp_path.iterdir()) == []


def test_run_counts_records_and_says_accuracy(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = printed(["run", str(made / "model.nmc"), "-i", str(made / "x.npz")], capsys)
    assert document["schema"] == "nmc.run/1"
    report = document["report"]
    assert report["samples"] == 20
    with np.load(made / "trace.npz") as trace, np.load(made / "x.npz") as data:
        assert set(trace.files) == {
            *(f"{kind}/stage3.1.if2" for kind in ("spikes", "u", "v")),
            "output",
            "classes",
            "meta",
        }
        assert trace["spikes/stage3.1.if2"].shape == (20, 8, 28, 2, 2)
        assert report["accuracy"]["integer"] == float((trace["classes"] == data["y"]).mean())
        (recorded,) = (row for row in report["layers"] if row["layer"] == "stage3.1.if2")
        assert recorded["spikes"] == int(trace["spikes/stage3.1.if2"].sum())


def test_every_engine_prints_the_same(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["run", str(made / "model.nmc"), "-i", str(made / "x.npz"), "--engine"]
    documents = [printed([*command, engine], capsys) for engine in ("reference", "stepwise", "auto")]
    assert [one["engine"] for one in documents][:2] == ["reference", "stepwise"]
    assert documents[2]["engine"] != "auto"
    assert documents[0]["report"] == documents[1]["report"] == documents[2]["report"]


@pytest.mark.parametrize("command", ["run", "evaluate"])
def test_without_the_native_engine_one_line_says_so(
    command: str,
    made: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def lines() -> list[str]:
        assert main([command, str(made / "model.nmc"), "-i", str(made / "x.npz")]) == 0
        return [line for line in capsys.readouterr().out.splitlines() if line.startswith("engine ")]

    assert [line.split()[1:] for line in lines()] == [["native"]]
    monkeypatch.setattr(native_abi, "LIBRARY", tmp_path / "none.so")
    (line,) = lines()
    assert "C++ engine is not there, see nmc doctor" in line


def test_run_without_labels_says_no_accuracy(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(made / "x.npz") as data:
        np.savez(tmp_path / "x.npz", x=data["x"])
    document = printed(["run", str(made / "model.nmc"), "-i", str(tmp_path / "x.npz")], capsys)
    assert document["report"]["accuracy"] is None


@pytest.mark.parametrize("command", ["run", "evaluate"])
@pytest.mark.parametrize(
    ("factor", "said"),
    [(255, "of the values lie beyond the range"), (1 / 255, "the values reach 0.39% of the range"), (1, "")],
)
def test_frames_in_another_unit_are_noted(
    command: str, factor: float, said: str, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(made / "x.npz") as data:
        np.savez(tmp_path / "x.npz", x=data["x"] * factor, y=data["y"])
    told = printed([command, str(made / "model.nmc"), "-i", str(tmp_path / "x.npz")], capsys)
    odd = [one for one in told["report"]["notes"] if "unit of the calibration data?" in one]
    assert len(odd) == bool(said)
    assert all(said in one for one in odd)


def test_run_float_takes_the_model(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["run", str(nirfiles.DIGITS), "-i", str(made / "x.npz"), "--engine", "float"]
    document = printed(command, capsys)
    assert document["engine"] == "float"
    assert len(document["classes"]) == 20
    assert document["accuracy"] >= 0.9


def test_report_with_a_trace_equals_that_of_the_run(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again = ["--record", "stage3.1.if2", "-o", str(made / "again.npz")]
    run = printed(["run", str(made / "model.nmc"), "-i", str(made / "x.npz"), *again], capsys)
    report = printed(["report", str(made / "model.nmc"), "--trace", str(made / "trace.npz")], capsys)
    assert report.pop("schema") == "nmc.report/1"
    assert report == run["report"]
    total = report["total"]
    assert total["energy_J"] == math.fsum(layer["energy_J"] for layer in report["layers"])
    assert total["synops"] == sum(layer["synops"] for layer in report["layers"])


def test_report_with_other_constants(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["report", str(made / "model.nmc"), "--trace", str(made / "trace.npz"), "--constants"]
    one, two = (printed([*command, name], capsys) for name in ("davies2018", "sanafe2025"))
    assert one["total"]["spikes"] == two["total"]["spikes"]
    assert one["total"]["energy_J"] == two["estimates"][1]["energy_J"] != two["total"]["energy_J"]


@pytest.mark.parametrize(
    ("how", "start"), [("text", "digits_sew on loihi2"), ("md", "### "), ("html", "<!doctype"), ("json", "{")]
)
def test_report_into_a_file(
    how: str, start: str, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report"
    assert main(["report", str(made / "model.nmc"), "--format", how, "-o", str(out)]) == 0
    assert capsys.readouterr().out == ""
    assert out.read_text(encoding="utf-8").startswith(start)


def test_verify_of_equal_engines(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = printed(["verify", str(made / "model.nmc"), "--against", "stepwise", "--samples", "2"], capsys)
    assert document["schema"] == "nmc.verify/1"
    assert (document["passed"], document["mismatches"], document["samples"]) == (True, 0, 2)
    assert document["compared"] > 0
    assert all(layer["spikes"] == 0 for layer in document["layers"])


def test_verify_names_the_first_divergence_and_fails(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from nmc.backends.sim.reference import StepwiseEngine

    honest = StepwiseEngine.run

    def lying(self: StepwiseEngine, *arguments: Any, **named: Any) -> Any:
        trace = honest(self, *arguments, **named)
        spikes = {name: array.copy() for name, array in trace.spikes.items()}
        spikes[next(iter(spikes))][0, 2, 0, 0, 1] ^= 1
        return replace(trace, spikes=spikes)

    monkeypatch.setattr(StepwiseEngine, "run", lying)
    command = [
        "verify",
        str(made / "model.nmc"),
        "--against",
        "stepwise",
        "--samples",
        "1",
        "--format",
        "json",
    ]
    assert main(command) == 1
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert (document["passed"], document["mismatches"]) == (False, 1)
    first = document["first_divergence"]
    assert (first["layer"], first["kind"], first["step"], first["neuron"]) == (
        "stem.if",
        "spikes",
        2,
        [0, 0, 1],
    )
    assert err.startswith("error: NMC-V01 ")
    assert "stem.if: sample 0, step 2, neuron (0, 0, 1): spikes expected" in err
    assert err.count("\n") == 1


def test_check_of_a_bundle(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(["check", str(made / "model.nmc")], capsys)["findings"] == []


def test_chips(capsys: pytest.CaptureFixture[str]) -> None:
    known = {one["chip"]: one for one in printed(["chips"], capsys)["chips"]}
    assert set(known) == set(api.chips())
    assert known["loihi1"]["cores"] == 128
    assert known["lava-cpu"]["cores"] is None
    one = printed(["chips", "loihi1"], capsys)
    assert all(fact["source"] and fact["basis"] for fact in one["facts"])
    assert {constants["constants"] for constants in one["energy"]} >= {"davies2018"}


def test_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    document = printed(["demo"], capsys)
    assert document["schema"] == "nmc.demo/1"
    report = document["report"]
    accuracy = report["accuracy"]
    assert accuracy["samples"] == 360
    assert accuracy["float"] >= 0.97
    assert abs(accuracy["float"] - accuracy["integer"]) <= 0.005
    assert 0 < report["total"]["cores"] <= report["cores_available"]
    assert report["total"]["energy_J"] > 0
    for kind in ("bundle", "report_html", "report_markdown", "report_json", "trace"):
        assert (tmp_path / document[kind]).is_file()
    page = (tmp_path / document["report_html"]).read_text(encoding="utf-8")
    for needed in ("Firing rate", "Residual blocks", "Core map", "Links: ", "Davies 2018"):
        assert needed in page, needed
    written = json.loads((tmp_path / document["report_json"]).read_text())
    assert written == {"schema": "nmc.report/1", **report}
    files = {path.name: path.read_bytes() for path in (tmp_path / "nmc-demo").iterdir()}

    assert main(["demo"]) == 0
    out = capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in (tmp_path / "nmc-demo").iterdir()} == files
    for needed in (
        "accuracy",
        "float ",
        "integer ",
        "spikes",
        "synops",
        " used of ",
        "davies2018",
        "demo.nmc",
    ):
        assert needed in out, needed
    assert out.count("try next") == len(document["try_next"]) == 3
    for command in document["try_next"]:
        program, *arguments = command.split()
        assert program.endswith("nmc")
        if "lava" not in arguments:
            assert main(arguments) == 0, command


def test_demo_names_the_program_that_uv_hides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UV_RUN_RECURSION_DEPTH", raising=False)
    assert demo.program() == "nmc"
    monkeypatch.setenv("UV_RUN_RECURSION_DEPTH", "1")
    assert demo.program() != "nmc"
    assert demo.program().endswith("nmc")
