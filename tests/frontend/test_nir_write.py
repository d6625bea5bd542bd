"""Export: the file says to nmc exactly what was compiled, and to every other NIR reader the same function."""

from __future__ import annotations

from itertools import pairwise

import h5py
import nir
import numpy as np
import pytest

import nmc
from nmc.errors import NmcError
from nmc.frontend import opgraph as og
from nmc.frontend.float_engine import run
from nmc.frontend.nir_read import inspect_nir, load_nir
from nmc.frontend.nir_write import node_name, write_nir
from nmc.ir import Compare

STEPS = 4
SHAPE = (2, 6, 6)
NEURON = og.Neuron(0.5)


def conv(rng: np.random.Generator, c_in: int, c_out: int, size: tuple[int, int] = (3, 3), groups: int = 1):
    weight = rng.integers(-8, 13, (c_out, c_in // groups, *size)) / 16
    return og.Conv2d(weight, None, padding=(size[0] // 2, size[1] // 2), groups=groups)


def joined(kind: str) -> og.OpGraph:
    """Two populations a and s, joined in one of all ways, then a layer."""
    rng = np.random.default_rng(3)
    middle: dict[str, og.Op] = {
        "add": og.Add(),
        "sub": og.Sub(),
        "mul": og.Mul(),
        "cat": og.Concat(),
        "twice": og.Add(),
        "max": og.MaxPool((3, 3), (1, 1), (1, 1)),
        "pool": og.AvgPool((2, 2), (2, 2)),
        "norm": og.BatchNorm(np.zeros(3), np.ones(3), np.arange(1.0, 4.0) / 2, np.ones(3) / 4, 0.0),
        "depthwise": conv(rng, 3, 3, groups=3),
        "wide": conv(rng, 3, 3, (1, 3)),
        "scale": og.Scale(np.array([0.5, 1.0, 1.5]).reshape(3, 1, 1)),
        "delay": og.Delay(2),
    }
    nodes: dict[str, og.Op] = {
        "input": og.Input(SHAPE),
        "net/c0": conv(rng, 2, 3),
        "s": NEURON,
        "c1": conv(rng, 3, 3),
        "a": NEURON,
        "join": middle[kind],
        "c2": conv(rng, 6 if kind == "cat" else 3, 2),
        "bn": og.BatchNorm(np.zeros(2), np.ones(2), np.ones(2) / 2, np.ones(2) / 8, 0.0),
        "s2": NEURON,
        "flat": og.Flatten(),
        "fc": og.Linear(rng.integers(-8, 9, (3, 18 if kind == "pool" else 72)) / 8, np.ones(3)),
        "s3": og.Neuron(2.0),
        "out": og.Output(),
    }
    pairs = "input>net/c0 net/c0>s s>c1 c1>a a>join s>join join>c2 c2>bn bn>s2 s2>flat flat>fc fc>s3 s3>out"
    edges = [tuple(pair.split(">")) for pair in pairs.split()]
    if kind == "twice":
        edges += [("s", "join"), ("a", "join")]
    return og.OpGraph(nodes, tuple(edges), "joined", 4, ("a note",), "told")


KINDS = ("add", "sub", "mul", "cat", "twice", "max", "pool", "norm", "depthwise", "wide", "scale", "delay")


def frames(graph: og.OpGraph) -> np.ndarray:
    return np.random.default_rng(4).integers(0, 9, (4, *graph.input_shapes[0])) / 8


# A convolution behind a padded one has no lowering without a neuron between them.
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("depthwise", "wide")])
def test_the_file_compiles_to_the_same_bytes(tmp_path, kind):
    chip = "loihi1" if kind in ("add", "mul") else "loihi2"
    graph, path = joined(kind), tmp_path / "model.nir"
    write_nir(graph, path)
    read = load_nir(path)
    assert (list(read.nodes), read.edges) == (list(graph.nodes), graph.edges)
    assert (read.name, read.steps, read.notes, read.profile) == ("joined", 4, ("a note",), "told")
    x = np.random.default_rng(0).integers(0, 2, (2, 4, *SHAPE))
    direct, again = (nmc.compile(g, chip, data=x) for g in (graph, read))
    direct.save(tmp_path / "direct.nmc")
    again.save(tmp_path / "again.nmc")
    assert (tmp_path / "direct.nmc").read_bytes() == (tmp_path / "again.nmc").read_bytes()


def chain(**middle: og.Op) -> og.OpGraph:
    """Layers with a neuron behind each, then a linear layer."""
    rng = np.random.default_rng(5)
    nodes: dict[str, og.Op] = {"input": og.Input(SHAPE), "c": conv(rng, 2, 6), "s": NEURON}
    for name, op in middle.items():
        nodes |= {name: op, f"{name}.s": NEURON}
    nodes |= {"flat": og.Flatten(), "fc": og.Linear(rng.integers(-4, 9, (3, 210)) / 8), "end": og.Neuron(1.0)}
    names = [*nodes, "out"]
    return og.OpGraph({**nodes, "out": og.Output()}, tuple(pairwise(names)), "chain", 4)


def recurrent(steps: int, self_loop: bool) -> og.OpGraph:
    """A layer that feeds itself back, directly or through weights, one or more steps later."""
    rng = np.random.default_rng(6)
    nodes: dict[str, og.Op] = {
        "input": og.Input((5,)),
        "fc": og.Linear(rng.integers(-4, 9, (4, 5)) / 8),
        "s": og.Neuron(1.0),
        "late": og.Delay(steps),
        "back": og.Scale(-0.5) if self_loop else og.Linear(rng.integers(-6, 5, (4, 4)) / 8),
        "out": og.Output(),
    }
    pairs = "input>fc fc>s s>late late>back back>s s>out"
    return og.OpGraph(nodes, tuple(tuple(pair.split(">")) for pair in pairs.split()), "recurrent", 4)  # type: ignore[misc]


def every_layer() -> og.OpGraph:
    rng = np.random.default_rng(7)
    return chain(
        grouped=conv(rng, 6, 6, groups=2),
        depthwise=conv(rng, 6, 6, groups=6),
        wide=conv(rng, 6, 6, (1, 5)),
        tall=conv(rng, 6, 6, (3, 1)),
        dilated=og.Conv2d(rng.integers(-4, 9, (6, 6, 3, 3)) / 16, None, (1, 1), (2, 2), (2, 2)),
        strided=og.Conv2d(rng.integers(-4, 9, (6, 6, 2, 2)) / 16, rng.integers(0, 3, 6) / 8, (1, 1), (1, 0)),
        summed=og.SumPool((3, 3), (1, 1), (1, 1)),
        late=og.Delay(3),
    ).with_(name="layers")


CONSTRUCTS = {
    "one step back": lambda: recurrent(1, self_loop=False),
    "three steps back": lambda: recurrent(3, self_loop=False),
    "self-inhibition": lambda: recurrent(1, self_loop=True),
    "every layer": every_layer,
}


@pytest.mark.parametrize("name", CONSTRUCTS)
def test_loops_and_layers_compile_to_the_same_bytes(tmp_path, name):
    graph, path = CONSTRUCTS[name](), tmp_path / "model.nir"
    write_nir(graph, path)
    x = np.random.default_rng(0).integers(0, 2, (2, 4, *graph.input_shapes[0]))
    direct, again = (nmc.compile(g, "loihi2", data=x) for g in (graph, path))
    assert direct.build_id == again.build_id
    direct.save(tmp_path / "direct.nmc")
    again.save(tmp_path / "again.nmc")
    assert (tmp_path / "direct.nmc").read_bytes() == (tmp_path / "again.nmc").read_bytes()


@pytest.mark.parametrize("name", CONSTRUCTS)
def test_loops_and_layers_mean_the_same_to_other_readers(tmp_path, name):
    graph, path = CONSTRUCTS[name](), tmp_path / "model.nir"
    write_nir(graph, path)
    strict = nir.read(path)
    delays = [node for node in strict.nodes.values() if isinstance(node, nir.Delay)]
    # Every reader feeds a loop back one step later: written as a node, that step would count twice.
    assert len(delays) == (0 if name in ("one step back", "self-inhibition") else 1)
    strict.metadata = {}
    nir.write(path, strict)
    expected, got = (run(g, frames(graph), 8) for g in (graph, load_nir(path)))
    for layer in graph.named(og.Neuron):
        np.testing.assert_array_equal(got.values[layer], expected.values[layer])
        assert expected.values[layer].any()


@pytest.mark.parametrize("kind", KINDS)
def test_other_readers_get_the_same_function(tmp_path, kind):
    """Without nmc's metadata the nodes alone give the same spikes, read as SpikingJelly writes them."""
    graph, path = joined(kind), tmp_path / "model.nir"
    write_nir(graph, path)
    strict = nir.read(path)
    assert isinstance(strict, nir.NIRGraph)
    plain = tmp_path / "plain.nir"
    strict.metadata = {}
    nir.write(plain, strict)
    other = load_nir(plain)
    assert other.profile.startswith("spikingjelly (dt = 0.0001 s, detected)")
    expected, got = (run(g, frames(graph), STEPS) for g in (graph, other))
    np.testing.assert_array_equal(got.output, expected.output)
    for name in ("s", "a", "s2"):
        np.testing.assert_array_equal(got.values[name], expected.values[name])
        assert 0.02 < expected.values[name].mean() < 0.98


@pytest.mark.parametrize(
    ("neuron", "kind"),
    [
        (og.Neuron(1.0, gain=0.5, compare=Compare.GREATER), nir.IF),
        (og.Neuron(1.0, keep_v=0.5, gain=0.5, v_leak=0.25, v_reset=0.25, compare=Compare.GREATER), nir.LIF),
        (og.Neuron(None), nir.I),
        (og.Neuron(None, keep_v=0.75), nir.LI),
        (og.Neuron(1.0, keep_v=0.5, keep_u=0.75, w_in=0.5, compare=Compare.GREATER), nir.CubaLIF),
        (og.Neuron(None, keep_v=0.5, keep_u=0.75), nir.CubaLI),
        (og.Neuron(1.0, keep_v=0.0, compare=Compare.GREATER), nir.Threshold),
    ],
)
def test_neurons_obey_nirs_equations(tmp_path, neuron, kind):
    """Read by nir's definitions (forward Euler, reset to v_reset) they do what the op says."""
    graph = og.OpGraph({"i": og.Input((3,)), "n": neuron, "o": og.Output()}, (("i", "n"), ("n", "o")))
    path = tmp_path / "model.nir"
    write_nir(graph, path)
    strict = nir.read(path)
    assert type(strict.nodes["n"]) is kind
    strict.metadata = {}
    nir.write(path, strict)
    x = np.random.default_rng(1).integers(0, 17, (2, 12, 3)) / 8
    expected = run(graph, x, 12).values["n"]
    got = run(load_nir(path, "nir", 1e-4), x, 12).values["n"]
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)
    assert expected.any()


def test_random_graphs_survive(tmp_path, random_graph):
    for seed in range(10):
        graph = random_graph(np.random.default_rng(seed))
        write_nir(graph, tmp_path / "model.nir")
        nir.read(tmp_path / "model.nir")
        read = load_nir(tmp_path / "model.nir")
        x = frames(graph)
        np.testing.assert_array_equal(run(read, x, 3).output, run(graph, x, 3).output)


def test_shared_weights_stay_shared_and_arrays_stand_only_once(tmp_path):
    weight = og.constant(np.random.default_rng(0).normal(size=(64, 64)))
    nodes = {
        "i": og.Input((64,)),
        "a": og.Linear(weight),
        "n": NEURON,
        "b": og.Linear(weight),
        "o": og.Output(),
    }
    graph = og.OpGraph(nodes, (("i", "a"), ("a", "n"), ("n", "b"), ("b", "o")))
    write_nir(graph, tmp_path / "model.nir")
    read = load_nir(tmp_path / "model.nir")
    assert read.nodes["a"].weight is read.nodes["b"].weight
    np.testing.assert_array_equal(read.nodes["a"].weight, weight)
    with h5py.File(tmp_path / "model.nir") as file:
        assert "arrays" not in file["node/metadata/nmc"]


def edited(path, change) -> str:
    with h5py.File(path, "r+") as file:
        change(file["node"])
    graph, findings = inspect_nir(path)
    assert graph is None
    return str(next(one.error() for one in findings if one.severity == "error"))


def replaced(key: str, old: str, new: str):
    def change(root: h5py.Group) -> None:
        text = root[key][()].decode()
        assert old in text
        del root[key]
        root[key] = text.replace(old, new)

    return change


def bumped(root: h5py.Group) -> None:
    root["nodes/fc/weight"][0, 0] += 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (bumped, "NMC-G07 model.nir: its nodes were changed after nmc wrote"),
        (replaced("metadata/nmc/graph", '"schema": 1', '"schema": 2'), "NMC-F07"),
        (replaced("metadata/nmc/graph", '"Neuron"', '"Nothing"'), "NMC-F04 model.nir: metadata 'nmc' hold"),
        (replaced("metadata/nmc/graph", '"fc/weight"', '"fc/none"'), "NMC-F04"),
        (replaced("metadata/nmc/graph", '"values": [2.0]', '"values": [NaN]'), "NMC-F04"),
        (replaced("metadata/nmc/graph", '["s3", "out"]', '["s3", "missing"]'), "NMC-G01"),
        (replaced("metadata/nmc/graph", '["s3", "out"]', '["fc", "out"]'), "NMC-G08"),
        (replaced("metadata/nmc/graph", '{"', '["'), "NMC-F04"),
    ],
)
def test_edited_files_are_refused(tmp_path, change, message):
    write_nir(joined("add"), tmp_path / "model.nir")
    assert message in edited(tmp_path / "model.nir", change)


def test_a_profile_is_not_given_twice(tmp_path):
    write_nir(joined("add"), tmp_path / "model.nir")
    with pytest.raises(NmcError, match=r"NMC-G07.*nmc wrote this file"):
        load_nir(tmp_path / "model.nir", profile="norse")


def test_what_nir_cannot_say_is_refused(tmp_path):
    for op in (og.ReLU(), og.MaxPool((2, 2), (2, 2)), og.Mul(), og.Concat(1)):
        nodes = {"i": og.Input(SHAPE), "x": op, "n": NEURON, "o": og.Output()}
        graph = og.OpGraph(nodes, (("i", "x"), ("i", "x"), ("x", "n"), ("n", "o")))
        with pytest.raises(NmcError, match="NMC-G05 x"):
            write_nir(graph, tmp_path / "model.nir")
        assert not (tmp_path / "model.nir").exists()


def test_names_that_no_file_takes():
    taken: set[str] = set()
    for name in ("a/b", "a.b", ".", "..", "", "ü:1", "x" * 300, "a b"):
        taken.add(node_name(name, taken))
    assert taken == {"a.b", "a.b.2", "node", "node.2", "node.3", "__1", "x" * 100, "a_b"}
