"""NeuroBench's metrics against hand-made numbers; benchmarks/shared_metrics.py runs NeuroBench itself."""

from __future__ import annotations

import itertools
from dataclasses import replace

import nirfiles
import numpy as np
import pytest

import nmc
from nmc.frontend import opgraph as og
from nmc.frontend.opgraph import OpGraph
from nmc.reports.neurobench import measure


def graph_of(nodes: dict[str, og.Op]) -> OpGraph:
    return OpGraph(nodes, tuple(itertools.pairwise(nodes)), steps=3)


def integrate(threshold: float) -> og.Neuron:
    return og.Neuron(og.constant(threshold))


def two_layers(weight: np.ndarray) -> OpGraph:
    """2 inputs -> 2 IF neurons (threshold 2, reset to 0) -> 1 IF neuron that never reaches its threshold."""
    return graph_of(
        {
            "in": og.Input((2,)),
            "fc1": og.Linear(weight),
            "if1": integrate(2.0),
            "fc2": og.Linear(np.array([[0.5, 0.5]]), np.array([0.0])),
            "if2": integrate(100.0),
            "out": og.Output(),
        }
    )


def test_by_hand() -> None:
    """x = (1, 0): v of the first neuron goes 1, 2 -> spike and 0, 1; the other one gets nothing."""
    found = measure(two_layers(np.array([[1.0, 0.0], [0.0, 3.0]])), np.array([[1.0, 0.0]]), [0], 3)
    assert (found.ParameterCount, found.Footprint) == (4 + 2 + 1, 28)
    assert found.ConnectionSparsity == round(2 / 6, 4)
    # One spike of 9 values: two neurons and one, three steps.
    assert found.ActivationSparsity == 8 / 9
    # fc1: one input and one weight, three steps; fc2: one spike, one target.
    assert (found.Effective_ACs, found.Effective_MACs) == (3 + 1, 0)
    assert found.Dense == 3 * (4 + 2)
    # All of the first step (2 + 1), then 0 <- 1 and 1 <- 0 of the first neuron, 0.5 of the last one.
    assert found.MembraneUpdates == 3 + 2 + 1


def test_inputs_other_than_spikes_make_macs() -> None:
    weight = np.array([[1.0, 0.0], [0.0, 3.0]])
    found = measure(two_layers(weight), np.array([[0.5, 1.0]]), None, 3)
    # fc1 reads 0.5; both its used weights count. The second neuron fires in every step, the first one never.
    assert (found.Effective_MACs, found.Effective_ACs) == (3 * 2, 3)
    assert found.ClassificationAccuracy is None
    # One call is one step of all samples: a single analog value makes all of the step's operations MACs.
    mixed = measure(two_layers(weight), np.array([[0.5, 1.0], [1.0, 0.0]]), None, 3)
    assert mixed.Effective_MACs == (3 * 2 + 3 * 1) / 2


@pytest.mark.parametrize(("groups", "dense"), [(1, 3872), (2, 1936)])
def test_padding_is_no_operation(groups: int, dense: int) -> None:
    """8 x 8, 3 x 3 taps with padding: 22 x 22 of 24 x 24 taps lie inside, 2 inputs, 4 outputs."""
    weight = np.ones((4, 2 // groups, 3, 3))
    nodes = {
        "in": og.Input((2, 8, 8)),
        "conv": og.Conv2d(weight, padding=(1, 1), groups=groups),
        "if": integrate(1e9),
        "out": og.Output(),
    }
    x = np.ones((1, 2, 8, 8))
    found = measure(graph_of(nodes), x, None, 1)
    assert found.Dense == found.Effective_ACs == dense
    assert measure(graph_of(nodes), 0 * x, None, 1).Effective_ACs == 0
    zeroed = {**nodes, "conv": replace(nodes["conv"], weight=weight * (np.arange(3) > 0))}
    pruned = measure(graph_of(zeroed), x, None, 1)
    assert pruned.Dense == dense > pruned.Effective_ACs


def test_batch_norm_counts_as_parameters_and_buffers() -> None:
    ones = np.ones(3)
    nodes = {
        "in": og.Input((3,)),
        "bn": og.BatchNorm(ones, ones, ones, ones),
        "if": integrate(1.0),
        "out": og.Output(),
    }
    found = measure(graph_of(nodes))
    assert (found.ParameterCount, found.Footprint) == (6, 4 * 12)
    assert found.Dense is None
    assert found.to_dict()["SynapticOperations"] is None


def test_the_packaged_network() -> None:
    with np.load(nirfiles.CALIBRATION) as data:
        x, y = data["x"][:8], data["y"][:8]
    found = nmc.neurobench(nirfiles.DIGITS, x, y)
    assert found.Effective_ACs + found.Effective_MACs < found.Dense
    assert found.ClassificationAccuracy == (nmc.run_float(nirfiles.DIGITS, x).classes == y).mean()
    assert set(found.to_dict()) == {
        *("Footprint", "ParameterCount", "ConnectionSparsity", "ActivationSparsity", "MembraneUpdates"),
        *("SynapticOperations", "ClassificationAccuracy"),
    }
