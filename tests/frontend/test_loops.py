"""Loops from the op graph to the chip's integers: where the delay sits, what a loop is lowered to."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nmc import api, timing
from nmc.backends import encode
from nmc.backends.engines import engine
from nmc.errors import NmcError
from nmc.frontend import opgraph as og
from nmc.frontend.float_engine import run
from nmc.frontend.float_network import run_network
from nmc.frontend.lower import lower
from nmc.frontend.nir_loops import with_delays
from nmc.frontend.raw import RawGraph, RawNode
from nmc.ir import Encoding, Network, Stage
from nmc.rules import verify

STEPS = 9
RNG = np.random.default_rng(3)
WEIGHTS = {
    name: RNG.normal(0, 0.5, shape) for name, shape in (("fc", (8, 6)), ("rec", (8, 8)), ("out", (3, 8)))
}
X = (RNG.random((40, STEPS, 6)) < 0.4).astype(np.float64)


def recurrent(
    neuron: og.Neuron | None = None, bias: np.ndarray | None = None, after: bool = False, delay: int = 1
) -> og.OpGraph:
    """in -> fc -> lif -> out, and lif -> previous -> rec -> lif; ``after``: the delay behind rec."""
    nodes: dict[str, og.Op] = {
        "in": og.Input((6,)),
        "fc": og.Linear(WEIGHTS["fc"]),
        "rec": og.Linear(WEIGHTS["rec"], bias),
        "lif": neuron or og.Neuron(og.constant(1.0), og.constant(0.9)),
        "previous": og.Delay(delay),
        "out": og.Linear(WEIGHTS["out"]),
        "spikes": og.Neuron(og.constant(1.0), og.constant(0.8)),
        "output": og.Output(),
    }
    loop = ("lif", "rec", "previous", "lif") if after else ("lif", "previous", "rec", "lif")
    edges = [("in", "fc"), ("fc", "lif"), *itertools.pairwise(loop)]
    return og.OpGraph(nodes, (*edges, ("lif", "out"), ("out", "spikes"), ("spikes", "output")), steps=STEPS)


def by_hand(bias: np.ndarray | None, after: bool, delay: int) -> np.ndarray:
    """Spikes of lif, (N, T, 8), written out."""
    sent = np.zeros((len(X), STEPS + delay, 8))
    v = np.zeros((len(X), 8))
    offset = 0.0 if bias is None else bias
    for t in range(STEPS):
        late = sent[:, t] @ WEIGHTS["rec"].T
        feedback = late + offset * (not after or t >= delay)
        v = 0.9 * v + X[:, t] @ WEIGHTS["fc"].T + feedback
        sent[:, t + delay] = v >= 1.0
        v = np.where(v >= 1.0, 0.0, v)
    return sent[:, delay:]


@pytest.mark.parametrize("delay", [1, 3])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_the_float_engine_runs_loops_step_by_step(biased: bool, after: bool, delay: int) -> None:
    """A bias of the recurrent layer acts at once where the delay stands in front of it, late behind it."""
    bias = np.linspace(-0.3, 0.4, 8) if biased else None
    found = run(recurrent(None, bias, after, delay), X, STEPS).values["lif"]
    assert np.array_equal(found, by_hand(bias, after, delay))
    assert 0.05 < found.mean() < 0.9


def spikes(network: Network) -> np.ndarray:
    return run_network(network, X, STEPS, ["lif"])["lif"]


def test_a_loop_is_a_projection_with_a_lag() -> None:
    graph = recurrent(None, np.linspace(-0.3, 0.4, 8), delay=2)
    network = lower(graph, STEPS, "distribute", Encoding.SPIKES)
    verify(network, Stage.FLOAT)
    (loop,) = (p for p in network.projections if p.source == p.target)
    assert (loop.name, loop.lag) == ("rec", 2)
    assert network["lif"].bias is not None
    assert np.array_equal(spikes(network), run(graph, X, STEPS).values["lif"])
    timed = timing.balance(network, 62)
    verify(timed, Stage.TIMED)
    assert {p.name: p.delay for p in timed.projections} == {"fc": 0, "rec": 1, "out": 0}
    assert "one at a time, 11 steps apart" in timed.notes[-1]


@pytest.mark.parametrize("joins", ["distribute", "relay"])
def test_sums_with_spikes_of_before_are_lowered_the_same(joins: str) -> None:
    """A weighted layer reads x[t] + s[t-1], and a product of both, as gates and relays."""
    pixel = og.Neuron(og.constant(0.5), og.constant(0.0))
    for join in (og.Add(), og.Mul()):
        nodes = {
            "in": og.Input((8,)),
            "first": pixel,
            "join": join,
            "fc": og.Linear(WEIGHTS["rec"]),
            "lif": og.Neuron(og.constant(0.6), og.constant(0.9)),
            "previous": og.Delay(),
            "output": og.Output(),
        }
        edges = (("in", "first"), ("first", "join"), ("previous", "join"), ("join", "fc"))
        graph = og.OpGraph(nodes, (*edges, ("fc", "lif"), ("lif", "previous"), ("lif", "output")))
        x = (np.random.default_rng(1).random((20, STEPS, 8)) < 0.6).astype(float)
        network = lower(graph, STEPS, joins, Encoding.SPIKES)  # type: ignore[arg-type]
        verify(network, Stage.FLOAT)
        expected = run(graph, x, STEPS).values["lif"]
        assert np.array_equal(run_network(network, x, STEPS, ["lif"])["lif"], expected)
        # A gate or a relay in a loop is one synapse too many for the chip, and is refused as such.
        if len(network.segments[-1]) > 1:
            with pytest.raises(NmcError, match="takes 2 steps on the chip, 1 in the network"):
                timing.balance(network, 62)


@pytest.mark.parametrize("chip", ["loihi1", "loihi2", "lava-cpu"])
def test_a_current_based_recurrent_network_runs_the_same_on_every_engine(chip: str) -> None:
    neuron = og.Neuron(og.constant(1.0), og.constant(0.9), keep_u=og.constant(0.5))
    graph = recurrent(neuron)
    bundle = api.compile(graph, chip, X)
    network = bundle.network
    x = encode.encode(network, X[:6])
    expected = engine("reference").run(network, x, STEPS, ["lif"])
    assert expected.spikes["lif"].sum() > 50
    for name in ("stepwise", "auto"):
        trace = engine(name).run(network, x, STEPS, ["lif"])
        assert trace.counts == expected.counts
        assert np.array_equal(trace.u["lif"], expected.u["lif"])
        assert np.array_equal(trace.v["lif"], expected.v["lif"])
        assert np.array_equal(trace.output, expected.output)
    floats = run(graph, X, STEPS).output
    assert (
        np.abs(floats - engine("reference").run(network, encode.encode(network, X), STEPS).output).mean()
        < 0.2
    )


@pytest.mark.parametrize(
    ("graph", "code", "text"),
    [
        (recurrent(None, np.ones(8), after=True), "NMC-G05", "would start a step late"),
        (recurrent(None, None, after=True), "NMC-G09", "closes a loop behind rec, which sends no spikes"),
        (recurrent(og.Neuron(None)), "NMC-G09", "closes a loop behind lif, which sends no spikes"),
    ],
)
def test_loops_without_a_lowering_are_refused(graph: og.OpGraph, code: str, text: str) -> None:
    with pytest.raises(NmcError, match=text) as caught:
        lower(graph, STEPS, "distribute", Encoding.SPIKES)
    assert (caught.value.code, caught.value.who) == (code, "previous")


def test_a_loop_that_nothing_enters() -> None:
    nodes = {"in": og.Input((2,)), "a": og.Delay(), "b": og.Add(), "sum": og.Add(), "output": og.Output()}
    edges = (("in", "sum"), ("a", "b"), ("b", "a"), ("b", "sum"), ("sum", "output"))
    with pytest.raises(NmcError, match="a loop that no data enter"):
        _ = og.OpGraph(nodes, edges).shapes


def raw(*edges: tuple[str, str]) -> RawGraph:
    """Nodes are named by their kind and a digit."""
    names = sorted({name for edge in edges for name in edge})
    return RawGraph("test", {name: RawNode(name[:-1]) for name in names}, edges)


def test_nir_loops_are_cut_behind_the_neuron_in_front_of_the_entry() -> None:
    """One neuron: its own output. Two: the later one's, where data enter at the first."""
    one = with_delays(raw(("Input1", "LIF1"), ("LIF1", "Affine1"), ("Affine1", "LIF1"), ("LIF1", "Output1")))
    assert set(one.edges) >= {("LIF1", "LIF1.previous"), ("LIF1.previous", "Affine1"), ("Affine1", "LIF1")}
    assert ("LIF1", "Output1") in one.edges
    two = with_delays(
        raw(
            ("Input1", "Affine1"),
            ("Affine1", "LIF1"),
            ("LIF1", "LIF2"),
            ("LIF2", "Linear1"),
            ("Linear1", "LIF1"),
            ("LIF2", "Output1"),
        )
    )
    assert set(two.edges) >= {("LIF1", "LIF2"), ("LIF2", "LIF2.previous"), ("LIF2.previous", "Linear1")}
    plain = raw(("Input1", "LIF1"), ("LIF1", "Output1"))
    assert with_delays(plain).edges == plain.edges
