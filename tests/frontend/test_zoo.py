"""The zoo: every narrow variant compiles for loihi2 and gives the same bits on both engines."""

from __future__ import annotations

import numpy as np
import pytest
from same import differences

import nmc
from nmc.errors import NmcError
from nmc.frontend import opgraph as og
from nmc.frontend.float_engine import run
from nmc.frontend.float_network import run_network
from nmc.frontend.lower import lower
from nmc.frontend.zoo import NETWORKS
from nmc.frontend.zoo.draft import Draft, if_neuron
from nmc.frontend.zoo.ghost import ghostnet
from nmc.ir import Encoding, GradedRelay

STEPS = 4

REPEATS = ("-32", "-34", "-44", "-50", "-56", "-101", "-110", "-152", "-mnist")
RUN = [name for name in NETWORKS if not any(part in name for part in REPEATS)]
RUN += ["sew-resnet-50", "sew-resnet-34-cifar", "ms-resnet-34-cifar"]
"""One of every kind; deeper ones repeat the same blocks."""


def test_weights_are_reproducible():
    one, same, other = (NETWORKS["lenet"].build(seed=seed) for seed in (0, 0, 1))
    weights = [graph.nodes["c1.conv"].weight for graph in (one, same, other)]
    np.testing.assert_array_equal(weights[0], weights[1])
    assert (weights[0] != weights[2]).any()


def samples(graph: og.OpGraph) -> np.ndarray:
    rng, shape = np.random.default_rng(0), graph.input_shapes[0]
    return rng.integers(0, 2, (2, STEPS, *shape)) if shape[0] == 2 else rng.random((2, *shape))


@pytest.mark.parametrize("name", RUN)
def test_narrow_variants_compile_for_loihi2_and_run(name):
    entry = NETWORKS[name]
    graph = entry.build(**entry.narrow)
    x = samples(graph)
    floats = run(graph, x, STEPS)
    for neuron in graph.named(og.Neuron):
        assert 0.01 < floats.values[neuron].mean() < 0.95, neuron
    bundle = nmc.compile(graph, "loihi2", data=x, steps=STEPS)
    fired = {p.name for p in bundle.network.compute} & set(graph.named(og.Neuron))
    assert fired == set(graph.named(og.Neuron))
    trace, native = (nmc.run(bundle, x, engine=engine, record=("all",)) for engine in ("reference", "native"))
    assert not differences(trace, native)
    assert all(trace.spikes[neuron].any() for neuron in fired)


@pytest.mark.parametrize("name", ["sew-resnet-18-iand", "7b-net", "ms-resnet-34-cifar", "cifar-net"])
def test_lowering_keeps_the_spikes(name):
    """Up to sums of floats in another order: no more than one spike in ten thousand differs."""
    entry = NETWORKS[name]
    graph = entry.build(**entry.narrow)
    x = samples(graph)
    floats = run(graph, x, STEPS)
    encoding = Encoding.SPIKES if x.ndim == 5 else Encoding.GRADED
    got = run_network(lower(graph, STEPS, "relay", encoding), x, STEPS, record=graph.named(og.Neuron))
    compared = different = 0
    for neuron in graph.named(og.Neuron):
        compared += got[neuron].size
        different += int((got[neuron] != floats.values[neuron]).sum())
    assert different <= compared / 10_000


def test_a_gate_for_a_whole_map_is_one_population():
    """Its kernel has as many ones as the map has pixels, but padding leaves each pixel one of them."""
    network = lower(ghostnet(width=0.25, blocks=4), STEPS, "relay", Encoding.GRADED)
    gates = [p.name for p in network.compute if p.name.startswith("blocks.3.se.") and ".mul" in p.name]
    assert gates == ["blocks.3.se.a.mul", "blocks.3.se.b.mul"]
    assert network["blocks.3.se.a.mul"].shape[1:] == (4, 4)


@pytest.mark.parametrize(("attention", "layer"), [("", "se"), ("dfc", "dfc"), ("mlp", "mlp")])
def test_attention_by_values_is_refused_by_name(attention, layer):
    """A product of spikes and values, as the papers have it, is on no chip here; a gate of spikes is."""
    index = 3 if layer == "se" else 2
    graph = ghostnet(attention, width=0.25, blocks=index + 1, binary=False)
    with pytest.raises(
        NmcError, match=rf"blocks\.{index}\.{layer}\.a\.mul.*no spikes.*spiking neuron"
    ) as caught:
        nmc.compile(graph, "loihi2", steps=STEPS)
    assert caught.value.code == "NMC-G05"


@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
def test_depthwise_convolutions_of_many_channels_go_all_the_way(chip):
    """Lava's own Conv gives zeros from 128 groups on."""
    draft = Draft((2, 5, 5), if_neuron(), drive=2.0)
    x = draft.conv_fire("stem", "input", 136, 1)
    x = draft.fire("deep.sn", draft.depthwise("deep", x, 3, 2))
    graph = draft.finish("depthwise", draft.linear("fc", x, 3), STEPS)
    trains = np.random.default_rng(0).integers(0, 2, (2, STEPS, 2, 5, 5))
    bundle = nmc.compile(graph, chip, data=trains, steps=STEPS)
    found = nmc.run(bundle, trains, engine="reference", record=("deep.sn",)).spikes["deep.sn"]
    assert found.any(axis=(0, 1, 3, 4)).sum() > 100
    for engine in ("native", "lava-inprocess"):
        assert nmc.verify(bundle, engine, samples=2, x=trains).passed, engine


def test_a_wide_map_is_pooled_by_a_relay_before_the_classifier():
    """SEW-ResNet-18 reads 512 maps of 7 x 7: folded, every class would need 25,088 lists on one core."""
    draft = Draft((2, 24, 24), if_neuron(), drive=2.0)
    x = draft.average("avgpool", draft.conv_fire("stem", "input", 24, 3))
    graph = draft.finish("wide", draft.linear("fc", x, 3), STEPS)
    trains = np.random.default_rng(0).integers(0, 2, (2, STEPS, 2, 24, 24))
    floats = run(graph, trains, STEPS).output
    network = lower(graph, STEPS, "relay", Encoding.SPIKES)
    relays = [p for p in network.compute if isinstance(p.neuron, GradedRelay)]
    assert [(p.shape, p.max_payload) for p in relays] == [((24, 1, 1), 24 * 24)]
    found = run_network(network, trains, STEPS)[f"output/{network.outputs[0]}"]
    # The graph ends in a mean over T, repeated in every step; the readout adds up T steps.
    np.testing.assert_allclose(found, floats)
    bundle = nmc.compile(graph, "loihi2", data=trains, steps=STEPS)
    assert nmc.verify(bundle, "native", samples=2, x=trains).passed
