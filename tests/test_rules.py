"""Every rule of every stage finds the network that breaks it; a sound network breaks none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import gen
import numpy as np
import pytest

from nmc import timing
from nmc.errors import InternalError
from nmc.ir import (
    Encoding,
    Fixed,
    FixedNeuron,
    GradedRelay,
    Identity,
    Mapping,
    Network,
    Population,
    Projection,
    Stage,
    Tile,
    frozen,
)
from nmc.rules import RULES, findings, verify

FLOAT = gen.float_network(2, 6)
TIMED = timing.balance(FLOAT, 62)
QUANTIZED = gen.quantize(TIMED)


def mapped(network: Network) -> Network:
    tiles = tuple(
        Tile(one.name, tuple((0, size) for size in one.shape), core)
        for core, one in enumerate(network.compute)
    )
    return network.with_(stage=Stage.MAPPED, mapping=Mapping("generic", tiles))


def population(network: Network, change: Callable[[Population], Population]) -> Network:
    """The first population that computes, changed."""
    one = network.compute[0]
    return network.with_(populations=network.map_populations({one.name: change(one)}))


def projection(network: Network, change: Callable[[Projection], Projection]) -> Network:
    """The first projection changed."""
    first, *others = network.projections
    return network.with_(projections=(change(first), *others))


def neuron(network: Network, **fields: object) -> Network:
    def change(one: Population) -> Population:
        assert isinstance(one.neuron, FixedNeuron)
        return replace(one, neuron=replace(one.neuron, **fields))  # type: ignore[arg-type]

    return population(network, change)


def fixed(mant: int, exp: int, bits: int, *, signed: bool) -> Fixed:
    return Fixed(np.asarray(mant), exp, bits, signed)


def backwards(network: Network) -> Network:
    return network.with_(populations=network.populations[::-1])


def lonely(network: Network) -> Network:
    alone = Population("alone", (3,), network.compute[0].neuron)
    return network.with_(populations=(*network.populations, alone))


def poor_relay(network: Network) -> Network:
    """A relay that sends more than it says."""
    source = network.inputs[0]
    relay = Population("relay", source.shape, GradedRelay(), max_payload=1)
    into = Projection("into", source.name, "relay", Identity(), frozen(2.0, np.float64))
    return network.with_(
        populations=(*network.populations, relay),
        projections=(*network.projections, into),
        outputs=(*network.outputs, "relay"),
    )


BREACHES: dict[str, list[Network]] = {
    "R01": [FLOAT.with_(populations=(*FLOAT.populations, FLOAT.populations[-1]))],
    "R02": [FLOAT.with_(outputs=("nowhere",)), projection(FLOAT, lambda p: replace(p, source="nowhere"))],
    "R03": [backwards(FLOAT), projection(FLOAT, lambda p: replace(p, lag=-1))],
    "R04": [population(FLOAT, lambda p: replace(p, shape=(7, 7, 7)))],
    "R05": [lonely(FLOAT)],
    "R06": [
        projection(FLOAT, lambda p: replace(p, weight=frozen(p.weight * np.nan))),
        projection(FLOAT, lambda p: replace(p, weight=np.array(p.weight))),
        population(FLOAT, lambda p: replace(p, bias=frozen(np.zeros(977)))),
        neuron(QUANTIZED, v0=frozen(np.zeros(977, np.int64))),
    ],
    "R07": [
        projection(FLOAT, lambda p: replace(p, on_host=True)),
        FLOAT.with_(
            populations=FLOAT.map_populations(
                {
                    one.name: replace(one, neuron=replace(one.neuron, encoding=Encoding.CURRENT))  # type: ignore[type-var]
                    for one in FLOAT.inputs
                }
            )
        ),
    ],
    "R08": [poor_relay(FLOAT)],
    "R10": [projection(TIMED, lambda p: replace(p, weight=fixed(1, 0, 8, signed=True)))],
    "R20": [
        population(TIMED, lambda p: replace(p, level=None)),
        population(TIMED, lambda p: replace(p, level=p.time + 1)),
        projection(TIMED, lambda p: replace(p, delay=p.delay + 1)),
    ],
    "R30": [
        QUANTIZED.with_(populations=TIMED.populations),
        QUANTIZED.with_(projections=TIMED.projections),
        projection(QUANTIZED, lambda p: replace(p, weight=replace(p.weight, exp=-1))),  # type: ignore[type-var]
    ],
    "R31": [
        neuron(QUANTIZED, vth=fixed(1, 6, 18, signed=False)),
        neuron(QUANTIZED, vth=fixed(1, 5, 17, signed=False)),
        neuron(QUANTIZED, vth=fixed(1, 6, 17, signed=True)),
        neuron(QUANTIZED, du=fixed(1, -12, 13, signed=False)),
        neuron(QUANTIZED, dv=fixed(1, -11, 12, signed=False)),
        population(QUANTIZED, lambda p: replace(p, bias=fixed(1, 0, 14, signed=True))),
        population(QUANTIZED, lambda p: replace(p, bias=fixed(1, 8, 13, signed=True))),
    ],
    "R40": [
        QUANTIZED.with_(stage=Stage.MAPPED),
        QUANTIZED.with_(stage=Stage.MAPPED, mapping=Mapping("generic", ())),
    ],
}


@pytest.mark.parametrize("network", [FLOAT, TIMED, QUANTIZED, mapped(QUANTIZED)], ids=lambda n: n.stage.name)
def test_sound_networks_break_no_rule(network: Network) -> None:
    assert not list(findings(network))
    verify(network, network.stage)


def test_no_rule_is_forgotten() -> None:
    assert set(BREACHES) == {rule.code for rule in RULES}


@pytest.mark.parametrize(
    ("code", "number"), [(code, n) for code, networks in BREACHES.items() for n in range(len(networks))]
)
def test_every_rule_finds_its_breach(code: str, number: int) -> None:
    network = BREACHES[code][number]
    found = list(findings(network))
    assert any(one.startswith(f"{code} ") for one in found), found
    with pytest.raises(InternalError, match=code):
        verify(network, network.stage)
