"""Bits per layer and scales per channel: what they promise, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import quantnet

from nmc import api, timing
from nmc.chip import load_chip
from nmc.errors import NmcError
from nmc.ir import FixedNeuron, Network
from nmc.quantize import calibrate
from nmc.quantize.network import Quantizer
from nmc.quantize.precision import Precision, parse_layer_bits


def quantized(network: Network, data: np.ndarray, precision: Precision, profiles: int | None) -> Network:
    timed = timing.balance(network, 62)
    return Quantizer(precision, calibrate.measure(timed, data), data, profiles)(timed)


def thresholds(network: Network, population: str) -> int:
    neuron = network[population].neuron
    assert isinstance(neuron, FixedNeuron)
    assert neuron.vth is not None
    return len(np.unique(neuron.vth.mant))


@pytest.mark.parametrize(("profiles", "most"), [(1, 1), (3, 3), (None, 4)])
def test_a_population_has_no_more_thresholds_than_the_chip(profiles: int | None, most: int) -> None:
    network, x = quantnet.network(), quantnet.images()
    result = quantized(network, x, Precision(4, "channel"), profiles)
    assert 1 <= thresholds(result, "a") <= most
    if profiles is None:
        assert thresholds(result, "a") > 1


def test_loihi1_has_eight_profiles_and_others_are_not_limited() -> None:
    precision = Precision(granularity="channel")
    assert [precision.profiles(load_chip(name)) for name in ("loihi1", "loihi2", "lava-cpu")] == [
        8,
        None,
        None,
    ]
    assert Precision().profiles(load_chip("lava-cpu")) == 1


def test_named_layers_get_their_bits_and_others_the_default() -> None:
    network, x = quantnet.network(), quantnet.images()
    result = quantized(network, x, Precision(8, layer_bits={"fc": 3}), 1)
    assert [projection.weight.bits for projection in result.projections] == [8, 3]


def test_a_tensor_shared_by_layers_of_different_bits_is_rounded_for_each() -> None:
    network = quantnet.network()
    again = replace(network["b"], name="b2", origin=("fc2",))
    shared = replace(network.projections[1], name="a-b2", target="b2")
    network = network.with_(
        populations=(*network.populations, again),
        projections=(*network.projections, shared),
        outputs=("b", "b2"),
    )
    result = quantized(network, quantnet.images(), Precision(8, layer_bits={"fc2": 2}), 1)
    assert [projection.weight.bits for projection in result.projections] == [8, 8, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_bits": 0}, "NMC-U02 weight_bits: is 0 bits; use 1 to 8"),
        ({"weight_bits": 9}, "NMC-U02 weight_bits: is 9 bits"),
        ({"layer_bits": {"fc": 0}}, "NMC-U02 fc: is 0 bits"),
        ({"granularity": "row"}, "NMC-U02 granularity: is 'row'; use layer or channel"),
    ],
)
def test_impossible_settings_are_refused(options: dict, message: str) -> None:
    with pytest.raises(NmcError, match=message):
        Precision(**options)


def test_an_unknown_layer_is_named_with_the_known_ones() -> None:
    with pytest.raises(NmcError, match="NMC-U03 nope: is no layer of this network; layers are: conv1, fc"):
        quantized(quantnet.network(), quantnet.images(), Precision(layer_bits={"nope": 4}), 1)


def test_layer_bits_are_read_from_the_command_line() -> None:
    assert parse_layer_bits("conv1=4,odd=name=2") == {"conv1": 4, "odd=name": 2}
    assert parse_layer_bits("") == {}
    for bad in ("conv1", "=4", "a=x"):
        with pytest.raises(NmcError, match="NMC-U02 layer_bits"):
            parse_layer_bits(bad)


def test_channels_with_their_own_scale_lose_less_at_few_bits() -> None:
    """Channels of very different size: one scale leaves nothing of the small ones."""
    network, x = quantnet.network(spread=20.0), quantnet.images()
    timed = timing.balance(network, 62)
    truth = calibrate.measure(timed, x)["a"].mean
    errors = []
    for profiles in (1, None):
        result = Quantizer(Precision(4, "channel"), calibrate.measure(timed, x), x, profiles)(timed)
        trace = api.engine_by_name("reference").run(
            result, api.encode.encode(result, x), network.steps, ["a"]
        )
        errors.append(float(np.abs(trace.spikes["a"].mean(axis=(0, 1)) - truth).mean()))
    assert errors[1] < 0.5 * errors[0]
