"""Broken and hostile NIR files, at the reader: the code, the named node, no traceback of a library."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import h5py
import nir
import numpy as np
import pytest

from nmc.errors import NmcError
from nmc.frontend.lint import check_file
from nmc.frontend.nir_read import load_nir


def network() -> tuple[dict[str, nir.NIRNode], list[tuple[str, str]]]:
    """input -> conv -> if -> flatten -> fc -> out.if -> output, with a skip around a second convolution."""

    def spikes(*shape: int) -> nir.IF:
        return nir.IF(np.full(shape, 1e4), np.full(shape, 1.0), np.zeros(shape))

    nodes = {
        "input": nir.Input({"input": np.array([1, 4, 4])}),
        "conv": nir.Conv2d((4, 4), np.ones((2, 1, 3, 3)), 1, 1, 1, 1, np.zeros(2)),
        "if": spikes(2, 4, 4),
        "conv2": nir.Conv2d((4, 4), np.ones((2, 2, 3, 3)), 1, 1, 1, 1, np.zeros(2)),
        "if2": spikes(2, 4, 4),
        "flatten": nir.Flatten({"input": np.array([2, 4, 4])}, 0, -1),
        "fc": nir.Affine(np.ones((3, 32)), np.zeros(3)),
        "out.if": spikes(3),
        "output": nir.Output({"output": np.array([3])}),
    }
    names = list(nodes)
    return nodes, [*pairwise(names), ("if", "if2")]


@pytest.fixture
def good(write_nir) -> Path:
    return write_nir(*network())


def refusal(path: Path) -> NmcError:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(NmcError) as caught:
            load_nir(path)
        findings = check_file(path)
    assert "\n" not in str(caught.value)
    first = next(finding for finding in findings if finding.severity == "error")
    assert (first.code, first.who) == (caught.value.code, caught.value.who), "check and load agree"
    return caught.value


def test_the_good_file_is_good(good):
    assert load_nir(good).shapes["output"] == (3,)
    assert check_file(good) == []


# --- files ------------------------------------------------------------------------------------------


def truncate(share: float) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("weights: none\n"),
        truncate(0.01),
        truncate(0.5),
        truncate(0.99),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: h5py.File(path, "w").close(),
    ],
    ids=["missing", "empty", "text", "1 %", "50 %", "99 %", "directory", "other HDF5"],
)
def test_what_is_no_nir_file(damage, good):
    damage(good)
    error = refusal(good)
    assert error.code == "NMC-F01"
    assert str(good) in error.who


def external_link(file: h5py.File) -> None:
    with h5py.File(Path(file.filename).with_name("other.h5"), "w") as other:
        other["weight"] = np.ones((3, 32))
    del file["node/nodes/fc/weight"]
    file["node/nodes/fc/weight"] = h5py.ExternalLink("other.h5", "weight")


def soft_cycle(file: h5py.File) -> None:
    file["node/nodes/fc/again"] = h5py.SoftLink("/node")


def hard_cycle(file: h5py.File) -> None:
    file["node/nodes/fc/again"] = file["node"]


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3, 32), "f8")
    layout[:] = h5py.VirtualSource("other.h5", "weight", (3, 32))
    del file["node/nodes/fc/weight"]
    file["node/nodes/fc"].create_virtual_dataset("weight", layout)


def external_storage(file: h5py.File) -> None:
    del file["node/nodes/fc/weight"]
    file["node/nodes/fc"].create_dataset("weight", (3, 32), "f4", external=[("other.raw", 0, 384)])


def huge(file: h5py.File) -> None:
    del file["node/nodes/fc/weight"]
    file["node/nodes/fc"].create_dataset("weight", (1 << 20, 1 << 13), "f8", chunks=(64, 64))


def deep(file: h5py.File) -> None:
    group = file["node/nodes"]
    for _ in range(200):
        group = group.create_group("g")


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (external_link, "NMC-F02"),
        (soft_cycle, "NMC-F02"),
        (hard_cycle, "NMC-F02"),
        (virtual, "NMC-F02"),
        (external_storage, "NMC-F02"),
        (lambda file: file["node/nodes"].create_group("<script>"), "NMC-F02"),
        (lambda file: file["node/nodes"].create_group("x" * 10_000), "NMC-F02"),
        (huge, "NMC-F03"),
        (deep, "NMC-F03"),
    ],
)
def test_hostile_hdf5(edit, code, good):
    with h5py.File(good, "r+") as file:
        edit(file)
    assert refusal(good).code == code


# --- fields -----------------------------------------------------------------------------------------


def put(path: str, value: object) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        if f"node/{path}" in file:
            del file[f"node/{path}"]
        file[f"node/{path}"] = value

    return edit


def drop(path: str) -> Callable[[h5py.File], None]:
    return lambda file: file.pop(f"node/{path}")


def nan_at(path: str, value: float = np.nan) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        values = file[f"node/{path}"][()]
        values.flat[1] = value
        file[f"node/{path}"][...] = values

    return edit


def late(delay: object) -> Callable[[h5py.File], None]:
    """Another node in place of if2: its delay."""

    def edit(file: h5py.File) -> None:
        group = file["node/nodes/if2"]
        for key in list(group):
            del group[key]
        group["type"], group["delay"] = "Delay", delay

    return edit


FIELDS = {
    "delay as text": (late("soon"), "NMC-F04", "if2", "'delay' of Delay is text"),
    "empty delay": (late(np.zeros(0)), "NMC-F04", "if2", "'delay' of Delay is empty"),
    "NaN weight": (nan_at("nodes/fc/weight"), "NMC-G04", "fc", "1 of 96"),
    "infinite bias": (nan_at("nodes/conv/bias", np.inf), "NMC-G04", "conv", "1 of 2"),
    "NaN threshold": (nan_at("nodes/if/v_threshold"), "NMC-G04", "if", "v_threshold"),
    "missing weight": (drop("nodes/fc/weight"), "NMC-F04", "fc", "'weight' of Affine is missing"),
    "missing type": (drop("nodes/fc/type"), "NMC-F04", "fc", "'type'"),
    "type as number": (put("nodes/fc/type", 7), "NMC-F04", "fc", "'type'"),
    "unknown type": (put("nodes/fc/type", "LSTM"), "NMC-F05", "fc", "'LSTM'"),
    "a function's name as type": (put("nodes/fc/type", "dict2NIRNode"), "NMC-F05", "fc", "dict2NIRNode"),
    "no nodes": (drop("nodes"), "NMC-F04", "model.nir", "'nodes'"),
    "no edges": (drop("edges"), "NMC-F04", "model.nir", "'edges'"),
    "edges of numbers": (put("edges", np.zeros((3, 2))), "NMC-F04", "model.nir", "edges of shape"),
    "edges of three": (put("edges", [["a", "b", "c"]]), "NMC-F04", "model.nir", "edges of shape"),
    "a bare dataset as node": (put("nodes/fc", 1.0), "NMC-F04", "fc", "bare dataset"),
    "root of another type": (put("type", "Affine"), "NMC-F04", None, "NIRGraph"),
    "text as weight": (put("nodes/fc/weight", "many"), "NMC-F04", "fc", "text"),
    "complex weight": (put("nodes/fc/weight", np.ones((3, 32), complex)), "NMC-F04", None, "complex"),
    "bool weight": (put("nodes/fc/weight", np.ones((3, 32), bool)), "NMC-F04", "fc", "bool"),
    "bias of another shape": (put("nodes/fc/bias", np.zeros(4)), "NMC-G03", "fc", "bias"),
    "weight of another shape": (put("nodes/fc/weight", np.ones((3, 31))), "NMC-G03", "fc", "flatten"),
    "weight of three axes": (put("nodes/fc/weight", np.ones((2, 3, 32))), "NMC-G05", "fc", "(2, 3, 32)"),
    "neuron of another shape": (put("nodes/if/r", np.ones((2, 4, 5))), "NMC-G03", "if", "differ in shape"),
    "zero size": (put("nodes/fc/weight", np.ones((0, 32))), "NMC-F04", "fc", "(0, 32)"),
    "input of zero size": (put("nodes/input/shape", np.array([1, 0, 4])), "NMC-F04", "input", "(1, 0, 4)"),
    "input of an enormous size": (
        put("nodes/input/shape", np.array([1, 1 << 30, 1 << 30])),
        "NMC-F03",
        "input",
        "1073741824",
    ),
    "kernel larger than the map": (
        put("nodes/conv2/weight", np.ones((2, 2, 9, 9))),
        "NMC-G03",
        "conv2",
        "larger",
    ),
    "stride 0": (put("nodes/conv/stride", np.array([0, 1])), "NMC-F04", "conv", "stride"),
    "dilation 0": (put("nodes/conv/dilation", 0), "NMC-F04", "conv", "dilation"),
    "negative padding": (put("nodes/conv/padding", np.array([-1, 1])), "NMC-F04", "conv", "padding"),
    "padding by name": (put("nodes/conv/padding", "reflect"), "NMC-F04", "conv", "'reflect'"),
    "stride of three": (put("nodes/conv/stride", np.array([1, 1, 1])), "NMC-F04", "conv", "3 numbers"),
    "stride in fractions": (put("nodes/conv/stride", 1.5), "NMC-F04", "conv", "stride"),
    "groups that do not divide": (put("nodes/conv2/groups", 3), "NMC-F04", "conv2", "3 groups"),
    "another input shape": (put("nodes/conv2/input_shape", np.array([5, 5])), "NMC-G03", "conv2", "(5, 5)"),
    "threshold at the reset": (
        put("nodes/if/v_threshold", np.zeros((2, 4, 4))),
        "NMC-F04",
        "if",
        "not above the reset",
    ),
    "another output shape": (put("nodes/output/shape", np.array([4])), "NMC-G03", "output", "out.if"),
    "flatten beyond the axes": (put("nodes/flatten/end_dim", 5), "NMC-G03", "flatten", "0..5"),
}


@pytest.mark.parametrize("case", FIELDS)
def test_broken_fields(case, good):
    edit, code, who, text = FIELDS[case]
    with h5py.File(good, "r+") as file:
        edit(file)
    error = refusal(good)
    assert error.code == code
    assert who is None or error.who == who
    assert text in str(error)


def test_a_negative_time_constant(write_nir):
    nodes, edges = network()
    tau = np.array([1e-3, -1e-3, 1e-3])
    nodes["out.if"] = nir.LIF(tau, np.ones(3), np.zeros(3), np.ones(3))
    error = refusal(write_nir(nodes, edges))
    assert (error.code, error.who) == ("NMC-F04", "out.if")


def test_unknown_nodes_list_the_known_ones(write_nir):
    path = write_nir(*network())
    with h5py.File(path, "r+") as file:
        del file["node/nodes/if/type"]
        file["node/nodes/if/type"] = "Attention"
    error = refusal(path)
    assert (error.code, error.who) == ("NMC-F05", "if")
    for known in ("Affine", "Conv2d", "CubaLIF", "IF", "Threshold"):
        assert known in error.remedy


# --- edges ------------------------------------------------------------------------------------------


def write_edges(good: Path, edges: list[tuple[str, str]]) -> Path:
    with h5py.File(good, "r+") as file:
        del file["node/edges"]
        file["node/edges"] = np.array(edges, dtype=h5py.string_dtype())
    return good


def test_an_edge_to_a_missing_node_names_the_nearest(good):
    _, edges = network()
    error = refusal(write_edges(good, [("conv", "iff") if e == ("conv", "if") else e for e in edges]))
    assert error.code == "NMC-G01"
    assert "iff" in error.problem
    assert "did you mean if" in error.remedy


def test_a_repeated_edge(good):
    _, edges = network()
    error = refusal(write_edges(good, [*edges, ("if", "if2")]))
    assert error.code == "NMC-F04"
    assert "if -> if2 appears twice" in error.problem


def test_a_node_without_input_names_the_likely_cause(good):
    _, edges = network()
    error = refusal(write_edges(good, [e for e in edges if e[1] != "if2"]))
    assert (error.code, error.who) == ("NMC-G02", "if2")
    assert "'+'" in error.remedy


def test_an_input_that_the_nir_package_invented(write_nir):
    """The type check of nir adds ``input_if2`` where the edge is missing; the file then looks complete."""
    nodes, edges = network()
    nodes["input_if2"] = nir.Input({"input": np.array([2, 4, 4])})
    kept = [e for e in edges if e[1] != "if2"]
    error = refusal(write_nir(nodes, [*kept, ("input_if2", "if2")]))
    assert (error.code, error.who) == ("NMC-G02", "if2")
    assert "'+'" in error.remedy


def test_a_dead_end(good):
    _, edges = network()
    error = refusal(write_edges(good, [e for e in edges if e[0] != "if2"] + [("if", "flatten")]))
    assert (error.code, error.who) == ("NMC-G08", "conv2")


def test_a_cycle_without_a_neuron(good):
    _, edges = network()
    error = refusal(write_edges(good, [*edges, ("conv2", "conv2")]))
    assert (error.code, error.who) == ("NMC-G09", "conv2")
    assert "conv2 -> conv2" in error.problem


def test_a_join_of_different_shapes_names_both_nodes(good):
    _, edges = network()
    error = refusal(write_edges(good, [*edges, ("input", "if2")]))
    assert (error.code, error.who) == ("NMC-G03", "if2")
    assert "conv2" in error.problem
    assert "input" in error.problem


@pytest.mark.parametrize(("kind", "count"), [("Input", 2), ("Output", 2)])
def test_two_ends(kind, count, write_nir):
    nodes, edges = network()
    if kind == "Input":
        nodes["extra"] = nir.Input({"input": np.array([2, 4, 4])})
        edges.append(("extra", "if2"))
    else:
        nodes["extra"] = nir.Output({"output": np.array([2, 4, 4])})
        edges.append(("if2", "extra"))
    error = refusal(write_nir(nodes, edges))
    assert error.code == "NMC-G05"
    assert f"{count} {kind} nodes" in error.problem


@pytest.mark.parametrize("kind", ["Input", "Output"])
def test_no_end(kind, write_nir):
    nodes, edges = network()
    del nodes[kind.lower()]
    error = refusal(write_nir(nodes, [e for e in edges if kind.lower() not in e]))
    assert error.code == "NMC-F04"
    assert f"no {kind} node" in error.problem


def test_nested_graphs_cannot_multiply_edges(write_nir):
    """Ten layers of ten wires each, fully connected: ten billion ways from input to output."""
    ends = {"input": nir.Input({"input": np.array([3])}), "output": nir.Output({"output": np.array([3])})}
    wire = nir.NIRGraph(dict(ends), [("input", "output")])
    nodes: dict[str, nir.NIRNode] = dict(ends)
    layers = [["input"], *[[f"w{k}_{i}" for i in range(10)] for k in range(10)], ["output"]]
    nodes |= {name: wire for layer in layers[1:-1] for name in layer}
    edges = [(a, b) for one, two in pairwise(layers) for a in one for b in two]
    assert refusal(write_nir(nodes, edges)).code == "NMC-F03"


def test_all_findings_at_once(good):
    with h5py.File(good, "r+") as file:
        nan_at("nodes/fc/weight")(file)
        put("nodes/conv/type", "Convolution")(file)
        drop("nodes/if/r")(file)
    write_edges(good, [e for e in network()[1] if e[1] != "conv2"])
    found = {(finding.code, finding.who) for finding in check_file(good)}
    assert {("NMC-G04", "fc"), ("NMC-F05", "conv"), ("NMC-F04", "if"), ("NMC-G02", "conv2")} <= found


def test_shapes_are_checked_even_where_the_profile_is_unknown(write_nir):
    nodes, edges = network()
    for name in ("if", "if2", "out.if"):
        nodes[name].r = np.ones_like(nodes[name].r)
    nodes["fc"] = nir.Affine(np.ones((3, 31)), np.zeros(3))
    found = [finding.code for finding in check_file(write_nir(nodes, edges))]
    assert found == ["NMC-G06", "NMC-G03"]


VALUES: tuple[object, ...] = (
    *(np.zeros(shape) for shape in ((), (1,), (0,), (2, 3), (1, 2, 3, 3))),
    *(np.array(number) for number in (-1, 0, 2, 7, 1 << 62, -(1 << 62), 1e300, 1e-300, np.nan)),
    *("same", "IF", "LIF", "Conv2d", "Output", ""),
    np.array([0, 3]),
    True,
    5 + 0j,
)


def test_random_edits_are_findings_never_other_exceptions(good):
    whole = good.read_bytes()
    refused = 0
    for seed in range(80):
        rng = np.random.default_rng(seed)
        good.write_bytes(whole)
        with h5py.File(good, "r+") as file:
            names: list[str] = []
            file.visit(names.append)
            for name in rng.choice(names, 2):
                value = VALUES[rng.integers(len(VALUES))]
                if name in file:
                    leaf = isinstance(file[name], h5py.Dataset)
                    del file[name]
                    if leaf and rng.random() < 0.8:
                        file[name] = value
        profile = [None, "nir", "sinabs", "norse", "snntorch", "spikingjelly"][rng.integers(6)]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            refused += any(finding.severity == "error" for finding in check_file(good, profile))
    assert refused > 60
