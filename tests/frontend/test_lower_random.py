"""Both lowerings of random residual graphs give the spikes of the op graph, all of them."""

from __future__ import annotations

import numpy as np
import pytest

from nmc.frontend import opgraph as og
from nmc.frontend.float_engine import run
from nmc.frontend.float_network import run_network
from nmc.frontend.lower import lower
from nmc.ir import Encoding, FloatNeuron, GradedRelay, Stage
from nmc.rules import verify

STEPS = 4


@pytest.mark.parametrize("joins", ["distribute", "relay"])
@pytest.mark.parametrize("trains", [False, True])
def test_spikes_are_those_of_the_op_graph(random_graph, joins, trains):
    fired = relays = 0
    for seed in range(60):
        rng = np.random.default_rng([seed, trains])
        graph = random_graph(rng)
        shape = graph.shapes["input"]
        x = rng.integers(0, 2, (2, STEPS, *shape)) if trains else rng.integers(-8, 9, (2, *shape)) / 8
        expected = run(graph, x, STEPS)
        network = lower(graph, STEPS, joins, Encoding.SPIKES if trains else Encoding.GRADED)
        verify(network, Stage.FLOAT)
        names = [p.name for p in network.compute if p.name in graph.nodes]
        got = run_network(network, x.astype(np.float64), STEPS, record=names)
        for name in names:
            if isinstance(network[name].neuron, FloatNeuron) and network[name].neuron.threshold is None:
                continue
            np.testing.assert_array_equal(
                got[name].reshape(expected.values[name].shape), expected.values[name], f"seed {seed} {name}"
            )
            fired += int(got[name].sum())
        (output,) = network.outputs
        np.testing.assert_array_equal(got[f"output/{output}"], expected.output, f"seed {seed}")
        neurons = {name for name in graph.named(og.Neuron)}
        assert neurons <= {p.name for p in network.populations}
        relays += sum(isinstance(p.neuron, GradedRelay) for p in network.populations)
    assert fired > 10_000
    assert (relays > 20) == (joins == "relay")
