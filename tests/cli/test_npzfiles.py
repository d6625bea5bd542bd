"""Sample files and trace files: what goes in comes out, and what is malformed is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nmc.backends.base import Counts, Trace
from nmc.errors import NmcError
from nmc.npzfiles import is_trace, read_samples, read_trace, write_trace

COUNTS = Counts(2, 3, {"a": 4}, {"a": 5}, {"a": 6}, {"s": 7}, {"s": 8}, {"s": 0})


def make_trace() -> Trace:
    spikes = np.arange(12, dtype=np.int32).reshape(2, 3, 2) % 2
    return Trace(
        2, 3, np.array([[1, 5], [9, 2]]), COUNTS, {"a": spikes}, {"a": spikes * 3}, {"a": spikes * 4}
    )


def test_a_trace_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "trace.npz"
    write_trace(path, make_trace(), {"a": "layer1.0.conv1"}, {"engine": "reference", "build_id": "0"})
    with np.load(path, allow_pickle=False) as file:
        assert set(file.files) == {
            "spikes/layer1.0.conv1",
            "u/layer1.0.conv1",
            "v/layer1.0.conv1",
            "output",
            "classes",
            "meta",
        }
        assert np.array_equal(file["spikes/layer1.0.conv1"], make_trace().spikes["a"])
        assert np.array_equal(file["v/layer1.0.conv1"], make_trace().v["a"])
        assert file["classes"].tolist() == [1, 0]
    back = read_trace(path)
    assert back.counts == COUNTS
    assert back.about["engine"] == "reference"
    assert is_trace(path)


@pytest.mark.parametrize(
    "layer", ["conv:1", "a\\b", "a\nb", "\0", "..", "x" * 300, "/".join("abcdefghijklmnopq")]
)
def test_a_trace_of_a_layer_that_no_file_could_be_called_by(layer: str, tmp_path: Path) -> None:
    path = tmp_path / "trace.npz"
    kept = {name: np.full((2, 3, 1), number, np.int32) for number, name in enumerate("abc")}
    trace = replace(make_trace(), spikes=kept, u=kept, v=kept)
    write_trace(path, trace, {"a": layer, "b": "conv_1", "c": "ünï/cödé 2"}, {})
    back = read_trace(path).spikes
    assert set(back) == {layer, "conv_1", "ünï/cödé 2"}
    assert [int(one[0, 0, 0]) for one in (back[layer], back["conv_1"], back["ünï/cödé 2"])] == [0, 1, 2]


def test_the_same_trace_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.npz", "two.npz"):
        write_trace(tmp_path / name, make_trace(), {"a": "a"}, {})
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


@pytest.mark.parametrize(
    "damage",
    [
        {"counts": None},
        {"schema": "nmc.trace/2"},
        {"counts": {"samples": 1}},
        {"counts": {**COUNTS.__dict__, "samples": 0}},
        {"counts": {**COUNTS.__dict__, "steps": {"a": 1}}},
        {"counts": {**COUNTS.__dict__, "spikes": 5}},
        {"counts": {**COUNTS.__dict__, "spikes": {"a": -1}}},
        {"counts": {**COUNTS.__dict__, "spikes": {"a": 1.5}}},
        {"counts": {**COUNTS.__dict__, "spikes": {"a": True}}},
        {"accuracy": "all of them"},
        {"accuracy": True},
        {"layers": ["a"]},
        {"layers": {"a": 1}},
    ],
    ids=str,
)
def test_malformed_counts_are_refused(damage: dict[str, object], tmp_path: Path) -> None:
    meta = {"schema": "nmc.trace/1", "counts": COUNTS.__dict__, **damage}
    np.savez(tmp_path / "t.npz", meta=np.array(json.dumps(meta)))
    with pytest.raises(NmcError) as caught:
        read_trace(tmp_path / "t.npz")
    assert caught.value.code == "NMC-D01"


@pytest.mark.parametrize("meta", [np.array("[1, 2"), np.array("3"), np.arange(3), np.array(5)])
def test_files_that_are_no_traces(meta: np.ndarray, tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", meta=meta)
    with pytest.raises(NmcError) as caught:
        read_trace(tmp_path / "t.npz")
    assert caught.value.code == "NMC-D01"


def test_is_trace_of_other_files(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    np.savez(tmp_path / "data.npz", x=np.zeros(1))
    assert not any(is_trace(tmp_path / name) for name in ("text", "data.npz", "missing"))


def test_samples(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((4, 2))
    np.savez(tmp_path / "x.npz", x=x)
    np.savez(tmp_path / "xy.npz", x=x, y=np.array([0, 1, 1, 0], np.uint8))
    assert read_samples(tmp_path / "x.npz").y is None
    assert read_samples(tmp_path / "x.npz").accuracy(np.zeros(4, np.int64)) is None
    both = read_samples(tmp_path / "xy.npz")
    assert np.array_equal(both.x, x)
    assert both.accuracy(np.array([0, 1, 0, 1])) == 0.5
