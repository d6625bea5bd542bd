"""Products, maxima, concatenations, cut pools: float networks and chip integers give the graph's spikes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

import nmc
from nmc.errors import NmcError
from nmc.frontend import opgraph as og
from nmc.frontend.float_engine import current, run
from nmc.frontend.float_network import run_network
from nmc.frontend.lower import lower
from nmc.ir import Encoding, FloatNeuron, GradedRelay, Stage
from nmc.rules import verify

STEPS = 4
SHAPE = (2, 6, 6)
JOINS = ("distribute", "relay")


def conv(rng: np.random.Generator, c_in: int, c_out: int, kernel: int = 3, groups: int = 1, low: int = -8):
    weight = rng.integers(low, 13, (c_out, c_in // groups, kernel, kernel)) / 16
    return og.Conv2d(weight, None, padding=(kernel // 2,) * 2, groups=groups)


def graph(nodes: dict[str, og.Op], edges: str) -> og.OpGraph:
    paths = [path.strip().split(">") for path in edges.split(",")]
    return og.OpGraph(nodes, tuple((a, b) for path in paths for a, b in pairwise(path)))


def ending(rng: np.random.Generator, channels: int) -> dict[str, og.Op]:
    return {
        "conv9": conv(rng, channels, 3, low=-14),
        "s9": og.Neuron(0.75),
        "flat": og.Flatten(),
        "out": og.Output(),
    }


def product(kind: str, rng: np.random.Generator) -> og.OpGraph:
    """A SEW block: S = neuron of the input, A = neuron of S, joined by ``kind``; a layer behind it."""
    nodes: dict[str, og.Op] = {"input": og.Input(SHAPE), "c0": conv(rng, 2, 3), "s": og.Neuron(0.5)}
    nodes |= {"c1": conv(rng, 3, 3), "a": og.Neuron(0.5), "join": og.Mul(), **ending(rng, 3)}
    edges = "input>c0>s>c1>a, join>conv9>s9>flat>out, "
    if kind == "and":
        return graph(nodes, edges + "a>join, s>join")
    if kind == "iand":
        one = og.BatchNorm(np.zeros(3), np.ones(3), np.full(3, -1.0), np.ones(3), 0.0)
        return graph(nodes | {"not": one}, edges + "a>not>join, s>join")
    if kind == "nor":
        one = og.BatchNorm(np.zeros(3), np.ones(3), np.full(3, -1.0), np.ones(3), 0.0)
        return graph(nodes | {"not": one, "not2": one}, edges + "a>not>join, s>not2>join")
    assert kind == "graded"
    return graph(nodes | {"sum": og.Add()}, edges + "a>sum, s>sum>join, a>join")


def pooled(kind: str, rng: np.random.Generator) -> og.OpGraph:
    nodes: dict[str, og.Op] = {"input": og.Input(SHAPE), "c0": conv(rng, 2, 3), "s": og.Neuron(0.5)}
    nodes |= {"pool": og.MaxPool((3, 3), (2, 2), (1, 1)), **ending(rng, 3)}
    edges = "input>c0>s, pool>conv9>s9>flat>out, "
    if kind == "binary":
        return graph(nodes, edges + "s>pool")
    nodes |= {"c1": conv(rng, 3, 3), "a": og.Neuron(0.5), "sum": og.Add()}
    edges += "s>c1>a>sum, s>sum, "
    if kind == "graded":
        return graph(nodes, edges + "sum>pool")
    # Two blocks, each with a max pool behind it, as in 7B-Net.
    nodes |= {
        "c2": conv(rng, 3, 3),
        "a2": og.Neuron(0.5),
        "sum2": og.Add(),
        "pool2": og.MaxPool((2, 2), (1, 1)),
    }
    edges = "input>c0>s>c1>a>sum, s>sum>pool>c2>a2>sum2, pool>sum2>pool2>conv9>s9>flat>out"
    return graph(nodes, edges)


def branches(kind: str, rng: np.random.Generator) -> og.OpGraph:
    nodes: dict[str, og.Op] = {"input": og.Input(SHAPE), "c0": conv(rng, 2, 4), "s": og.Neuron(0.5)}
    nodes |= {"c1": conv(rng, 4, 4, groups=4), "cat": og.Concat(), **ending(rng, 8)}
    if kind == "spikes":
        nodes |= {"a": og.Neuron(0.5)}
        return graph(nodes, "input>c0>s>c1>a>cat, s>cat>conv9>s9>flat>out")
    if kind == "pooled":
        nodes |= {"a": og.Neuron(0.5), "pool": og.MaxPool((2, 2), (2, 2))}
        return graph(nodes, "input>c0>s>c1>a>cat, s>cat>pool>conv9>s9>flat>out")
    if kind == "grouped":
        nodes |= {"a": og.Neuron(0.5), "c2": conv(rng, 8, 8, groups=8), "b": og.Neuron(0.5)}
        return graph(nodes, "input>c0>s>c1>a>cat, s>cat>c2>b>conv9>s9>flat>out")
    # A ghost module: light convolution and depthwise convolution of it, one neuron behind both.
    bn = og.BatchNorm(np.zeros(4), np.ones(4), np.ones(4), np.full(4, 0.25), 0.0)
    nodes |= {"light": conv(rng, 4, 4, 1), "bn": bn, "b": og.Neuron(0.5)}
    return graph(nodes, "input>c0>s>light>bn>cat, bn>c1>cat>b>conv9>s9>flat>out")


def cut_pool(kind: str, rng: np.random.Generator) -> og.OpGraph:
    """A pool of 7 x 7 maps, then a padded convolution: its border would cut the last windows."""
    pool = og.AvgPool((2, 2), (1, 1)) if kind == "average" else og.SumPool((3, 3), (2, 2), (0, 0))
    nodes: dict[str, og.Op] = {"input": og.Input((2, 7, 7)), "c0": conv(rng, 2, 3), "s": og.Neuron(0.5)}
    if kind != "channels":
        return graph(nodes | {"pool": pool, **ending(rng, 3)}, "input>c0>s>pool>conv9>s9>flat>out")
    # Another size of spikes per channel, as conversion with a scale per channel leaves it behind a max pool.
    diagonal = np.zeros((3, 1, 2, 2))
    diagonal[:, 0, 0, 0] = diagonal[:, 0, 1, 1] = 0.25, 1.5, 0.375
    nodes |= {"pool": og.Conv2d(diagonal, None, groups=3), **ending(rng, 3)}
    return graph(nodes, "input>c0>s>pool>conv9>s9>flat>out")


MAKERS = {
    **{f"product {k}": (product, k) for k in ("and", "iand", "nor", "graded")},
    **{f"max {k}": (pooled, k) for k in ("binary", "graded", "twice")},
    **{f"concat {k}": (branches, k) for k in ("spikes", "pooled", "grouped", "ghost")},
    **{f"cut {k}": (cut_pool, k) for k in ("average", "sum", "channels")},
}


@pytest.fixture(params=MAKERS)
def original(request) -> og.OpGraph:
    maker, kind = MAKERS[request.param]
    return maker(kind, np.random.default_rng(3))


@pytest.mark.parametrize("joins", JOINS)
def test_the_float_network_gives_the_spikes_of_the_graph(original, joins):
    x = np.random.default_rng(4).integers(0, 9, (4, *original.input_shapes[0])) / 8
    expected = run(original, x, STEPS)
    network = lower(original, STEPS, joins, Encoding.GRADED)
    verify(network, Stage.FLOAT)
    got = run_network(network, x, STEPS, record=[p.name for p in network.compute])
    compared = 0
    for name in original.nodes:
        if name in got:
            np.testing.assert_array_equal(got[name], expected.values[name].reshape(got[name].shape), name)
            compared += int(got[name].sum())
    np.testing.assert_array_equal(got["output/" + network.outputs[0]].ravel(), expected.output.ravel())
    assert 0.02 < expected.values["s9"].mean() < 0.98
    assert compared > 100


@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
def test_chip_gates_are_exact(original, chip):
    """Every gate, relay and readout of the bundle does with the integers what the graph's op does."""
    rng = np.random.default_rng(5)
    x = rng.integers(0, 2, (3, STEPS, *original.input_shapes[0]))
    bundle = nmc.compile(original, chip, data=x, steps=STEPS)
    network = bundle.network
    trace = nmc.run(bundle, x, engine="reference", record=("all",))
    memoryless = lower(original, STEPS, bundle.config["joins"], Encoding.SPIKES)
    floats = {p.name: p for p in memoryless.compute}
    checked = 0
    for population in network.compute:
        neuron = floats[population.name].neuron
        exact = isinstance(neuron, GradedRelay) or (isinstance(neuron, FloatNeuron) and neuron.keep_v == 0)
        if not exact:
            continue
        total = sum(brought(trace, projection) for projection in memoryless.incoming(population.name))
        spikes = trace.spikes[population.name]
        bias = 0 if floats[population.name].bias is None else floats[population.name].bias
        expected = total if isinstance(neuron, GradedRelay) else total + bias > neuron.threshold
        np.testing.assert_array_equal(spikes, expected, population.name)
        checked += int(spikes.sum())
    concatenation = any(isinstance(op, og.Concat) for op in original.nodes.values())
    assert checked > 20 or (concatenation and checked == 0)


def brought(trace, projection):
    """What a projection brings in float, step by step, from the integer spikes of its source."""
    return current(projection.synapse, projection.weight, trace.spikes[projection.source].astype(np.float64))


@pytest.mark.parametrize(
    ("ops", "edges", "problem"),
    [
        ({"x": og.MaxPool((2, 2), (2, 2))}, "input>c>x>s>out", "x: a maximum of c, which carries no spikes"),
        ({"x": og.MaxPool((2, 2), (2, 2))}, "input>x>s>out", "x: a maximum of input"),
        ({"x": og.Mul()}, "input>a>x>s>out, a>c>x", "x: multiplies c, which carries no spikes"),
        ({"x": og.Mul(), "y": og.Add()}, "input>a>y>x>s>out, a>y, y>x", "another sum of spikes"),
        ({"x": og.Scale(np.array(65.0)), "y": og.MaxPool((2, 2), (2, 2))}, "input>a>x>y>s>out", "up to 65"),
        ({"x": og.Concat(1)}, "input>a>x>s>out, a>x", "along axis 1"),
    ],
)
def test_what_no_gate_can_express_is_refused_by_name(ops, edges, problem):
    nodes = {"input": og.Input(SHAPE), "a": og.Neuron(1.0), "c": conv(np.random.default_rng(0), 2, 2), **ops}
    used = {name for path in edges.split(",") for name in path.strip().split(">")}
    nodes |= {"s": og.Neuron(1.0), "out": og.Output()}
    original = graph({name: op for name, op in nodes.items() if name in used}, edges)
    with pytest.raises(NmcError, match="NMC-G05") as caught:
        lower(original, STEPS, "distribute", Encoding.GRADED)
    assert problem in str(caught.value)


def test_membrane_shortcuts_flow_into_every_later_neuron():
    """Blocks U + conv(sn(conv(sn(U)))): the stream is a current, its addends reach all later neurons."""
    rng = np.random.default_rng(6)
    nodes: dict[str, og.Op] = {"input": og.Input(SHAPE), "stem": conv(rng, 2, 3, low=-14)}
    edges, stream = "input>stem", "stem"
    for k in range(3):
        nodes |= {f"s{k}": og.Neuron(0.75), f"c{k}": conv(rng, 3, 3), f"t{k}": og.Neuron(1.0)}
        nodes |= {f"d{k}": conv(rng, 3, 3, low=-14), f"u{k}": og.Add()}
        edges += f",{stream}>s{k}>c{k}>t{k}>d{k}>u{k},{stream}>u{k}"
        stream = f"u{k}"
    original = graph(
        nodes | {"end": og.Neuron(0.75), "flat": og.Flatten(), "out": og.Output()},
        edges + f",{stream}>end>flat>out",
    )
    x = rng.integers(0, 9, (4, *SHAPE)) / 8
    network = lower(original, STEPS, "relay", Encoding.GRADED)
    assert sorted(p.source for p in network.incoming("end")) == ["input", "t0", "t1", "t2"]
    expected = run(original, x, STEPS)
    got = run_network(network, x, STEPS, record=["s2", "end"])
    for name in ("s2", "end"):
        np.testing.assert_array_equal(got[name], expected.values[name])
        assert 0.02 < expected.values[name].mean() < 0.98


def test_a_mean_over_time_may_be_followed_by_linear_layers():
    rng = np.random.default_rng(7)
    nodes = {"input": og.Input(SHAPE), "c": conv(rng, 2, 2), "s": og.Neuron(0.75), "mean": og.TimeMean()}
    nodes |= {"flat": og.Flatten(), "fc": og.Linear(rng.integers(-8, 9, (3, 72)) / 8), "out": og.Output()}
    original = graph(nodes, "input>c>s>mean>flat>fc>out")
    x = rng.integers(0, 9, (4, *SHAPE)) / 8
    network = lower(original, STEPS, "distribute", Encoding.GRADED)
    assert network.readout == "potential"
    expected = run(original, x, STEPS).output
    assert expected.any()
    np.testing.assert_array_equal(run_network(network, x, STEPS)["output/" + network.outputs[0]], expected)
