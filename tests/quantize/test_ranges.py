"""No network that the proof accepts leaves its bounds, however inputs are searched; wrong ones are caught."""

from __future__ import annotations

from dataclasses import replace

import gen
import numpy as np
import pytest
import quantnet

from nmc import timing
from nmc.backends import encode
from nmc.backends.sim.reference import ReferenceEngine
from nmc.chip import load_chip
from nmc.errors import NmcError
from nmc.frontend.float_network import run_network
from nmc.ir import (
    Conv2d,
    Dense,
    Encoding,
    Fixed,
    FixedNeuron,
    FloatNeuron,
    GradedRelay,
    Identity,
    InputNeuron,
    Network,
    Population,
    Projection,
    Stage,
    frozen,
)
from nmc.quantize import calibrate, inputs, ranges, rounding
from nmc.quantize.network import Quantizer
from nmc.quantize.precision import Precision
from nmc.quantize.ranges import Range
from nmc.rules import verify

STEPS = 6
NETWORKS = 100
GENERATIONS = 5
POOL = 6
FULL = Fixed(np.array(4095), 0, 12, signed=False)
"""A decay that keeps nothing."""


def searched(network: Network, goal: str, seed: int) -> list[np.ndarray]:
    """Inputs of ``GENERATIONS`` runs, each bred from those that drove u or v of ``goal`` furthest."""
    rng = np.random.default_rng(seed)
    neuron = network.inputs[0].neuron
    x = gen.stimulus(network, POOL, STEPS, seed)
    x[0], x[1] = neuron.highest, min(0, neuron.lowest)
    runs = [x]
    for _ in range(GENERATIONS - 1):
        trace = ReferenceEngine().run(network, x, STEPS, [goal])
        reach = np.maximum(*(np.abs(state[goal]).reshape(len(x), -1).max(1) for state in (trace.u, trace.v)))
        best = x[np.argsort(-reach)[:2]]
        children = np.repeat(best, POOL // 2, axis=0)
        changed = rng.random(children.shape) < 0.1
        x = np.where(changed, rng.integers(neuron.lowest, neuron.highest + 1, children.shape), children)
        x[0] = best[0]
        runs.append(x)
    return runs


def left(network: Network, bounds: tuple[Range, ...], x: np.ndarray) -> list[str]:
    """Populations whose u or v left the bounds."""
    names = [population.name for population in network.compute]
    trace = ReferenceEngine().run(network, x, STEPS, names)
    wrong = []
    for item in bounds:
        for kind in ("u", "v"):
            values, (low, high) = getattr(trace, kind)[item.population], getattr(item, kind)
            if values.min() < low or values.max() > high:
                wrong.append(item.population)
    return wrong


def test_five_hundred_adversarial_runs_stay_within_the_bounds() -> None:
    runs = 0
    for seed in range(NETWORKS):
        network = gen.quantize(timing.balance(gen.float_network(seed, STEPS), 62))
        bounds = ranges.prove(network)
        goals = [p.name for p in network.compute if hasattr(p.neuron, "vth")]
        for x in searched(network, goals[seed % len(goals)], seed):
            assert left(network, bounds, x) == [], seed
            runs += 1
    assert runs == 500


def test_the_search_comes_close_to_the_bounds() -> None:
    """A proof that allowed for much more than can happen would refuse networks for nothing."""
    network = gen.quantize(timing.balance(gen.float_network(3, STEPS), 62))
    bounds = {item.population: item for item in ranges.prove(network)}
    first = network.projections[0].target
    worst = max(
        int(np.abs(ReferenceEngine().run(network, x, STEPS, [first]).u[first]).max())
        for x in searched(network, first, 0)
    )
    assert worst > 0.3 * max(map(abs, bounds[first].u))


@pytest.mark.parametrize("kind", ["u", "v"])
def test_a_planted_wrong_bound_is_caught(kind: str) -> None:
    """Bounds of half the size do not survive the same search, in nearly every network."""
    caught = 0
    for seed in range(12):
        network = gen.quantize(timing.balance(gen.float_network(seed, STEPS), 62))
        halved = tuple(
            replace(item, **{kind: tuple(value // 4 for value in getattr(item, kind))})
            for item in ranges.prove(network)
        )
        first = network.projections[0].target
        caught += any(left(network, halved, x) for x in searched(network, first, seed))
    assert caught >= 10


# --- rescaling --------------------------------------------------------------------------------------


def wide(kernel: int, channels: int, outputs: int = 4) -> Network:
    """8-bit images into wide kernels: whole weights times whole payloads exceed what u holds."""
    rng = np.random.default_rng(0)
    weight = rng.normal(0, 1, (outputs, channels, kernel, kernel)) / kernel
    shape = (channels, kernel + 1, kernel + 1)
    populations = (
        Population("in", shape, InputNeuron(Encoding.GRADED), origin=("input",)),
        Population("a", (outputs, 2, 2), FloatNeuron(frozen(1.0, np.float64)), origin=("conv",)),
    )
    projections = (Projection("p", "in", "a", Conv2d(), frozen(weight, np.float64)),)
    return Network("wide", Stage.FLOAT, populations, projections, ("a",), 4)


def pictures(channels: int, size: int, count: int = 12) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, channels, size, size)) / 255


def quantized(network: Network, x: np.ndarray | None, bits: int) -> Network:
    timed = timing.balance(network, 62)
    statistics = None if x is None else calibrate.measure(timed, x)
    result = Quantizer(Precision(bits), statistics, x)(timed)
    verify(result, Stage.QUANTIZED)
    ranges.prove(result)
    return result


@pytest.mark.parametrize("bits", [8, 5, 3, 2])
@pytest.mark.parametrize("known", [True, False])
def test_large_payloads_times_wide_kernels_are_rescaled_until_the_proof_holds(bits: int, known: bool) -> None:
    network, x = wide(11, 8), pictures(8, 12)
    result = quantized(network, x if known else None, bits)
    assert max(map(abs, ranges.prove(result)[0].u)) <= 1 << 23


def missed(integer: Network, x: np.ndarray, truth: np.ndarray) -> float:
    """Share of the current's variance that the integers miss."""
    found = ReferenceEngine().run(integer, encode.encode(integer, x), 4, ["a"]).u["a"][:, 0]
    return 1 - float(np.corrcoef(truth.reshape(-1), found.reshape(-1))[0, 1]) ** 2


def test_the_split_between_payload_and_weight_bits_loses_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """968 inputs of 8 bits leave a weight about 1 bit; coarser pixels and finer weights follow the float."""
    network, x = wide(11, 8), pictures(8, 12)
    timed = timing.balance(network, 62)
    truth = run_network(timed, x, 4, ["current/a"])["current/a"][:, 0]

    split = quantized(network, x, 8)
    assert split.inputs[0].neuron.highest < 255
    assert missed(split, x, truth) < 0.05
    monkeypatch.setattr(inputs, "COARSER_LEVELS", ())
    assert missed(quantized(network, x, 8), x, truth) > 2 * missed(split, x, truth)


def averaging(steps: int) -> tuple[Network, np.ndarray]:
    """A readout of the mean of 32 maps of 16 x 16 pixels: a fan-in that 8-bit weights would overflow."""
    rng = np.random.default_rng(0)
    shape = (32, 16, 16)
    weight = np.repeat(rng.normal(0, 1 / 256, (5, 32)), 256, axis=1)
    populations = (
        Population("in", shape, InputNeuron(Encoding.SPIKES), origin=("input",), max_payload=3),
        Population("a", (5,), FloatNeuron(None), origin=("fc",)),
    )
    projections = (Projection("p", "in", "a", Dense(), frozen(weight, np.float64)),)
    x = rng.integers(0, 4, (12, steps, 1, 1, 1)) * (rng.random((12, steps, *shape)) < rng.random((32, 1, 1)))
    network = Network("averaging", Stage.FLOAT, populations, projections, ("a",), steps, "potential")
    return network, x.astype(np.float64)


def test_a_wide_mean_keeps_its_resolution_by_uneven_rounding() -> None:
    """Half a grid step everywhere, 24,576 spikes, 8 steps: v could not hold what nearest rounding may add.

    Pixels of one map vary together, so rounding some up and others down gives the map's weight.
    """
    network, x = averaging(8)
    result = quantized(network, x, 8)
    weight = result.projections[0].integer_weight.reshape(5, 32, 256)
    assert 8 * 3 * 64 * weight[0].size > 1.4 * (1 << 23)
    assert (weight.min(axis=2) != weight.max(axis=2)).mean() > 0.5
    trace = ReferenceEngine().run(result, encode.encode(result, x), 8, ["a"])
    found = trace.output
    truth = run_network(timing.balance(network, 62), x, 8)["output/a"]
    assert np.corrcoef(truth.reshape(-1), found.reshape(-1))[0, 1] > 0.999


@pytest.mark.parametrize(("profiles", "most"), [(2, 2), (None, 6)])
def test_rescaled_channels_keep_their_threshold_profiles(
    profiles: int | None, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounding that makes every channel reach further than planned, each by another factor."""
    factors = np.linspace(1.1, 1.6, 6).reshape(-1, 1, 1, 1)

    def larger(weight: np.ndarray, groups: int, seen: list, lowest: int, highest: int) -> np.ndarray:
        return np.clip(np.rint(weight * factors), lowest, highest).astype(np.int64)

    monkeypatch.setattr(inputs, "COARSER_LEVELS", ())
    monkeypatch.setattr(rounding, "adaptive", larger)
    network, x = wide(11, 8, outputs=6), pictures(8, 12)
    timed = timing.balance(network, 62)
    result = Quantizer(Precision(8, "channel"), calibrate.measure(timed, x), x, profiles)(timed)
    ranges.prove(result)
    found = len(np.unique(result["a"].neuron.vth.mant))
    assert (found <= most) if profiles else (found == most)


def test_where_no_weight_is_left_the_layer_is_refused() -> None:
    network, x = averaging(8)
    loud = network.with_(
        populations=(replace(network["in"], max_payload=1 << 15), network["a"]),
    )
    with pytest.raises(
        NmcError, match=r"NMC-Q01 fc: even weights of one unit can reach [\d,]+, the chip holds"
    ):
        quantized(loud, x, 8)


def test_the_split_is_better_than_full_payloads_with_coarse_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    network, x = wide(5, 4), pictures(4, 6)
    timed = timing.balance(network, 62)
    truth = run_network(timed, x, 4, ["current/a"])["current/a"][:, 0]
    split = missed(quantized(network, x, 8), x, truth)
    monkeypatch.setattr(inputs, "COARSER_LEVELS", ())
    finest = quantized(network, x, 8)
    assert finest.inputs[0].neuron.highest == 255
    assert split < 0.5 * missed(finest, x, truth)


def test_where_there_is_room_the_finest_grid_stays() -> None:
    x = np.rint(pictures(1, 4) * 15) / 15
    assert quantized(wide(3, 1), x, 8).inputs[0].neuron.highest == 15


def test_what_no_split_can_hold_is_refused_with_bound_and_limit() -> None:
    """A relay's payload is exact and cannot be made coarser."""
    network = gen.quantize(timing.balance(gen.float_network(0, STEPS), 62))
    loud = [
        replace(p, weight=Fixed(np.full(p.weight.mant.shape, 127), 12, 8, signed=True))
        for p in network.projections
    ]
    with pytest.raises(NmcError, match=r"NMC-Q01 .* can reach [\d,]+, the chip holds [\d,]+; use fewer"):
        ranges.prove(network.with_(projections=tuple(loud)))
    assert load_chip("loihi2").state_bits == 24


def host_written(mant: int, highest: int, shift: int) -> Network:
    """One neuron whose bias the host makes of one frame value."""
    bias = Fixed(np.array([3]), 0, 13, signed=True)
    weight = Fixed(np.array([[mant]]), 0, 24, signed=True)
    neuron = FixedNeuron(Fixed(np.array(1), 6, 17, signed=False), du=FULL, dv=FULL)
    populations = (
        Population("in", (1,), InputNeuron(Encoding.GRADED, highest=highest), level=0),
        Population("a", (1,), neuron, bias, level=0, origin=("conv1",)),
    )
    projection = Projection("in-a", "in", "a", Dense(), weight, on_host=True, host_shift=shift)
    return Network("host", Stage.QUANTIZED, populations, (projection,), ("a",), 1, "count")


def test_what_the_host_writes_is_bounded_as_it_is_rounded() -> None:
    """(5 x + 4) >> 3 and the bias of 3, exactly; x up to 7: 39 >> 3."""
    network = host_written(5, 7, 3)
    (item,) = ranges.prove(network)
    assert item.bias == (3, 3 + 4)
    frames = np.arange(8).reshape(-1, 1)
    written = encode.host_mantissas(network, network["a"], frames)
    assert (written.min(), written.max()) == item.bias
    assert written[:, 0].tolist() == [3 + (5 * x + 4) // 8 for x in range(8)]


def test_the_field_of_the_host_s_bias_is_filled_to_the_last_value() -> None:
    fits, over = (host_written(1, 4095 - 3 + more, 0) for more in (0, 1))
    assert ranges.prove(fits)[0].bias[1] == 4095
    with pytest.raises(NmcError, match=r"NMC-Q01 conv1: bias mantissa can reach 4,096, the chip holds 4,095"):
        ranges.prove(over)


@pytest.mark.parametrize("declared", [1 << 30, 100])
def test_a_relay_s_payload_may_reach_its_limit_and_no_more(declared: int) -> None:
    """24 bits signed at most (Lava's graded spikes), or what the population declares."""
    limit = min((1 << 23) - 1, declared)
    for highest in (limit, limit + 1):
        populations = (
            Population("in", (1,), InputNeuron(Encoding.GRADED, highest=highest), level=0),
            Population("r", (1,), GradedRelay(), max_payload=declared, level=1, origin=("add",)),
        )
        one = Fixed(np.array(1), 0, 8, signed=True)
        projection = Projection("in-r", "in", "r", Identity(), one)
        network = Network("relay", Stage.QUANTIZED, populations, (projection,), ("r",), 1, "count")
        if highest == limit:
            assert ranges.prove(network)[0].a == (0, limit)
        else:
            with pytest.raises(
                NmcError, match=f"NMC-Q01 add: payload can reach {limit + 1:,}, .* holds {limit:,}"
            ):
                ranges.prove(network)


def test_a_readout_over_many_steps_of_few_bits_fits() -> None:
    """Two bits on the coarsest grid are weights of 128; a finer grid leaves room for the sum over T."""
    for bits in (2, 3, 8):
        network = quantnet.network(threshold=None).with_(steps=64)
        x = quantnet.images()
        timed = timing.balance(network, 62)
        result = Quantizer(Precision(bits), calibrate.measure(timed, x), x)(timed)
        ranges.prove(result)
