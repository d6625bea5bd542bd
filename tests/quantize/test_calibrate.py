"""Calibration data are a set: order, threads and dtype change nothing; what is no data is refused."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import quantnet

from nmc import api, timing
from nmc.errors import NmcError
from nmc.ir import Encoding
from nmc.quantize import calibrate

MODEL = Path(str(files("nmc") / "data" / "digits_sew.nir"))
CALIBRATION = Path(str(files("nmc") / "data" / "digits_calibration.npz"))


def digest(x: np.ndarray, folder: Path) -> str:
    path = folder / "x.nmc"
    api.compile(MODEL, "loihi2", x, weight_bits=4).save(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_order_and_the_type_of_the_samples_change_no_byte(tmp_path: Path) -> None:
    x = np.load(CALIBRATION)["x"][:24]
    shuffled = np.random.default_rng(0).permutation(x)
    assert not np.array_equal(x, shuffled)
    assert digest(x, tmp_path) == digest(shuffled, tmp_path) == digest(x.astype(np.float64), tmp_path)


def test_the_number_of_threads_changes_no_byte(tmp_path: Path) -> None:
    script = (
        "import sys, numpy as np\nfrom nmc import api\n"
        "x = np.load(sys.argv[2])['x'][:24]\n"
        "api.compile(sys.argv[1], 'loihi2', x, weight_bits=3).save(sys.argv[3])\n"
    )
    found = set()
    for threads in ("1", "2"):
        out = tmp_path / f"{threads}.nmc"
        env = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        subprocess.run([sys.executable, "-c", script, MODEL, CALIBRATION, out], env=env, check=True)
        found.add(hashlib.sha256(out.read_bytes()).hexdigest())
    assert len(found) == 1


def test_which_samples_are_used_does_not_depend_on_their_place() -> None:
    network = timing.balance(quantnet.network(), 62)
    x = quantnet.images(400)
    used = calibrate.choose(network, x)
    assert len(used) == calibrate.MAX_SAMPLES
    assert np.array_equal(used, calibrate.choose(network, x[::-1]))
    # Picked by content, not the first ones.
    assert len({one.tobytes() for one in used} & {one.tobytes() for one in x[:256]}) < 256


def test_a_large_network_uses_fewer_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    network = timing.balance(quantnet.network(), 62)
    monkeypatch.setattr(calibrate, "MAX_MACS", 1 << 18)
    used = len(calibrate.choose(network, quantnet.images(400)))
    assert calibrate.MIN_SAMPLES <= used < 20


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((0, 8, 2, 5, 5)), "no calibration sample"),
        (np.zeros((3, 8, 2, 5)), r"shape \(3, 8, 2, 5\), expected \(N, T, 2, 5, 5\)"),
        (np.full((3, 8, 2, 5, 5), np.inf), "values are not finite"),
        (np.ones((3, 8, 2, 5, 5)), "every value is 1"),
        (quantnet.trains(1) * 0.5, "no whole numbers"),
        (np.eye(8 * 50)[-1].reshape(1, 8, 2, 5, 5), "no neuron fires"),
    ],
)
def test_trains_that_are_no_calibration_data_are_refused(data: np.ndarray, message: str) -> None:
    network = timing.balance(quantnet.network(bias=None, encoding=Encoding.SPIKES), 62)
    with pytest.raises(NmcError, match=f"NMC-D03 input: .*{message}|NMC-D03 small: {message}"):
        calibrate.measure(network, data)
