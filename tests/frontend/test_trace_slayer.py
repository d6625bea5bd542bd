"""lava-dl SLAYER blocks: without decays the float graph fires exactly as SLAYER's integers do."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
slayer = pytest.importorskip("lava.lib.dl.slayer", reason="lava-dl is not installed (Python 3.10 only)")

import snn_nets  # noqa: E402
from support_table import note_cell  # noqa: E402
from torch import nn  # noqa: E402

from nmc.errors import NmcError  # noqa: E402
from nmc.frontend import opgraph as og  # noqa: E402
from nmc.frontend.float_engine import run  # noqa: E402
from nmc.frontend.trace import trace, trace_module  # noqa: E402
from nmc.frontend.tracing.compare import compare  # noqa: E402
from nmc.ir import Compare  # noqa: E402

block = slayer.block.cuba
IF = {"threshold": 1.0, "current_decay": 1, "voltage_decay": 0}
CUBA = {"threshold": 0.8, "current_decay": 0.25, "voltage_decay": 0.03}
MAP = (2, 8, 8)


def trains(samples: int, steps: int, shape: tuple[int, ...]) -> np.ndarray:
    return (np.random.default_rng(4).random((samples, steps, *shape)) < 0.4).astype(np.float32)


def conv_net(neuron: dict[str, object], **kwargs: object) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        block.Input(None, delay_shift=False),
        block.Conv(neuron, 2, 8, 3, padding=1, weight_scale=4, **kwargs),
        block.Conv(neuron, 8, 8, 3, stride=2, padding=1, groups=2, weight_scale=6, **kwargs),
        block.Pool(neuron, 2, weight_scale=1.5, **kwargs),
        block.Flatten(),
        block.Dense(neuron, 8 * 2 * 2, 6, weight_scale=8, **kwargs),
        block.Affine(neuron, 6, 3, dynamics=False),
    )


@pytest.mark.parametrize(
    "architecture", [a for a in snn_nets.ARCHITECTURES if a not in snn_nets.SLAYER_LACKS]
)
def test_architectures(architecture):
    """Synapses and neurons in a forward pass of the user's own, as in tests/frameworks."""
    torch.manual_seed(0)
    net = snn_nets.liven(snn_nets.ARCHITECTURES[architecture](snn_nets.slayer(100)), seed=7)
    x = trains(100, 8, snn_nets.SHAPE)
    exact, single = (compare(net, snn_nets.SHAPE, x, 8, double=double) for double in (True, False))
    note_cell("lava-dl SLAYER", architecture, exact, single)
    assert exact.silent == ()
    assert (exact.differing, exact.output.differing) == (0, 0)
    assert single.differing == 0
    assert exact.spikes > (2_000 if architecture == "recurrent" else 10_000)  # which has only 8 neurons


@pytest.mark.parametrize("options", [{}, {"weight_norm": True}, {"delay_shift": False}])
def test_conv_net(options):
    net = conv_net(IF, **options)
    match = compare(net, MAP, trains(100, 10, MAP), 10)
    assert [layer.layer for layer in match.layers] == [f"{i}.neuron" for i in (1, 2, 3, 5)]
    assert match.silent == ()
    assert match.differing == 0
    assert match.spikes > 10_000
    assert trace_module(net, MAP).step_mode == "t_last"


def test_decays_differ_by_slayers_truncation_only():
    match = compare(conv_net(CUBA), MAP, trains(50, 20, MAP), 20)
    assert match.silent == ()
    assert match.spikes > 10_000
    assert match.differing <= 2e-3 * match.spikes
    assert any("truncate" in note for note in match.graph.notes)


def test_neuron_in_the_op_graph():
    graph = trace(nn.Sequential(block.Dense(CUBA, 12, 5)), (12,))
    assert list(graph.nodes) == ["input", "0.synapse", "0.neuron", "output"]
    neuron = graph.nodes["0.neuron"]
    assert float(neuron.keep_u) == pytest.approx(0.75, abs=1e-4)
    assert float(neuron.keep_v) == pytest.approx(0.97, abs=2e-4)
    assert float(neuron.threshold) == 51 / 64
    assert (neuron.compare, neuron.reset) == (Compare.GREATER, og.ResetRule.VALUE)
    # Weights as SLAYER's forward pass uses them: even 64ths.
    assert np.array_equal(graph.nodes["0.synapse"].weight * 32, np.rint(graph.nodes["0.synapse"].weight * 32))
    assert "1 steps late" in " ".join(graph.notes)


def test_mean_only_batch_norm():
    """SLAYER subtracts the mean from the filtered current, so that it is no bias of the synapse."""
    torch.manual_seed(2)
    params = {**CUBA, "norm": slayer.neuron.norm.MeanOnlyBatchNorm}
    layer = block.Dense(params, 12, 20, weight_scale=4)
    mean = torch.linspace(-0.2, 0.1, 20)
    layer.neuron.norm.running_mean = mean
    x = trains(50, 20, (12,))
    match = compare(nn.Sequential(layer), (12,), x, 20)
    # What SLAYER computes, without its integers.
    weight = layer.neuron.quantize_8bit(layer.synapse.weight).detach().numpy()[:, :, 0, 0, 0]
    shift = layer.neuron.quantize_8bit(mean).numpy()
    keep_u, keep_v = 0.75, 1 - round(0.03 * 4096) / 4096
    u = v = np.zeros((50, 20))
    spikes = []
    for t in range(20):
        u = keep_u * u + x[:, t] @ weight.T
        v = keep_v * v + u - shift
        spikes.append(v > 51 / 64)
        v = np.where(spikes[-1], 0, v)
    engine = run(match.graph, x, 20).values["0.neuron"]
    assert np.array_equal(engine, np.stack(spikes, axis=1))
    assert match.spikes > 1000
    assert match.differing <= 5e-3 * match.spikes


class Residual(nn.Module):
    def __init__(self, shortcut: bool) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.stem = block.Conv(IF, 2, 8, 3, padding=1, weight_scale=4)
        self.body = block.Conv(IF, 8, 8, 3, padding=1, weight_scale=4)
        self.short = block.Conv(IF, 8, 8, 1, weight_scale=4) if shortcut else nn.Identity()
        self.flatten, self.head = block.Flatten(), block.Dense(IF, 512, 4, weight_scale=4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.head(self.flatten(self.body(x) + self.short(x)))


def test_residual_of_equally_late_paths():
    match = compare(Residual(shortcut=True), MAP, trains(40, 8, MAP), 8)
    assert match.silent == ()
    assert match.differing == 0


def test_residual_of_unequally_late_paths_is_refused():
    with pytest.raises(NmcError, match="2 steps late and one that is 1 steps late") as caught:
        trace(Residual(shortcut=False), MAP)
    assert caught.value.code == "NMC-G05"


def test_refused_blocks():
    cases = {
        "sigma_delta": slayer.block.sigma_delta.Dense({"threshold": 0.1, "activation": torch.relu}, 12, 4),
        "axonal delays": block.Dense(IF, 12, 4, delay=True),
        "graded": block.Dense({**IF, "graded_spike": True}, 12, 4),
        "membrane potential": block.Affine(CUBA, 12, 4),
        "delays": block.Recurrent(dict(IF), 12, 4, delay=True),
    }
    for name in ("axonal delays", "delays"):
        cases[name].delay.delay.data = torch.ones(4)
    for text, layer in cases.items():
        with pytest.raises(NmcError, match=text) as caught:
            trace(nn.Sequential(layer), (12,))
        assert caught.value.code == "NMC-G05", text
        assert caught.value.who.startswith("0"), text
