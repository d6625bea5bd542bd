"""Files that the nir package writes, read without it."""

from __future__ import annotations

import subprocess
import sys
from importlib import resources
from itertools import pairwise
from pathlib import Path

import h5py
import nir
import numpy as np
import pytest

from nmc.errors import NmcError
from nmc.frontend import opgraph as og
from nmc.frontend.float_engine import run
from nmc.frontend.float_network import run_network
from nmc.frontend.lower import lower
from nmc.frontend.nir_read import inspect_nir, load_nir
from nmc.ir import Encoding, Stage
from nmc.rules import verify

RNG = np.random.default_rng(11)
DIGITS = Path(str(resources.files("nmc") / "data" / "digits_sew.nir"))


def spikes(shape: tuple[int, ...]) -> nir.IF:
    return nir.IF(np.full(shape, 1e4), np.full(shape, 1.0), np.zeros(shape))


def dyadic(*shape: int) -> np.ndarray:
    return (RNG.integers(-8, 9, shape) / 8).astype(np.float32)


def ends(source: tuple[int, ...], sink: tuple[int, ...]) -> tuple[nir.Input, nir.Output]:
    return nir.Input({"input": np.array(source)}), nir.Output({"output": np.array(sink)})


def convolve(x, weight, bias, stride, padding, dilation, groups):
    """Correlation of one map (C, H, W) by four loops; padding ((top, bottom), (left, right))."""
    x = np.pad(x, ((0, 0), *padding))
    (c_out, per_group, kh, kw), (_, height, width) = weight.shape, x.shape
    out_h = (height - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    out_w = (width - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    y = np.zeros((c_out, out_h, out_w))
    for o in range(c_out):
        first = o // (c_out // groups) * per_group
        for i, j in np.ndindex(out_h, out_w):
            rows = i * stride[0] + dilation[0] * np.arange(kh)
            columns = j * stride[1] + dilation[1] * np.arange(kw)
            window = x[first : first + per_group][:, rows][:, :, columns]
            y[o, i, j] = (window * weight[o]).sum() + bias[o]
    return y


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "groups", "pads"),
    [
        ((3, 3), 1, 1, 1, 1, ((1, 1), (1, 1))),
        ((3, 2), (2, 1), (1, 0), (1, 2), 1, ((1, 1), (0, 0))),
        ((3, 3), (1, 1), (1, 1), (1, 1), 2, ((1, 1), (1, 1))),
        ((3, 3), 1, "valid", 1, 4, ((0, 0), (0, 0))),
        ((3, 5), 1, "same", 1, 1, ((1, 1), (2, 2))),
        ((3, 3), 1, "same", 2, 1, ((2, 2), (2, 2))),
        ((2, 4), 1, "same", 1, 1, ((0, 1), (1, 2))),
    ],
)
def test_convolutions(kernel, stride, padding, dilation, groups, pads, write_nir):
    weight, bias = dyadic(8, 4 // groups, *kernel), dyadic(8)
    x = dyadic(4, 7, 6)
    pair = [value if isinstance(value, tuple) else (value, value) for value in (stride, dilation)]
    expected = convolve(x, weight, bias, pair[0], pads, pair[1], groups)
    start, end = ends(x.shape, expected.shape)
    node = nir.Conv2d(None, weight, stride, padding, dilation, groups, bias)
    node.input_shape = (7, 6)
    graph = load_nir(write_nir({"input": start, "c": node, "output": end}))
    np.testing.assert_array_equal(run(graph, x[None], 1).output[0], expected)


@pytest.mark.parametrize(("kernel", "groups"), [((3, 3), 4), ((3, 3), 2), ((1, 3), 1)])
def test_convolutions_that_the_nir_package_cannot_read(kernel, groups, write_nir):
    """nir 1.0.8 takes C_in / groups for the number of inputs, and the kernel's height for its width."""
    weight, bias, x = dyadic(8, 4 // groups, *kernel), dyadic(8), dyadic(4, 7, 6)
    pads = [(size // 2, size // 2) for size in kernel]
    expected = convolve(x, weight, bias, (1, 1), pads, (1, 1), groups)
    start, end = ends(x.shape, expected.shape)
    node = nir.Conv2d(None, weight, 1, (kernel[0] // 2, kernel[1] // 2), 1, groups, bias)
    node.input_shape = (7, 6)
    path = write_nir({"input": start, "c": node, "output": end})
    with pytest.raises(ValueError, match="mismatch"):
        nir.read(path)
    np.testing.assert_array_equal(run(load_nir(path), x[None], 1).output[0], expected)


@pytest.mark.parametrize("kind", [nir.SumPool2d, nir.AvgPool2d])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [((2, 2), (2, 2), (0, 0)), (2, 2, 0), ((2, 4), (1, 2), (1, 2))]
)
def test_pools(kind, kernel, stride, padding, write_nir):
    x = dyadic(3, 6, 5)
    full = [np.broadcast_to(value, 2) for value in (kernel, stride, padding)]
    weight = np.zeros((3, 1, *full[0])) + (1 / full[0].prod() if kind is nir.AvgPool2d else 1)
    expected = convolve(x, weight, np.zeros(3), full[1], [(p, p) for p in full[2]], (1, 1), 3)
    start, end = ends(x.shape, expected.shape)
    as_stored = [v if isinstance(v, int) else np.array(v) for v in (kernel, stride, padding)]
    graph = load_nir(write_nir({"input": start, "p": kind(*as_stored), "output": end}))
    np.testing.assert_array_equal(run(graph, x[None], 1).output[0], expected)


def test_a_residual_network_of_every_linear_node(write_nir):
    """Sums as edges, both lowerings equal to the op graph, names kept."""
    start, end = ends((2, 6, 6), (3,))
    nodes = {
        "input": start,
        "stem": nir.Conv2d((6, 6), dyadic(4, 2, 3, 3), 1, 1, 1, 1, dyadic(4)),
        "stem.if": spikes((4, 6, 6)),
        "conv1": nir.Conv2d((6, 6), dyadic(4, 4, 3, 3), 1, 1, 1, 1, dyadic(4)),
        "if1": spikes((4, 6, 6)),
        "pool": nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        "scale": nir.Scale(np.full((4, 3, 3), 2.0)),
        "gate": nir.Threshold(np.full((4, 3, 3), 0.5)),
        "flatten": nir.Flatten({"input": np.array([4, 3, 3])}, 0, -1),
        "fc": nir.Affine(dyadic(5, 36), dyadic(5)),
        "fc.if": spikes((5,)),
        "linear": nir.Linear(dyadic(3, 5)),
        "readout": nir.I(np.full(3, 1e4)),
        "output": end,
    }
    path = [
        "input",
        "stem",
        "stem.if",
        "conv1",
        "if1",
        "pool",
        "scale",
        "gate",
        "flatten",
        "fc",
        "fc.if",
        "linear",
    ]
    path += ["readout", "output"]
    edges = [*pairwise(path), ("stem.if", "pool")]
    graph = load_nir(write_nir(nodes, edges))
    assert set(graph.nodes) == set(nodes)
    assert graph.name == "model"
    x = RNG.integers(0, 9, (4, 2, 6, 6)) / 8
    expected = run(graph, x, 5)
    assert expected.values["if1"].any()
    for joins in ("distribute", "relay"):
        network = lower(graph, 5, joins, Encoding.GRADED)
        verify(network, Stage.FLOAT)
        assert network.outputs == ("readout",)
        np.testing.assert_array_equal(run_network(network, x, 5)["output/readout"], expected.output)


def subgraph() -> nir.NIRGraph:
    start, end = ends((3,), (3,))
    return nir.NIRGraph(
        {"input": start, "lin": nir.Linear(np.eye(3) * 2), "if": spikes((3,)), "output": end},
        [("input", "lin"), ("lin", "if"), ("if", "output")],
    )


def test_subgraphs_become_dotted_names(write_nir):
    start, end = ends((3,), (3,))
    inner = subgraph()
    outer = nir.NIRGraph(
        {"input": start, "deep": inner, "output": end}, [("input", "deep"), ("deep", "output")]
    )
    nodes = {"input": start, "a": inner, "b": outer, "output": end}
    graph = load_nir(write_nir(nodes, [("input", "a"), ("a", "b"), ("input", "b"), ("b", "output")]))
    assert set(graph.nodes) == {"input", "a.lin", "a.if", "b.deep.lin", "b.deep.if", "output"}
    assert set(graph.edges) == {
        ("input", "a.lin"),
        ("a.lin", "a.if"),
        ("a.if", "b.deep.lin"),
        ("input", "b.deep.lin"),
        ("b.deep.lin", "b.deep.if"),
        ("b.deep.if", "output"),
    }


def test_a_subgraph_that_only_passes_on_keeps_the_number_of_ways(write_nir):
    start, end = ends((3,), (3,))
    wire = nir.NIRGraph({"input": start, "output": end}, [("input", "output")])
    nodes = {"input": start, "a": wire, "b": wire, "if": spikes((3,)), "output": end}
    edges = [("input", "a"), ("input", "b"), ("a", "if"), ("b", "if"), ("if", "output")]
    graph = load_nir(write_nir(nodes, edges))
    assert graph.before("if") == ("input", "input")


def test_neuron_parameters_without_a_shape_apply_to_all(write_nir):
    start, end = ends((2, 3, 3), (2, 3, 3))
    path = write_nir({"input": start, "n": spikes((2, 3, 3)), "output": end})
    with h5py.File(path, "r+") as file:
        for key, value in (("r", 1e4), ("v_threshold", [1.0])):
            del file[f"node/nodes/n/{key}"]
            file[f"node/nodes/n/{key}"] = value
    assert run(load_nir(path), np.ones((1, 2, 3, 3)), 2).output.sum() == 36


def test_optional_fields_of_old_files(write_nir):
    """v_reset came with NIR 1.0.6; w_in defaults to 1."""
    start, end = ends((3,), (3,))
    path = write_nir({"input": start, "n": spikes((3,)), "output": end})
    with h5py.File(path, "r+") as file:
        del file["node/nodes/n/v_reset"]
        del file["version"]
    assert (load_nir(path).nodes["n"].v_reset == 0).all()


def test_a_flatten_that_counted_the_batch(write_nir):
    """An exporter that writes torch's start_dim=1 also writes an input type with one axis too many."""
    start, end = ends((2, 3, 3), (18,))
    node = nir.Flatten({"input": np.array([1, 2, 3, 3])}, 1, -1)
    graph = load_nir(write_nir({"input": start, "f": node, "output": end}))
    assert graph.nodes["f"] == og.Flatten(0, -1)


def test_numbers_of_other_types(write_nir):
    start, end = ends((3,), (2,))
    path = write_nir({"input": start, "fc": nir.Linear(np.ones((2, 3))), "output": end})
    for dtype in (">f4", "<f2", "i1"):
        with h5py.File(path, "r+") as file:
            del file["node/nodes/fc/weight"]
            file["node/nodes/fc/weight"] = np.arange(6).reshape(2, 3).astype(dtype)
        weight = load_nir(path).nodes["fc"].weight
        assert weight.dtype == np.float64
        np.testing.assert_array_equal(weight, np.arange(6).reshape(2, 3))


def test_an_unknown_field_is_a_warning(write_nir):
    start, end = ends((3,), (2,))
    path = write_nir({"input": start, "fc": nir.Linear(np.ones((2, 3))), "output": end})
    with h5py.File(path, "r+") as file:
        file["node/nodes/fc/sparsity"] = 0.5
        del file["version"]
        file["version"] = "9.1"
    graph, findings = inspect_nir(path)
    assert graph is not None
    assert {(f.severity, f.who) for f in findings} == {("warning", "fc"), ("warning", "model.nir")}


def test_the_packaged_network_lowers_both_ways():
    """The trained residual network, weights rounded to dyadic numbers so that every sum is exact."""
    graph = load_nir(DIGITS)
    assert graph.steps == 8
    nodes = {}
    for name, op in graph.nodes.items():
        if isinstance(op, og.Conv2d | og.Linear):
            rounded = {"weight": np.rint(op.weight * 256) / 256, "bias": np.rint(op.bias * 256) / 256}
            op = type(op)(**{**op.__dict__, **rounded})
        nodes[name] = op
    graph = graph.with_(nodes=nodes)
    with np.load(DIGITS.with_name("digits_test.npz"), allow_pickle=False) as data:
        x = data["x"][:20].astype(np.float64)
    expected = run(graph, x, 8)
    neurons = [name for name in graph.named(og.Neuron) if graph.nodes[name].threshold is not None]
    for joins in ("distribute", "relay"):
        network = lower(graph, 8, joins, Encoding.GRADED)
        verify(network, Stage.FLOAT)
        got = run_network(network, x, 8, record=neurons)
        for name in neurons:
            np.testing.assert_array_equal(got[name], expected.values[name])
        np.testing.assert_array_equal(got[f"output/{network.outputs[0]}"], expected.output)


def test_reading_needs_neither_the_nir_package_nor_torch():
    script = f"""
import sys
from nmc.frontend.nir_read import load_nir
load_nir({str(DIGITS)!r})
assert not {{"nir", "torch", "lava"}} & set(sys.modules), sorted(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_callers_path_may_be_a_string():
    assert load_nir(str(DIGITS)).name == "digits_sew"
    with pytest.raises(NmcError, match="NMC-F01"):
        load_nir("")
