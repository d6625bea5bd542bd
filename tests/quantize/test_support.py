"""What a chip has no hardware for is refused, with the layer, the value and what to do."""

from __future__ import annotations

import features
import pytest

from nmc import api
from nmc.backends.loihi.lower import lower
from nmc.backends.loihi.program import CPU_ONLY
from nmc.chip import load_chip
from nmc.errors import NmcError
from nmc.frontend import opgraph as og
from nmc.quantize.support import check_support


def network_of(name: str) -> object:
    return next(one for one in features.FEATURES if one.name == name).network()


@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
@pytest.mark.parametrize(
    ("name", "start"), [("to a value below the start", 320), ("to a value above the start", -448)]
)
def test_chips_clear_v_to_zero_only(chip: str, name: str, start: int) -> None:
    with pytest.raises(NmcError) as caught:
        check_support(network_of(name), load_chip(chip))
    error = caught.value
    assert (error.code, error.who, error.measured, error.allowed) == ("NMC-Q03", "layer.cell", start, 0)
    assert f"starts at v = {start} (threshold 704), {chip} clears v to 0" in error.problem
    assert "lava-cpu" in error.remedy


def test_lava_cpu_takes_start_values() -> None:
    network = network_of("to a value below the start")
    assert check_support(network, load_chip("lava-cpu")) is network


@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
def test_what_a_chip_takes_is_stock_lava(chip: str) -> None:
    """No feature that a chip accepts needs a process that has a model for the CPU only."""
    accepted = refused = 0
    for feature in features.FEATURES:
        network = feature.network()
        try:
            check_support(network, load_chip(chip))
        except NmcError:
            refused += 1
            continue
        if not feature.refused:
            program = lower(network, feature.samples(network)[:1], features.STEPS)
            assert not {cell.process for cell in program.neurons} & set(CPU_ONLY), feature.name
            accepted += 1
    assert accepted > 40
    assert refused >= 4


def graph(**neuron: object) -> og.OpGraph:
    nodes: dict[str, og.Op] = {
        "input": og.Input((3,)),
        "fc": og.Linear([[0.5, 0.25, -0.5]] * 2),
        "cell": og.Neuron(1.0, **neuron),
        "out": og.Output(),
    }
    return og.OpGraph(nodes, (("input", "fc"), ("fc", "cell"), ("cell", "out")))


def test_a_start_at_the_reset_potential_compiles_for_a_chip() -> None:
    """v is measured from the reset potential, wherever the leak goes; a start elsewhere is refused."""
    stated = {"keep_v": 0.5, "v_leak": 0.25, "v_reset": -0.5}
    bundle = api.compile(graph(**stated, v0=-0.5), "loihi2", steps=4)
    (cell,) = bundle.network.compute
    assert not cell.neuron.v0.any()
    with pytest.raises(NmcError, match=r"NMC-Q03 cell: every sample starts at v = \d+ .*clears v to 0"):
        api.compile(graph(**stated, v0=0.0), "loihi2", steps=4)
    assert api.compile(graph(**stated, v0=0.0), "lava-cpu", steps=4).network.compute[0].neuron.v0.any()
