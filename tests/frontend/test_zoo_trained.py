"""The trained 7B-Net that ships tells motions apart, in float and as integers, the same on both engines."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import pytest
from same import differences

import nmc
from nmc.frontend.float_engine import run
from nmc.frontend.zoo.moving_shapes import MOTIONS, moving_shapes
from nmc.frontend.zoo.trained import STEPS, WEIGHTS, seven_b_trained, seven_b_untrained
from nmc.ir import FloatNeuron

SAMPLES = 5 * len(MOTIONS)


@pytest.fixture(scope="module")
def held_out():
    """Samples of a seed that neither training nor the tables have seen."""
    return moving_shapes(SAMPLES, "test", seed=1)


@pytest.fixture(scope="module")
def compiled():
    calibration, _ = moving_shapes(len(MOTIONS), "train")
    return nmc.compile(seven_b_trained(), "loihi2", calibration, steps=STEPS)


def test_the_weights_are_small_and_tau_is_learned():
    assert (files("nmc") / "data" / WEIGHTS).stat().st_size < 300_000
    graph, untrained = seven_b_trained(), seven_b_untrained()
    taus = [float(1 / op.gain) for op in graph.nodes.values() if hasattr(op, "gain")]
    assert len(set(taus)) == len(taus) > 14
    for name in graph.nodes:
        if hasattr(graph.nodes[name], "keep_v"):
            assert np.isclose(graph.nodes[name].keep_v + graph.nodes[name].gain, 1)
            assert graph.nodes[name].gain != untrained.nodes[name].gain


def test_it_tells_motions_apart_in_float_and_in_integers(held_out, compiled):
    x, y = held_out
    floats = (run(seven_b_trained(), x, STEPS, record=()).output.argmax(1) == y).mean()
    integers = (nmc.run(compiled, x).classes == y).mean()
    # Chance is one in eleven; the example prints what 550 samples give.
    assert floats > 0.85
    assert integers > floats - 0.08


def test_both_engines_give_the_same_bits(held_out, compiled):
    x = held_out[0][:2]
    reference, native = (
        nmc.run(compiled, x, engine=engine, record=("all",)) for engine in ("reference", "native")
    )
    assert not differences(reference, native)


def test_a_leak_per_layer_reaches_the_chip(compiled):
    decays = {
        int(p.neuron.dv.mant)
        for p in compiled.network.compute
        if not isinstance(p.neuron, FloatNeuron) and p.name.endswith(".sn")
    }
    assert len(decays) > 10
