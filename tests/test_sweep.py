"""The sweep: every combination once, the Pareto front right, refusals in their rows, all formats."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from nmc import sweep
from nmc.cli import main
from nmc.errors import NmcError
from nmc.npzfiles import Samples, read_samples
from nmc.sweep import Point, mark_pareto, parse_granularities, parse_range

DATA = Path(str(files("nmc") / "data"))
MODEL, CALIBRATION, TEST = (
    DATA / name for name in ("digits_sew.nir", "digits_calibration.npz", "digits_test.npz")
)


def few(path: Path, count: int) -> Samples:
    samples = read_samples(path)
    assert samples.y is not None
    return Samples(samples.x[:count], samples.y[:count])


def test_every_combination_is_a_point_with_all_its_figures() -> None:
    points = sweep.sweep(
        MODEL,
        "loihi2",
        few(TEST, 24),
        few(CALIBRATION, 16).x,
        weight_bits=[2, 8],
        steps=[4, 8],
        granularities=["layer", "channel"],
    )
    asked = [(one.granularity, one.steps, one.weight_bits) for one in points]
    assert asked == [(g, t, b) for g in ("layer", "channel") for t in (4, 8) for b in (2, 8)]
    assert all(one.refusal is None and one.cores and one.memory_bits and one.energy for one in points)
    small, large = points[0], points[1]
    assert small.memory_bits < large.memory_bits
    assert points[0].energy < points[2].energy
    assert any(one.pareto for one in points)


def test_labels_that_no_class_has_are_refused() -> None:
    samples = few(TEST, 4)
    assert samples.y is not None
    with pytest.raises(NmcError, match="labels") as caught:
        sweep.sweep(
            MODEL, "loihi2", Samples(samples.x, samples.y + 10), few(CALIBRATION, 4).x, weight_bits=[8]
        )
    assert caught.value.code == "NMC-D02"


def test_the_front_is_what_no_other_point_beats() -> None:
    base = Point(8, 4, "layer", accuracy=0.9, cores=3, memory_bits=100, energy=1.0)
    points = mark_pareto(
        [
            base,
            replace(base, accuracy=0.8),
            replace(base, accuracy=0.8, memory_bits=50),
            replace(base, memory_bits=101),
            base,
            Point(2, 4, "layer", refusal="NMC-P01"),
        ]
    )
    assert [one.pareto for one in points] == [True, False, True, False, True, False]


def test_the_front_against_a_direct_search() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        points = [
            Point(8, 4, "layer", float(a), int(c), int(m), float(e))
            for a, c, m, e in rng.integers(0, 4, (9, 4))
        ]
        for index, one in enumerate(mark_pareto(points)):
            mine = (-one.accuracy, one.cores, one.memory_bits, one.energy)
            better = [
                other
                for j, p in enumerate(points)
                if j != index
                and (other := (-p.accuracy, p.cores, p.memory_bits, p.energy)) != mine
                and all(np.asarray(other) <= np.asarray(mine))
            ]
            assert one.pareto == (not better)


def test_a_point_that_does_not_fit_says_why(tmp_path: Path) -> None:
    """On one core of this chip only the narrow weights have room."""
    chip = tmp_path / "tiny.toml"
    text = (DATA.parent / "chips" / "loihi2.toml").read_text()
    chip.write_text(text.replace("cores = { value = 120,", "cores = { value = 1,"))
    points = sweep.sweep(MODEL, str(chip), few(TEST, 4), None, weight_bits=[8])
    assert points[0].refusal is not None
    assert points[0].refusal.startswith("NMC-P01")
    assert (points[0].cores, points[0].pareto) == (None, False)
    assert "NMC-P01" in str(sweep.document(points).tables[0])


@pytest.mark.parametrize("text", ["", "a", "8..2", "0..4", "1..", "2..1000000", "1" * 200])
def test_ranges_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(NmcError, match="NMC-U02 bits"):
        parse_range(text, "bits")


def test_ranges_are_read() -> None:
    assert parse_range("2..4,8,3", "bits") == [2, 3, 4, 8]
    assert parse_granularities("channel,layer") == ["channel", "layer"]
    with pytest.raises(NmcError, match="NMC-U02 granularity: is 'row'"):
        parse_granularities("row")


def test_the_command_prints_json_and_text(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = few(TEST, 12)
    np.savez(tmp_path / "x.npz", x=data.x, y=data.y)
    arguments = ["sweep", str(MODEL), "-i", str(tmp_path / "x.npz"), "--weight-bits", "3,8"]
    assert main([*arguments, "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == "nmc.sweep/1"
    assert [point["weight_bits"] for point in told["points"]] == [3, 8]
    assert all(point["energy_J"] > 0 for point in told["points"])
    assert main(arguments) == 0
    assert "Pareto" in capsys.readouterr().out
    assert main([*arguments, "--weight-bits", "8,9"]) == 2
    assert "NMC-U02 weight_bits: is 9 bits" in capsys.readouterr().err


def test_a_plot_is_a_png() -> None:
    pytest.importorskip("matplotlib")
    points = mark_pareto([Point(8, 4, "layer", 0.9, 3, 100, 1.0), Point(2, 4, "layer", 0.8, 3, 50, 0.9)])
    assert sweep.draw(points, Path("x.png")).startswith(b"\x89PNG")


def test_pictures_show_accuracy_over_bits_and_over_each_cost_that_differs() -> None:
    points = [
        Point(2, 4, "layer", 0.90, 3, 100, 1e-6),
        Point(4, 4, "layer", 0.80, 3, 200, 2e-6),
        Point(8, 4, "layer", 0.95, 3, 400, 3e-6, pareto=True),
        Point(8, 8, "layer", refusal="NMC-P01"),
    ]
    drawn = [ElementTree.fromstring(one) for one in sweep.document(points).pictures]
    captions = [one.find("figcaption").text.split(";")[0] for one in drawn]
    # All points take 3 cores: nothing to see there.
    assert captions == ["Accuracy over weight bits", "Accuracy over memory bits", "Accuracy over energy [uJ]"]
    svg = "{http://www.w3.org/2000/svg}"
    for number, figure in enumerate(drawn):
        circles = list(figure.iter(f"{svg}circle"))
        assert [one.get("r") for one in circles] == ["3", "3", "5"]
        (line,) = figure.iter(f"{svg}polyline")
        x = {one.get("cx") for one in circles}
        joined = {point.split(",")[0] for point in line.get("points").split()}
        # Over bits a line joins the points of a group; over a cost, what no cheaper point reaches.
        assert len(joined) == (3 if number == 0 else 2)
        assert joined <= x
    # The most accurate point is the highest one.
    heights = [float(one.get("cy")) for one in drawn[0].iter(f"{svg}circle")]
    assert heights.index(min(heights)) == 2
    assert sweep.document([Point(2, 4, "layer", cores=3)]).pictures == ()
