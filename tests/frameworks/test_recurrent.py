"""Recurrent layers of the frameworks, in every form: spikes equal on 100 samples."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import snn_nets  # noqa: E402
from torch import nn  # noqa: E402

from nmc.errors import NmcError  # noqa: E402
from nmc.frontend import opgraph as og  # noqa: E402
from nmc.frontend.trace import trace  # noqa: E402
from nmc.frontend.tracing.compare import compare  # noqa: E402

pytestmark = pytest.mark.frameworks

SAMPLES, STEPS, SHAPE = 100, 8, (2, 4, 4)
V = torch.linspace(-1.0, 1.0, 8)


def behind(cell: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(32, 8), cell)


class ByStep(nn.Module):
    """A loop over time that hands spikes and states back, as snnTorch's tutorials do."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.fc, self.cell = nn.Linear(32, 8), cell

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states, result = self.cell.reset_mem(), []
        for _ in range(STEPS):
            states = self.cell(self.fc(x.flatten(1)), *states)
            result.append(states[0])
        return torch.stack(result)


class Sequence(nn.Module):
    """A layer that gets all steps, the time axis in front (Norse) or second (Sinabs)."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.fc, self.cell = nn.Linear(32, 8), cell

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spikes = self.cell(self.fc(x.flatten(2)))
        return spikes[0] if isinstance(spikes, tuple) else spikes


def snntorch_nets():
    import snntorch as snn

    own = {"init_hidden": True}
    conv = {"conv2d_channels": 4, "kernel_size": 3}
    return {
        "subtract": behind(snn.RLeaky(beta=0.9, linear_features=8, **own)),
        "zero": behind(snn.RLeaky(beta=0.9, linear_features=8, reset_mechanism="zero", **own)),
        "zero at once": behind(
            snn.RLeaky(beta=0.9, linear_features=8, reset_mechanism="zero", reset_delay=False, **own)
        ),
        "one to one": behind(snn.RLeaky(beta=0.9, all_to_all=False, V=V, **own)),
        "one number": behind(snn.RLeaky(beta=0.9, all_to_all=False, V=0.5, **own)),
        "conv": nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), snn.RLeaky(beta=0.8, **conv, **own)),
        "synaptic": behind(snn.RSynaptic(alpha=0.7, beta=0.9, linear_features=8, **own)),
        "synaptic zero": behind(
            snn.RSynaptic(alpha=0.7, beta=0.9, linear_features=8, reset_mechanism="zero", **own)
        ),
        "synaptic one to one": behind(snn.RSynaptic(alpha=0.7, beta=0.9, all_to_all=False, V=V, **own)),
        "states by hand": ByStep(snn.RLeaky(beta=0.9, linear_features=8)),
        "synaptic states by hand": ByStep(snn.RSynaptic(alpha=0.5, beta=0.9, linear_features=8)),
    }


def spikingjelly_nets():
    from spikingjelly.activation_based import layer, neuron

    element, linear = layer.ElementWiseRecurrentContainer, layer.LinearRecurrentContainer
    return {
        "element-wise sum": behind(element(neuron.IFNode(), lambda y, x: x + 0.5 * y)),
        "element-wise difference": behind(element(neuron.IFNode(v_reset=None), lambda y, x: x - y)),
        "element-wise product": behind(element(neuron.LIFNode(v_threshold=0.3), lambda y, x: x * (1 - y))),
        "current-based": behind(linear(neuron.CUBALIFNode(c_decay=0.5, v_decay=0.9), 8, 8)),
        "other width": behind(linear(nn.Sequential(nn.Linear(8, 6), neuron.IFNode()), 8, 6)),
    }


def norse_nets():
    import norse.torch as norse_torch

    rates = norse_torch.LIFParameters(
        tau_mem_inv=torch.tensor(400.0), tau_syn_inv=torch.tensor(300.0), v_th=torch.tensor(0.4)
    )
    return {
        "cell": behind(snn_nets.Stateful(norse_torch.LIFRecurrentCell(8, 6, p=rates))),
        "sequence": Sequence(norse_torch.LIFRecurrent(8, 6, p=rates)),
    }


def sinabs_nets():
    from sinabs import activation, layers

    hard = {"spike_fn": activation.SingleSpike, "reset_fn": activation.MembraneReset()}

    def leaky(bias: bool) -> nn.Module:
        return layers.LIFRecurrent(tau_mem=5.0, norm_input=False, rec_connect=nn.Linear(8, 8, bias), **hard)

    return {
        "bias": Sequence(leaky(True)),
        "no bias": Sequence(leaky(False)),
        "no leak": Sequence(layers.IAFRecurrent(rec_connect=nn.Linear(8, 8, False), **hard)),
    }


NETS = {
    "snntorch": snntorch_nets,
    "spikingjelly": spikingjelly_nets,
    "norse": norse_nets,
    "sinabs": sinabs_nets,
}


@pytest.mark.parametrize("framework", NETS)
def test_spikes_equal(framework):
    pytest.importorskip(framework, reason=f"{framework} is not installed")
    torch.manual_seed(0)
    for name, built in NETS[framework]().items():
        net = snn_nets.liven(built, seed=7)
        x = np.random.default_rng(1).random((SAMPLES, STEPS, *SHAPE), np.float32)
        match = compare(net, SHAPE, x[:, 0] if isinstance(net, ByStep) else x, STEPS, double=True)
        assert match.silent == (), name
        assert [layer for layer in match.layers if layer.differing] == [], name
        assert (match.output.differing, match.spikes > 300) == (0, True), name
        assert max(map(len, match.graph.segments)) > 1, name


def test_what_snntorch_never_resets_is_refused():
    snn = pytest.importorskip("snntorch", reason="snntorch is not installed")
    net = behind(snn.RSynaptic(alpha=0.7, beta=0.9, linear_features=8, init_hidden=True, reset_delay=False))
    with pytest.raises(NmcError, match="never resets") as caught:
        trace(net.eval(), SHAPE)
    assert (caught.value.code, caught.value.who) == ("NMC-G05", "2")


def test_spikes_of_another_layer_are_refused():
    snn = pytest.importorskip("snntorch", reason="snntorch is not installed")

    class Crossed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = snn.RLeaky(beta=0.9, linear_features=8)
            self.b = snn.RLeaky(beta=0.9, linear_features=8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            (s1, m1), (s2, m2), result = self.a.reset_mem(), self.b.reset_mem(), []
            for _ in range(3):
                s1, m1 = self.a(x, s1, m1)
                s2, m2 = self.b(x, s1, m2)
                result.append(s2)
            return torch.stack(result)

    with pytest.raises(NmcError, match="spikes") as caught:
        trace(Crossed().eval(), (8,))
    assert caught.value.who == "b"


def test_a_recurrent_nir_export_gives_the_frameworks_spikes(tmp_path):
    """snnTorch writes a subgraph with a loop; read with its profile, it fires as the module does."""
    snn = pytest.importorskip("snntorch", reason="snntorch is not installed")
    import nir
    from snntorch.export_nir import export_to_nir

    from nmc.frontend.float_engine import run
    from nmc.frontend.nir_read import load_nir

    torch.manual_seed(0)
    options = {"beta": 0.85, "linear_features": 8, "init_hidden": True}
    for cell in (snn.RLeaky(**options), snn.RSynaptic(alpha=0.6, **options)):
        net = snn_nets.liven(nn.Sequential(nn.Linear(5, 8), cell), seed=3)
        x = np.random.default_rng(2).random((SAMPLES, STEPS, 5), np.float32)
        expected = compare(net, (5,), x, STEPS)
        assert expected.differing == 0
        nir.write(tmp_path / "rnn.nir", export_to_nir(net, torch.rand(5)))
        graph = load_nir(tmp_path / "rnn.nir", profile="snntorch")
        (neuron,) = graph.named(og.Neuron)
        found = run(graph, x, STEPS).values[neuron]
        own = run(trace(net, (5,)), x, STEPS)
        (mine,) = (name for name in own.values if isinstance(expected.graph.nodes.get(name), og.Neuron))
        # 1 - dt / tau of the file is beta but for the rounding of float32.
        assert (found != own.values[mine]).mean() < 1e-3
        assert found.sum() > 1000
