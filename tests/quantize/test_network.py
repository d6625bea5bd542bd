"""The quantization pass as a whole: spikes kept, scales shared, ranges proven, bad data refused."""

from __future__ import annotations

from dataclasses import replace

import gen
import numpy as np
import pytest

from nmc import timing
from nmc.backends import encode
from nmc.backends.sim.reference import ReferenceEngine
from nmc.errors import NmcError
from nmc.frontend.float_network import run_network
from nmc.ir import (
    Conv2d,
    Dense,
    Encoding,
    Fixed,
    FloatNeuron,
    InputNeuron,
    Network,
    Population,
    Projection,
    Stage,
    frozen,
)
from nmc.quantize import calibrate, inputs, ranges, weights
from nmc.quantize.network import Quantizer
from nmc.quantize.precision import Precision
from nmc.rules import verify

STEPS = 8


def small(
    weight: np.ndarray | None = None,
    *,
    bias: float | None = 0.11,
    threshold: float | None = 1.0,
    keep_v: float = 1.0,
    seed: int = 0,
    steps: int = STEPS,
) -> Network:
    """Frames (2, 5, 5) -> conv -> dense; float numbers on no grid."""
    rng = np.random.default_rng(seed)
    conv = rng.normal(0, 0.2, (4, 2, 3, 3)) if weight is None else weight
    dense = rng.normal(0, 0.15, (3, 100))
    neuron = FloatNeuron(None if threshold is None else frozen(threshold, np.float64), keep_v=keep_v)
    offset = None if bias is None else frozen(np.full((4, 1, 1), bias), np.float64)
    populations = (
        Population("in", (2, 5, 5), InputNeuron(Encoding.GRADED), origin=("input",)),
        Population(
            "a", (4, 5, 5), FloatNeuron(frozen(1.0, np.float64), keep_v=keep_v), offset, origin=("conv1",)
        ),
        Population("b", (3,), neuron, origin=("fc",)),
    )
    projections = (
        Projection("in-a", "in", "a", Conv2d(padding=(1, 1)), frozen(conv, np.float64)),
        Projection("a-b", "a", "b", Dense(), frozen(dense, np.float64)),
    )
    readout = "count" if threshold is not None else "potential"
    return Network("small", Stage.FLOAT, populations, projections, ("b",), steps, readout)


def images(count: int = 20, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 17, (count, 2, 5, 5)) / 16


def quantized(
    network: Network, data: np.ndarray | None, bits: int = 8, *, host: bool = False, profiles: int | None = 1
) -> Network:
    if host:
        network = inputs.host_input(network)
    timed = timing.balance(network, 62)
    result = Quantizer(
        Precision(bits), None if data is None else calibrate.measure(timed, data), data, profiles
    )(timed)
    verify(result, Stage.QUANTIZED)
    ranges.prove(result)
    return result


def agreement(network: Network, integer: Network, x: np.ndarray) -> float:
    """Share of the hidden layer's spikes that the integers keep, step by step."""
    truth = run_network(network, x, STEPS, record=["a"])["a"]
    found = ReferenceEngine().run(integer, encode.encode(integer, x), STEPS, record=["a"]).spikes["a"]
    assert truth.sum() > 100
    return float((truth == found).mean())


@pytest.mark.parametrize("host", [False, True])
@pytest.mark.parametrize("keep_v", [1.0, 0.5])
def test_eight_bits_keep_nearly_every_spike(host: bool, keep_v: float) -> None:
    network, x = small(keep_v=keep_v), images()
    assert agreement(network, quantized(network, x, host=host), x) > 0.98


def test_fewer_bits_lose_more() -> None:
    network, x = small(), images()
    found = [agreement(network, quantized(network, x, bits), x) for bits in (2, 4, 8)]
    assert found[0] < found[1] < found[2]


@pytest.mark.parametrize("keep_v", [1.0, 0.5, 0.0])
def test_what_no_decay_field_holds_is_noted_layer_by_layer(keep_v: float) -> None:
    """Both layers, by the user's names, after what earlier passes noted."""
    network = small(keep_v=keep_v).with_(notes=("first",))
    first, *found = quantized(network, images()).notes
    assert first == "first"
    assert [note.split(":")[0] for note in found] == (["conv1", "fc"] if keep_v == 0.0 else [])


def test_weights_on_the_grid_are_kept_exactly() -> None:
    """Even integer weights up to 254 with a whole threshold need no rounding at all."""
    rng = np.random.default_rng(1)
    weight = 2.0 * rng.integers(-127, 128, (4, 2, 3, 3))
    weight[0, 0, 0, 0] = 254
    network = small(weight / 254, bias=None)
    result = quantized(network, images())
    assert np.array_equal(result.projections[0].integer_weight, weight.astype(int))
    # Frames carry sixteenths, so theta = 1 is 16 * 254 weight units; ">=" is one unit less, strictly.
    assert result["a"].neuron.vth.mant == 16 * 254 - 1


def test_projections_of_one_population_share_a_scale_and_an_array() -> None:
    network = small()
    source = replace(network["a"], name="a2")
    shared = network.projections[1].weight
    twice = network.with_(
        populations=(*network.populations[:2], source, network["b"]),
        projections=(
            *network.projections,
            Projection("in-a2", "in", "a2", Conv2d(padding=(1, 1)), network.projections[0].weight),
            Projection("a2-b", "a2", "b", Dense(), shared),
        ),
    )
    result = quantized(twice, images())
    into_b = [p for p in result.projections if p.target == "b"]
    assert into_b[0].weight is into_b[1].weight


def test_calibration_data_move_the_clip() -> None:
    """One huge weight on an input that is never used: with data it is clipped, without it rules the scale."""
    rng = np.random.default_rng(3)
    weight = rng.normal(0, 0.1, (4, 2, 3, 3))
    weight[0, 1, 1, 1] = 1.0
    x = images()
    x[:, 1] = 0
    network = small(weight)
    blind = quantized(network, None).projections[0].weight
    seeing = quantized(network, x).projections[0].weight
    assert isinstance(blind, Fixed)
    assert isinstance(seeing, Fixed)
    ordinary = (slice(None), 0)
    assert np.abs(seeing.mant[ordinary]).max() > 1.5 * np.abs(blind.mant[ordinary]).max()


def test_the_same_network_quantizes_to_the_same_numbers_twice() -> None:
    network, x = small(), images()
    before = [p.weight.copy() for p in network.projections]
    one, two = quantized(network, x), quantized(network, x)
    for a, b in zip(one.projections, two.projections, strict=True):
        assert np.array_equal(a.weight.mant, b.weight.mant)
    assert all(np.array_equal(p.weight, w) for p, w in zip(network.projections, before, strict=True))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((0, 2, 5, 5)), "no calibration sample"),
        (np.zeros((3, 2, 5, 4)), r"shape \(3, 2, 5, 4\), expected \(N, 2, 5, 5\)"),
        (np.full((3, 2, 5, 5), np.nan), "150 values are not finite"),
        (np.zeros((3, 2, 5, 5)), "every value is 0"),
        (np.full((3, 2, 5, 5), 0.25), "every value is 0.25"),
        (images(3) * 1e-9, "no neuron fires"),
    ],
)
def test_bad_calibration_data_are_refused(data: np.ndarray, message: str) -> None:
    with pytest.raises(NmcError, match=f"NMC-D03.*({message})"):
        quantized(small(bias=None), data)


def test_a_readout_is_proven_for_its_steps_and_refused_beyond() -> None:
    result = quantized(small(threshold=None), images())
    with pytest.raises(NmcError, match=r"NMC-Q01 fc: readout potential after 100000 steps"):
        ranges.prove(result.with_(steps=100000))


def test_no_input_leaves_the_proven_bounds() -> None:
    """Adversarial frames: for single neurons, the input that drives them hardest either way."""
    for seed in range(6):
        network = gen.quantize(timing.balance(gen.float_network(seed, STEPS), 62))
        bounds = {item.population: item for item in ranges.prove(network)}
        x = np.concatenate([gen.stimulus(network, 6, STEPS, s) for s in range(4)])
        x[0], x[1] = network.inputs[0].neuron.highest, 0
        names = [p.name for p in network.compute]
        trace = ReferenceEngine().run(network, x, STEPS, record=names)
        for name in names:
            for kind in ("u", "v"):
                values, (low, high) = getattr(trace, kind)[name], getattr(bounds[name], kind)
                assert low <= values.min() <= values.max() <= high, (seed, name, kind)


def test_a_planted_overflow_is_refused_with_the_layer_and_both_numbers() -> None:
    result = quantized(small(), images())
    loud = replace(result.projections[0], weight=Fixed(np.full((4, 2, 3, 3), 127), 5, 8, True))
    with pytest.raises(
        NmcError, match=r"NMC-Q01 conv1: synaptic current u can reach [\d,]+, the chip holds 8,388,607"
    ):
        ranges.prove(result.with_(projections=(loud, result.projections[1])))


def test_a_threshold_far_below_what_the_host_writes_is_refused() -> None:
    """It must be one weight unit at least, so that the bias leaves its field."""
    tiny = small()
    _, hidden, _ = tiny.populations
    cell = replace(hidden.neuron, threshold=frozen(1e-6, np.float64))
    tiny = tiny.with_(populations=tiny.map_populations({hidden.name: replace(hidden, neuron=cell)}))
    message = r"NMC-Q01 conv1: a bias of [\d,]+ v units from the host .*, the chip holds 524,160; train"
    with pytest.raises(NmcError, match=message):
        quantized(tiny, images(), host=True)


def test_a_threshold_of_zero_limits_nothing() -> None:
    network = small(threshold=0.0, keep_v=0.9)
    with np.errstate(all="raise"):
        assert quantized(network, images())["b"].neuron.vth.mant.max() == 0


def test_weights_of_every_width_stay_on_lavas_grid() -> None:
    """As Lava truncates them: ``(clip(w, -256, 255) >> (9 - bits)) << (9 - bits)`` changes nothing."""
    rng = np.random.default_rng(0)
    for bits in range(1, 9):
        mixed = weights.Grid.coarsest(bits)
        value = weights.to_grid(rng.normal(0, 100, 500), np.ones(1), mixed).value
        assert np.array_equal((np.clip(value, -256, 255) >> (9 - bits)) << (9 - bits), value)
        assert len(np.unique(value)) <= 2**bits
        positive = np.abs(rng.normal(0, 100, 500))
        value = weights.to_grid(positive, np.ones(1), mixed.of(positive)).value
        assert np.array_equal((np.clip(value, 0, 255) >> (8 - bits)) << (8 - bits), value)
        assert 1 < len(np.unique(value)) <= 2**bits


def test_a_clip_is_chosen_from_a_part_of_a_large_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearly the clip that all weights would choose; convolutions and small matrices are looked at whole."""
    rng = np.random.default_rng(0)
    weight, mean = rng.normal(0, 1, (4, 20000)), rng.random((1, 20000))
    source = weights.Source(weight, mean, mean * (1 - mean))
    grid, limit = weights.Grid.coarsest(3), np.full(1, 1e9)
    whole = weights.best_scale([source], grid, limit, "fc", per_channel=False)
    assert source.thinned() is source
    monkeypatch.setattr(weights, "MOST", 8000)
    assert source.thinned().weight.shape == (4, 2000)
    part = weights.best_scale([source], grid, limit, "fc", per_channel=False)
    lost = [float(weights.output_error(source, scale, grid).sum()) for scale in (whole, part)]
    assert lost[0] <= lost[1] < 1.1 * lost[0]


@pytest.mark.parametrize("factor", [0.0, 1e-300, 1e-9])
def test_weights_that_all_round_to_zero_are_refused(factor: float) -> None:
    network = small(factor * np.ones((4, 2, 3, 3)))
    with pytest.raises(NmcError, match=r"NMC-Q02 conv1: all of its weights round to 0: the largest is"):
        quantized(network, None)
