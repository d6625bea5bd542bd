"""The zoo: counts against the published ones, and every narrow variant on loihi2."""

from __future__ import annotations

import numpy as np
import pytest

import nmc
from nmc.frontend import opgraph as og
from nmc.frontend.float_engine import run, run_network
from nmc.frontend.lower import lower
from nmc.frontend.zoo import NETWORKS
from nmc.frontend.zoo.draft import operations, parameters
from nmc.frontend.zoo.events import wide_seven_b
from nmc.ir import Encoding

STEPS = 4

COUNTS = {
    # The ANNs of the same layers, as torchvision counts them.
    "sew-resnet-18": (11_689_512, 1_814_073_344),
    "sew-resnet-34": (21_797_672, 3_663_761_408),
    "resnet-20": (272_474, 40_813_184),
    "resnet-110": (1_730_714, 253_149_824),
    "7b-net": (130_923, 412_066_144),
    "wide-7b-net": (1_193_226, 1_648_493_824),
    "sew-resnet-34-cifar": (466_906, 69_124_736),
    "ms-resnet-34-cifar": (466_906, 69_124_736),
    "vgg16-cifar": (14_785_866, 313_263_360),
    # LeNet-5 with full connections between its maps.
    "lenet": (61_706, 416_520),
}
REPEATS = ("-32", "-34", "-44", "-50", "-56", "-101", "-110", "-152", "-mnist")
RUN = [name for name in NETWORKS if not any(part in name for part in REPEATS)]
RUN += ["sew-resnet-50", "sew-resnet-34-cifar", "ms-resnet-34-cifar"]
"""One of every kind; deeper ones repeat the same blocks."""


@pytest.mark.parametrize("name", COUNTS)
def test_counts_at_full_size(name):
    entry = NETWORKS[name]
    graph = entry.build()
    assert graph.shapes["input"] == entry.input_shape
    assert graph.steps == entry.steps
    assert (parameters(graph), operations(graph)) == COUNTS[name]


@pytest.mark.parametrize("name", [name for name, entry in NETWORKS.items() if entry.parameters])
def test_published_counts(name):
    """Parameters to the last published digit (a unit in it for truncation); operations, which their report
    counts in a way that it does not explain, within 5 %."""
    entry = NETWORKS[name]
    graph = entry.build()
    digits = 1e4 if entry.parameters < 2e7 else 1e5
    assert abs(parameters(graph) - entry.parameters) <= digits
    if entry.operations:
        assert 0.95 * entry.operations < operations(graph) < entry.operations
        assert entry.remark


def test_the_printed_transition_of_wide_7b_net_is_larger_than_its_published_count():
    assert parameters(wide_seven_b(transition=3)) == 1_258_762


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
        assert 0.01 < floats.values[neuron].mean() < 0.9, neuron
    bundle = nmc.compile(graph, "loihi2", data=x, steps=STEPS)
    fired = {p.name for p in bundle.network.compute} & set(graph.named(og.Neuron))
    assert fired == set(graph.named(og.Neuron))
    trace = nmc.run(bundle, x, engine="reference", record=("all",))
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
