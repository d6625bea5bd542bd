"""``nmc analyse``: the layers, the classes that change, and how many the float network changes by itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from smallmodels import soft_resets

from nmc import analysis, api
from nmc.cli import main
from nmc.errors import NmcError

DATA = Path(api.__file__).parent / "data"
MODEL = DATA / "digits_sew.nir"
TEST = np.load(DATA / "digits_test.npz")
CALIBRATION = DATA / "digits_calibration.npz"


@pytest.fixture(scope="module")
def known() -> np.ndarray:
    return np.load(CALIBRATION)["x"][:16]


def test_eight_bits_change_fewer_classes_than_two(known: np.ndarray) -> None:
    found = {
        bits: analysis.analyse(MODEL, "loihi2", known, TEST["x"][:40], TEST["y"][:40], weight_bits=bits)
        for bits in (8, 1)
    }
    assert found[8].changed < found[1].changed
    assert found[8].layers == api.analyse(MODEL, "loihi2", known, TEST["x"][:40])
    truth = api.run_float(MODEL, TEST["x"][:40]).classes
    assert found[8].float_accuracy == (truth == TEST["y"][:40]).mean()
    integers = api.run(api.compile(MODEL, "loihi2", known), TEST["x"][:40]).classes
    assert found[8].changed == (integers != truth).mean()
    assert found[8].accuracy == (integers == TEST["y"][:40]).mean()


@pytest.mark.parametrize("labels", [TEST["y"][:4] + 10, TEST["y"][:3], ["one", "two", "three", "four"]])
def test_labels_that_cannot_be_meant_are_refused(known: np.ndarray, labels: object) -> None:
    with pytest.raises(NmcError) as caught:
        analysis.analyse(MODEL, "loihi2", known, TEST["x"][:4], labels)
    assert caught.value.code == "NMC-D02"


def test_soft_resets_are_compared_layer_by_layer_though_the_chip_loops_them() -> None:
    graph = soft_resets(steps=6)
    x = np.random.default_rng(0).random((12, 4))
    layers = api.analyse(graph, "loihi2", x, x)
    assert {row.population for row in layers} == {"n1", "n2"}
    assert layers == analysis.analyse(graph, "loihi2", x, x).layers


def test_unrest_is_that_of_the_float_network(known: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise as large as the weights changes most classes; the integers do not depend on it."""
    calm = analysis.analyse(MODEL, "loihi2", known, TEST["x"][:20])
    monkeypatch.setattr(analysis, "JITTER", 1.0)
    wild = analysis.analyse(MODEL, "loihi2", known, TEST["x"][:20])
    assert calm.jitter < 0.2 < wild.jitter
    assert (calm.changed, calm.layers) == (wild.changed, wild.layers)
    assert calm.accuracy is None


def test_the_command_prints_text_and_json_and_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "x.npz", x=TEST["x"][:8], y=TEST["y"][:8])
    arguments = ["analyse", str(MODEL), "-i", str(tmp_path / "x.npz"), "--calibration", str(CALIBRATION)]
    assert main([*arguments, "--weight-bits", "3", "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == "nmc.fidelity/1"
    loud = [row["snr_db"] for row in told["layers"] if row["snr_db"] is not None]
    assert loud == sorted(loud)
    assert 0 <= told["jitter"] <= 1
    assert main([*arguments, "--layer-bits", "nope=3"]) == 2
    assert "NMC-U03 nope" in capsys.readouterr().err
    pytest.importorskip("matplotlib")
    assert main([*arguments, "--plot", str(tmp_path / "a.png")]) == 0
    assert "cosine" in capsys.readouterr().out
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
