"""Statistics of spike trains, counted by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import nmc
from nmc.cli import main
from nmc.reports.trains import statistics, statistics_of


def test_by_hand() -> None:
    """Three neurons over six steps: one that fires at 1, 3 and 4 (once with a payload of 3), one silent, one
    that always fires."""
    trains = [[0, 1, 0, 3, 1, 0], [0] * 6, [1] * 6]
    found = statistics_of("a", np.array(trains).T[None])
    assert found.trains == 3
    assert (found.silent, found.always) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert found.rate == 9 / 18
    assert found.first_step == (1 + 0) / 2
    # Intervals 2 and 1, and five of 1.
    assert found.interval_steps == pytest.approx(8 / 7)
    assert found.interval_cv == pytest.approx(math.sqrt(6 * (1 / 7) ** 2 / 7 + (6 / 7) ** 2 / 7) / (8 / 7))
    # Counts 3, 0, 6: mean 3, variance 6.
    assert found.fano == pytest.approx(2.0)


def test_samples_are_trains_of_their_own() -> None:
    """The last spike of a sample and the first of the next are no interval."""
    found = statistics_of("a", np.array([[[0], [0], [1]], [[1], [0], [0]]]))
    assert found.trains == 2
    assert found.interval_steps is found.interval_cv is None
    assert found.first_step == (2 + 0) / 2


def test_nothing_is_claimed_of_silence() -> None:
    found = statistics_of("a", np.zeros((2, 4, 3), np.int32))
    assert (found.silent, found.rate) == (1.0, 0.0)
    assert (found.first_step, found.interval_steps, found.interval_cv, found.fano) == (None,) * 4
    assert statistics({"a": np.zeros((0, 4, 3), np.int32)}) == ()


def test_reports_of_a_run_and_of_its_file_agree(
    tmp_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = nmc.compile("examples/ci/model.nir", data=np.load("examples/ci/samples.npz")["x"])
    bundle.save(tmp_path / "a.nmc")
    layer = bundle.network.compute[1]
    run = ["run", str(tmp_path / "a.nmc"), "-i", "examples/ci/samples.npz", "--record", layer.label]
    assert main([*run, "-o", str(tmp_path / "t.npz"), "--format", "json"]) == 0
    of_run = json.loads(capsys.readouterr().out)["report"]["spike_trains"]
    report = ["report", str(tmp_path / "a.nmc"), "--trace", str(tmp_path / "t.npz"), "--format", "json"]
    assert main(report) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["spike_trains"] == of_run
    (found,) = of_run
    (row,) = (one for one in document["layers"] if one["layer"] == layer.label)
    assert found["layer"] == layer.label
    assert found["rate"] == pytest.approx(row["firing_rate"])
    assert found["trains"] == layer.size * document["samples"]
