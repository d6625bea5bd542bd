"""Soft resets as synapses of neurons onto themselves: the same spikes as the soft reset, on every engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import features
import gen
import numpy as np
import pytest

from nmc import neuron as spec
from nmc import timing
from nmc.backends.compare import compare
from nmc.backends.engines import engine
from nmc.backends.sim.reference import ReferenceEngine
from nmc.chip import load_chip
from nmc.errors import NmcError
from nmc.frontend.float_network import run_network
from nmc.ir import (
    Conv2d,
    Dense,
    Encoding,
    FixedNeuron,
    FloatNeuron,
    InputNeuron,
    Network,
    Population,
    Projection,
    Reset,
    Stage,
    frozen,
)
from nmc.passes import after_quantize, pipeline, run_passes
from nmc.quantize import calibrate, ranges, reset_loops
from nmc.quantize.network import Quantizer
from nmc.quantize.precision import Precision
from nmc.rules import verify

LOIHI2 = load_chip("loihi2")
STEPS = 8


def looped(network: Network) -> Network:
    made = reset_loops.reset_loops(network, LOIHI2)
    verify(made, Stage.QUANTIZED)
    return made


def soft(free: Network, keep_v: float | None = None) -> Network:
    """The network with soft resets everywhere; with ``keep_v`` no other decay, and biases and thresholds that
    are weights."""
    populations = []
    for population in free.populations:
        neuron, bias = population.neuron, population.bias
        if isinstance(neuron, FloatNeuron):
            neuron = replace(neuron, reset=Reset.SUBTRACT, keep_u=0.0)
            if keep_v is not None:
                theta = frozen(np.minimum(neuron.threshold, 254.0))
                neuron = replace(neuron, keep_v=keep_v, threshold=theta)
                bias = None if bias is None else frozen(2 * np.rint(np.clip(bias, -250, 250) / 2))
        populations.append(replace(population, neuron=neuron, bias=bias))
    return free.with_(populations=tuple(populations))


def quantized(seed: int, max_delay: int = 62, keep_v: float | None = None) -> Network:
    free = soft(gen.float_network(seed, STEPS, soft=True, cuba=False), keep_v=keep_v)
    return gen.quantize(timing.balance(free, max_delay))


# --- what it is ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep_v", [1.0, 0.5])
def test_it_is_the_network_that_was_written_by_hand(keep_v: float) -> None:
    stated = gen.quantize(timing.balance(features.looped_reset(keep_v)(), 62))
    given = gen.quantize(timing.balance(features.soft_reset(keep_v)(), 62))
    cell = given["cell"]
    started = replace(cell, neuron=replace(cell.neuron, v0=frozen(8 * 64, np.int64)))
    made = looped(given.with_(populations=given.map_populations({"cell": started})))
    assert [p.name for p in made.populations] == [p.name for p in stated.populations]
    for one, other in zip(made.compute, stated.compute, strict=True):
        assert (one.level, one.shape) == (other.level, other.shape)
        assert (one.neuron.reset, one.neuron.drop) == (Reset.ZERO, None)
        for field in ("vth", "du", "dv"):
            assert np.array_equal(getattr(one.neuron, field).mant, getattr(other.neuron, field).mant), field
        if one.bias is not None or other.bias is not None:
            assert np.array_equal(one.bias.value, other.bias.value)
    assert [(p.source, p.target, p.lag, p.delay) for p in made.projections] == [
        (p.source, p.target, p.lag, p.delay) for p in stated.projections
    ]
    for one, other in zip(made.projections, stated.projections, strict=True):
        assert np.array_equal(one.integer_weight, other.integer_weight)


@pytest.mark.parametrize("keep_v", [1.0, 0.75, 0.5])
def test_in_real_numbers_it_is_the_soft_reset(keep_v: float) -> None:
    """The derivation in the module's docstring, on numbers that binary fractions hold exactly."""
    x = np.random.default_rng(0).integers(0, 2, (20, 12, 1, 3, 3)).astype(float)
    wanted = run_network(features.soft_reset(keep_v)(), x, 12, ["cell"])
    found = run_network(features.looped_reset(keep_v, fields=False)(), x, 12, ["cell"])
    assert np.array_equal(found["cell"], wanted["cell"])
    assert 0.05 < wanted["cell"].mean() < 0.95


# --- the same spikes ------------------------------------------------------------------------------------


def unequal(given: Network, made: Network, x: np.ndarray) -> tuple[int, int, int]:
    """Spikes, counts and neurons of which the looped network has others."""
    names = [p.name for p in given.compute if isinstance(p.neuron, FixedNeuron)]
    wanted, found = (ReferenceEngine().run(one, x, given.steps, names).spikes for one in (given, made))
    spikes = sum(int((wanted[name] != found[name]).sum()) for name in names)
    counts = sum(int((wanted[name].sum(1) != found[name].sum(1)).sum()) for name in names)
    return spikes, counts, sum(wanted[name][:, 0].size for name in names)


def whole_networks() -> int:
    """Unequal spikes of small integrate-and-fire networks, where nothing comes near what is lost."""
    wrong = 0
    for seed in range(25):
        given = quantized(seed, keep_v=1.0)
        wrong += unequal(given, looped(given), gen.stimulus(given, 3, STEPS, seed))[0]
    return wrong


def test_integrate_and_fire_networks_lose_no_spike() -> None:
    assert whole_networks() == 0


def test_without_its_reserve_the_membrane_misses_ties(monkeypatch: pytest.MonkeyPatch) -> None:
    """The teeth: u loses 1/4096 a step, which is enough to miss a threshold that was met exactly."""
    monkeypatch.setattr(reset_loops, "_start", lambda v0, drop, steps: v0)
    assert whole_networks() > 0


def test_without_the_clock_or_the_loop_other_spikes_come() -> None:
    for gone in (".reset", ".clock.out"):
        wrong = 0
        for seed in range(5):
            given = quantized(seed, keep_v=1.0)
            made = looped(given)
            kept = tuple(
                p
                if not p.name.endswith(gone)
                else replace(p, weight=replace(p.weight, mant=0 * p.weight.mant))
                for p in made.projections
            )
            x = gen.stimulus(given, 3, STEPS, seed)
            wrong += unequal(given, made.with_(projections=kept), x)[0]
        assert wrong > 0, gone


@pytest.mark.parametrize("name", ["stepwise", "native", "torch", "lava-inprocess"])
def test_every_engine_gives_the_same_bits(name: str) -> None:
    if name.startswith("lava"):
        pytest.importorskip("lava")
    delayed = 0
    for seed in range(4 if name in ("torch", "lava-inprocess") else 15):
        network = looped(quantized(seed, (62, 0, 1)[seed % 3]))
        delayed += any(p.delay for p in network.projections)
        assert network.remembers
        x = gen.stimulus(network, 2, STEPS, seed)
        result = compare(network, x, STEPS, ReferenceEngine(), engine(name))
        assert result.passed, f"network {seed}: {result.first}"
    assert delayed


def test_between_the_tiles_of_two_cores() -> None:
    pytest.importorskip("lava")
    for seed in range(3):
        network = features.halved(looped(quantized(seed)))
        x = gen.stimulus(network, 2, STEPS, seed)
        result = compare(network, x, STEPS, ReferenceEngine(), engine("lava-tiles"))
        assert result.passed, f"network {seed}: {result.first}"


# --- what the quantizer does for it -----------------------------------------------------------------------


def layers(
    seed: int, keep_v: float = 1.0, steps: int = STEPS, channels: int = 6
) -> tuple[Network, np.ndarray]:
    """Two convolutions and a dense layer with random weights, biases and v0, and frames for them."""
    rng = np.random.default_rng(seed)

    def cell(theta: object = 1.0) -> FloatNeuron:
        return FloatNeuron(frozen(theta), keep_v=keep_v, reset=Reset.SUBTRACT, v0=frozen(0.5))

    per_channel = rng.uniform(0.7, 1.4, (channels, 1, 1))
    populations = (
        Population("in", (2, 6, 6), InputNeuron(Encoding.GRADED, 1 / 15, 0, 15), max_payload=15),
        Population("a", (channels, 6, 6), cell(), frozen(rng.normal(0, 0.1, (channels, 1, 1)))),
        Population("b", (channels, 3, 3), cell(per_channel), frozen(rng.normal(0, 0.1, (channels, 3, 3)))),
        Population("c", (20,), cell(), frozen(rng.normal(0, 0.1, 20))),
        Population("out", (5,), FloatNeuron(None)),
    )
    weights = (
        rng.normal(0, 0.3, (channels, 2, 3, 3)),
        rng.normal(0, 0.3, (channels, channels, 3, 3)),
        rng.normal(0, 0.3, (20, 9 * channels)),
        rng.normal(0, 0.2, (5, 20)),
    )
    operators = (Conv2d(padding=(1, 1)), Conv2d((2, 2), (1, 1)), Dense(), Dense())
    names = [p.name for p in populations]
    projections = tuple(
        Projection(f"{a}-{b}", a, b, op, frozen(w))
        for a, b, op, w in zip(names[:-1], names[1:], operators, weights, strict=True)
    )
    free = Network("layers", Stage.FLOAT, populations, projections, ("out",), steps, readout="potential")
    return timing.balance(free, 62), rng.random((40, 2, 6, 6))


def by_quantizer(timed: Network, x: np.ndarray, granularity: str = "layer") -> Network:
    precision = Precision(8, granularity)  # type: ignore[arg-type]
    return Quantizer.for_chip(LOIHI2, precision, calibrate.measure(timed, x), x)(timed)


@pytest.mark.parametrize("granularity", ["layer", "channel"])
@pytest.mark.parametrize("keep_v", [1.0, 0.875])
def test_what_a_spike_subtracts_is_a_weight(keep_v: float, granularity: str) -> None:
    """So that threshold and weight are the same number, and nothing drifts."""
    timed, x = layers(1, keep_v)
    given = by_quantizer(timed, x, granularity)
    made = looped(given)
    ranges.prove(made)
    for name in ("a", "c") if granularity == "layer" else ("a", "b", "c"):
        own = next(p for p in made.projections if p.name == f"{name}.reset")
        wanted = given[name].neuron.drop * keep_v / 64
        assert np.allclose(-own.integer_weight, wanted, atol=1 / 32), name
        clock = next(p for p in made.projections if p.name == f"{name}.clock.out")
        if keep_v == 1:
            assert np.array_equal(made[name].neuron.vth.mant, given[name].neuron.vth.mant)
            bias = given[name].bias.value / 64
            assert np.array_equal(clock.integer_weight.reshape(-1), bias.reshape(-1)), name


def test_constant_currents_that_differ_from_neuron_to_neuron() -> None:
    """Layer b has a bias per neuron: a clock per neuron, one to one; mapped and run like any projection."""
    timed, x = layers(3)
    given = by_quantizer(timed, x)
    mapped = run_passes(given, after_quantize(pipeline(LOIHI2, None)))
    assert mapped["b.clock"].shape == mapped["b"].shape
    assert (mapped["a.clock"].shape, mapped["c.clock"].shape) == ((1, 6, 6), (1,))
    frames = np.rint(x[:4] * 15).astype(np.int64)
    for name in ("stepwise", "native", "torch", "lava-inprocess", "lava-tiles"):
        if name.startswith("lava"):
            pytest.importorskip("lava")
        result = compare(mapped, frames, STEPS, ReferenceEngine(), engine(name))
        assert result.passed, f"{name}: {result.first}"


@pytest.mark.parametrize(("keep_v", "most"), [(1.0, 0.005), (0.875, 0.01)])
def test_few_counts_differ_from_the_ideal_soft_reset(keep_v: float, most: float) -> None:
    """Trained-size weights: spikes may come a step earlier or later, and that goes on from layer to layer."""
    spikes = counts = neurons = 0
    for seed in range(3):
        timed, x = layers(seed, keep_v)
        given = by_quantizer(timed, x)
        grid = given.inputs[0].neuron
        frames = np.clip(np.rint(x / grid.scale), grid.lowest, grid.highest).astype(np.int64)
        found = unequal(given, looped(given), frames)
        spikes, counts, neurons = spikes + found[0], counts + found[1], neurons + found[2]
    print(f"keep_v {keep_v}: {spikes} spikes of {neurons * STEPS}, {counts} counts of {neurons} differ")
    assert counts < most * neurons


def test_what_u_adds_up_is_proven_over_all_steps() -> None:
    for steps in (4, 64):
        timed, x = layers(2, steps=steps)
        made = looped(by_quantizer(timed, x))
        ranges.prove(made)
    with pytest.raises(NmcError, match=r"NMC-Q01 .*synaptic current u can reach"):
        ranges.prove(made.with_(steps=4096))


def test_whole_networks_stay_within_what_is_proven() -> None:
    for seed in range(20):
        network = looped(quantized(seed, keep_v=(1.0, 0.75)[seed % 2]))
        bounds = {one.population: one for one in ranges.prove(network)}
        x = gen.stimulus(network, 6, STEPS, seed)
        x[0], x[1] = network.inputs[0].neuron.highest, network.inputs[0].neuron.lowest
        trace = ReferenceEngine().run(network, x, STEPS, list(bounds))
        for name, one in bounds.items():
            assert one.u[0] <= trace.u[name].min() <= trace.u[name].max() <= one.u[1], (seed, name)
            assert one.v[0] <= trace.v[name].min() <= trace.v[name].max() <= one.v[1], (seed, name)


@pytest.mark.parametrize("granularity", ["layer", "channel"])
@pytest.mark.parametrize(("keep_v", "steps"), [(1.0, 32), (1.0, 100), (0.9995, 64), (0.98, 64)])
def test_the_scale_leaves_little_of_u_unused(keep_v: float, steps: int, granularity: str) -> None:
    """What is planned before rounding is what is proven afterwards: nothing is refused, and hardly any bit is
    given away. Corrections of the bias and start values keep some of the rest."""
    timed, x = layers(4, keep_v, steps, channels=4)
    made = looped(by_quantizer(timed, x[:8], granularity))
    used = {one.population: max(map(abs, one.u)) for one in ranges.prove(made)}
    assert used["a"] > 0.6 * spec.U_FOLD


def test_a_threshold_that_is_no_weight_moves_together_with_what_is_subtracted() -> None:
    """Of a network that was quantized elsewhere."""
    given = quantized(3, keep_v=1.0)
    name = next(p.name for p in given.compute)
    neuron = given[name].neuron
    odd = replace(neuron, vth=replace(neuron.vth, mant=np.array(1000)), drop=frozen(1001 * 64, np.int64))
    made = looped(given.with_(populations=given.map_populations({name: replace(given[name], neuron=odd)})))
    own = next(p for p in made.projections if p.name == f"{name}.reset")
    assert (int(own.integer_weight), int(made[name].neuron.vth.mant)) == (-1000, 999)


# --- what is said, and what is refused ------------------------------------------------------------------


def test_the_note_names_the_layers_and_what_they_cost() -> None:
    given = gen.quantize(timing.balance(features.soft_reset(1.0)(), 62))
    single, costs = looped(given).notes
    assert "samples run one at a time" in single
    assert costs == (
        "soft reset of layer.cell by 18 synapses of neurons onto themselves, constant currents by 9 neurons"
        " that fire in every step"
    )
    assert looped(looped(given)).notes == looped(given).notes


def test_the_note_of_many_layers_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reset_loops, "NAMED", 2)
    assert "soft reset of a, b and 1 more layers by" in looped(by_quantizer(*layers(0))).notes[-1]


def test_chips_with_a_soft_reset_keep_it() -> None:
    given = quantized(0)
    assert reset_loops.reset_loops(given, load_chip("lava-cpu")) is given


def on_host(network: Network) -> Network:
    source = replace(network.inputs[0], neuron=InputNeuron(Encoding.CURRENT))
    first, *rest = network.projections
    return network.with_(
        populations=network.map_populations({source.name: source}),
        projections=(replace(first, on_host=True), *rest),
    )


def filtered(network: Network) -> Network:
    cell = network["cell"]
    du = replace(cell.neuron.du, mant=np.array(1024))
    return network.with_(
        populations=network.map_populations({"cell": replace(cell, neuron=replace(cell.neuron, du=du))})
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (filtered, "reset by subtract behind a synaptic filter, loihi2 has one state for both; train with"),
        (on_host, "reset by subtract where the host writes the input as bias: .*; give spike trains"),
    ],
)
def test_what_cannot_be_a_loop_is_refused(change: Callable[[Network], Network], says: str) -> None:
    given = gen.quantize(timing.balance(features.soft_reset(1.0)(), 62))
    with pytest.raises(NmcError, match=f"NMC-Q03 layer.cell: {says}"):
        looped(change(given))


def test_a_start_value_of_a_hard_reset_is_no_loop() -> None:
    assert not reset_loops.can_loop(FloatNeuron(frozen(1.0), v0=frozen(0.5)))
