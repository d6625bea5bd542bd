"""Framework x architecture: the float engine's spikes equal the framework's, by layer, on 100 samples."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import snn_nets  # noqa: E402
from support_table import note_cell  # noqa: E402

from nmc.frontend.tracing.compare import compare  # noqa: E402

pytestmark = pytest.mark.frameworks

SAMPLES, STEPS = 100, 8
MODULES = {"SpikingJelly, single-step": "spikingjelly", "SpikingJelly, multi-step": "spikingjelly"}


def network(framework: str, architecture: str) -> torch.nn.Module:
    pytest.importorskip(MODULES.get(framework, framework.lower()), reason=f"{framework} is not installed")
    kit = snn_nets.KITS[framework](SAMPLES)
    torch.manual_seed(0)
    return kit.prepare(snn_nets.liven(snn_nets.ARCHITECTURES[architecture](kit), seed=7))


@pytest.mark.parametrize("architecture", snn_nets.ARCHITECTURES)
@pytest.mark.parametrize("framework", snn_nets.KITS)
def test_spikes_equal(framework, architecture):
    net = network(framework, architecture)
    x = np.random.default_rng(1).random((SAMPLES, STEPS, *snn_nets.SHAPE), np.float32)
    exact = compare(net, snn_nets.SHAPE, x, STEPS, double=True)
    ties = compare(net, snn_nets.SHAPE, x, STEPS)
    note_cell(framework, architecture, exact, ties)
    assert exact.silent == ()
    assert [layer for layer in exact.layers if layer.differing] == []
    assert exact.output.differing == 0
    # A float32 framework may round a potential to the other side of a threshold: rare, and never more.
    assert ties.differing <= 1e-3 * ties.spikes
