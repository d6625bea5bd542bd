"""The float engine by hand-computed values; its neurons are tested per framework in test_profiles."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from nmc.errors import InternalError, NmcError
from nmc.frontend import float_engine
from nmc.frontend import opgraph as og
from nmc.frontend.float_engine import run
from nmc.frontend.float_network import run_network
from nmc.frontend.lower import lower
from nmc.ir import Compare, Encoding, Fixed


def chain(source: tuple[int, ...], **nodes: og.Op) -> og.OpGraph:
    every = {"input": og.Input(source), **nodes, "output": og.Output()}
    return og.OpGraph(every, tuple(pairwise(every)))


def train(*values: float) -> np.ndarray:
    return np.array(values).reshape(1, -1, 1)


@pytest.mark.parametrize(
    ("neuron", "x", "expected"),
    [
        (og.Neuron(1.0), [0.5, 0.5, 0.5, 0.75], [0, 1, 0, 1]),
        (og.Neuron(1.0, compare=Compare.GREATER), [0.5, 0.5, 0.5, 0.75], [0, 0, 1, 0]),
        (og.Neuron(1.0, reset=og.ResetRule.SUBTRACT), [1.75, 0.5, 0, 0], [1, 1, 0, 0]),
        (og.Neuron(1.0, v_reset=-1.0), [1, 1, 1, 1], [1, 0, 1, 0]),
        (og.Neuron(1.0, v0=1.0), [0, 0], [1, 0]),
        (og.Neuron(1.0, keep_v=0.5, v_leak=2.0), [0, 0, 0], [1, 1, 1]),
        (og.Neuron(1.0, gain=0.5, w_in=0.5), [4, 3, 1], [1, 0, 1]),
        (og.Neuron(1.0, keep_u=0.5), [1, 0, 0, 0, 0], [1, 0, 0, 0, 0]),
        (og.Neuron(0.5, keep_u=0.5), [1, 0, 0, 0, 0], [1, 1, 0, 0, 0]),
        (og.Neuron(1.0, reset=og.ResetRule.SUBTRACT, multi_spike=True), [3.5, 0.5, -2], [3, 1, 0]),
        (og.Neuron(1.0, multi_spike=True), [3.5, 0.75, 0.5], [3, 0, 1]),
        # v: 2, then 0.5 * 2 + 0.5 - 1 = 0.5, then 0.25 + 1 = 1.25, then 0.625 + 0.5 - 1
        (og.Neuron(1.0, keep_v=0.5, reset=og.ResetRule.SUBTRACT_NEXT), [2, 0.5, 1, 0.5], [1, 0, 1, 0]),
        (og.Neuron(1.0, reset=og.ResetRule.BLANK_NEXT), [1, 9, 0.5, 0.5], [1, 0, 0, 1]),
    ],
)
def test_neurons(neuron, x, expected):
    got = run(chain((1,), n=neuron), train(*x), len(x)).values["n"][0, :, 0]
    np.testing.assert_array_equal(got, expected)


def test_a_readout_gives_its_potential():
    graph = chain((1,), n=og.Neuron(None, keep_v=0.5, gain=2.0, v_leak=1.0, v0=8.0))
    result = run(graph, train(1, 0), 2)
    np.testing.assert_array_equal(result.values["n"][0, :, 0], [6.5, 3.75])
    assert result.output == 3.75


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        (og.MaxPool((2, 2), (2, 2)), [[[5, 7], [13, 15]]]),
        (og.MaxPool((3, 3), (2, 2), (1, 1)), [[[5, 7], [13, 15]]]),
        (og.SumPool((2, 2), (2, 2)), [[[10, 18], [42, 50]]]),
        (og.AvgPool((2, 2), (2, 2)), [[[2.5, 4.5], [10.5, 12.5]]]),
        (og.AvgPool((2, 2), (4, 4), (1, 1)), [[[0.0, 0.75], [3.0, 3.75]]]),
        (og.ReLU(), np.arange(16.0).reshape(1, 4, 4)),
        (og.Scale([[[2.0]]]), 2 * np.arange(16.0).reshape(1, 4, 4)),
        (og.BatchNorm([8.0], [3.0], [2.0], [1.0], eps=1.0), np.arange(16.0).reshape(1, 4, 4) - 7),
        (og.Flatten(1), np.arange(16.0).reshape(1, 16)),
    ],
)
def test_ops(op, expected):
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    np.testing.assert_array_equal(run(chain((1, 4, 4), x=op), x, 1).output[0], expected)


def test_a_max_pool_of_negative_values_ignores_its_padding():
    x = -np.ones((1, 1, 4, 4))
    graph = chain((1, 4, 4), x=og.MaxPool((3, 3), (2, 2), (1, 1)))
    np.testing.assert_array_equal(run(graph, x, 1).output, -np.ones((1, 1, 2, 2)))


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        (og.Add(), [3 + 4, 2 + 3]),
        (og.Sub(), [3 - 4, 2 - 3]),
        (og.Mul(), [3 * 4, 2 * 3]),
        (og.Concat(), [3, 2, 4, 3]),
    ],
)
def test_joins_keep_the_order_of_their_edges(op, expected):
    nodes = {"input": og.Input((2,)), "plus": og.BatchNorm([0, 0], [1, 1], [1, 1], [1, 1], eps=0.0)}
    nodes |= {"join": op, "output": og.Output()}
    edges = (("input", "plus"), ("input", "join"), ("plus", "join"), ("join", "output"))
    result = run(og.OpGraph(nodes, edges), np.array([[3.0, 2.0]]), 2)
    np.testing.assert_array_equal(result.values["join"][0], [expected, expected])


def test_join_of_a_constant_and_a_changing_value():
    nodes = {"input": og.Input((1,)), "n": og.Neuron(2.0), "cat": og.Concat(), "output": og.Output()}
    graph = og.OpGraph(nodes, (("input", "n"), ("input", "cat"), ("n", "cat"), ("cat", "output")))
    np.testing.assert_array_equal(run(graph, np.ones((1, 1)), 3).values["cat"][0], [[1, 0], [1, 1], [1, 0]])


def test_time_mean_is_the_rate():
    graph = chain((1,), n=og.Neuron(1.0), mean=og.TimeMean())
    assert (run(graph, train(1, 0, 1, 1), 4).values["mean"] == 0.75).all()


def test_frames_hold_for_every_step():
    graph = chain((2,), fc=og.Linear([[1.0, 2.0]]), n=og.Neuron(1.5))
    frame = np.array([[0.5, 0.25]])
    repeated = np.repeat(frame[:, None], 5, axis=1)
    one, two = run(graph, frame, 5), run(graph, repeated, 5)
    for name in graph.nodes:
        np.testing.assert_array_equal(one.values[name], two.values[name])
        assert one.values[name].shape == (1, 5, *graph.shapes[name])
    np.testing.assert_array_equal(one.output, two.output)


def test_only_what_is_recorded_is_kept():
    graph = chain((1,), n=og.Neuron(1.0))
    assert set(run(graph, train(1, 1), 2, record=["n"]).values) == {"n"}
    assert run(graph, train(1, 1), 2, record=[]).output == 2


def test_float32_differs_from_float64_and_is_float32():
    """Ten additions of 0.1 reach 1 in float32 and stay below it in float64."""
    graph = chain((1,), n=og.Neuron(1.0))
    x = np.full((1, 1), 0.1)
    single = run(graph, x, 10, dtype=np.float32)
    assert single.output.dtype == np.float32
    assert (float(single.output[0, 0]), float(run(graph, x, 10).output[0, 0])) == (1.0, 0.0)


def test_pieces_give_what_the_whole_gives(monkeypatch):
    graph = chain((2, 5, 5), c=og.Conv2d(np.ones((3, 2, 3, 3)) / 8), m=og.MaxPool((2, 2), (1, 1)))
    x = np.random.default_rng(0).integers(-8, 9, (7, 3, 2, 5, 5)) / 8
    whole = run(graph, x, 3)
    monkeypatch.setattr(float_engine, "MAX_ROWS_ELEMENTS", 1000)
    np.testing.assert_array_equal(run(graph, x, 3).output, whole.output)


def test_the_callers_data_are_left_alone():
    graph = chain((1,), n=og.Neuron(1.0))
    x = train(1, 1)
    x.setflags(write=False)
    run(graph, x, 2)


@pytest.mark.parametrize(
    ("x", "steps", "code"),
    [
        (np.ones((1, 3)), 2, "NMC-D02"),
        (np.ones((1, 1, 1, 2)), 2, "NMC-D02"),
        (np.ones((1, 2, 2)), 3, "NMC-D02"),
        (np.ones((1, 2)), 0, "NMC-U02"),
    ],
)
def test_data_that_do_not_fit(x, steps, code):
    graph = chain((2,), n=og.Neuron(1.0))
    network = lower(graph, 2, "distribute", Encoding.GRADED)
    for call in (lambda: run(graph, x, steps), lambda: run_network(network, x, steps)):
        with pytest.raises(NmcError) as caught:
            call()
        assert caught.value.code == code


# --- networks ---------------------------------------------------------------------------------------


def two_layers() -> og.OpGraph:
    return chain((1,), a=og.Neuron(1.0), fc=og.Linear([[2.0]], [0.5]), b=og.Neuron(2.5), li=og.Neuron(None))


def test_what_a_network_run_returns():
    network = lower(two_layers(), 3, "distribute", Encoding.SPIKES)
    result = run_network(network, train(1, 0, 1), 3, record=["input", "a", "current/b", "v/b", "li"])
    assert set(result) == {"input", "a", "current/b", "v/b", "li", "output/li"}
    np.testing.assert_array_equal(result["input"][0, :, 0], [1, 0, 1])
    np.testing.assert_array_equal(result["current/b"][0, :, 0], [2, 0, 2])
    np.testing.assert_array_equal(result["v/b"][0, :, 0], [2.5, 0.5, 3])
    np.testing.assert_array_equal(result["li"][0, :, 0], [0, 0, 0])
    assert result["output/li"] == 2


def test_steps_may_exceed_the_networks_own():
    network = lower(two_layers(), 1, "distribute", Encoding.GRADED)
    assert run_network(network, np.ones((1, 1)), 7, record=["a"])["a"].sum() == 7


def test_a_quantized_network_is_refused():
    network = lower(two_layers(), 1, "distribute", Encoding.GRADED)
    fixed = Fixed(np.array([[1]]), 0, 8, True)
    changed = [
        p if p.name != "fc" else type(p)(**{**p.__dict__, "weight": fixed}) for p in network.projections
    ]
    with pytest.raises(InternalError, match="fc is quantized"):
        run_network(network.with_(projections=tuple(changed)), np.ones((1, 1)), 1)


def test_an_unknown_name_is_refused():
    network = lower(two_layers(), 1, "distribute", Encoding.GRADED)
    with pytest.raises(NmcError, match="NMC-U03 v/nobody"):
        run_network(network, np.ones((1, 1)), 1, record=["v/nobody"])
    with pytest.raises(NmcError, match="NMC-U03 nobody"):
        run(two_layers(), np.ones((1, 1)), 1, record=["nobody"])
