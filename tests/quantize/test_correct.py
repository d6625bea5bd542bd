"""Mean currents and firing rates are recovered on the calibration data; what is exact stays untouched."""

from __future__ import annotations

from dataclasses import replace

import gen
import numpy as np
import pytest
import quantnet

from nmc import timing
from nmc.backends import encode
from nmc.backends.sim.reference import ReferenceEngine
from nmc.ir import Fixed, Network, Reset, Stage
from nmc.quantize import calibrate, correct, inputs, ranges
from nmc.quantize.emulate import Emulator
from nmc.quantize.network import Quantizer
from nmc.quantize.population import ScaledPopulation
from nmc.quantize.precision import Precision
from nmc.rules import verify


def quantized(network: Network, x: np.ndarray, bits: int, *, host: bool = False) -> tuple[Network, dict]:
    timed = timing.balance(inputs.host_input(network) if host else network, 62)
    statistics = calibrate.measure(timed, x)
    return Quantizer(Precision(bits), statistics, x)(timed), statistics


def channel_rates(network: Network, x: np.ndarray, population: str) -> np.ndarray:
    trace = ReferenceEngine().run(network, encode.encode(network, x), network.steps, [population])
    spikes = trace.spikes[population]
    return np.moveaxis(spikes, 2, 0).reshape(spikes.shape[2], -1).mean(axis=1)


@pytest.mark.parametrize("host", [False, True])
def test_every_channel_fires_again_as_often_as_in_float(host: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted error of the mean current is found by the rates; without their correction it stays."""
    network, x = quantnet.network(), quantnet.images(64)
    rounding = ScaledPopulation.round

    def biased(self: ScaledPopulation, *arguments: object) -> None:
        rounding(self, *arguments)
        self.shift(np.full(1, 0.1))

    monkeypatch.setattr(ScaledPopulation, "round", biased)
    result, statistics = quantized(network, x, 4, host=host)
    wanted = statistics["a"].mean.reshape(4, -1).mean(axis=1)
    monkeypatch.setattr(correct, "match_rates", lambda *_: None)
    plain, _ = quantized(network, x, 4, host=host)
    assert np.abs(channel_rates(result, x, "a") - wanted).max() < 0.01
    assert np.abs(channel_rates(plain, x, "a") - wanted).max() > 0.05


def course(network: Network, x: np.ndarray, population: str) -> np.ndarray:
    trace = ReferenceEngine().run(network, encode.encode(network, x), network.steps, [population])
    spikes = trace.spikes[population]
    return spikes.reshape(*spikes.shape[:3], -1).mean(axis=(0, 3))


@pytest.mark.parametrize("reset", [Reset.ZERO, Reset.SUBTRACT])
def test_every_channel_fires_again_as_early_as_in_float(
    reset: Reset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start value that is lost is found again where the chip can start v anywhere, and only there."""
    network, x = quantnet.network(reset=reset), quantnet.images(64)
    early = {
        name: replace(network[name], neuron=replace(network[name].neuron, v0=np.full((), 0.4)))
        for name in ("a", "b")
    }
    timed = timing.balance(network.with_(populations=network.map_populations(early)), 62)
    statistics = calibrate.measure(timed, x)
    late = timing.balance(network, 62)
    missed = []
    for start_values in (False, True):
        result = Quantizer(Precision(8), statistics, x, start_values=start_values)(late)
        verify(result, Stage.QUANTIZED)
        ranges.prove(result)
        missed.append(np.abs(course(result, x, "a") - statistics["a"].course).max())
        assert bool(np.any(result["a"].neuron.v0)) == start_values
    assert missed[0] > 0.1
    assert missed[1] < 0.4 * missed[0]


def test_start_values_that_are_right_are_left_alone() -> None:
    network, x = quantnet.network(), quantnet.images(64)
    timed = timing.balance(network, 62)
    result = Quantizer(Precision(8), calibrate.measure(timed, x), x, start_values=True)(timed)
    assert not any(np.any(population.neuron.v0) for population in result.compute)


def test_a_population_takes_back_the_mean_error_of_those_before_it() -> None:
    """conv1 at two bits fires otherwise; the readout behind it still gets the float mean current."""
    network, x = quantnet.network(threshold=None), quantnet.images(64)
    timed = timing.balance(network, 62)
    statistics = calibrate.measure(timed, x)
    result = Quantizer(Precision(8, layer_bits={"conv1": 2}), statistics, x).run(timed)
    found = ReferenceEngine().run(result.network, encode.encode(result.network, x), network.steps).output
    wanted = (network.projections[1].weight * statistics["a"].mean.reshape(1, -1)).sum(axis=1) * network.steps
    assert np.allclose(found.mean(axis=0) / 64 / result.scales["b"], wanted, atol=0.02)


@pytest.mark.parametrize("loops", [False, True])
def test_the_emulation_is_the_reference_engine(loops: bool) -> None:
    """Population by population, loop by loop, it must do what the engine does with the finished network."""
    for seed in range(12):
        free = gen.float_network(seed, 6)
        network = gen.quantize(timing.balance(gen.with_loops(free, seed) if loops else free, 62))
        x = gen.stimulus(network, 5, 6, seed)
        names = [p.name for p in network.populations]
        trace = ReferenceEngine().run(network, x, 6, names)
        emulator = Emulator(network, network.inputs[0], x)
        for segment in network.segments[1:]:
            emulator.add([(one, network.incoming(one.name)) for one in segment])
            for one in segment:
                assert np.array_equal(emulator.means[one.name], trace.spikes[one.name].mean((0, 1)))


def test_a_host_s_current_is_emulated_too() -> None:
    network, x = quantnet.network(), quantnet.images(16)
    result, _ = quantized(network, x, 4, host=True)
    encoded = encode.encode(result, x)
    emulator = Emulator(result, result.inputs[0], encoded)
    emulator.add([(result["a"], result.incoming("a"))])
    assert isinstance(result["a"].bias, Fixed)
    trace = ReferenceEngine().run(result, encoded, network.steps, ["a"])
    assert np.array_equal(emulator.means["a"], trace.spikes["a"].mean((0, 1)))
