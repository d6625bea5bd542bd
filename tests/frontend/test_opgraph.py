from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from nmc.errors import NmcError
from nmc.frontend import opgraph as og


def chain(*ops: og.Op) -> og.OpGraph:
    names = [f"n{index}" for index in range(len(ops))]
    return og.OpGraph(dict(zip(names, ops, strict=True)), tuple(pairwise(names)))


def test_arrays_are_copied_once_and_read_only():
    mine = np.ones((2, 3))
    op = og.Linear(mine)
    assert mine.flags.writeable
    assert not op.weight.flags.writeable
    mine[:] = 7
    assert (op.weight == 1).all()
    assert og.Linear(op.weight).weight is op.weight


def test_a_read_only_view_of_a_writeable_array_is_copied():
    mine = np.ones((2, 3))
    view = mine.view()
    view.setflags(write=False)
    op = og.Linear(view)
    mine[:] = 7
    assert (op.weight == 1).all()


@pytest.mark.parametrize(
    ("op", "source", "expected"),
    [
        (og.Conv2d(np.ones((4, 2, 3, 5)), stride=(2, 1), padding=(1, 0)), (2, 9, 8), (4, 5, 4)),
        (og.Conv2d(np.ones((4, 1, 3, 3)), groups=2, dilation=(2, 2)), (2, 9, 8), (4, 5, 4)),
        (og.Linear(np.ones((5, 6))), (6,), (5,)),
        (og.SumPool((3, 2), (2, 2), (1, 0)), (2, 9, 8), (2, 5, 4)),
        (og.MaxPool((2, 2), (2, 2)), (2, 9, 8), (2, 4, 4)),
        (og.Flatten(), (2, 9, 8), (144,)),
        (og.Flatten(1, -1), (2, 9, 8), (2, 72)),
        (og.Neuron(np.ones((2, 1, 1))), (2, 9, 8), (2, 9, 8)),
        (og.Scale(np.ones((2, 9, 8))), (2, 9, 8), (2, 9, 8)),
        (og.Output((2, 9, 8)), (2, 9, 8), (2, 9, 8)),
    ],
)
def test_shapes(op, source, expected):
    assert chain(og.Input(source), op).shapes["n1"] == expected


@pytest.mark.parametrize(
    ("op", "source", "code"),
    [
        (og.Conv2d(np.ones((4, 3, 3, 3))), (2, 9, 8), "NMC-G03"),
        (og.Conv2d(np.ones((4, 2, 3, 3))), (18,), "NMC-G03"),
        (og.Conv2d(np.ones((4, 2, 9, 9))), (2, 8, 8), "NMC-G03"),
        (og.Conv2d(np.ones((4, 2, 3, 3)), np.ones(3)), (2, 9, 8), "NMC-G03"),
        (og.Conv2d(np.ones((4, 2, 3, 3)), stride=(0, 1)), (2, 9, 8), "NMC-F04"),
        (og.Conv2d(np.ones((4, 2, 3, 3)), dilation=(0, 1)), (2, 9, 8), "NMC-F04"),
        (og.Conv2d(np.ones((4, 2, 3, 3)), padding=(-1, 1)), (2, 9, 8), "NMC-F04"),
        (og.Conv2d(np.ones((4, 2, 3, 3)), groups=3), (6, 9, 8), "NMC-F04"),
        (og.Conv2d(np.ones((4, 0, 3, 3))), (2, 9, 8), "NMC-F04"),
        (og.Linear(np.ones((5, 6))), (2, 3), "NMC-G03"),
        (og.Linear(np.ones((5, 6))), (7,), "NMC-G03"),
        (og.SumPool((2, 2), (0, 2)), (2, 9, 8), "NMC-F04"),
        (og.AvgPool((10, 2), (2, 2)), (2, 9, 8), "NMC-G03"),
        (og.Flatten(2, 4), (2, 9, 8), "NMC-G03"),
        # numpy would align these with the last axis
        (og.Neuron(np.ones(8)), (2, 9, 8), "NMC-G03"),
        (og.Scale(np.ones(2)), (2, 9, 2), "NMC-G03"),
        (og.Output((10,)), (11,), "NMC-G03"),
        (og.Input((3,)), (3,), "NMC-F04"),
    ],
)
def test_wrong_shapes_and_numbers_name_the_node(op, source, code):
    graph = chain(og.Input(source), op)
    with pytest.raises(NmcError) as caught:
        _ = graph.shapes
    assert caught.value.code == code
    assert "n1" in str(caught.value)
    if code == "NMC-G03" and "bias" not in caught.value.problem:
        assert "n0" in str(caught.value), "a mismatch names both nodes"


def test_a_join_of_different_shapes_names_both_branches():
    nodes = {"in": og.Input((2, 4, 4)), "a": og.MaxPool((2, 2), (2, 2)), "sum": og.Add()}
    graph = og.OpGraph(nodes, (("in", "a"), ("in", "sum"), ("a", "sum")))
    with pytest.raises(
        NmcError, match=r"NMC-G03 sum: joins in of shape \(2, 4, 4\) and a of shape \(2, 2, 2\)"
    ):
        _ = graph.shapes


def test_order_is_topological_and_a_cycle_is_named():
    nodes = {"out": og.Output(), "b": og.Add(), "a": og.Add(), "in": og.Input((1,))}
    edges = (("in", "a"), ("a", "b"), ("b", "out"))
    assert og.OpGraph(nodes, edges).order == ("in", "a", "b", "out")
    with pytest.raises(NmcError) as caught:
        _ = og.OpGraph(nodes, (*edges, ("b", "a"))).order
    assert caught.value.code == "NMC-G09"
    assert "a -> b -> a" in str(caught.value) or "b -> a -> b" in str(caught.value)


def test_edges_to_missing_nodes_are_refused():
    with pytest.raises(NmcError, match="NMC-G01 b"):
        og.OpGraph({"a": og.Input((1,))}, (("a", "b"),))


def test_repeated_edges_are_kept():
    graph = og.OpGraph({"a": og.Input((1,)), "b": og.Add()}, (("a", "b"), ("a", "b")))
    assert graph.before("b") == ("a", "a")


@pytest.mark.parametrize(
    ("extra", "edge", "code"),
    [("second", None, "NMC-G05"), ("loose", ("in", "loose"), "NMC-G08")],
)
def test_ends(extra, edge, code):
    nodes = {"in": og.Input((1,)), "out": og.Output(), extra: og.Input((1,)) if edge is None else og.Add()}
    graph = og.OpGraph(nodes, (("in", "out"), *([edge] if edge else [])))
    with pytest.raises(NmcError) as caught:
        graph.check_ends()
    assert caught.value.code == code
    assert extra in str(caught.value)
