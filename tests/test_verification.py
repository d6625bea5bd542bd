"""The verification record: exact, deterministic, of this build only, and shown by the report."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import features
import numpy as np
import pytest

from nmc import api, bundle, verification
from nmc.backends.compare import Verification, compare, digest
from nmc.backends.engines import engine
from nmc.bundle import Bundle
from nmc.chip import load_chip
from nmc.cli import main
from nmc.errors import NmcError
from nmc.ir import Network, Stage
from nmc.partition.tile import partition

CPU = load_chip("lava-cpu")


def made() -> Bundle:
    feature = next(one for one in features.FEATURES if one.name == "IF")
    network: Network = feature.network()
    network = partition(network.with_(stage=Stage.QUANTIZED, mapping=None), CPU)
    return Bundle(network, CPU, {}, {"x": feature.samples(network)})


BUNDLE = made()
X = BUNDLE.golden["x"]


def result(against: str = "stepwise", samples: int = 2) -> Verification:
    return compare(BUNDLE.network, X[:samples], features.STEPS, engine("reference"), engine(against))


def test_the_record_survives_the_file_and_is_no_part_of_the_build(tmp_path: Path) -> None:
    kept = BUNDLE.with_verification(result())
    kept.save(tmp_path / "a.nmc")
    again = bundle.read(tmp_path / "a.nmc")
    assert again.verified == kept.verified
    assert again.build_id == kept.build_id == BUNDLE.build_id
    assert bundle.to_bytes(BUNDLE.with_verification(result())) == (tmp_path / "a.nmc").read_bytes()
    (run,) = again.verified
    assert (run.engine, run.against, run.samples, run.steps) == ("reference", "stepwise", 2, features.STEPS)
    assert (run.mismatches, run.counts_equal, run.passed) == (0, True, True)
    assert run.compared == result().compared > 0
    assert set(dict(run.versions)) == {"nmc", "numpy", "python"}


@pytest.mark.skipif(find_spec("torch") is None, reason="torch is an extra")
def test_versions_are_those_of_the_engines_that_took_part() -> None:
    always = {"nmc", "numpy", "python"}
    assert dict(verification.versions_of("reference", "native")).keys() == always
    assert dict(verification.versions_of("reference", "torch:cpu")).keys() == {*always, "torch"}


def test_digests_tell_inputs_and_traces_apart() -> None:
    one, other = result(samples=1), result(samples=2)
    assert one.input_sha256 == digest([X[:1]]) != other.input_sha256
    assert one.trace_sha256 != other.trace_sha256
    assert result("native").trace_sha256 == other.trace_sha256
    assert digest([np.zeros((2, 3), np.int32)]) != digest([np.zeros((3, 2), np.int32)])
    assert digest([np.zeros(2, np.int8)]) == digest([np.zeros(2, np.int64)])


def test_a_repeated_run_replaces_its_record() -> None:
    twice = BUNDLE.with_verification(result()).with_verification(result())
    assert len(twice.verified) == 1
    three = twice.with_verification(result("native")).with_verification(result(samples=1))
    assert [(run.against, run.samples) for run in three.verified] == sorted(
        ((run.against, run.samples) for run in three.verified), key=lambda one: one[0]
    )
    assert len(three.verified) == 3


def test_a_record_does_not_grow_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "MAX_RUNS", 1)
    one = BUNDLE.with_verification(result())
    with pytest.raises(NmcError, match=r"NMC-U02 verify: the bundle holds 1 verification runs, 1 are kept"):
        one.with_verification(result("native"))


def document() -> dict[str, Any]:
    runs = BUNDLE.with_verification(result()).with_verification(result("native")).verified
    return json.loads(json.dumps(verification.to_json(runs, "b" * 64)))


def changed(path: str, value: Any) -> dict[str, Any]:
    """The document with one entry changed; ``path`` as in runs/0/steps."""
    whole = document()
    *steps, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    place: Any = whole
    for part in steps:
        place = place[part]
    place[last] = value
    return whole


def test_a_document_is_read_as_it_was_written() -> None:
    runs = verification.from_json(document(), "b" * 64, "file")
    assert verification.to_json(runs, "b" * 64) == document()


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("schema", "nmc.verified/9", "schema"),
        ("build_id", "c" * 64, "another network's"),
        ("runs", [], "0, 1 to 100"),
        ("runs", [document()["runs"][0]] * 2, "not in order"),
        ("runs", document()["runs"][::-1], "not in order"),
        ("runs/0/steps", 0, "at least 1"),
        ("runs/0/compared", -1, "at least 0"),
        ("runs/0/mismatches", True, "no whole number"),
        ("runs/0/counts_equal", 1, "true or false"),
        ("runs/0/input_sha256", "abc", "no SHA-256"),
        ("runs/0/versions", {"nmc": 1}, "no object of texts"),
        ("runs/0/date", "today", "expected fields"),
    ],
)
def test_other_documents_are_refused(path: str, value: Any, problem: str) -> None:
    with pytest.raises(NmcError, match=problem) as caught:
        verification.from_json(changed(path, value), "b" * 64, "file")
    assert caught.value.code == "NMC-F06"


def test_a_record_of_another_build_is_refused(tmp_path: Path) -> None:
    """Its members are whole and its checksum is right, but another network was verified."""
    kept = BUNDLE.with_verification(result())
    other = replace(kept, config={"other": True})
    members = {**other.members, "verified.json": kept.members["verified.json"]}
    other.__dict__["members"] = members
    other.save(tmp_path / "a.nmc")
    with pytest.raises(NmcError, match=r"NMC-F06 .*verified.json: build_id: is another network's"):
        bundle.read(tmp_path / "a.nmc")


def test_verify_keeps_the_result_and_the_report_shows_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.nmc"
    BUNDLE.save(path)
    before = path.read_bytes()
    command = ["verify", str(path), "--against", "stepwise", "--samples", "2"]
    assert main([*command, "--no-record"]) == 0
    assert path.read_bytes() == before
    assert main(command) == 0
    (run,) = bundle.read(path).verified
    assert run == verification.record_of(result())
    once = path.read_bytes()
    assert main(command) == 0
    assert path.read_bytes() == once
    capsys.readouterr()
    assert main(["report", str(path)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "verified reference and stepwise: 2 samples x 5 steps" in text
    assert "all equal" in text
    data = json.loads(api.report(bundle.read(path)).to_json())
    assert [one["trace_sha256"] for one in data["verified"]] == [run.trace_sha256]
    assert not list(tmp_path.glob(".*"))


def test_a_failed_verification_is_kept_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.nmc"
    BUNDLE.save(path)
    good = result()
    wrong = {"cell": {"spikes": 0, "u": 2, "v": 1}}
    monkeypatch.setattr(api, "verify", lambda *_a, **_k: replace(good, mismatches=wrong, counts_equal=False))
    assert main(["verify", str(path), "--against", "stepwise"]) == 1
    (run,) = bundle.read(path).verified
    assert (run.mismatches, run.counts_equal, run.passed) == (3, False, False)
    assert "event counts differ" in api.report(bundle.read(path)).to_markdown()
    assert "NMC-V01" in capsys.readouterr().err


def test_a_bundle_that_changed_meanwhile_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.nmc"
    BUNDLE.save(path)
    good, other = result(), replace(BUNDLE, config={"other": True})

    def verify(*_arguments: Any, **_named: Any) -> Verification:
        other.save(path)
        return good

    monkeypatch.setattr(api, "verify", verify)
    assert main(["verify", str(path), "--against", "stepwise"]) == 6
    assert bundle.read(path).build_id == other.build_id
    assert not bundle.read(path).verified
    assert "NMC-W01" in capsys.readouterr().err


def test_runtime_and_another_engine_contradict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    BUNDLE.save(tmp_path / "a.nmc")
    assert main(["verify", str(tmp_path / "a.nmc"), "--runtime", "--against", "native"]) == 2
    assert "NMC-U02 runtime" in capsys.readouterr().err
