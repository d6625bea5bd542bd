"""Bounds, binding limits, and remedies that are tried: whatever ``fit`` proposes first makes it fit."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import nirfiles
import numpy as np
import pytest
from mapped import Chain, weight

from nmc import api
from nmc.chip import load_chip
from nmc.errors import NmcError
from nmc.frontend import opgraph as og
from nmc.frontend.nir_read import load_nir
from nmc.ir import Conv2d, Dense, Identity, Network
from nmc.partition.bound import lower_bound
from nmc.partition.check import check_mapping
from nmc.partition.fit import analyse, largest_fan_in, narrowed, remedies
from nmc.partition.tile import partition
from nmc.reports.fit import document as fit_document

LOIHI1, LOIHI2 = load_chip("loihi1"), load_chip("loihi2")


def layer(channels: int, size: int, c_in: int = 1, kernel: int = 3) -> Network:
    chain = Chain(c_in, size, size)
    chain.conv("in", channels, kernel)
    return chain.network()


# --- bound ------------------------------------------------------------------------------------------


def test_bound_by_neurons() -> None:
    # 64 channels x 256 pixels = 16 x 1,024 neurons; weights of 9 taps are nothing.
    bound = lower_bound(layer(64, 16), LOIHI1)
    assert (bound.cores, bound.shared) == (16, 16)


def test_bound_by_weights() -> None:
    # 512 inputs x 9 taps x 8 bits = 36,864 bits per channel: 28 channels fill a core; 49 pixels: 20 do.
    assert lower_bound(layer(512, 7, 512), LOIHI1).cores == math.ceil(512 / 20)
    # One pixel: 28 channels per core bind.
    assert lower_bound(layer(512, 1, 512), LOIHI1).cores == math.ceil(512 / 28)


def test_bound_counts_a_kernel_once_per_delay() -> None:
    chain = Chain(64, 1, 1)
    a = chain.conv("in", 64, kernel=1)
    shared = weight(64, 64, 1, 1)
    b = chain.add(chain.conv(a, 64, kernel=1), Conv2d(), shared)
    chain.project(a, b, Conv2d(), shared)
    network = chain.network()
    small = replace(LOIHI1, synapse_bits=64 * (8 + 14))
    by_name = {one.population: one.cores for one in lower_bound(network, small).layers}
    assert by_name["p3"] == 64
    tight = lower_bound(network, replace(LOIHI1, synapse_bits=64 * (8 + 14) - 1))
    assert [one.cores for one in tight.layers] == [32, 32, None] or tight.layers[2].cores is None


def test_bound_of_one_to_one_weights() -> None:
    chain = Chain(8, 4, 4)
    a = chain.conv("in", 8)
    chain.add(a, Identity(), weight())
    chip = replace(LOIHI1, synapse_bits=8 * 32)
    layers = {one.population: one for one in lower_bound(chain.network(), chip).layers}
    assert layers["p2"].cores == 4
    assert layers["p2"].part == pytest.approx(4.0)


@pytest.mark.parametrize("seed", range(25))
def test_no_mapping_beats_the_bound(seed: int) -> None:
    rng = np.random.default_rng(seed)
    chain = Chain(int(rng.integers(1, 4)), 12, 12)
    last = "in"
    for _ in range(3):
        last = chain.conv(last, int(rng.integers(1, 20)), kernel=int(rng.choice([1, 3])))
    chip = replace(
        LOIHI1,
        cores=None,
        neurons_per_core=int(rng.integers(10, 400)),
        synapse_bits=int(rng.integers(40_000, 200_000)),
    )
    network = chain.network()
    alone = replace(chip, populations_per_core=1)
    bound = lower_bound(network, chip)
    assert bound.shared <= bound.cores
    assert partition(network, alone).mapping.cores_used >= bound.cores
    assert partition(network, chip).mapping.cores_used >= bound.shared


# --- what binds -------------------------------------------------------------------------------------


def binding(network: Network, chip, name: str) -> str:
    (found,) = [one for one in analyse(network, chip).layers if one.population == name]
    return found.binding


def test_binding_limits() -> None:
    wide = replace(LOIHI1, cores=None)
    assert binding(layer(64, 16), wide, "p1") == "neurons"
    assert binding(layer(512, 1, 512), wide, "p1") == "bits of synapse memory"
    assert binding(layer(4, 8), wide, "p1") == ""
    dense = Chain(100)
    a = dense.add("in", Dense(), weight(50, 100))
    dense.add(a, Dense(), weight(50, 50))
    network = dense.network()
    both = replace(wide, output_axons=60, neurons_per_core=40)
    assert binding(network, both, "p1") == "neurons and output axons"
    assert binding(network, replace(wide, output_axons=25), "p1") == "output axons"
    assert binding(network, replace(wide, output_axons=25), "p2") == ""
    assert (
        binding(layer(1, 40), replace(wide, input_axons=600, neurons_per_core=10_000), "p1") == "input axons"
    )
    assert binding(layer(7, 7), replace(wide, neurons_per_core=49 * 3 + 40), "p1") == "neurons"


def test_fit_agrees_with_the_compiler() -> None:
    chain = Chain(3, 16, 16)
    last = "in"
    for _ in range(3):
        last = chain.conv(last, 16)
    network = chain.network()
    found = analyse(network, LOIHI1)
    mapped = partition(network, LOIHI1)
    assert found.fits
    assert found.cores == mapped.mapping.cores_used
    counts = {one.name: len(mapped.mapping.of(one.name)) for one in network.compute}
    assert {one.population: one.cores for one in found.layers} == counts
    fullest = max(use.neurons.used for use in check_mapping(mapped, LOIHI1))
    assert max(one.needs[0].used for one in found.layers) <= fullest


# --- what would fit ---------------------------------------------------------------------------------


def test_too_many_cores_asks_for_a_board() -> None:
    network = layer(64, 64)
    found = analyse(network, LOIHI1)
    assert (found.fits, found.cores, found.available) == (False, 256, 128)
    first = next(iter(remedies(network, LOIHI1)))
    assert (first.change, first.value, first.cores) == ("chip", "loihi1:kapoho-bay", 256)
    bigger = load_chip(first.value)
    check_mapping(partition(network, bigger), bigger)


def test_kernel_memory_asks_for_fewer_bits() -> None:
    network = layer(100, 1, 512)
    chip = replace(LOIHI1, cores=8, boards=())
    found = analyse(network, chip)
    assert not found.fits
    assert found.layers[0].binding == "bits of synapse memory"
    (first,) = remedies(network, chip)
    assert first.change == "weight-bits"
    assert partition(narrowed(network, int(first.value)), chip).mapping.cores_used == first.cores <= 8
    assert not analyse(narrowed(network, int(first.value) + 1), chip).fits


def test_fan_in_of_one_neuron() -> None:
    chain = Chain(5000)
    chain.add("in", Dense(), weight(10, 5000))
    network = chain.network()
    found = analyse(network, LOIHI1)
    assert (found.fits, found.cores) == (False, None)
    assert [one.code for one in found.problems] == ["NMC-P03"]
    assert largest_fan_in(network, LOIHI1, "p1") == 4096
    fits = Chain(4096)
    fits.add("in", Dense(), weight(10, 4096))
    assert analyse(fits.network(), LOIHI1).fits


def test_kernel_of_one_neuron() -> None:
    network = layer(4, 3, 2000)
    (problem,) = analyse(network, LOIHI1).problems
    assert problem.code == "NMC-P02"
    most = largest_fan_in(network, LOIHI1, "p1")
    assert analyse(layer(4, 3, most), LOIHI1).fits
    assert not analyse(layer(4, 3, most + 1), LOIHI1).fits


def test_every_layer_that_fails_is_named() -> None:
    chain = Chain(5000)
    a = chain.add("in", Dense(), weight(4500, 5000))
    chain.add(a, Dense(), weight(10, 4500))
    found = analyse(chain.network(), LOIHI1)
    assert [one.who for one in found.problems] == ["layer.p1", "layer.p2"]


# --- from the model on ------------------------------------------------------------------------------


def sew_block(channels: int = 2, size: int = 6) -> og.OpGraph:
    """Two spiking convolutions and their sum, read by a third."""
    rng = np.random.default_rng(0)

    def conv(c_in: int) -> og.Conv2d:
        return og.Conv2d(og.constant(rng.normal(size=(channels, c_in, 3, 3))), padding=(1, 1))

    neuron = og.Neuron(threshold=og.constant(1.0))
    nodes = {
        "in": og.Input((1, size, size)),
        "conv1": conv(1),
        "sn1": neuron,
        "conv2": conv(channels),
        "sn2": neuron,
        "add": og.Add(),
        "conv3": conv(channels),
        "sn3": neuron,
        "out": og.Output(),
    }
    chain = ["in", "conv1", "sn1", "conv2", "sn2", "add", "conv3", "sn3", "out"]
    edges = [*itertools.pairwise(chain), ("sn1", "add")]
    return og.OpGraph(nodes, tuple(edges), "block", steps=4)


def test_payload_bits_on_a_binary_chip() -> None:
    found = api.fit(sew_block(), "loihi1", joins="relay")
    assert not found.fits
    assert found.refusal.code == "NMC-Q03"
    first = found.remedies[0]
    assert (first.change, first.value) == ("joins", "distribute")
    assert api.fit(sew_block(), "loihi1", joins=first.value).fits
    assert any(one.value == "loihi2" for one in found.remedies)


def test_a_model_that_fits_has_no_remedies() -> None:
    found = api.fit(sew_block(), "loihi2")
    assert found.fits
    assert found.remedies == ()
    bundle = api.compile(sew_block(), "loihi2")
    assert bundle.network.mapping.cores_used == found.cores


def test_tradeoffs_say_what_each_objective_chooses() -> None:
    graph = load_nir(nirfiles.DIGITS)
    assert api.fit(graph, "loihi1").tradeoffs == ()
    ways = api.fit(graph, "loihi1", tradeoffs=True).tradeoffs
    chosen = {name: one for one in ways for name in one.objectives}
    assert set(chosen) == {"cores", "traffic", "speed", "energy"}
    assert chosen["cores"].cores == min(one.cores for one in ways)
    assert chosen["traffic"].messages == min(one.messages for one in ways)
    assert chosen["speed"].step_seconds <= chosen["cores"].step_seconds
    assert [one.cores for one in ways] == sorted(one.cores for one in ways)
    for one in ways:
        if not one.objectives:
            costs = (one.cores, one.messages, one.step_seconds)
            others = [(w.cores, w.messages, w.step_seconds) for w in ways if w is not one]
            assert not [o for o in others if all(a <= b for a, b in zip(o, costs, strict=True))]
    document = fit_document(api.fit(graph, "loihi1", tradeoffs=True))
    assert [row["cores"] for row in document.data["tradeoffs"]] == [one.cores for one in ways]
    assert any("--optimize" in [column.title for column in table.columns] for table in document.tables)


def test_a_model_that_does_not_fit_gets_the_smallest_board() -> None:
    graph = sew_block(12, 64)
    found = api.fit(graph, "loihi1")
    assert not found.fits
    chips = [one for one in found.remedies if one.change == "chip"]
    assert chips[0].value == "loihi1:kapoho-bay"
    assert api.compile(graph, chips[0].value, optimize="cores").network.mapping.cores_used == chips[0].cores
    with pytest.raises(NmcError, match="NMC-P01"):
        api.compile(graph, "loihi1")


def test_bad_models_are_errors_not_misfits() -> None:
    with pytest.raises(NmcError, match="NMC-U02"):
        api.fit(replace(sew_block(), steps=None), "loihi1")
