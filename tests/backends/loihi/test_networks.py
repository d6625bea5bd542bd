"""Whole residual networks: Lava's models in process, and Lava's runtime, against the reference engine."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lavanets import SAMPLES, STEPS, features_of, many, network_of

from nmc.backends.compare import compare
from nmc.backends.loihi import program
from nmc.backends.loihi.inprocess import InProcessLavaEngine
from nmc.backends.loihi.lower import lower
from nmc.backends.loihi.run import LavaEngine
from nmc.backends.sim.reference import ReferenceEngine
from nmc.ir import GradedRelay, IntArray, Network

SPIKES_ONLY = {"graded": False}


@pytest.mark.parametrize("on_host", [False, True], ids=["spikes and frames", "host current"])
def test_random_networks_in_process(on_host: bool) -> None:
    seen: set[str] = set()
    spikes = 0
    for seed in range(30):
        network, x = network_of(seed, on_host=on_host)
        result = compare(network, x, STEPS, ReferenceEngine(), InProcessLavaEngine())
        assert result.passed, f"seed {seed}: {result.first}, counts equal: {result.counts_equal}"
        seen |= features_of(network, STEPS, x)
        spikes += sum(ReferenceEngine().run(network, x, STEPS).counts.spikes.values())
    assert spikes > 1000
    assert seen >= {"Conv", "Dense", "Sparse", "DelaySparse", "LIFReset", "HardLIF", "SoftLIF", "GradedVec"}
    assert seen >= {"bias", "count", "potential"}
    assert ("host" in seen) == on_host


def test_the_command_for_many_networks(capsys: pytest.CaptureFixture[str]) -> None:
    assert many("lava-inprocess", 4, start=100) == 0
    assert "4 networks" in capsys.readouterr().out


def test_outputs_equal_the_reference_without_recording() -> None:
    for seed in (0, 1):
        network, x = network_of(seed)
        expected = ReferenceEngine().run(network, x, STEPS)
        found = InProcessLavaEngine().run(network, x, STEPS)
        assert np.array_equal(found.output, expected.output)
        assert found.counts == expected.counts
        assert not found.spikes
        assert not found.u


def test_recording_an_input_gives_its_train() -> None:
    network, x = network_of(1)
    (source,) = network.inputs
    for engine in (ReferenceEngine(), InProcessLavaEngine()):
        trace = engine.run(network, x, STEPS, record=[source.name])
        assert trace.spikes[source.name].shape == (SAMPLES, STEPS, *source.shape)
        assert trace.spikes[source.name].dtype == np.int32
        assert not trace.u[source.name].any()


def test_without_the_level_shift_lava_differs() -> None:
    """The comparison can fail: one population read a step late."""
    network, x = network_of(1, **SPIKES_ONLY)
    last = network.populations[-1]
    late = network.with_(populations=network.map_populations({last.name: replace(last, level=last.time + 1)}))
    assert not compare(network, x, STEPS, ReferenceEngine(), _Instead(late)).passed


class _Instead:
    """Runs another network than the one asked for."""

    name = "instead"

    def __init__(self, network: Network) -> None:
        self._network = network

    def run(self, _network: Network, x: IntArray, steps: int, record: object = ()) -> object:
        return InProcessLavaEngine().run(self._network, x, steps, record)  # type: ignore[arg-type]


@pytest.mark.runtime
@pytest.mark.parametrize(
    ("on_host", "features", "needs"),
    [
        pytest.param(False, {}, {"GradedVec", "LIFReset", "count"}, id="graded relay"),
        pytest.param(False, SPIKES_ONLY, {"SoftLIF", "HardLIF", "potential"}, id="soft reset and readout"),
        pytest.param(True, SPIKES_ONLY, {"host", "HardLIF", "count"}, id="host current"),
    ],
)
def test_lava_runtime(on_host: bool, features: dict[str, bool], needs: set[str]) -> None:
    """Three samples back to back in one run of Lava's runtime, with biases and delayed skips."""
    needs = needs | {"bias", "Conv", "Dense", "DelaySparse"}
    drawn = (network_of(seed, on_host=on_host, **features) for seed in range(100))
    network, x = next(pair for pair in drawn if needs <= features_of(pair[0], STEPS, pair[1]))
    result = compare(network, x, STEPS, ReferenceEngine(), LavaEngine())
    assert result.passed, f"{result.first}, counts equal: {result.counts_equal}"
    assert result.compared > 1000


def test_a_program_survives_the_folder(tmp_path: Path) -> None:
    network, x = network_of(0, on_host=True)
    before = lower(network, x, STEPS)
    program.write(before, tmp_path)
    after = program.read(tmp_path)
    for section in ("sources", "neurons", "synapses"):
        for one, two in zip(getattr(before, section), getattr(after, section), strict=True):
            for field, value in vars(one).items():
                assert np.array_equal(value, getattr(two, field)), field
                assert type(value) is type(getattr(two, field))
    assert (before.steps, before.interval, before.order) == (after.steps, after.interval, after.order)
    assert json.loads((tmp_path / "program.json").read_text())["samples"] == SAMPLES


def test_relays_are_graded_vectors() -> None:
    network, x = next(
        pair
        for pair in (network_of(seed) for seed in range(40))
        if any(isinstance(p.neuron, GradedRelay) for p in pair[0].compute)
    )
    lowered = {cell.name: cell for cell in lower(network, x, STEPS).neurons}
    for population in network.compute:
        relay = isinstance(population.neuron, GradedRelay)
        assert (lowered[population.name].process == "GradedVec") == relay
    for part in lower(network, x, STEPS).synapses:
        assert (part.message_bits > 0) == (network[part.source].max_payload > 1)
