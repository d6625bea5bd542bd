"""Whole data sets: the same result for any shard size, engine and number of starts; damage is refused."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import nirfiles
import numpy as np
import pytest

import nmc
from nmc.bundle import Bundle
from nmc.cli import main
from nmc.errors import NmcError
from nmc.evaluation import Evaluation
from nmc.npzfiles import SampleFile

SAMPLES = 23
STEPS = 3


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    with np.load(nirfiles.CALIBRATION) as data:
        return nmc.compile(nirfiles.DIGITS, data=data["x"][:20], steps=STEPS)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "x.npz"
    with np.load(nirfiles.CALIBRATION.with_name("digits_test.npz")) as test:
        np.savez_compressed(path, x=test["x"][:SAMPLES], y=test["y"][:SAMPLES])
    return path


def same(one: Evaluation, other: Evaluation) -> bool:
    return np.array_equal(one.classes, other.classes) and one.counts == other.counts


def test_a_data_set_gives_what_one_run_gives(bundle: Bundle, data: Path) -> None:
    with np.load(data) as file:
        x, y = file["x"], file["y"]
    trace = nmc.run(bundle, x)
    for shard in (1, 7, 1000):
        result = nmc.evaluate(bundle, data, shard=shard)
        assert np.array_equal(result.classes, trace.classes)
        assert result.counts == trace.counts
        assert result.accuracy == (trace.classes == y).mean()
        assert result.shards == -(-SAMPLES // shard)
        assert result.confusion is not None
        assert result.confusion.trace() == (trace.classes == y).sum()
        assert np.array_equal(result.confusion.sum(axis=1)[: y.max() + 1], np.bincount(y))
    assert same(nmc.evaluate(bundle, data, "reference"), nmc.evaluate(bundle, data, shard=5))


def test_batches_as_a_data_loader_yields_them(bundle: Bundle, data: Path) -> None:
    with np.load(data) as file:
        x, y = file["x"], file["y"]
    batches = [(x[start : start + 4], y[start : start + 4]) for start in range(0, SAMPLES, 4)]
    assert same(nmc.evaluate(bundle, iter(batches)), nmc.evaluate(bundle, data))
    assert nmc.evaluate(bundle, [(x, None)]).accuracy is None
    with pytest.raises(NmcError, match="NMC-D02"):
        nmc.evaluate(bundle, [])


def test_a_second_start_goes_on_where_the_first_one_stopped(
    bundle: Bundle, data: Path, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"

    def stop(done: int, total: int) -> None:
        assert total == SAMPLES
        if done >= 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nmc.evaluate(bundle, data, shard=5, journal=journal, progress=stop)
    with open(journal, "ab") as file:
        file.write(b'{"digest": "cut o')  # what a power cut leaves
    result = nmc.evaluate(bundle, data, "reference", shard=5, journal=journal)
    assert (result.shards, result.reused) == (5, 2)
    assert same(result, nmc.evaluate(bundle, data))
    assert nmc.evaluate(bundle, data, shard=5, journal=journal).reused == 5
    assert len(journal.read_bytes().splitlines()) == 6


def test_a_journal_of_something_else_is_refused(bundle: Bundle, data: Path, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    nmc.evaluate(bundle, data, journal=journal)
    kept = journal.read_bytes()
    with pytest.raises(NmcError, match=r"NMC-D02 .*T = 3"):
        nmc.evaluate(bundle, data, steps=2, journal=journal)
    head, line = (json.loads(one) for one in kept.splitlines())
    other = dict(head, build_id="0" * 64)
    for lines in (
        [],
        [line],
        [other, line],
        [head, 3],
        [head, {**line, "digest": 5}],
        [head, {**line, "classes": [-1] * SAMPLES}],
        [head, {**line, "classes": line["classes"][:-1]}],
        [head, {**line, "counts": {**line["counts"], "steps": 2}}],
        [head, {**line, "counts": {**line["counts"], "spikes": {"a": -1}}}],
    ):
        journal.write_text("".join(json.dumps(one) + "\n" for one in lines) or "\n")
        before = journal.read_bytes()
        with pytest.raises(NmcError) as caught:
            nmc.evaluate(bundle, data, journal=journal)
        assert caught.value.code in ("NMC-D01", "NMC-D02")
        assert journal.read_bytes() == before


def test_a_file_larger_than_what_is_held_at_once(tmp_path: Path) -> None:
    path = tmp_path / "big.npz"
    np.savez_compressed(path, x=np.zeros((4000, 1, 100, 100), np.float32))  # 160 MB
    file = SampleFile(path)
    tracemalloc.start()
    total = sum(len(batch.x) for batch in file.batches(50))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == file.count == 4000
    assert peak < 20 << 20


def arrays() -> Iterator[tuple[str, dict[str, np.ndarray], str]]:
    x = np.zeros((3, 1, 8, 8))
    yield "no x", {"a": x}, "NMC-D01"
    yield "no sample", {"x": x[:0]}, "NMC-D02"
    yield "a number", {"x": np.float64(3.0)}, "NMC-D02"
    yield "Fortran order", {"x": np.asfortranarray(np.ones((3, 2, 8, 8)))}, "NMC-D02"
    yield "labels of another number", {"x": x, "y": np.zeros(2, np.int64)}, "NMC-D02"
    yield "text", {"x": np.array(["a", "b"])}, "NMC-D01"
    yield "labels of no class", {"x": x, "y": np.array([0, 1, 10**6])}, "NMC-D02"
    yield "another shape", {"x": np.zeros((3, 1, 9, 8))}, "NMC-D02"
    yield "not a number", {"x": np.full((3, 1, 8, 8), np.nan)}, "NMC-D02"


@pytest.mark.parametrize(("content", "code"), [one[1:] for one in arrays()], ids=[one[0] for one in arrays()])
def test_data_that_cannot_be_evaluated(
    bundle: Bundle, tmp_path: Path, content: dict[str, np.ndarray], code: str
) -> None:
    np.savez(tmp_path / "x.npz", **content)
    with pytest.raises(NmcError) as caught:
        nmc.evaluate(bundle, tmp_path / "x.npz")
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        (np.zeros((3, 1, 8, 8)), "is a ndarray, expected"),
        ((np.zeros((3, 1, 8, 8)),), "is a tuple, expected"),
        ((np.zeros((3, 1, 8, 8)), [0, 1]), "y is int64 of shape"),
        ((np.zeros((3, 1, 8, 8)), np.eye(10)[:3]), "y is float64 of shape"),
        ((np.zeros((3, 1, 8, 8)), [0.0, 1.0, 2.0]), "y is float64 of shape"),
        ((np.zeros((3, 1, 8, 8)), [1, 2, 10]), "labels 1 to 10, the network answers 0 to 9"),
        ((np.zeros((3, 1, 8, 8)), [-1, 2, 3]), "labels -1 to 3"),
        (([[1, 2], [3]], None), "data that are no array"),
    ],
)
def test_batches_that_cannot_be_evaluated(bundle: Bundle, batch: object, said: str) -> None:
    with pytest.raises(NmcError, match=f"NMC-D02 batch 0: {said}"):
        nmc.evaluate(bundle, [batch])


def test_a_cut_off_file_is_refused(bundle: Bundle, data: Path, tmp_path: Path) -> None:
    whole = data.read_bytes()
    (tmp_path / "x.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(NmcError, match="NMC-D01"):
        nmc.evaluate(bundle, tmp_path / "x.npz")


def test_the_command(bundle: Bundle, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle.save(tmp_path / "model.nmc")
    arguments = ["evaluate", str(tmp_path / "model.nmc"), "-i", str(data), "--format", "json"]
    assert main([*arguments, "--journal", str(tmp_path / "journal")]) == 0
    document = json.loads(capsys.readouterr().out)
    expected = nmc.evaluate(bundle, data)
    assert document["schema"] == "nmc.evaluate/1"
    assert document["report"]["accuracy"]["integer"] == expected.accuracy
    assert document["report"]["total"]["spikes"] == sum(expected.counts.spikes.values())
    assert expected.confusion is not None
    assert document["confusion"] == expected.confusion.tolist()
    assert main([*arguments, "--journal", str(tmp_path / "none" / "journal")]) == 6
