"""Conversion against numbers worked out by hand, and against properties that must hold for every network."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from anns import block, chain, frames, residual, unit, value

from nmc.errors import NmcError
from nmc.frontend import opgraph as og
from nmc.frontend.conversion.activations import ClipFloor, plain
from nmc.frontend.conversion.method import METHODS, Method, named
from nmc.frontend.conversion.normal import normal_form
from nmc.frontend.conversion.spiking import fold_scales, with_neurons
from nmc.frontend.convert import convert
from nmc.frontend.float_engine import run
from nmc.frontend.float_network import run_network
from nmc.frontend.lower import lower
from nmc.ir import Encoding

STANDARD = (
    og.Input, og.Output, og.Conv2d, og.Linear, og.BatchNorm, og.Scale, og.Add, og.Sub, og.Concat,
    og.AvgPool, og.SumPool, og.Flatten, og.Neuron,
)  # fmt: skip


# --- rates ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 4, 7, 32])
def test_the_rate_of_one_unit_is_its_activation_within_one_spike(steps: int) -> None:
    snn = convert(unit(), np.array([[0.0], [2.0]]), steps, "max")
    x = np.linspace(-1, 2, 101)[:, None]
    error = value(snn, x, steps) - np.maximum(x, 0)
    # From v0 = 0 the count is rounded down, never up; 2.0 is one spike in every step.
    assert (error <= 1e-9).all()
    assert (error > -2.0 / steps - 1e-9).all()


@pytest.mark.parametrize("steps", [1, 2, 8])
def test_a_soft_reset_from_half_counts_exactly_the_rounded_activation(steps: int) -> None:
    snn = convert(unit(), np.array([[0.0], [2.0]]), steps, "max", v0=0.5)
    x = np.arange(-64, 161)[:, None] / 64
    expected = np.clip(np.floor(x * steps / 2.0 + 0.5), 0, steps)
    np.testing.assert_array_equal(value(snn, x, steps) * steps / 2.0, expected)


def test_a_hard_reset_fires_every_whole_number_of_steps() -> None:
    snn = convert(unit(), np.array([[0.0], [1.0]]), 12, "max", reset="hard")
    x = np.arange(1, 65)[:, None] / 64
    counts = np.rint(value(snn, x, 12) * 12)
    np.testing.assert_array_equal(counts, 12 // np.ceil(1 / x))


def test_qcfs_of_l_levels_is_exact_in_l_steps() -> None:
    graph = unit()
    graph = graph.with_(nodes={**graph.nodes, "relu": ClipFloor(og.constant([2.0]), 8).as_op()})
    x = np.arange(-40, 120)[:, None] / 32
    by_hand = 2.0 * np.clip(np.floor(x * 8 / 2.0 + 0.5) / 8, 0, 1)
    np.testing.assert_array_equal(value(plain(graph), x), by_hand)
    np.testing.assert_array_equal(value(convert(graph, x, 8, "max"), x, 8), by_hand)


def test_a_clip_without_levels_is_a_clipped_relu() -> None:
    graph = unit()
    graph = graph.with_(nodes={**graph.nodes, "relu": ClipFloor(og.constant([1.5])).as_op()})
    x = np.linspace(-1, 3, 41)[:, None]
    np.testing.assert_allclose(value(plain(graph), x), np.clip(x, 0, 1.5), atol=1e-12)


def test_an_unknown_clip_is_refused() -> None:
    with pytest.raises(NmcError, match="NMC-F04"):
        ClipFloor(og.constant([-1.0]), 4)
    with pytest.raises(NmcError, match="NMC-F04"):
        ClipFloor(og.constant([1.0]), 0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("choices", [{}, {"per_channel": True}, {"place": "thresholds"}, {"v0": 0.5}])
def test_long_runs_come_to_the_ann(seed: int, choices: dict) -> None:
    ann, x = residual(seed), frames(6, seed)
    target = value(ann, x)
    errors = []
    for steps in (16, 256):
        snn = convert(ann, x, steps, "max", **choices)
        errors.append(np.abs(value(snn, x, steps) - target).max() / np.abs(target).max())
    assert errors[1] < 0.05
    assert errors[1] < errors[0] / 4


# --- scales by hand ---------------------------------------------------------------------------------


def test_hus_shortcut_normalisation() -> None:
    # x = 2: relu0 = 2, relu1 = 3 * 2 + 6 = 12, relu3 = 0.5 * 12 - 1 + 2 = 7.
    snn = convert(block(), np.array([[2.0], [0.5]]), 4, "max")
    n = snn.nodes
    assert {n[name].threshold.item() for name in ("relu0", "relu1", "relu3")} == {1.0}
    np.testing.assert_allclose(n["fc0"].weight, [[1 / 2]])
    np.testing.assert_allclose(n["fc1"].weight, [[3 * 2 / 12]])
    np.testing.assert_allclose(n["fc1"].bias, [6 / 12])
    np.testing.assert_allclose(n["fc2"].weight, [[0.5 * 12 / 7]])
    np.testing.assert_allclose(n["fc2"].bias, [-1 / 7])
    (shortcut,) = snn.named(og.Scale)
    assert snn.before(shortcut) == ("relu0",)
    assert snn.after(shortcut) == ("add",)
    np.testing.assert_allclose(n[shortcut].factor, [2 / 7])
    np.testing.assert_allclose(n["last"].weight, [[10 * 7]])
    np.testing.assert_allclose(n["last"].bias, [7])


def test_without_hus_normalisation_the_shortcut_is_one() -> None:
    snn = convert(block(), np.array([[2.0], [0.5]]), 4, "max", shortcut=False)
    assert snn.named(og.Scale) == ()
    assert set(snn.before("add")) == {"fc2", "relu0"}
    np.testing.assert_allclose(snn.nodes["fc2"].weight, [[0.5 * 12 / 7]])


def test_the_shortcut_normalisation_is_what_makes_the_limit_right() -> None:
    ann, x = block(), np.array([[2.0], [0.5], [1.0]])
    right, wrong = (
        np.abs(value(convert(ann, x, 400, "max", shortcut=s), x, 400) - value(ann, x)).max()
        for s in (True, False)
    )
    assert right < 0.5
    assert wrong > 10


def test_scales_may_stay_in_the_thresholds() -> None:
    snn = convert(block(), np.array([[2.0], [0.5]]), 4, "max", place="thresholds", v0=0.5)
    n = snn.nodes
    thresholds = [n[name].threshold.item() for name in ("relu0", "relu1", "relu3")]
    assert thresholds == pytest.approx([2, 12, 7])
    assert [n[name].v0.item() for name in ("relu0", "relu1", "relu3")] == pytest.approx([1, 6, 3.5])
    np.testing.assert_allclose(n["fc1"].weight, [[3 * 2]])
    np.testing.assert_allclose(n["fc1"].bias, [6])
    np.testing.assert_allclose(n[snn.named(og.Scale)[0]].factor, [2])


def test_per_channel_scales_by_hand() -> None:
    ann = chain(
        ("in", og.Input((2,))),
        ("first", og.Linear([[1.0, 0.0], [0.0, 5.0]])),
        ("relu1", og.ReLU()),
        ("second", og.Linear([[1.0, 2.0], [3.0, -4.0]], [1.0, 1.0])),
        ("relu2", og.ReLU()),
        ("last", og.Linear([[1.0, 1.0]])),
        ("out", og.Output()),
    )
    # relu1 <= (4, 10); relu2 <= (1*4 + 2*10 + 1, 3*4 + 1) = (25, 13) from the samples below.
    data = np.array([[4.0, 2.0], [4.0, 0.0]])
    snn = convert(ann, data, 8, "max", per_channel=True)
    np.testing.assert_allclose(snn.nodes["first"].weight, [[1 / 4, 0], [0, 5 / 10]])
    np.testing.assert_allclose(
        snn.nodes["second"].weight, [[4 / 25, 2 * 10 / 25], [3 * 4 / 13, -4 * 10 / 13]]
    )
    np.testing.assert_allclose(snn.nodes["second"].bias, [1 / 25, 1 / 13])
    np.testing.assert_allclose(snn.nodes["last"].weight, [[25, 13]])


def test_edges_from_the_input_are_divided_too() -> None:
    nodes: dict[str, og.Op] = {
        "in": og.Input((2,)),
        "fc": og.Linear([[1.0, 1.0], [0.0, 2.0]]),
        "relu": og.ReLU(),
        "last": og.Linear([[1.0, 1.0]]),
        "out": og.Output(),
    }
    ann = og.OpGraph(nodes, (*itertools.pairwise(nodes), ("in", "relu")))
    # relu = in + fc: (1 + 3, 2 + 4) = (4, 6) at most.
    snn = convert(ann, np.array([[1.0, 2.0], [0.0, 0.0]]), 4, "max", per_channel=True)
    (scale,) = snn.named(og.Scale)
    assert snn.before(scale) == ("in",)
    np.testing.assert_allclose(snn.nodes[scale].factor, [1 / 4, 1 / 6])
    np.testing.assert_allclose(snn.nodes["fc"].weight, [[1 / 4, 1 / 4], [0, 2 / 6]])


def test_the_percentile_is_taken_of_positive_activations() -> None:
    data = np.concatenate([-np.ones(900), np.arange(1, 102)])[:, None]
    snn = convert(unit(), data, 4, "percentile", percentile=50.0, place="thresholds")
    # Half of the positive activations; every second sample is used.
    used = data[::2][data[::2] > 0]
    assert snn.nodes["relu"].threshold.item() == pytest.approx(np.median(used))


def test_a_sum_that_something_else_reads_keeps_its_units() -> None:
    """A pre-activation block: the stream itself is read by the next sum, so the threshold takes the scale."""
    nodes: dict[str, og.Op] = {
        "in": og.Input((1,)),
        "stem": og.Linear([[2.0]]),
        "relu": og.ReLU(),
        "fc": og.Linear([[-0.25]]),
        "add": og.Add(),
        "out": og.Output(),
    }
    edges = (("in", "stem"), ("stem", "relu"), ("relu", "fc"), ("fc", "add"), ("stem", "add"), ("add", "out"))
    ann = og.OpGraph(nodes, edges)
    snn = convert(ann, np.array([[1.5], [0.0]]), 8, "max")
    assert snn.nodes["relu"].threshold.item() == 3.0
    np.testing.assert_allclose(snn.nodes["stem"].weight, [[2.0]])
    x = np.array([[0.75], [-1.0]])
    np.testing.assert_allclose(value(snn, x, 8), value(ann, x))


# --- what conversion must not change ----------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_the_normal_form_computes_the_same(seed: int) -> None:
    ann, x = residual(seed), frames(5, seed)
    form = normal_form(ann, "gated").graph
    assert not form.named(og.BatchNorm)
    np.testing.assert_allclose(value(form, x), value(ann, x), rtol=0, atol=1e-9)


@pytest.mark.parametrize("place", ["weights", "thresholds"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_folding_scales_changes_no_spike(place: str, per_channel: bool) -> None:
    """With powers of two everything is exact, so the trains must be equal, not close."""
    ann, x = residual(3, dyadic=True), np.round(frames(4, 3) * 16) / 16
    form = normal_form(ann, "gated")
    rng = np.random.default_rng(5)
    scales = {
        name: og.constant(2.0 ** rng.integers(-2, 3, (ann.shapes[name][0] if per_channel else 1, 1, 1)))
        for name in ann.named(og.ReLU)
    }
    before = with_neurons(form, scales, Method(v0=0.5), 9)
    after = fold_scales(before, place)
    trains, folded = (run(g, x, 9) for g in (before, after))
    for name in ann.named(og.ReLU):
        assert before.nodes[name].threshold.size == (1 if not per_channel else ann.shapes[name][0])
        np.testing.assert_array_equal(trains.values[name], folded.values[name], err_msg=name)
        assert trains.values[name].any()
    np.testing.assert_array_equal(trains.output, folded.output)


@pytest.mark.parametrize("method", METHODS)
def test_only_standard_ops_are_left(method: str) -> None:
    snn = convert(residual(1), frames(6), 4, method)
    assert all(isinstance(op, STANDARD) for op in snn.nodes.values())
    assert {"stem.relu", "a.relu1", "a.relu2", "b.relu", "last.relu"} == set(snn.named(og.Neuron))
    assert snn.steps == 4


def test_the_callers_graph_is_not_changed() -> None:
    ann, data = residual(2), frames(6)
    nodes, edges, kept = dict(ann.nodes), ann.edges, data.copy()
    expected = value(ann, data)
    convert(ann, data, 4, "hard")
    assert dict(ann.nodes) == nodes
    assert ann.edges == edges
    np.testing.assert_array_equal(data, kept)
    np.testing.assert_array_equal(value(ann, data), expected)


@pytest.mark.parametrize("method", ["auto", "hard"])
def test_conversion_is_deterministic(method: str) -> None:
    one, two = (convert(residual(2), frames(40), 6, method) for _ in range(2))
    assert one.edges == two.edges
    for name, op in one.nodes.items():
        for field, values in vars(op).items():
            if isinstance(values, np.ndarray):
                assert values.tobytes() == getattr(two.nodes[name], field).tobytes(), name


@pytest.mark.parametrize("method", ["auto", "hard"])
def test_a_converted_network_lowers_to_the_same_spikes(method: str) -> None:
    ann, x = block(), np.array([[2.0], [0.5], [1.25]])
    snn = convert(ann, x, 6, method)
    network = lower(snn, 6, "distribute", Encoding.GRADED)
    names = ("relu0", "relu1", "relu3")
    trains, lowered = run(snn, x, 6).values, run_network(network, x, 6, names)
    for name in names:
        np.testing.assert_array_equal(trains[name], lowered[name])


# --- refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (np.zeros((0, 2, 6, 6)), "no calibration sample"),
        (np.zeros((4, 2, 6, 6)), "every value is 0"),
        (np.full((4, 2, 6, 6), 0.5), "every value is 0.5"),
        (frames(4, shape=(2, 6, 5)), r"expected frames \(N, 2, 6, 6\)"),
        (np.where(frames(4) > 0.99, np.nan, frames(4)), "not finite"),
        (np.where(frames(4) > 0.99, np.inf, frames(4)), "not finite"),
        (np.array(1.0), "no calibration sample"),
    ],
)
def test_bad_calibration_data_are_refused(data: np.ndarray, says: str) -> None:
    with pytest.raises(NmcError, match=says) as caught:
        convert(residual(0), data, 8)
    assert caught.value.code == "NMC-D03"


@pytest.mark.parametrize(
    ("op", "says"),
    [
        (og.Neuron(1.0), "already a spiking neuron"),
        (og.TimeMean(), "a mean over time"),
        (og.Mul(), "a product"),
    ],
)
def test_ops_that_rates_cannot_carry_are_refused(op: og.Op, says: str) -> None:
    ann = unit()
    nodes = {**ann.nodes, "odd": op}
    edges = [edge for edge in ann.edges if edge != ("relu", "last")] + [("relu", "odd"), ("odd", "last")]
    with pytest.raises(NmcError, match=f"NMC-G05 odd: {says}"):
        convert(og.OpGraph(nodes, tuple(edges)), np.array([[0.0], [1.0]]), 8)


def test_a_network_without_relu_is_refused() -> None:
    ann = chain(("in", og.Input((1,))), ("fc", og.Linear([[1.0]])), ("out", og.Output()))
    with pytest.raises(NmcError, match="NMC-G05 network: no ReLU"):
        convert(ann, np.array([[0.0], [1.0]]), 8)


def test_weights_that_are_not_finite_name_the_layer() -> None:
    with pytest.raises(NmcError, match="NMC-G04 relu: not finite"):
        convert(unit(np.nan), np.array([[0.0], [1.0]]), 8)


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        ({"steps": 0}, "NMC-U02 steps"),
        ({"method": "best"}, "NMC-U03 best: is no conversion method"),
        ({"colour": 1}, "NMC-U03 colour"),
        ({"percentile": 0.0}, "NMC-U02 percentile"),
        ({"percentile": 101.0}, "NMC-U02 percentile"),
        ({"v0": 1.5}, "NMC-U02 v0"),
        ({"reset": "firm"}, "NMC-U02 reset: is 'firm'; use one of soft, hard"),
    ],
)
def test_bad_choices_are_refused(kwargs: dict, says: str) -> None:
    with pytest.raises(NmcError, match=says):
        convert(unit(), np.array([[0.0], [1.0]]), **{"steps": 4, **kwargs})


def test_auto_follows_the_reset() -> None:
    assert named("auto", reset="hard") == METHODS["hard"]
    assert named("auto", reset="soft") == METHODS["auto"]
    assert named("hu", reset="hard").percentile == METHODS["hu"].percentile
