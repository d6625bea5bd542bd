"""The user's path in Python on the packaged digits network, and the traps other tools fall into."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmc import api, golden
from nmc.backends.compare import compare
from nmc.backends.engines import engine as engine_by_name
from nmc.backends.sim.reference import ReferenceEngine
from nmc.bundle import Bundle
from nmc.errors import NmcError

DATA = resources.files("nmc") / "data"
MODEL = Path(str(DATA / "digits_sew.nir"))


def arrays(name: str) -> dict[str, np.ndarray]:
    with np.load(str(DATA / name), allow_pickle=False) as file:
        return dict(file)


@pytest.fixture(scope="module")
def test_set() -> dict[str, np.ndarray]:
    return arrays("digits_test.npz")


@pytest.fixture(scope="module")
def calibration() -> np.ndarray:
    return arrays("digits_calibration.npz")["x"]


@pytest.fixture(scope="module", params=["loihi1", "loihi2"])
def bundle(request: pytest.FixtureRequest, calibration: np.ndarray) -> Bundle:
    return api.compile(MODEL, request.param, calibration)


def test_the_demo_network_keeps_its_accuracy_in_integers(bundle: Bundle, test_set: dict) -> None:
    x, y = test_set["x"], test_set["y"]
    assert len(x) == 360
    float_accuracy = (api.run_float(MODEL, x).classes == y).mean()
    integer_accuracy = (api.run(bundle, x).classes == y).mean()
    assert float_accuracy >= 0.97
    assert integer_accuracy >= float_accuracy - 0.005


def test_calling_twice_gives_the_same_and_leaves_the_input_alone(bundle: Bundle, test_set: dict) -> None:
    x = test_set["x"][:20].copy()
    before = x.copy()
    one, two = api.run(bundle, x, record=["all"]), api.run(bundle, x, record=["all"])
    assert np.array_equal(x, before)
    assert one.counts == two.counts
    assert one.output.any()
    for name, spikes in one.spikes.items():
        assert np.array_equal(spikes, two.spikes[name])
        assert np.array_equal(one.v[name], two.v[name])


def test_batch_and_steps_may_change_between_calls(bundle: Bundle, test_set: dict) -> None:
    x = test_set["x"][:10]
    whole = api.run(bundle, x, record=["all"])
    shorter = api.run(bundle, x, steps=bundle.network.steps - 3, record=["all"])
    single = api.run(bundle, x, batch=1, record=["all"])
    assert whole.counts == single.counts
    assert np.array_equal(whole.output, single.output)
    for name, spikes in whole.spikes.items():
        assert np.array_equal(shorter.spikes[name], spikes[:, : shorter.steps]), "T only adds steps"
    assert sum(shorter.counts.spikes.values()) < sum(whole.counts.spikes.values())


def test_more_steps_than_a_potential_has_room_for_are_refused(bundle: Bundle, test_set: dict) -> None:
    with pytest.raises(NmcError, match=r"NMC-Q01 classifier\.i: .* after 1000 steps .*--steps 1000"):
        api.run(bundle, test_set["x"][:1], steps=1000)


def test_bundles_may_be_given_by_their_paths(bundle: Bundle, test_set: dict, tmp_path: Path) -> None:
    path, x = tmp_path / "digits.nmc", test_set["x"][:4]
    bundle.save(path)
    for given in (path, str(path)):
        assert np.array_equal(api.run(given, x).output, api.run(bundle, x).output)
        assert api.verify(given, "stepwise", 1).passed
        assert api.report(given).to_json() == api.report(bundle).to_json()
        assert api.evaluate(given, [(x, None)]).counts == api.run(bundle, x).counts


@pytest.mark.parametrize("use", [api.read, api.report, api.verify, lambda one: api.run(one, np.zeros(1))])
def test_what_is_no_bundle_is_refused_with_what_to_do(use: Callable[[Any], object]) -> None:
    with pytest.raises(NmcError, match=r"NMC-F01 .*\.nir: is a model, not a bundle; compile it first"):
        use(MODEL)
    with pytest.raises(NmcError, match="NMC-U02 dict: is no bundle, nor the path of one; compile it first"):
        use({})


def test_layerwise_and_stepwise_agree_with_samples_back_to_back(bundle: Bundle) -> None:
    result = api.verify(bundle, against="stepwise", samples=3)
    assert result.passed
    assert result.total == 0
    assert result.compared > 10_000


def test_a_bundle_without_golden_samples_is_verified_on_random_ones(bundle: Bundle) -> None:
    bare = replace(bundle, golden={})
    assert api.verify(bare, against="stepwise", samples=2).samples == 2
    with pytest.raises(NmcError, match=r"NMC-D02 .* has no golden samples"):
        golden.replay(bare.golden, bare.network, engine_by_name("reference"))


@pytest.mark.parametrize(
    "x", [np.zeros((2, 1, 8, 7), np.int32), np.zeros((2, 1, 8, 8)), np.zeros(3, np.int8)]
)
def test_golden_samples_of_a_stranger_are_checked(bundle: Bundle, x: np.ndarray) -> None:
    with pytest.raises(NmcError, match="NMC-F06 input: golden samples are"):
        api.verify(replace(bundle, golden={"x": x}), against="stepwise")


def test_a_divergence_is_found_and_named(bundle: Bundle) -> None:
    """An engine that drops one spike of one layer is caught at that layer, sample and step."""
    victim = bundle.network.compute[2]

    class Dropper(ReferenceEngine):
        name = "dropper"

        def run(self, network, x, steps, record=()):  # type: ignore[no-untyped-def]
            trace = super().run(network, x, steps, record)
            first = tuple(np.argwhere(trace.spikes[victim.name])[0])
            trace.spikes[victim.name][first] = 0
            self.where = first
            return trace

    dropper = Dropper()
    x = bundle.golden["x"].astype(np.int64)
    result = compare(bundle.network, x, bundle.network.steps, ReferenceEngine(), dropper)
    assert not result.passed
    assert result.total == 1
    assert result.first is not None
    assert (result.first.layer, result.first.sample, result.first.step) == (victim.label, *dropper.where[:2])


def test_energy_follows_the_counted_spikes(bundle: Bundle, test_set: dict) -> None:
    x = test_set["x"][:10]
    quiet, loud = api.run(bundle, x * 0.25), api.run(bundle, x)
    assert sum(quiet.counts.spikes.values()) < sum(loud.counts.spikes.values())
    energies = [api.report(bundle, trace).total.activity.energy.total for trace in (quiet, loud)]
    assert 0 < energies[0] < energies[1]


def test_an_unknown_layer_lists_the_layers(bundle: Bundle, test_set: dict) -> None:
    with pytest.raises(NmcError, match="NMC-U03 nope: is no layer of this network; layers are: "):
        api.run(bundle, test_set["x"][:1], record=["nope"])


SCRIPT = """
import builtins, math, os, sys, numpy as np
if "FLOAT_SUMS_OF_3_12" in os.environ:
    plain = sum
    def summed(values, /, start=0):
        values = list(values)
        floats = values and all(type(value) in (int, float) for value in (start, *values))
        return math.fsum([start, *values]) if floats and float in map(type, values) else plain(values, start)
    builtins.sum = summed
from importlib import resources
from nmc import api
data = resources.files("nmc") / "data"
with np.load(str(data / "digits_calibration.npz")) as file:
    x = file["x"]
api.compile(str(data / "digits_sew.nir"), sys.argv[1], x).save(sys.argv[2])
"""


@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
def test_bundles_are_byte_identical_wherever_they_are_made(tmp_path: Path, chip: str) -> None:
    digests = set()
    for index, changes in enumerate(
        (
            {"PYTHONHASHSEED": "1", "LC_ALL": "C", "TZ": "UTC", "OPENBLAS_NUM_THREADS": "1"},
            {"PYTHONHASHSEED": "77", "LC_ALL": "C.UTF-8", "TZ": "Asia/Tokyo", "OPENBLAS_NUM_THREADS": "2"},
            {"FLOAT_SUMS_OF_3_12": "1"},
        )
    ):
        folder = tmp_path / f"place {index}"
        folder.mkdir()
        command = [sys.executable, "-c", SCRIPT, chip, "out.nmc"]
        subprocess.run(command, cwd=folder, env={**os.environ, **changes}, check=True, timeout=120)
        digests.add(hashlib.sha256((folder / "out.nmc").read_bytes()).hexdigest())
    assert len(digests) == 1
