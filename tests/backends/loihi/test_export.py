"""Exported networks run with Lava alone, and send the same spikes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import lavanets
import numpy as np
import pytest
from features import FEATURES, STEPS

from nmc.backends import encode
from nmc.backends.loihi.export import SCRIPT, export_lava
from nmc.backends.loihi.lower import lower
from nmc.backends.loihi.program import Neurons
from nmc.backends.sim.reference import ReferenceEngine
from nmc.ir import Network

NEEDS_LAVA = pytest.mark.skipif(sys.version_info[:2] != (3, 10), reason="Lava exists for Python 3.10 only")


def feature(name: str) -> tuple[Network, np.ndarray]:
    (one,) = (feature for feature in FEATURES if feature.name == name)
    network = one.network()
    return network, one.samples(network)


def run_alone(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script where ``import nmc`` fails."""
    (folder / "nmc.py").write_text("raise ImportError('nmc is not installed here')")
    return subprocess.run(
        [sys.executable, str(folder / SCRIPT), *arguments],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )


@NEEDS_LAVA
@pytest.mark.runtime
@pytest.mark.parametrize(
    "name", ["MS: currents of the whole stream", "by subtraction, leaky", "current and bias"]
)
def test_the_script_runs_without_nmc(tmp_path: Path, name: str) -> None:
    network, x = feature(name)
    written = export_lava(network, x, STEPS, tmp_path / "there")
    assert all(path.is_file() for path in written)
    moved = tmp_path / "elsewhere"
    shutil.move(tmp_path / "there", moved)
    done = run_alone(moved, "--record")
    assert done.returncode == 0, done.stderr
    assert "0 values differ" in done.stdout
    names = [population.name for population in network.compute]
    trace = ReferenceEngine().run(network, x, STEPS, names)
    with np.load(moved / "spikes.npz") as found:
        assert set(found.files) == set(names)
        for population in names:
            assert np.array_equal(found[population], trace.spikes[population]), population


def test_weights_beyond_eight_bits_carry_their_exponent(tmp_path: Path) -> None:
    network, x = feature("of a soft reset")
    export_lava(network, x, STEPS, tmp_path / "small")
    assert "weight_exp" not in (tmp_path / "small" / SCRIPT).read_text()
    large = tuple(
        replace(p, weight=replace(p.weight, exp=p.weight.exp + 5)) if p.lag else p
        for p in network.projections
    )
    export_lava(network.with_(projections=large), x, STEPS, tmp_path / "large")
    assert (tmp_path / "large" / SCRIPT).read_text().count("weight_exp=5") == 1


@NEEDS_LAVA
@pytest.mark.runtime
@pytest.mark.parametrize("name", ["graded frame", "current and bias"])
def test_the_script_runs_samples_of_the_user(tmp_path: Path, name: str) -> None:
    """Three other frames, back to back, in the units of the user."""
    network, x = feature(name)
    (source,) = network.inputs
    coarse = replace(source, neuron=replace(source.neuron, scale=0.25))
    network = network.with_(populations=network.map_populations({source.name: coarse}))
    export_lava(network, x, STEPS, tmp_path)
    frames = np.random.default_rng(8).uniform(-2.0, 2.0, (3, *source.shape))
    np.save(tmp_path / "mine.npy", frames)
    done = run_alone(tmp_path, "--record", "--input", str(tmp_path / "mine.npy"))
    assert done.returncode == 0, done.stderr
    assert "differ" not in done.stdout
    names = [population.name for population in network.compute]
    trace = ReferenceEngine().run(network, encode.encode(network, frames), STEPS, names)
    with np.load(tmp_path / "spikes.npz") as found:
        for population in names:
            assert np.array_equal(found[population], trace.spikes[population]), population
    assert f"class per sample {trace.classes.tolist()}" in done.stdout


def looped() -> tuple[Network, np.ndarray]:
    """A network whose loops would show a bias that does not wait for the first data."""
    from nmc.backends.loihi.models import InProcessLava

    for seed in range(100):
        network, x = lavanets.network_of(seed, loops=True, graded=False)
        right = lower(network, x[:1], lavanets.STEPS)
        early = replace(right, neurons=tuple(map(not_waiting, right.neurons)))
        kept = [InProcessLava(program).run() for program in (right, early)]
        if any(
            (kept[0][cell.name, "spikes"] != kept[1][cell.name, "spikes"])[cell.level :].any()
            for cell in right.neurons
        ):
            return network, x
    raise AssertionError("no such network")


def not_waiting(cell: Neurons) -> Neurons:
    if not cell.waits or cell.host_bias is None:
        return cell
    return replace(cell, waits=False, bias_mant=cell.host_bias[0], host_bias=None)


@NEEDS_LAVA
@pytest.mark.runtime
def test_the_script_of_a_network_with_loops(tmp_path: Path) -> None:
    """One sample at a time, though in one process."""
    network, x = looped()
    export_lava(network, x, lavanets.STEPS, tmp_path)
    done = run_alone(tmp_path, "--record")
    assert done.returncode == 0, done.stderr
    names = [population.name for population in network.compute]
    trace = ReferenceEngine().run(network, x, lavanets.STEPS, names)
    assert len(x) > 1
    with np.load(tmp_path / "spikes.npz") as found:
        for population in names:
            assert np.array_equal(found[population], trace.spikes[population]), population


@NEEDS_LAVA
@pytest.mark.runtime
def test_the_script_refuses_other_samples(tmp_path: Path) -> None:
    network, x = feature("IF")
    export_lava(network, x, STEPS, tmp_path)
    for bad, said in (
        (x[:, :2], "has the shape (2, 2, 1, 3, 3), expected spike trains"),
        (x + 1, "allowed are 0 to 1"),
    ):
        np.save(tmp_path / "mine.npy", bad)
        done = run_alone(tmp_path, "--input", str(tmp_path / "mine.npy"))
        assert done.returncode == 1
        assert said in done.stderr
        assert "Traceback" not in done.stderr


@NEEDS_LAVA
@pytest.mark.runtime
def test_the_script_says_when_something_differs(tmp_path: Path) -> None:
    """One weight changed in the arrays: exit status 1."""
    network, x = feature("IF")
    export_lava(network, x, STEPS, tmp_path)
    path = tmp_path / "arrays" / "cell-out-1.weight.npy"
    np.save(path, -np.load(path))
    done = run_alone(tmp_path)
    assert done.returncode == 1, done.stderr
    assert "values differ" in done.stdout


@pytest.mark.parametrize("name", [one.name for one in FEATURES if not one.refused])
def test_every_feature_makes_a_script_that_compiles(tmp_path: Path, name: str) -> None:
    (one, *_) = (feature for feature in FEATURES if feature.name == name)
    network = one.network()
    export_lava(network, one.samples(network), STEPS, tmp_path)
    text = (tmp_path / SCRIPT).read_text()
    compile(text, SCRIPT, "exec")
    assert "import nmc" not in text
    assert not re.search(r"@[A-Z]+@", text)
    processes = tmp_path / "lava_processes" / "__init__.py"
    custom = "SoftLIF(" in text or "HardLIF(" in text
    assert processes.exists() == custom
    if custom:
        assert "nmc" not in {line.split()[1].split(".")[0] for line in _imports(processes.read_text())}


def _imports(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(("import ", "from "))]
