"""Reports against numbers worked out by hand, and against the counts of runs on random networks."""

from __future__ import annotations

import dataclasses
import math

import features
import gen
import numpy as np
import pytest

from nmc import timing
from nmc.backends.base import Counts
from nmc.backends.sim.reference import ReferenceEngine
from nmc.chip import load_chip
from nmc.errors import NmcError
from nmc.ir import (
    Conv2d,
    Dense,
    Encoding,
    Fixed,
    FixedNeuron,
    GradedRelay,
    Identity,
    InputNeuron,
    Mapping,
    Network,
    Population,
    Projection,
    Reset,
    Stage,
    Tile,
)
from nmc.partition.messages import Messages, messages_of
from nmc.partition.tile import partition
from nmc.reports.build import build_report, kind_of
from nmc.reports.model import Report


def fixed(values: object, bits: int = 8, exp: int = 0, signed: bool = True) -> Fixed:
    return Fixed(np.array(values), exp, bits, signed)


def neuron(threshold: int | None = 10, du: int = 4095, dv: int = 0) -> FixedNeuron:
    vth = None if threshold is None else fixed(threshold, 17, 6, signed=False)
    return FixedNeuron(vth, fixed(du, 13, -12, signed=False), fixed(dv, 13, -12, signed=False), Reset.ZERO)


def toy() -> Network:
    """4x4 input -> 2-channel 3x3 convolution -> graded relay -> 3 readouts; the convolution has a bias."""
    kernel = fixed(np.full((2, 1, 3, 3), 2))
    head = fixed(np.full((3, 32), 2))
    populations = (
        Population("in", (1, 4, 4), InputNeuron(Encoding.GRADED, highest=15), None, 15, 0, ("input",)),
        Population("a", (2, 4, 4), neuron(), fixed([[[1]], [[2]]], 13), 1, 1, ("conv1",)),
        Population("r", (2, 4, 4), GradedRelay(), None, 2, 2, ("add",)),
        Population("out", (3,), neuron(None), None, 1, 3, ("fc",)),
    )
    projections = (
        Projection("w1", "in", "a", Conv2d(padding=(1, 1)), kernel),
        Projection("one", "a", "r", Identity(), fixed(1)),
        Projection("w2", "r", "out", Dense(), head),
        Projection("w3", "a", "out", Dense(), head, delay=1),
    )
    tiles = (
        Tile("a", ((0, 1), (0, 4), (0, 4)), 0),
        Tile("a", ((1, 2), (0, 4), (0, 4)), 1),
        Tile("r", ((0, 2), (0, 4), (0, 4)), 2),
        Tile("out", ((0, 3),), 3),
    )
    return Network(
        "toy",
        Stage.MAPPED,
        populations,
        projections,
        ("out",),
        5,
        "potential",
        "loihi2",
        Mapping("loihi2", tiles),
    )


COUNTS = Counts(
    samples=2,
    steps=5,
    spikes={"in": 100, "a": 40, "r": 30, "out": 0},
    grades={"in": 700, "a": 40, "r": 45, "out": 0},
    updates={"in": 0, "a": 320, "r": 0, "out": 30},
    synops={"w1": 1000, "one": 40, "w2": 90, "w3": 120},
    graded_synops={"w1": 7000, "one": 40, "w2": 135, "w3": 120},
    host_macs={"w1": 0, "one": 0, "w2": 0, "w3": 0},
)


def row_of(report: Report, population: str):
    return next(row for row in report.rows if row.population == population)


def test_structure_by_hand() -> None:
    report = build_report(toy(), load_chip("loihi2"))
    table = {
        row.name: (row.kind, row.neurons, row.parameters, row.synapses, row.cores, row.latency_steps)
        for row in report.rows
    }
    assert table == {
        "input": ("input (graded)", 0, 0, 0, 0, 0),
        # 3x3 kernel on 4x4 with padding: (2*2 corners 4 + ...) = 100 taps inside per channel.
        "conv1": ("IF", 32, 18 + 2, 200, 2, 1),
        "add": ("relay", 32, 0, 32, 1, 2),
        # Both dense projections store one weight tensor.
        "fc": ("readout", 3, 96, 192, 1, 3),
    }
    total = report.total
    assert (total.neurons, total.parameters, total.synapses, total.cores) == (67, 116, 424, 4)
    assert total.latency_steps == 3 + 5
    # 18 weights of 8 bits and 2 biases of 13; 96 weights of 8, stored once.
    assert (row_of(report, "a").parameter_bits, row_of(report, "out").parameter_bits) == (170, 768)
    assert total.parameter_bits == 170 + 768
    assert report.cores_available == 120
    assert report.samples is None
    assert total.activity is None
    assert report.estimates == ()


def test_activity_by_hand() -> None:
    report = build_report(toy(), load_chip("loihi2"), COUNTS)
    conv, head = row_of(report, "a").activity, row_of(report, "out").activity
    assert (conv.spikes, conv.synops, conv.graded_synops, conv.updates) == (40, 1000, 7000, 320)
    assert conv.firing_rate == 40 / (32 * 5 * 2)
    assert (head.spikes, head.synops, head.graded_synops, head.updates) == (0, 210, 255, 30)
    assert row_of(report, "in").activity.firing_rate is None
    total = report.total.activity
    assert (total.spikes, total.grades, total.synops, total.graded_synops, total.updates) == (
        170,
        785,
        1250,
        7295,
        350,
    )
    assert total.firing_rate == 70 / (67 * 5 * 2)


def test_energy_by_hand_with_davies2018() -> None:
    report = build_report(toy(), load_chip("loihi2"), COUNTS, constants="davies2018")
    conv = row_of(report, "a").activity.energy
    assert conv.synapse == pytest.approx(1000 * 23.6e-12 / 2, rel=1e-12, abs=0)
    assert conv.update == pytest.approx(320 * 81e-12 / 2, rel=1e-12, abs=0)
    assert conv.spike == 0.0
    # 20 spikes per sample go to the relay's core and to the readout's; all cores lie in one row, and half of
    # the spikes come from core 0, half from core 1.
    hops = 10 * (2 + 1) + 10 * (3 + 2)
    assert conv.hop == pytest.approx(40 * 1.7e-12 + hops * 3.0e-12, rel=1e-12, abs=0)
    assert row_of(report, "r").activity.energy.hop == pytest.approx(
        15 * (1.7e-12 + 3.0e-12), rel=1e-12, abs=0
    )
    assert conv.total == math.fsum((conv.synapse, conv.update, conv.hop))
    assert report.total.activity.energy.total == pytest.approx(
        (1250 * 23.6e-12 + 350 * 81e-12) / 2 + 55 * 1.7e-12 + 95 * 3.0e-12, rel=1e-12, abs=0
    )
    # 40 of conv1's updates end in a spike; none of the readout's.
    low = report.estimates[0].low
    assert low.update == pytest.approx((40 * 81e-12 + 310 * 52e-12) / 2, rel=1e-12, abs=0)
    assert (low.synapse, low.hop) == (report.total.activity.energy.synapse, report.total.activity.energy.hop)
    assert any(text.startswith("spikes sent") for text in report.unpriced)
    assert "sums in relay populations" in report.unpriced


def test_energy_by_hand_with_sanafe2025() -> None:
    report = build_report(toy(), load_chip("loihi2"), COUNTS, constants="sanafe2025")
    conv, relay, head = (row_of(report, name).activity.energy for name in ("a", "r", "out"))
    assert conv.synapse == pytest.approx(1000 * 24.0e-12 / 2, rel=1e-12, abs=0)
    assert conv.spike == pytest.approx(40 * 69.3e-12 / 2, rel=1e-12, abs=0)
    assert relay.synapse == pytest.approx(40 * 33.6e-12 / 2, rel=1e-12, abs=0)
    assert head.synapse == pytest.approx(210 * 35.5e-12 / 2, rel=1e-12, abs=0)
    assert row_of(report, "in").activity.energy.spike == 0.0
    assert conv.hop == pytest.approx(40 * 111.0e-12 + 80 * 3.0e-12, rel=1e-12, abs=0)
    assert [one.constants for one in report.estimates] == ["sanafe2025", "davies2018", "keras-spiking"]
    assert report.estimates[0].energy == report.total.activity.energy
    assert report.energy_range == (
        min(one.low.total for one in report.estimates),
        max(one.energy.total for one in report.estimates),
    )


def test_hops_by_hand() -> None:
    """Tiles on routers (0, 0), (0, 1) and (2, 1) of loihi1's mesh, four cores each."""
    network, chip = toy(), load_chip("loihi1")
    assert chip.cores_per_tile == 4
    below = 2 * chip.mesh_columns + 1
    cores = {"a": 0, "r": 4, "out": 4 * below}
    tiles = tuple(
        Tile(one.name, tuple((0, size) for size in one.shape), cores[one.name]) for one in network.compute
    )
    found = messages_of(network.with_(mapping=Mapping("loihi1", tiles)), chip, {"a": 20, "r": 15, "out": 0})
    assert found["a"] == Messages(sent=40, between=40, east_west=20 * 1 + 20 * 1, north_south=20 * 2)
    assert found["r"] == Messages(sent=15, between=15, east_west=0, north_south=15 * 2)
    assert set(found) == {"a", "r"}


def test_time_by_hand() -> None:
    report = build_report(toy(), load_chip("loihi2"), COUNTS, constants="davies2018")
    pace = report.estimates[0].pace
    # conv1 lies on two cores: half of 1000 operations and of 320 updates, over 2 samples x 5 steps.
    busiest = (500 * 3.5e-9 + 160 * 8.4e-9) / 10
    assert pace.busiest == "conv1"
    assert pace.step == pytest.approx((busiest + 113e-9, busiest + 465e-9), rel=1e-12, abs=0)
    assert pace.latency == pytest.approx(tuple(one * (3 + 5) for one in pace.step), rel=1e-12, abs=0)
    assert pace.static == pytest.approx(tuple(104e-3 * one * 5 for one in pace.step), rel=1e-12, abs=0)


def test_the_literatures_formula_by_hand() -> None:
    twin = build_report(toy(), load_chip("loihi2"), COUNTS).twin
    assert twin.first_macs == 200
    assert twin.synops == (40 + 90 + 120) / 2
    assert twin.once == pytest.approx(4.6e-12 * 200 + 0.9e-12 * 125, rel=1e-12, abs=0)
    assert twin.every_step == pytest.approx(4.6e-12 * 200 * 5 + 0.9e-12 * 125, rel=1e-12, abs=0)
    # Both dense projections weight one sum.
    assert twin.macs == 200 + 96
    assert twin.fp32 == pytest.approx(4.6e-12 * 296, rel=1e-12, abs=0)
    assert twin.int8 == pytest.approx(0.23e-12 * 296, rel=1e-12, abs=0)


def test_other_hardware_by_hand() -> None:
    others = {one.constants: one for one in build_report(toy(), load_chip("loihi2"), COUNTS).others}
    assert set(others) == {"truenorth", "spinnaker1", "spinnaker2"}
    assert others["spinnaker2"].energy.total == pytest.approx(
        (1250 * 450e-12 + 350 * 2.19e-9) / 2, rel=1e-12, abs=0
    )
    truenorth = others["truenorth"]
    assert truenorth.energy.total == pytest.approx(1250 * 2.3e-12 / 2, rel=1e-12, abs=0)
    assert truenorth.pace.static == pytest.approx((5 * 64.4e-6, 5 * 64.4e-6), rel=1e-12, abs=0)


def test_frady_2020_against_the_two_loihi_sets() -> None:
    """Table 2 of Frady et al. 2020: 1.33 mJ per query measured, 51.2 to 57.6 M synops, 4.6 M updates."""
    davies, sanafe = (load_chip("loihi1").energy_set(name) for name in ("davies2018", "sanafe2025"))

    for constants, synop in ((davies, "synop"), (sanafe, "synop_dense")):
        update = 4.6e6 * constants.joules("update_idle")
        ends = (synops * constants.joules(synop) + update for synops in (51.2e6, 57.6e6))
        low, high = (100 * (joules / 1.33e-3 - 1) for joules in ends)
        assert f"{low:.0f} to {high:.0f} % too high" in constants.known_error


def test_scalars_for_experiment_trackers() -> None:
    report = build_report(toy(), load_chip("loihi2"), COUNTS)
    found = report.scalars()
    assert report.total.activity is not None
    assert found["nmc/energy_J"] == report.total.activity.energy.total
    assert found["nmc/rate/conv1"] == 40 / (32 * 5 * 2)
    assert (found["nmc/cores"], found["nmc/latency_steps"]) == (4, 8)
    assert "nmc/accuracy" not in found
    assert all(type(value) is float for value in found.values())
    assert "nmc/energy_J" not in build_report(toy(), load_chip("loihi2")).scalars()


def test_an_estimate_with_another_chips_constants_says_so() -> None:
    borrowed = build_report(toy(), load_chip("loihi2"), COUNTS)
    network = toy()
    binary = tuple(dataclasses.replace(one, max_payload=1) for one in network.populations)
    native = network.with_(
        chip="loihi1", populations=binary, mapping=Mapping("loihi1", network.mapping.tiles)
    )
    own = build_report(native, load_chip("loihi1"), COUNTS)
    assert any("no joules per event are public for loihi2" in text for text in borrowed.assumptions)
    assert not any("public" in text for text in own.assumptions)


def test_unknown_constants_are_refused_by_name() -> None:
    with pytest.raises(NmcError, match="davies2018") as caught:
        build_report(toy(), load_chip("loihi2"), COUNTS, constants="davies")
    assert caught.value.code == "NMC-U03"


def test_a_chip_without_constants_prices_nothing_and_says_so() -> None:
    chip = dataclasses.replace(load_chip("loihi2"), energy=())
    report = build_report(toy(), chip, COUNTS)
    assert report.total.activity.energy.total == 0.0
    assert {"neuron updates (no update_active in none)", "spikes sent (no spike in none)"} <= set(
        report.unpriced
    )


def test_an_input_that_the_host_computes_sends_no_events() -> None:
    network = toy()
    first, *rest = network.projections
    network = network.with_(
        stage=Stage.QUANTIZED, mapping=None, projections=(dataclasses.replace(first, on_host=True), *rest)
    )
    counts = dataclasses.replace(
        COUNTS, synops={**COUNTS.synops, "w1": 0}, host_macs={**COUNTS.host_macs, "w1": 200}
    )
    report = build_report(network, load_chip("loihi2"), counts)
    assert row_of(report, "in").activity.spikes == 0
    assert row_of(report, "a").activity.host_macs == 200
    assert row_of(report, "a").synapses == 0
    assert row_of(report, "a").cores is None
    assert any("host" in text for text in report.unpriced)


def test_tied_weights_count_where_they_come_first() -> None:
    network = toy()
    tied = Population("b", (3,), neuron(None), None, 1, 3, ("tied",))
    again = Projection("w4", "a", "b", Dense(), network.projections[-1].weight, delay=1)
    network = network.with_(
        stage=Stage.QUANTIZED,
        mapping=None,
        populations=(*network.populations, tied),
        projections=(*network.projections, again),
    )
    report = build_report(network, load_chip("loihi2"))
    assert [row.parameters for row in report.rows[-2:]] == [96, 0]
    assert report.total.parameters == 116


def test_layers_of_one_name_stay_apart() -> None:
    network = toy()
    populations = tuple(
        dataclasses.replace(one, origin=("conv1",)) if one.name == "r" else one for one in network.populations
    )
    report = build_report(network.with_(populations=populations), load_chip("loihi2"))
    assert [row.name for row in report.rows] == ["input", "conv1 [a]", "conv1 [r]", "fc"]


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (neuron(), "IF"),
        (neuron(dv=100), "LIF"),
        (neuron(du=100), "CUBA"),
        (neuron(None), "readout"),
        (GradedRelay(), "relay"),
        (InputNeuron(Encoding.CURRENT), "input (current)"),
    ],
)
def test_kinds(model: object, kind: str) -> None:
    network = toy()
    assert kind_of(network, dataclasses.replace(network["a"], neuron=model)) == kind


@pytest.mark.parametrize(("keep_v", "kind"), [(1.0, "IF, soft reset"), (0.5, "LIF, soft reset")])
def test_soft_resets_by_synapses_are_called_that(keep_v: float, kind: str) -> None:
    network = gen.quantize(timing.balance(features.looped_reset(keep_v)(), 62))
    kinds = {row.population: row.kind for row in build_report(network, load_chip("loihi2")).rows}
    assert (kinds["cell"], kinds["cell.clock"]) == (kind, "clock")


@pytest.mark.parametrize("seed", range(20))
def test_rows_add_up_to_the_counts_of_a_run(seed: int) -> None:
    steps = 4
    network = gen.quantize(timing.balance(gen.float_network(seed, steps), 62))
    chip = load_chip("lava-cpu")
    network = partition(network, chip)
    trace = ReferenceEngine().run(network, gen.stimulus(network, 2, steps, seed), steps)
    report = build_report(network, chip, trace.counts)
    total = report.total.activity
    for name in ("grades", "synops", "graded_synops", "updates", "spikes"):
        counted = sum(getattr(trace.counts, name).values())
        assert getattr(total, name) == counted == sum(getattr(row.activity, name) for row in report.rows), (
            name
        )
    for name in ("neurons", "parameters", "synapses", "cores", "memory_bits"):
        assert getattr(report.total, name) == sum(getattr(row, name) or 0 for row in report.rows), name
    assert report.total.cores == network.mapping.cores_used
    for term in ("synapse", "update", "spike", "total"):
        added = math.fsum(getattr(row.activity.energy, term) for row in report.rows)
        assert getattr(total.energy, term) == added, term


def test_energy_follows_the_spikes() -> None:
    """Silent input costs updates only; the more events, the more energy."""
    steps = 4
    network = gen.quantize(timing.balance(gen.float_network(3, steps), 62))
    populations = tuple(
        dataclasses.replace(
            one, bias=None if one.bias is None else dataclasses.replace(one.bias, mant=one.bias.mant * 0)
        )
        for one in network.populations
    )
    network = network.with_(populations=populations)
    x = np.ones_like(gen.stimulus(network, 2, steps, 3))
    engine, chip = ReferenceEngine(), load_chip("loihi1")
    energies = []
    for stimulus in (x * 0, np.where(np.arange(x.size).reshape(x.shape) % 3, 0, x), x):
        counts = engine.run(network, stimulus, steps).counts
        energies.append(
            (sum(counts.synops.values()), build_report(network, chip, counts).total.activity.energy)
        )
    synops = [events for events, _ in energies]
    assert synops[0] == 0
    assert synops == sorted(set(synops))
    for events, energy in energies:
        assert energy.synapse == pytest.approx(events * 23.6e-12 / 2, rel=1e-9)
    updates = {energy.update for _, energy in energies}
    assert len(updates) == 1
