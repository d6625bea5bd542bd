"""The zoo as NIR files: ``nir`` reads them, nmc reads back the same graph, and compiles it to the same bytes.

``python benchmarks/zoo.py --nir`` compiles the narrow variants of all 47 both ways.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

import nmc
from nmc.frontend import nir_semantics
from nmc.frontend import opgraph as og
from nmc.frontend.float_engine import run
from nmc.frontend.nir_read import load_nir
from nmc.frontend.nir_write import write_nir
from nmc.frontend.whole import value_ranges
from nmc.frontend.zoo import NETWORKS
from nmc.frontend.zoo.ghost import ghostnet

nir = pytest.importorskip("nir")

KINDS = (
    *("sew-resnet-18-iand", "resnet-8", "7b-net", "vgg16", "inception-v3"),
    *("ghostnet", "ghostnet-dfc", "ghostnet-mlp"),
)


@pytest.mark.parametrize("name", KINDS)
def test_the_file_holds_the_same_graph(tmp_path: Path, name: str) -> None:
    graph = NETWORKS[name].build(**NETWORKS[name].narrow)
    path = tmp_path / "model.nir"
    write_nir(graph, path)
    assert len(nir.read(path).nodes) >= len(graph.named(og.Neuron))
    text, arrays = nir_semantics.encode(graph, {})
    read_text, read_arrays = nir_semantics.encode(load_nir(path), {})
    assert read_text == text
    assert arrays.keys() == read_arrays.keys()
    assert all(np.array_equal(arrays[key], read_arrays[key]) for key in arrays)


@pytest.mark.parametrize("name", ["gates", "lenet"])
def test_both_compile_to_the_same_bytes(tmp_path: Path, name: str) -> None:
    lenet = NETWORKS["lenet"]
    graph = ghostnet(width=0.25, blocks=4, size=16) if name == "gates" else lenet.build(**lenet.narrow)
    path = tmp_path / "model.nir"
    write_nir(graph, path)
    x = np.random.default_rng(0).random((2, *graph.input_shapes[0]))
    for number, one in enumerate((graph, load_nir(path))):
        nmc.compile(one, "loihi2", data=x, steps=2).save(tmp_path / f"{number}.nmc")
    assert (tmp_path / "0.nmc").read_bytes() == (tmp_path / "1.nmc").read_bytes()


def spreading(seed: int) -> og.OpGraph:
    """Spikes through a convolution of whole weights, with a bias, borders and groups."""
    rng = np.random.default_rng(seed)
    groups = int(rng.integers(1, 3))
    kernel, pad = (int(n) for n in rng.integers(1, 5, 2))
    pad = min(pad, kernel - 1)
    weight = rng.integers(-3, 4, (4, 4 // groups, kernel, kernel)).astype(float)
    bias = rng.integers(-5, 6, 4).astype(float) if rng.random() < 0.5 else None
    nodes: dict[str, og.Op] = {
        "in": og.Input((4, 4, 4)),
        "fire": og.Neuron(threshold=og.constant(0.5)),
        "conv": og.Conv2d(weight, bias, padding=(pad, pad), groups=groups),
        "flat": og.Flatten(),
        "fc": og.Linear(rng.integers(-2, 3, (3, 4 * (4 + 2 * pad - kernel + 1) ** 2)).astype(float)),
        "out": og.Output(),
    }
    names = list(nodes)
    return og.OpGraph(nodes, tuple(itertools.pairwise(names)), "spreading", steps=3)


@pytest.mark.parametrize("seed", range(30))
def test_ranges_of_whole_layers_hold(seed: int) -> None:
    graph = spreading(seed)
    x = np.random.default_rng(seed).integers(0, 2, (64, 4, 4, 4)).astype(float)
    values = run(graph, x, 3, record=("conv", "fc")).values
    found = value_ranges(graph)
    for name in ("conv", "fc"):
        bounds = found[name]
        assert bounds is not None
        assert bounds[0] <= values[name].min()
        assert values[name].max() <= bounds[1]


def test_ranges_of_a_spread_pixel_are_tight() -> None:
    """A depthwise kernel of ones as large as the map, of which padding leaves each pixel one tap."""
    ones = np.ones((2, 1, 3, 3))
    nodes: dict[str, og.Op] = {
        "in": og.Input((2, 1, 1)),
        "fire": og.Neuron(threshold=og.constant(0.5)),
        "spread": og.Conv2d(ones, None, padding=(2, 2), groups=2),
        "half": og.Conv2d(ones / 2, None, groups=2),
        "out": og.Output(),
    }
    names = list(nodes)
    graph = og.OpGraph(nodes, tuple(itertools.pairwise(names)), "spread", steps=3)
    assert value_ranges(graph)["spread"] == (0, 1)
    assert value_ranges(graph)["half"] is None


def test_names_that_no_file_may_have_are_replaced(tmp_path: Path) -> None:
    """Inception's concatenations are called after all of their branches."""
    long = "x" * 200
    nodes: dict[str, og.Op] = {
        "in": og.Input((3,)),
        "a+b c": og.Neuron(threshold=og.constant(1.0)),
        "a_b_c": og.Linear(np.eye(3)),
        long: og.Neuron(threshold=og.constant(1.0)),
        f"{long}y": og.Linear(np.eye(3)),
        "out": og.Output(),
    }
    names = list(nodes)
    graph = og.OpGraph(nodes, tuple(itertools.pairwise(names)), "names", steps=3)
    write_nir(graph, tmp_path / "model.nir")
    assert {"a_b_c", "a_b_c.2"} <= nir.read(tmp_path / "model.nir").nodes.keys()
    assert list(load_nir(tmp_path / "model.nir").nodes) == names
