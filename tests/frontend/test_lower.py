"""What "+" becomes: structure, sharing, names, folding, refusals. Equality of spikes: test_lower_random."""

from __future__ import annotations

import numpy as np
import pytest

from nmc.errors import NmcError
from nmc.frontend import opgraph as og
from nmc.frontend.float_engine import run
from nmc.frontend.float_network import run_network
from nmc.frontend.lower import lower
from nmc.ir import Compare, Dense, Encoding, FloatNeuron, GradedRelay, Identity, Reset, Stage
from nmc.rules import verify

RNG = np.random.default_rng(5)
SHAPE = (2, 4, 4)


def conv(bias: bool = True, kernel: int = 3) -> og.Conv2d:
    weight = RNG.integers(-8, 9, (2, 2, kernel, kernel)) / 8
    return og.Conv2d(weight, RNG.integers(-8, 9, 2) / 8 if bias else None, padding=(kernel // 2,) * 2)


def graph(nodes: dict[str, og.Op], edges: str) -> og.OpGraph:
    """Edges as "a>b>c, a>c"."""
    pairs = [
        pair for path in edges.split(",") for pair in zip(path.split(">"), path.split(">")[1:], strict=False)
    ]
    return og.OpGraph(nodes, tuple((a.strip(), b.strip()) for a, b in pairs))


def sew_stage(blocks: int, adds: bool) -> og.OpGraph:
    """SEW ADD blocks s + sn(conv(s)) with explicit Add nodes, or with NIR's flattened sums."""
    nodes: dict[str, og.Op] = {"input": og.Input(SHAPE), "conv0": conv(), "s0": og.Neuron(1.0)}
    edges = "input>conv0>s0"
    stream = ["s0"]
    for k in range(1, blocks + 1):
        nodes |= {f"conv{k}": conv(), f"s{k}": og.Neuron(1.0)}
        edges += "".join(f",{name}>conv{k}" for name in stream) + f",conv{k}>s{k}"
        stream = [*stream, f"s{k}"]
        if adds:
            nodes[f"add{k}"] = og.Add()
            edges += "".join(f",{name}>add{k}" for name in stream)
            stream = [f"add{k}"]
    nodes |= {"flat": og.Flatten(), "fc": og.Linear(RNG.integers(-8, 9, (3, 32)) / 8), "out": og.Output()}
    return graph(nodes, edges + "".join(f",{name}>flat" for name in stream) + ",flat>fc>out")


def check(network, original, steps=4):
    """The network obeys the rules and computes what the graph does."""
    verify(network, Stage.FLOAT)
    x = RNG.integers(-8, 9, (3, *original.input_shapes[0])) / 8
    expected = run(original, x, steps).output
    (output,) = network.outputs
    np.testing.assert_array_equal(run_network(network, x, steps)[f"output/{output}"], expected)
    assert expected.any()


def test_a_vanilla_residual_is_two_projections_into_one_population():
    original = graph(
        {"input": og.Input(SHAPE), "a": og.Neuron(0.5), "c": conv(), "b": og.Neuron(1.0), "out": og.Output()},
        "input>a>c>b>out, a>b",
    )
    network = lower(original, 4, "distribute", Encoding.GRADED)
    check(network, original)
    branch, shortcut = network.incoming("b")
    assert (branch.source, branch.name, branch.origin) == ("a", "c", ("c",))
    assert (shortcut.source, shortcut.origin) == ("a", ("b",))
    assert isinstance(shortcut.synapse, Identity)
    assert shortcut.weight == 1
    assert network["b"].bias.shape == (2, 1, 1)
    assert network["b"].origin == ("b",)


@pytest.mark.parametrize("adds", [False, True])
def test_distribution_shares_one_weight_array_per_layer(adds):
    original = sew_stage(3, adds)
    network = lower(original, 4, "distribute", Encoding.GRADED)
    check(network, original)
    for k in range(2, 4):
        into = network.incoming(f"s{k}")
        assert [p.source for p in into] == [f"s{i}" for i in range(k)]
        assert all(p.weight is original.nodes[f"conv{k}"].weight for p in into)
        assert [p.name for p in into] == [f"conv{k}.from.s{i}" for i in range(k)]
    assert len({id(p.weight) for p in network.incoming("fc")}) == 1
    assert len(network.incoming("fc")) == 4
    assert not any(isinstance(p.neuron, GradedRelay) for p in network.populations)


@pytest.mark.parametrize("adds", [False, True])
def test_relays_chain_even_where_the_file_lists_every_branch(adds):
    original = sew_stage(3, adds)
    network = lower(original, 4, "relay", Encoding.GRADED)
    check(network, original)
    relays = [p for p in network.populations if isinstance(p.neuron, GradedRelay)]
    names = ["add1", "add2", "add3"] if adds else ["conv2.sum", "conv3.sum", "flat.sum"]
    assert [p.name.replace("fc.sum", "flat.sum") for p in relays] == names
    assert [p.max_payload for p in relays] == [2, 3, 4]
    for index, relay in enumerate(relays):
        sources = [p.source for p in network.incoming(relay.name)]
        assert sources == ([relays[index - 1].name] if index else ["s0"]) + [f"s{index + 1}"]
        assert all(p.weight == 1 and isinstance(p.synapse, Identity) for p in network.incoming(relay.name))
    assert [p.source for p in network.incoming("s3")] == [relays[1].name]
    assert relays[1].label == ("add2" if adds else "s0+s1+s2")


@pytest.mark.parametrize("joins", ["distribute", "relay"])
def test_a_source_that_occurs_twice_counts_twice(joins):
    nodes = {
        "input": og.Input(SHAPE),
        "a": og.Neuron(0.5),
        "b": og.Neuron(0.75, reset=og.ResetRule.SUBTRACT),
        "one": og.Add(),
        "two": og.Add(),
        "c": conv(),
        "s": og.Neuron(1.0),
        "out": og.Output(),
    }
    original = graph(nodes, "input>a>one, a>one, a>two, one>two, input>b>two>c>s>out")
    network = lower(original, 4, joins, Encoding.GRADED)
    check(network, original)
    weight = original.nodes["c"].weight
    if joins == "distribute":
        by_source = {p.source: p.weight for p in network.incoming("s")}
        np.testing.assert_array_equal(by_source["a"], 3 * weight)
        assert by_source["b"] is weight
    else:
        assert network["two"].max_payload == 4
        assert sorted(float(p.weight) for p in network.incoming("two")) == [1, 3]


def test_a_relay_only_builds_on_sums_that_it_contains():
    nodes = {"input": og.Input(SHAPE), "a": og.Neuron(0.5), "b": og.Neuron(0.75), "d": og.Neuron(0.25)}
    nodes |= {"c1": conv(), "c2": conv(), "s1": og.Neuron(1.0), "s2": og.Neuron(1.0), "out": og.Output()}
    original = graph(nodes, "input>a>c1>s1>out, input>b>c1, b>c2>s2>out, input>d>c2")
    network = lower(original, 4, "relay", Encoding.GRADED)
    check(network, original)
    assert [p.source for p in network.incoming("c1.sum")] == ["a", "b"]
    assert [p.source for p in network.incoming("c2.sum")] == ["b", "d"]


def test_an_analog_input_is_not_added_to_spikes_by_a_relay():
    nodes = {
        "input": og.Input(SHAPE),
        "a": og.Neuron(0.5),
        "c": conv(),
        "s": og.Neuron(1.0),
        "out": og.Output(),
    }
    original = graph(nodes, "input>a>c>s>out, input>c")
    graded = lower(original, 4, "relay", Encoding.GRADED)
    check(graded, original)
    assert not any(isinstance(p.neuron, GradedRelay) for p in graded.populations)
    trains = lower(original, 4, "relay", Encoding.SPIKES)
    assert trains["c.sum"].max_payload == 2


def test_differences_scales_and_norms_between_layers():
    nodes = {
        "input": og.Input(SHAPE),
        "a": og.Neuron(0.5),
        "b": og.Neuron(0.75),
        "minus": og.Sub(),
        "norm": og.BatchNorm([0.5, 0.25], [0.75, 3.75], [0.5, 2.0], [0.25, -0.5], eps=0.25),
        "c": conv(),
        "scale": og.Scale(np.array([0.5, 2.0]).reshape(2, 1, 1)),
        "s": og.Neuron(1.0),
        "out": og.Output(),
    }
    original = graph(nodes, "input>a>minus, input>b>minus>norm>c>scale>s>out")
    for joins in ("distribute", "relay"):
        network = lower(original, 4, joins, Encoding.GRADED)
        check(network, original)
        one, other = network.incoming("s")
        np.testing.assert_array_equal(one.weight, -other.weight)
        assert one.origin == ("norm", "c", "scale")
        assert network["s"].bias.shape == SHAPE, "the norm's offset meets the convolution's border"


def test_a_current_host_input():
    nodes = {"input": og.Input(SHAPE), "c": conv(), "s": og.Neuron(1.0), "out": og.Output()}
    original = graph(nodes, "input>c>s>out")
    network = lower(original, 4, "distribute", Encoding.CURRENT)
    check(network, original)
    assert network.incoming("s")[0].on_host
    filtered = graph(nodes | {"c": conv(bias=False), "s": og.Neuron(1.0, keep_u=0.5)}, "input>c>s>out")
    with pytest.raises(NmcError, match="NMC-Q03 s: a current filter"):
        lower(filtered, 4, "distribute", Encoding.CURRENT)


def lif(**changes: object) -> og.OpGraph:
    nodes = {"input": og.Input((3,)), "fc": og.Linear(np.eye(3), [0.5, 0.25, 0.0])}
    return graph(nodes | {"s": og.Neuron(**changes), "out": og.Output()}, "input>fc>s>out")


def test_gain_leak_and_reset_fold_into_threshold_bias_and_v0():
    original = lif(
        threshold=1.5,
        keep_v=0.5,
        gain=0.25,
        w_in=0.5,
        v_leak=2.0,
        v_reset=0.5,
        v0=0.75,
        compare=Compare.GREATER,
    )
    network = lower(original, 4, "distribute", Encoding.GRADED)
    check(network, original)
    neuron = network["s"].neuron
    assert (float(neuron.threshold), float(neuron.v0)) == ((1.5 - 0.5) / 0.125, (0.75 - 0.5) / 0.125)
    assert (neuron.keep_v, neuron.keep_u, neuron.reset, neuron.compare) == (
        0.5,
        0,
        Reset.ZERO,
        Compare.GREATER,
    )
    np.testing.assert_array_equal(network["s"].bias, np.array([0.5, 0.25, 0]) + 0.5 * (2 - 0.5) / 0.125)
    assert network.incoming("s")[0].weight is original.nodes["fc"].weight


def test_gains_per_neuron_become_thresholds_per_neuron():
    original = lif(threshold=1.0, gain=[0.5, 1.0, 2.0], reset=og.ResetRule.SUBTRACT)
    network = lower(original, 4, "distribute", Encoding.GRADED)
    check(network, original)
    np.testing.assert_array_equal(network["s"].neuron.threshold, [2, 1, 0.5])
    assert network["s"].neuron.reset is Reset.SUBTRACT


def test_a_current_filter_is_kept():
    nodes = {"input": og.Input((3,)), "fc": og.Linear(np.eye(3))}
    nodes |= {"s": og.Neuron(1.0, keep_v=0.75, keep_u=0.5, w_in=2.0, gain=0.25), "out": og.Output()}
    original = graph(nodes, "input>fc>s>out")
    network = lower(original, 6, "distribute", Encoding.GRADED)
    check(network, original, steps=6)
    assert network["s"].neuron.keep_u == 0.5
    with pytest.raises(NmcError, match="NMC-Q03 s: a bias in front of a neuron with a current filter"):
        lower(lif(threshold=1.0, keep_u=0.5), 4, "distribute", Encoding.GRADED)


@pytest.mark.parametrize(("keep_v", "drop"), [(1.0, None), (0.75, 4 / 3), (0.5, 2.0)])
def test_a_delayed_subtraction_is_an_immediate_one_of_what_will_not_have_decayed(keep_v, drop):
    original = lif(threshold=1.0, reset=og.ResetRule.SUBTRACT_NEXT, keep_v=keep_v)
    network = lower(original, 8, "distribute", Encoding.GRADED)
    check(network, original, steps=8)
    found = network["s"].neuron
    assert found.reset is Reset.SUBTRACT
    assert found.drop == drop if drop is None else float(found.drop) == pytest.approx(drop)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"multi_spike": True, "reset": og.ResetRule.SUBTRACT}, "floor"),
        ({"reset": og.ResetRule.SUBTRACT_NEXT, "keep_v": 0.01}, "in the same step; keep at least 1/64 of v"),
        ({"reset": og.ResetRule.BLANK_NEXT}, "in the same step; train with reset_delay=False"),
        ({"keep_v": [0.5, 0.5, 0.25]}, "keep_v differs"),
        ({"keep_v": 1.5}, "keep_v = 1.5"),
    ],
)
def test_semantics_without_a_lowering_are_refused_by_name(changes, problem):
    with pytest.raises(NmcError) as caught:
        lower(lif(threshold=1.0, **changes), 4, "distribute", Encoding.GRADED)
    assert (caught.value.code, caught.value.who) == ("NMC-Q03", "s")
    assert problem in f"{caught.value.problem}; {caught.value.remedy}"
    assert caught.value.remedy


@pytest.mark.parametrize("op", [og.ReLU(), og.TimeMean()])
def test_ops_without_a_lowering_are_refused_by_name(op):
    nodes = {"input": og.Input(SHAPE), "a": og.Neuron(1.0), "x": op, "s": og.Neuron(1.0), "out": og.Output()}
    with pytest.raises(NmcError, match="NMC-G05 x"):
        lower(graph(nodes, "input>a>x>s>out"), 4, "distribute", Encoding.GRADED)


@pytest.mark.parametrize(
    ("ends", "edges", "output", "readout"),
    [
        ({}, "s>out", "s", "count"),
        ({"flat": og.Flatten()}, "s>flat>out", "s", "count"),
        ({"mean": og.TimeMean()}, "s>mean>out", "s", "count"),
        ({"li": og.Neuron(None, keep_v=0.5, gain=0.5, v_leak=1.0)}, "s>li>out", "li", "potential"),
        ({"flat": og.Flatten(), "fc": og.Linear(RNG.integers(-8, 9, (3, 32)) / 8, [1.0, 2.0, 0.5])},
         "s>flat>fc>out", "fc", "potential"),
        ({}, "s>out, a>out", "a.readout", "potential"),
    ],
)  # fmt: skip
def test_readouts(ends, edges, output, readout):
    nodes = {"input": og.Input(SHAPE), "a": og.Neuron(0.5), "c": conv(), "s": og.Neuron(1.0)}
    original = graph(nodes | ends | {"out": og.Output()}, "input>a>c>s," + edges)
    network = lower(original, 4, "distribute", Encoding.GRADED)
    assert network.outputs == (output,)
    assert network.readout == readout
    neuron = network[output].neuron
    assert isinstance(neuron, FloatNeuron)
    assert (neuron.threshold is None) == (readout == "potential")
    if "mean" not in ends:
        verify(network, Stage.FLOAT)
        x = RNG.integers(-8, 9, (3, *SHAPE)) / 8
        got = run_network(network, x, 4)[f"output/{output}"]
        np.testing.assert_array_equal(got.reshape(3, -1), run(original, x, 4).output.reshape(3, -1))


def test_flattened_neurons_keep_the_shape_of_their_convolution():
    nodes = {
        "input": og.Input(SHAPE),
        "c": conv(),
        "flat": og.Flatten(),
        "s": og.Neuron(np.arange(1, 33) / 8),
    }
    original = graph(nodes | {"out": og.Output()}, "input>c>flat>s>out")
    network = lower(original, 4, "distribute", Encoding.GRADED)
    verify(network, Stage.FLOAT)
    assert network["s"].shape == SHAPE
    x = RNG.integers(-8, 9, (3, *SHAPE)) / 8
    got = run_network(network, x, 4)["output/s"]
    np.testing.assert_array_equal(got.reshape(3, -1), run(original, x, 4).output)


def test_a_flat_sum_of_a_convolution_and_a_linear_layer():
    nodes = {"input": og.Input(SHAPE), "c": conv(), "f1": og.Flatten(), "f2": og.Flatten()}
    nodes |= {"fc": og.Linear(RNG.integers(-8, 9, (32, 32)) / 8), "s": og.Neuron(1.0), "out": og.Output()}
    original = graph(nodes, "input>c>f1>s>out, input>f2>fc>s")
    network = lower(original, 4, "distribute", Encoding.GRADED)
    check(network, original)
    assert all(isinstance(p.synapse, Dense) for p in network.incoming("s"))


def test_a_potential_is_no_spike():
    nodes = {"input": og.Input((3,)), "li": og.Neuron(None), "s": og.Neuron(1.0), "out": og.Output()}
    with pytest.raises(NmcError, match="NMC-G05 li: never fires"):
        lower(graph(nodes, "input>li>s>out"), 4, "distribute", Encoding.GRADED)


@pytest.mark.parametrize(
    ("ops", "who", "what"),
    [
        (
            {"x": og.Scale([1e200]), "fc": og.Linear(np.full((2, 3), 1e200)), "s": og.Neuron(1.0)},
            "fc",
            "weight",
        ),
        ({"fc": og.Linear(np.ones((2, 3))), "s": og.Neuron(1e200, gain=1e-200)}, "s", "threshold"),
        (
            {"fc": og.Linear(np.ones((2, 3)), [1e308, 1e308]), "x": og.Scale([1e8]), "s": og.Neuron(1.0)},
            "s",
            "bias",
        ),
    ],
)
def test_products_that_no_float_holds(ops, who, what):
    nodes = {"input": og.Input((3,)), **ops, "out": og.Output()}
    with pytest.raises(NmcError, match=f"NMC-G04 {who}: its {what} is not finite"):
        lower(graph(nodes, ">".join(nodes)), 4, "distribute", Encoding.GRADED)


@pytest.mark.parametrize("neuron", [og.Neuron(-1.0), og.Neuron(1.0, v_reset=1.5)])
def test_neurons_that_would_fire_for_ever(neuron):
    nodes = {"input": og.Input((3,)), "s": neuron, "out": og.Output()}
    with pytest.raises(NmcError, match=r"NMC-Q02 s: its threshold lies .* below the potential"):
        lower(graph(nodes, "input>s>out"), 4, "distribute", Encoding.GRADED)


def test_a_mean_of_potentials_is_refused():
    nodes = {"input": og.Input((3,)), "li": og.Neuron(None), "mean": og.TimeMean(), "out": og.Output()}
    with pytest.raises(NmcError, match="NMC-G05 mean: takes a mean over time of li, which never fires"):
        lower(graph(nodes, "input>li>mean>out"), 4, "distribute", Encoding.GRADED)


def test_a_sum_that_cancels_is_refused():
    nodes = {"input": og.Input((3,)), "x": og.Sub(), "s": og.Neuron(1.0), "out": og.Output()}
    with pytest.raises(NmcError, match="NMC-G05 s: its input is always zero"):
        lower(graph(nodes, "input>x, input>x, x>s>out"), 4, "distribute", Encoding.GRADED)


@pytest.mark.parametrize("steps", [0, -1])
def test_steps_are_positive(steps):
    with pytest.raises(NmcError, match="NMC-U02"):
        lower(sew_stage(1, True), steps, "distribute", Encoding.GRADED)


def test_lowering_twice_gives_the_same_and_leaves_the_graph_alone():
    original = sew_stage(2, False)
    before = {name: getattr(op, "weight", None) for name, op in original.nodes.items()}
    one, two = (lower(original, 4, "relay", Encoding.GRADED) for _ in range(2))
    assert [p.name for p in one.projections] == [p.name for p in two.projections]
    assert all(
        np.array_equal(a.weight, b.weight) for a, b in zip(one.projections, two.projections, strict=True)
    )
    assert all(getattr(op, "weight", None) is before[name] for name, op in original.nodes.items())
