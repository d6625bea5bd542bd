"""SpikingJelly's own model zoo, straight from the package: traced, run, equal in every neuron layer.

Full networks at 32 x 32 (or narrow where the zoo has a knob), because the float engine is plain NumPy. The
suite takes a few samples of each; ``support_table.py --samples 100`` takes so many, batch by batch.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly", reason="SpikingJelly is not installed")

from snn_nets import liven  # noqa: E402
from spikingjelly.activation_based import functional, neuron  # noqa: E402
from spikingjelly.activation_based.model import (  # noqa: E402
    ms_resnet,
    parametric_lif_net,
    sew_resnet,
    spiking_resnet,
    spiking_vgg,
)
from support_table import compared_samples, note_network  # noqa: E402

from nmc.frontend import opgraph as og  # noqa: E402
from nmc.frontend.trace import trace  # noqa: E402
from nmc.frontend.tracing.compare import compare  # noqa: E402

pytestmark = pytest.mark.frameworks

IF, LIF, PLIF = neuron.IFNode, neuron.LIFNode, neuron.ParametricLIFNode


def sew(build: Callable[..., Any], cnf: str, cell: type = IF, **kwargs: Any) -> Callable[[], Any]:
    return lambda: build(cnf=cnf, spiking_neuron=cell, num_classes=10, **kwargs)


ZOO: dict[str, tuple[Callable[[], Any], tuple[int, ...], int, int, int]] = {
    # name: build, input shape, samples of a batch, T, neuron layers
    "sew_resnet18 ADD": (sew(sew_resnet.sew_resnet18, "ADD"), (3, 32, 32), 8, 4, 20),
    "sew_resnet18 AND": (sew(sew_resnet.sew_resnet18, "AND"), (3, 32, 32), 8, 4, 20),
    "sew_resnet18 IAND": (sew(sew_resnet.sew_resnet18, "IAND", PLIF, v_threshold=0.4), (3, 32, 32), 8, 4, 20),
    "sew_resnet34 ADD": (sew(sew_resnet.sew_resnet34, "ADD"), (3, 32, 32), 4, 4, 36),
    "sew_resnet34 AND": (sew(sew_resnet.sew_resnet34, "AND"), (3, 32, 32), 4, 4, 36),
    "sew_resnet34 IAND": (sew(sew_resnet.sew_resnet34, "IAND"), (3, 32, 32), 4, 4, 36),
    "sew_resnet50 ADD": (sew(sew_resnet.sew_resnet50, "ADD"), (3, 32, 32), 4, 4, 53),
    "sew_resnet50 AND": (sew(sew_resnet.sew_resnet50, "AND"), (3, 32, 32), 4, 4, 53),
    "sew_resnet50 IAND": (sew(sew_resnet.sew_resnet50, "IAND"), (3, 32, 32), 4, 4, 53),
    "spiking_resnet18": (
        lambda: spiking_resnet.spiking_resnet18(spiking_neuron=LIF, num_classes=10),
        (3, 32, 32),
        8,
        4,
        17,
    ),
    "ms_resnet18": (lambda: ms_resnet.ms_resnet18(T=4, num_classes=10), (3, 32, 32), 8, 4, 17),
    "ms_resnet18 narrow": (
        lambda: ms_resnet.MSResNet(T=6, num_classes=10, base_channels=8),
        (3, 32, 32),
        64,
        6,
        17,
    ),
    "spiking_vgg16_bn": (
        lambda: spiking_vgg.spiking_vgg16_bn(spiking_neuron=IF, num_classes=10),
        (3, 32, 32),
        2,
        4,
        15,
    ),
    "DVSGestureNet": (
        lambda: parametric_lif_net.DVSGestureNet(channels=16, spiking_neuron=PLIF, v_threshold=0.5),
        (2, 128, 128),
        6,
        6,
        7,
    ),
}


def built(name: str, mode: str = "m") -> Any:
    torch.manual_seed(0)
    net = liven(ZOO[name][0](), seed=3)
    functional.set_step_mode(net, mode)
    return net


def samples_of(name: str, count: int) -> np.ndarray:
    """(count, *shape) frames, or (count, T, *shape) events; the first ones do not depend on the count."""
    _, shape, _, steps, _ = ZOO[name]
    if name == "DVSGestureNet":
        return (np.random.default_rng(5).random((count, steps, *shape)) < 0.2).astype(np.float32)
    return np.random.default_rng(5).random((count, *shape), np.float32)


@pytest.mark.parametrize("name", ZOO)
def test_spikes_equal(name):
    _, shape, batch, steps, neurons = ZOO[name]
    net, spikes, ties = built(name), 0, 0
    x = samples_of(name, compared_samples(batch))
    at_once = min(len(x), max(batch, 20))
    for first in range(0, len(x), at_once):
        part = x[first : first + at_once]
        exact = compare(net, shape, part, steps, double=True)
        assert len(exact.layers) == neurons
        assert exact.silent == ()
        assert [layer for layer in exact.layers if layer.differing] == []
        assert exact.output.differing == 0
        rounded = compare(net, shape, part, steps)
        spikes, ties = spikes + exact.spikes, ties + rounded.differing
        gc.collect()  # copies of modules are cycles, and VGG-16 has a gigabyte of weights
    note_network(name, len(x), neurons, spikes, ties)
    assert ties <= 1e-3 * spikes


def test_single_step_gives_the_same_graph():
    """One network, both step modes: the same nodes, the same edges."""
    graphs = [trace(built("sew_resnet18 IAND", mode), (3, 32, 32)) for mode in ("s", "m")]
    assert graphs[0].edges == graphs[1].edges
    assert list(graphs[0].nodes) == list(graphs[1].nodes)


def test_full_size_traces():
    """At the size it was made for: 224 x 224, 7 x 7 stem, real pools."""
    graph = trace(built("sew_resnet50 ADD"), (3, 224, 224))
    assert graph.shapes["layer4.2.add"] == (2048, 7, 7)
    pools = graph.named(og.AvgPool)
    assert [graph.nodes[name] for name in pools] == [og.AvgPool((7, 7), (7, 7))]
    assert len(graph.named(og.Neuron)) == 53


def test_frames_repeated_by_the_module_itself():
    """ms_resnet repeats a 4-axis input over its own T; the branch is on the number of axes."""
    graph = trace(built("ms_resnet18 narrow"), (3, 32, 32), step_mode="s")
    assert graph.steps == 6
    x = np.random.default_rng(6).random((4, 3, 32, 32), np.float32)
    match = compare(built("ms_resnet18 narrow"), (3, 32, 32), x, 6, step_mode="s", double=True)
    assert match.differing == 0
    assert match.output.differing == 0
    assert match.spikes > 1000
