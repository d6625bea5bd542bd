"""Sums in parts: every engine gives the numbers of the whole sum, and every limit of the small chip holds."""

from __future__ import annotations

from dataclasses import replace

import gen
import numpy as np
import pytest
from mapped import LIF, Chain, weight
from same import differences

from nmc import timing
from nmc.backends.base import Engine
from nmc.backends.sim.native import NativeEngine
from nmc.backends.sim.reference import ReferenceEngine, StepwiseEngine
from nmc.chip import Chip, load_chip
from nmc.errors import NmcError
from nmc.ir import (
    Conv2d,
    Dense,
    Encoding,
    Fixed,
    GradedRelay,
    Identity,
    InputNeuron,
    Network,
    Population,
    Projection,
    Stage,
)
from nmc.partition.check import check_mapping
from nmc.partition.cost import one_neuron
from nmc.partition.parts import sum_in_parts
from nmc.partition.tile import partition
from nmc.quantize import ranges
from nmc.rules import findings, verify

LOIHI2 = load_chip("loihi2")
STEPS = 4
ONE_CHANNEL = 9 * 64
"""Lists of a 3 x 3 kernel on one channel, which is not cut any smaller."""


def random_case(seed: int, loops: bool = False) -> tuple[Network, Chip]:
    """A random residual network, and a chip whose cores cannot list its largest fan-in."""
    free = gen.float_network(seed, STEPS)
    network = gen.quantize(timing.balance(gen.with_loops(free, seed) if loops else free, 62))
    weighted = [
        one_neuron(network, LOIHI2, network[one.target])
        for one in network.projections
        if isinstance(one.synapse, Dense) or (isinstance(one.synapse, Conv2d) and one.synapse.groups == 1)
    ]
    bits, _ = max(weighted)
    return network, replace(LOIHI2, synapse_bits=max(int(0.7 * bits), ONE_CHANNEL), cores=None)


def traces(network: Network, engine: Engine, x: np.ndarray, names: list[str]):
    return engine.run(network, x, STEPS, names)


@pytest.mark.parametrize("loops", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_parts_add_up_to_the_whole(seed: int, loops: bool) -> None:
    network, chip = random_case(seed, loops)
    split = sum_in_parts(network, chip)
    verify(split, Stage.QUANTIZED)
    ranges.prove(split)
    x = gen.stimulus(network, 2, STEPS, seed)
    names = [one.name for one in network.compute]
    before, after = (traces(one, ReferenceEngine(), x, names) for one in (network, split))
    for name in names:
        for what in ("spikes", "u", "v"):
            assert np.array_equal(getattr(before, what)[name], getattr(after, what)[name]), (name, what)
    everything = [one.name for one in split.compute]
    expected = traces(split, ReferenceEngine(), x, everything)
    for engine in (StepwiseEngine(), NativeEngine()):
        assert differences(expected, traces(split, engine, x, everything)) == []


def test_most_random_networks_are_split_and_then_fit() -> None:
    done = 0
    for seed in range(24):
        network, chip = random_case(seed)
        split = sum_in_parts(network, chip)
        if split is not network:
            mapped = partition(split, chip)
            check_mapping(mapped, chip)
            with pytest.raises(NmcError, match="one neuron needs"):
                partition(network, chip)
            done += 1
    assert done >= 16


@pytest.mark.parametrize("seed", range(4))
def test_the_mapping_computes_the_sums(seed: int) -> None:
    tiles = pytest.importorskip("nmc.backends.loihi.tiles", reason="Lava is not installed")
    free = gen.float_network(seed, STEPS, soft=False)
    network = gen.quantize(timing.balance(free, 62))
    bits, _ = max(one_neuron(network, LOIHI2, one) for one in network.compute)
    chip = replace(LOIHI2, synapse_bits=max(int(0.7 * bits), ONE_CHANNEL), neurons_per_core=16, cores=None)
    split = sum_in_parts(network, chip)
    assert split is not network
    mapped = partition(split, chip)
    x = gen.stimulus(network, 2, STEPS, seed)
    names = [one.name for one in mapped.compute]
    expected = traces(mapped, ReferenceEngine(), x, names)
    assert differences(expected, traces(mapped, tiles.TiledLavaEngine(), x, names)) == []


def wide(shape: tuple[int, ...], outputs: int, op: Dense | Conv2d, mant: np.ndarray) -> Network:
    """Spikes of the input into one population."""
    target = (outputs,) if isinstance(op, Dense) else (outputs, *shape[1:])
    return Network(
        "wide",
        Stage.QUANTIZED,
        (
            Population("in", shape, InputNeuron(Encoding.SPIKES), level=0, origin=("in",)),
            Population("out", target, LIF, level=1, origin=("out",)),
        ),
        (Projection("w", "in", "out", op, Fixed(mant, 1, 8, True)),),
        ("out",),
        STEPS,
    )


def tiny(**limits: int) -> Chip:
    return replace(LOIHI2, **{"synapse_bits": 64 * 12, "input_axons": 40, "cores": None, **limits})


CASES = {
    "dense on a map": wide((8, 2, 2), 5, Dense(), np.arange(-80, 80).reshape(5, 32)),
    "dense on one channel": wide((1, 6, 4), 5, Dense(), np.arange(-60, 60).reshape(5, 24)),
    "dense on a flat source": wide((24,), 5, Dense(), np.arange(-60, 60).reshape(5, 24)),
    "convolution": wide(
        (6, 4, 4), 3, Conv2d(padding=(1, 1)), np.random.default_rng(0).integers(-99, 99, (3, 6, 3, 3))
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_kind_of_layer(name: str) -> None:
    network = CASES[name]
    chip = tiny(synapse_bits=64 * 18) if name == "convolution" else tiny()
    split = sum_in_parts(network, chip)
    assert split is not network
    verify(split, Stage.QUANTIZED)
    check_mapping(partition(split, chip), chip)
    x = np.random.default_rng(1).integers(0, 2, (3, STEPS, *network["in"].shape))
    before, after = (
        traces(one, engine, x, ["out"])
        for one, engine in ((network, ReferenceEngine()), (split, NativeEngine()))
    )
    assert differences(replace(before, counts=after.counts), after) == []
    assert before.spikes["out"].any()


def test_the_torch_engine_adds_parts() -> None:
    torch_engine = pytest.importorskip("nmc.backends.sim.torch_engine", reason="torch is not installed")
    network = CASES["dense on a map"]
    split = sum_in_parts(network, tiny())
    x = np.random.default_rng(1).integers(0, 2, (3, STEPS, *network["in"].shape))
    names = [one.name for one in split.compute]
    expected = traces(split, ReferenceEngine(), x, names)
    assert differences(expected, traces(split, torch_engine.TorchEngine(), x, names)) == []


def test_a_wrong_order_of_parts_is_noticed() -> None:
    """The test above has teeth: swapped halves of the relays' weights give other spikes."""
    network = CASES["dense on a map"]
    split = sum_in_parts(network, tiny())
    conv = next(one for one in split.projections if isinstance(one.synapse, Conv2d))
    assert isinstance(conv.weight, Fixed)
    swapped = replace(conv, weight=replace(conv.weight, mant=conv.weight.mant[::-1]))
    broken = split.with_(projections=tuple(swapped if one is conv else one for one in split.projections))
    x = np.random.default_rng(1).integers(0, 2, (3, STEPS, 8, 2, 2))
    right, wrong = (traces(one, ReferenceEngine(), x, ["out"]) for one in (split, broken))
    assert not np.array_equal(right.v["out"], wrong.v["out"])


def test_payloads_decide_how_many_parts() -> None:
    """Lists take two parts, of four weights of 254 and four of -254 each: 1,016, and a sign, are 11 bits."""
    network = wide((16,), 2, Dense(), np.tile([127, -127], (2, 8)))
    parts = {}
    for bits in (16, 11, 10):
        split = sum_in_parts(network, tiny(synapse_bits=64 * 15, payload_bits=bits))
        relay = next(one for one in split.compute if one.name == "w.parts")
        parts[bits] = relay.shape[0] // 2
        assert relay.max_payload < 1 << (bits - 1)
        assert next(one for one in ranges.prove(split) if one.population == "out").a == (-2032, 2032)
    assert parts == {16: 2, 11: 2, 10: 4}


def test_a_declared_payload_that_is_too_small_breaks_a_rule() -> None:
    split = sum_in_parts(CASES["dense on a map"], tiny())
    small = {
        one.name: replace(one, max_payload=one.max_payload - 1)
        for one in split.compute
        if isinstance(one.neuron, GradedRelay)
    }
    assert small
    broken = split.with_(populations=split.map_populations(small))
    assert any(one.startswith("R08") for one in findings(broken))


def test_only_what_does_not_fit_is_split() -> None:
    assert sum_in_parts(CASES["convolution"], LOIHI2) is CASES["convolution"]
    assert sum_in_parts(CASES["convolution"], load_chip("loihi1")) is CASES["convolution"]


def test_without_graded_spikes_the_refusal_says_so() -> None:
    chip = replace(load_chip("loihi1"), synapse_bits=64 * 12)
    network = CASES["dense on a map"]
    assert sum_in_parts(network, chip) is network
    with pytest.raises(NmcError, match="graded spikes, which loihi1 has not got") as caught:
        partition(network, chip)
    assert caught.value.code == "NMC-P02"


def test_a_loop_without_a_step_to_spare_is_refused() -> None:
    """The layer reads itself one step late, through more neurons than a core lists."""
    chain = Chain(4, 1, 1)
    first = chain.add("in", Dense(), weight(20, 4))
    back = Projection("back", first, first, Dense(), weight(20, 20), lag=1)
    network = chain.network()
    looped = network.with_(projections=(*network.projections, back))
    with pytest.raises(NmcError, match="one neuron needs"):
        partition(sum_in_parts(looped, tiny()), tiny())


def test_a_skip_waits_for_the_parts() -> None:
    """Both ways into the sum stay equally long: the direct one gets a step of delay."""
    chain = Chain(8, 2, 2)
    first = chain.add("in", Identity(), Fixed(np.array(2), 0, 8, False))
    out = chain.add(first, Dense(), weight(5, 32))
    chain.project("in", out, Dense(), weight(5, 32))
    network = chain.network()
    chip = tiny(synapse_bits=64 * 50, input_axons=80)
    split = sum_in_parts(network, chip)
    assert split is not network
    verify(split, Stage.QUANTIZED)
    assert split[out].time >= network[out].time
