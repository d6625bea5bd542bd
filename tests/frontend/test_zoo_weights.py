"""Learned arrays in and out of a graph, and batch norms calibrated on samples."""

from __future__ import annotations

import numpy as np
import pytest

from nmc.errors import NmcError
from nmc.frontend import opgraph as og
from nmc.frontend.float_engine import run
from nmc.frontend.zoo.calibrated import calibrated
from nmc.frontend.zoo.draft import parameters
from nmc.frontend.zoo.events import seven_b
from nmc.frontend.zoo.inception import inception_v3
from nmc.frontend.zoo.weights import tensors, with_tensors

SMALL = {"size": 8, "width": 0.125, "steps": 3}


def test_tensors_go_from_one_graph_to_another():
    source, target = seven_b(**SMALL, seed=1), seven_b(**SMALL, seed=2)
    x = np.random.default_rng(0).integers(0, 2, (2, 3, 2, 8, 8))
    outputs = [run(graph, x, 3).output for graph in (source, target, with_tensors(target, tensors(source)))]
    assert (outputs[0] != outputs[1]).any()
    np.testing.assert_array_equal(outputs[0], outputs[2])


def test_every_parameter_has_a_tensor():
    graph = seven_b(**SMALL)
    found = tensors(graph)
    statistics = sum(array.size for name, array in found.items() if name.endswith(("/mean", "/var")))
    neurons = sum(array.size for name, array in found.items() if name.endswith(("/keep_v", "/gain")))
    assert sum(array.size for array in found.values()) - statistics - neurons == parameters(graph)


def test_other_names_and_shapes_are_refused():
    graph = seven_b(**SMALL)
    weight = tensors(graph)["fc/weight"]
    for name, array in (("fc/weights", weight), ("fc/weight", weight[:1])):
        with pytest.raises(NmcError, match=name) as caught:
            with_tensors(graph, {name: array})
        assert caught.value.code == "NMC-F04"


@pytest.mark.parametrize("join", ["add", "and"])
@pytest.mark.parametrize("frames", [True, False])
def test_calibrated_norms_give_mean_0_and_variance_1(join, frames):
    shape = (4, 2, 8, 8) if frames else (4, 3, 2, 8, 8)
    x = np.random.default_rng(0).integers(0, 2, shape)
    graph = calibrated(seven_b(join, **SMALL), x, 3)
    values = run(graph, x, 3).values
    norms = graph.named(og.BatchNorm)
    alive = [name for name in norms if graph.nodes[name].eps and graph.nodes[name].var.min() > 1e-3]
    assert len(alive) > 4
    for name in alive:
        axes = (0, 1, 3, 4)
        np.testing.assert_allclose(values[name].mean(axes), 0, atol=1e-9)
        np.testing.assert_allclose(values[name].var(axes), 1, rtol=0.02)


def test_concatenations_are_not_calibrated():
    graph = inception_v3(size=75, width=1 / 32, classes=2)
    with pytest.raises(NmcError, match="cannot be calibrated"):
        calibrated(graph, np.ones((1, 3, 75, 75)), 1)
