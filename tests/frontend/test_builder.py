"""``file.py:function`` with safetensors: graphs and modules, and every way to get it wrong."""

from __future__ import annotations

import numpy as np
import pytest
from smallmodels import LINEAR_FILE
from tensorfiles import safetensors

import nmc
from nmc.errors import NmcError
from nmc.frontend import opgraph as og
from nmc.frontend.builder import is_builder
from nmc.frontend.safetensors import read_safetensors

GRAPH = """
from nmc.frontend import opgraph as og

def build():
    nodes = {"i": og.Input((3,)), "n": og.Neuron(1.0), "o": og.Output()}
    return og.OpGraph(nodes, (("i", "n"), ("n", "o")), steps=4)

def wrong():
    return 5

def broken():
    raise OSError("no disk")

def leaves():
    raise SystemExit(0)
"""
MODULE = (
    LINEAR_FILE
    + """
def pair():
    return Net(), (3,)
"""
)


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.py"
    path.write_text(GRAPH)
    return path


def test_a_builder_of_graphs(model):
    graph = nmc.load(f"{model}:build")
    assert isinstance(graph, og.OpGraph)
    assert is_builder(f"{model}:build")
    assert not is_builder(model)
    assert nmc.load(f"{model}:build").steps == 4


@pytest.mark.parametrize("function", ["build", "pair"])
def test_a_module_with_its_weights(tmp_path, function):
    path = tmp_path / "module.py"
    path.write_text(MODULE)
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    file = safetensors(tmp_path / "w.safetensors", {"fc.weight": weight, "fc.bias": np.ones(2, np.float32)})
    graph = nmc.load(f"{path}:{function}", weights=file, steps=4)
    (layer,) = (op for op in graph.nodes.values() if isinstance(op, og.Linear))
    np.testing.assert_array_equal(layer.weight, weight)
    np.testing.assert_array_equal(layer.bias, [1, 1])


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"fc.weight": np.zeros((2, 3), np.float32)}, "misses 1 tensors: fc.bias"),
        (
            {"fc.weight": np.zeros((3, 2), np.float32), "fc.bias": np.zeros(2, np.float32)},
            r"of shape \(3, 2\)",
        ),
    ],
)
def test_weights_that_do_not_fit(tmp_path, tensors, message):
    path = tmp_path / "module.py"
    path.write_text(MODULE)
    with pytest.raises(NmcError, match=f"NMC-F04 .*{message}"):
        nmc.load(f"{path}:build", weights=safetensors(tmp_path / "w.safetensors", tensors))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("nothing", "NMC-U03 nothing: is no function"),
        ("wrong", "NMC-G05 .*returned a int; return an OpGraph"),
        ("broken", r"NMC-G05 .*broken\(\) raised OSError: no disk"),
        ("leaves", r"NMC-G05 .*leaves\(\) raised SystemExit"),
    ],
)
def test_functions_that_build_nothing(model, function, message):
    with pytest.raises(NmcError, match=message):
        nmc.load(f"{model}:{function}")


def test_a_file_that_leaves(tmp_path):
    path = tmp_path / "model.py"
    path.write_text(GRAPH + "\nraise SystemExit(0)\n")
    with pytest.raises(NmcError, match=r"NMC-G05 .*cannot be imported: SystemExit"):
        nmc.load(f"{path}:build")


def test_what_the_users_code_prints_is_no_result(tmp_path, capsys):
    path = tmp_path / "module.py"
    path.write_text(
        MODULE.replace("return self", "print('a line')\n        return self") + "print('another')\n"
    )
    nmc.load(f"{path}:build", steps=4)
    assert capsys.readouterr() == ("", "another\na line\n")


def test_weights_of_another_kind(tmp_path):
    half = np.array([1.5, -2.0], np.float16)
    np.testing.assert_array_equal(
        read_safetensors(safetensors(tmp_path / "h", {"a": half}, "F16"))["a"], half
    )
    bits = np.array([0x3FC0, 0xC000], np.uint16)
    np.testing.assert_array_equal(
        read_safetensors(safetensors(tmp_path / "b", {"a": bits}, "BF16"))["a"], half
    )
    (tmp_path / "no").write_bytes(b"\xff" * 20)
    with pytest.raises(NmcError, match="NMC-F01"):
        read_safetensors(tmp_path / "no")
    with pytest.raises(NmcError, match="NMC-F04"):
        read_safetensors(safetensors(tmp_path / "s", {"a": half}, "F32"))
