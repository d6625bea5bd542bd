"""Habits, options and refusals of each framework, on the real packages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from snn_nets import liven  # noqa: E402
from torch import nn  # noqa: E402

import nmc  # noqa: E402
from nmc.errors import NmcError  # noqa: E402
from nmc.frontend.float_engine import run  # noqa: E402
from nmc.frontend.trace import trace  # noqa: E402
from nmc.frontend.tracing.compare import compare  # noqa: E402

pytestmark = pytest.mark.frameworks

SAMPLES, STEPS = 24, 6
VECTOR, MAP = (10,), (2, 8, 8)


def check(net: nn.Module, shape: tuple[int, ...], frames: bool = False, **kwargs: Any) -> Any:
    size = (SAMPLES, *shape) if frames else (SAMPLES, STEPS, *shape)
    x = np.random.default_rng(0).random(size, np.float32)
    match = compare(liven(net, 1), shape, x, STEPS, double=True, **kwargs)
    assert match.differing == 0
    assert match.output.differing == 0
    return match


# --- SpikingJelly -----------------------------------------------------------------------------------


def spikingjelly_cases() -> dict[str, Callable[[], tuple[nn.Module, tuple[int, ...]]]]:
    from spikingjelly.activation_based import functional, layer, neuron

    def multi(*parts: nn.Module) -> nn.Module:
        net = nn.Sequential(*parts)
        functional.set_step_mode(net, "m")
        return net

    lif, plif = neuron.LIFNode, neuron.ParametricLIFNode
    return {
        "soft LIF, PLIF, voting": lambda: (
            multi(
                layer.Conv2d(2, 4, 3),
                lif(v_reset=None, decay_input=False),
                layer.Flatten(),
                layer.Linear(144, 10),
                plif(v_reset=None, v_threshold=0.2),
                layer.VotingLayer(5),
            ),
            MAP,
        ),
        "CUBA": lambda: (
            nn.Sequential(nn.Linear(10, 20), neuron.CUBALIFNode(), nn.Linear(20, 5), neuron.CUBALIFNode(0.2)),
            VECTOR,
        ),
        "half threshold": lambda: (nn.Sequential(nn.Linear(10, 20), neuron.HalfThresholdIFNode()), VECTOR),
        "containers": lambda: (
            nn.Sequential(
                layer.SeqToANNContainer(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)),
                neuron.IFNode(step_mode="m"),
                layer.MultiStepContainer(
                    nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 8), neuron.IFNode(v_threshold=0.6)
                ),
            ),
            MAP,
        ),
        "weight standardization": lambda: (
            multi(
                layer.WSConv2d(2, 4, 3),
                neuron.IFNode(v_threshold=0.2),
                layer.Flatten(),
                layer.WSLinear(144, 5),
            ),
            MAP,
        ),
        "threshold-dependent batch norm": lambda: (
            multi(layer.Conv2d(2, 4, 3), layer.ThresholdDependentBatchNorm2d(1.0, 1.0, 4), neuron.IFNode()),
            MAP,
        ),
    }


SPIKINGJELLY = (
    "soft LIF, PLIF, voting",
    "CUBA",
    "half threshold",
    "containers",
    "weight standardization",
    "threshold-dependent batch norm",
)


@pytest.mark.parametrize("name", SPIKINGJELLY)
def test_spikingjelly(name):
    pytest.importorskip("spikingjelly")
    net, shape = spikingjelly_cases()[name]()
    match = check(net, shape)
    assert match.silent == ()
    assert match.spikes > 100


def test_spikingjelly_ann2snn():
    """A converted network is a graph module with scalers around each neuron."""
    pytest.importorskip("spikingjelly")
    from spikingjelly.activation_based.ann2snn import Converter
    from spikingjelly.activation_based.ann2snn.recipes import RateCodingRecipe

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn, self.relu1 = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()
            self.conv2, self.relu2 = nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()
            self.pool, self.flatten, self.fc = nn.AvgPool2d(8), nn.Flatten(), nn.Linear(4, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.relu1(self.bn(self.conv1(x)))
            x = self.relu2(self.conv2(x) + x)
            return self.fc(self.flatten(self.pool(x)))

    data = [(torch.rand(16, *MAP), torch.zeros(16))]
    ann = liven(Residual(), 5)
    converted = Converter(RateCodingRecipe(dataloader=data, mode="99.9%")).convert(ann)
    x = np.random.default_rng(0).random((SAMPLES, *MAP), np.float32)
    match = compare(converted, MAP, x, 16, double=True)
    assert match.silent == ()
    assert (match.differing, match.output.differing) == (0, 0)
    assert len(match.layers) == 2


def test_ties_are_counted():
    """Weights in tenths meet a threshold of 1 all the time: each precision rounds such ties its own way."""
    pytest.importorskip("spikingjelly")
    from spikingjelly.activation_based import neuron

    net = nn.Sequential(
        nn.Linear(10, 64, bias=False), neuron.IFNode(), nn.Linear(64, 32, bias=False), neuron.IFNode()
    )
    generator = torch.Generator().manual_seed(0)
    for part in (net[0], net[2]):
        part.weight.data = torch.randint(-1, 4, part.weight.shape, generator=generator) / 10
    x = np.random.default_rng(0).integers(0, 2, (100, 8, 10)).astype(np.float32)
    counts = {
        "float32, engine float64": compare(net, VECTOR, x, 8),
        "float32, engine float32": compare(net, VECTOR, x, 8, engine_dtype=np.float32),
        "float64, engine float64": compare(net, VECTOR, x, 8, double=True),
    }
    for name, match in counts.items():
        print(f"ties by construction, framework {name}: {match.differing} of {match.spikes} spikes differ")
    first = counts["float32, engine float64"]
    assert first.differing > 0
    layer = next(layer for layer in first.layers if layer.differing)
    assert layer.first is not None
    assert layer.differing < 0.2 * layer.values


def test_torchvision_resnet():
    """An ANN as it comes, in-place ReLUs and all: what conversion starts from."""
    models = pytest.importorskip("torchvision.models")
    net = models.resnet18(num_classes=10).eval()
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.uniform_(-0.2, 0.2)
            part.running_var.uniform_(0.5, 1.5)
    x = np.random.default_rng(0).random((2, 3, 64, 64), np.float32)
    match = compare(net, (3, 64, 64), x, 1, double=True)
    assert match.output.differing == 0
    assert match.output.largest < 1e-9
    assert len(match.graph.nodes) == 2 + 20 + 20 + 17 + 8 + 1 + 1 + 1 + 1


# --- snnTorch ---------------------------------------------------------------------------------------


class SnnLoop(nn.Module):
    """The loop of snnTorch's tutorials."""

    def __init__(self, cell: Callable[[], nn.Module], last: Callable[[], nn.Module] | None = None) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(10, 20), cell()
        self.fc2, self.lif2 = nn.Linear(20, 5), (last or cell)()

    def forward(self, x: torch.Tensor) -> Any:
        states1, states2 = self.start(self.lif1), self.start(self.lif2)
        spikes, potentials = [], []
        for step in range(x.size(0)):
            spike, *states1 = self.lif1(self.fc1(x[step]), *states1)
            spike, *states2 = self.lif2(self.fc2(spike), *states2)
            spikes.append(spike)
            potentials.append(states2[-1])
        if self.lif2.reset_mechanism == "none":
            return torch.stack(potentials)
        return torch.stack(spikes, dim=0), torch.stack(potentials, dim=0)

    @staticmethod
    def start(cell: nn.Module) -> list[Any]:
        states = cell.reset_mem()
        return list(states) if isinstance(states, tuple) else [states]


SNNTORCH: dict[str, dict[str, Any]] = {
    "subtract, delayed": {"beta": 0.9},
    "zero, delayed": {"beta": 0.9, "reset_mechanism": "zero"},
    "zero": {"beta": 0.9, "reset_mechanism": "zero", "reset_delay": False},
    "beta above 1 is clamped": {"beta": 1.3},
    "Synaptic": {"alpha": 0.6, "beta": 0.8},
    "Synaptic, zero, delayed": {"alpha": 0.6, "beta": 0.8, "reset_mechanism": "zero"},
    "Synaptic, zero": {"alpha": 0.6, "beta": 0.8, "reset_mechanism": "zero", "reset_delay": False},
}


@pytest.mark.parametrize("name", SNNTORCH)
def test_snntorch_loop(name):
    snn = pytest.importorskip("snntorch")
    options = SNNTORCH[name]
    match = check(
        SnnLoop(lambda: (snn.Synaptic if "alpha" in options else snn.Leaky)(**options)), VECTOR, step_mode="m"
    )
    assert match.silent == ()
    assert match.spikes > 500


@pytest.mark.parametrize("beta", [1.0, 0.85])
def test_snntorch_default_reset_runs_on_a_chip_that_resets_to_0(beta):
    """Subtraction one step late, as a synapse of each neuron onto itself; the framework counts the spikes."""
    snn = pytest.importorskip("snntorch")
    net = nn.Sequential(
        nn.Conv2d(2, 6, 3),
        snn.Leaky(beta=beta, init_hidden=True),
        nn.Flatten(),
        nn.Linear(216, 10),
        snn.Leaky(beta=beta, init_hidden=True),
    )
    match = check(net, MAP, frames=True)
    x = np.random.default_rng(2).random((60, *MAP), np.float32)
    bundle = nmc.compile(match.graph, "loihi2", x, steps=STEPS)
    assert any("onto themselves" in note for note in bundle.network.notes)
    found = nmc.run(bundle, x, engine="reference").output
    assert np.array_equal(found, nmc.run(bundle, x, engine="native").output)
    wanted = run(match.graph, x.astype(float), STEPS).output.reshape(found.shape)
    assert 0 < wanted.mean() < STEPS
    assert np.mean(found != wanted) < 0.1
    assert np.abs(found - wanted).max() <= 1


def test_snntorch_learned_parameters_and_readout():
    snn = pytest.importorskip("snntorch")
    torch.manual_seed(0)
    net = SnnLoop(
        lambda: snn.Leaky(
            beta=torch.rand(20), threshold=0.5 + torch.rand(20), learn_beta=True, learn_threshold=True
        ),
        lambda: snn.Leaky(beta=0.9, reset_mechanism="none"),
    )
    match = check(net, VECTOR, step_mode="m")
    assert match.graph.nodes["lif2"].threshold is None
    assert match.graph.nodes["lif1"].keep_v.shape == (20,)
    assert match.spikes > 500


def test_snntorch_hidden_state_and_graded_spikes():
    snn = pytest.importorskip("snntorch")
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3),
        snn.Leaky(beta=torch.full((4, 1, 1), 0.7), init_hidden=True, graded_spikes_factor=0.5),
        nn.Flatten(),
        nn.Linear(144, 5),
        snn.Leaky(beta=0.5, init_hidden=True, output=True),
    )
    match = check(net, MAP)
    assert match.silent == ()
    assert "1.scale" in match.graph.nodes


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"reset_delay": False}, "reset_delay=False"),
        ({"inhibition": True}, "inhibition"),
        ({"state_quant": lambda mem: mem}, "state_quant"),
        ({"reset_mechanism": "none"}, "without reset"),
    ],
)
@pytest.mark.filterwarnings("ignore:Inhibition is an unstable feature")
def test_snntorch_refusals(options, text):
    snn = pytest.importorskip("snntorch")
    net = nn.Sequential(nn.Linear(10, 5), snn.Leaky(beta=0.9, init_hidden=True, **options), nn.Linear(5, 2))
    with pytest.raises(NmcError, match=text) as caught:
        trace(net, VECTOR)
    assert caught.value.who in ("1", "2")
    assert caught.value.remedy


def test_snntorch_other_neurons():
    snn = pytest.importorskip("snntorch")
    for neuron in (snn.Alpha(alpha=0.9, beta=0.8), snn.Lapicque(beta=0.5)):
        with pytest.raises(NmcError, match="supported are Leaky, Synaptic"):
            trace(nn.Sequential(nn.Linear(10, 5), neuron), VECTOR)


# --- Norse ------------------------------------------------------------------------------------------


def norse_cases() -> dict[str, Callable[[], tuple[nn.Module, tuple[int, ...]]]]:
    import norse.torch as nt

    lif = nt.LIFParameters(
        tau_mem_inv=torch.tensor(300.0),
        tau_syn_inv=torch.tensor(400.0),
        v_th=torch.tensor(0.3),
        v_leak=torch.tensor(0.05),
        v_reset=torch.tensor(-0.1),
    )
    iaf = nt.IAFParameters(v_th=torch.tensor(0.7), v_reset=torch.tensor(0.2))
    box = nt.LIFBoxParameters(tau_mem_inv=torch.tensor(500.0), v_th=torch.tensor(0.3))

    class Lifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.cell = nt.Lift(nn.Conv2d(2, 4, 3)), nt.Lift(nt.LIFBoxCell(box))
            self.flatten, self.fc, self.out = nn.Flatten(2), nn.Linear(144, 5), nt.LIF(lif)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x, _ = self.cell(self.conv(x))
            x, _ = self.out(self.fc(self.flatten(x)))
            return x

    return {
        "SequentialState": lambda: (
            nt.SequentialState(
                nn.Conv2d(2, 4, 3), nt.LIFCell(lif), nn.Flatten(), nn.Linear(144, 5), nt.LICell()
            ),
            MAP,
        ),
        "IAF cells": lambda: (
            nt.SequentialState(nn.Linear(10, 20), nt.IAFCell(iaf), nn.Linear(20, 5), nt.LIFBoxCell(box)),
            VECTOR,
        ),
        "over time": lambda: (
            nt.SequentialState(nn.Linear(10, 20), nt.IAF(iaf), nn.Linear(20, 5), nt.LI()),
            VECTOR,
        ),
        "lifted": lambda: (Lifted(), MAP),
    }


@pytest.mark.parametrize("name", ["SequentialState", "IAF cells", "over time", "lifted"])
def test_norse(name):
    pytest.importorskip("norse")
    net, shape = norse_cases()[name]()
    assert check(net, shape).spikes > 100


def test_norse_refusals():
    nt = pytest.importorskip("norse.torch")
    with pytest.raises(NmcError, match=r"LIFRefracCell is not supported.*supported are LIFBoxCell"):
        trace(nt.SequentialState(nn.Linear(10, 20), nt.LIFRefracCell()), VECTOR)
    with pytest.raises(NmcError, match="LSNNCell is not supported"):
        trace(nt.SequentialState(nn.Linear(10, 20), nt.LSNNCell()), VECTOR)
    with pytest.raises(NmcError, match=r"has dt = 0.001 s, 0.01 s"):
        trace(nt.SequentialState(nn.Linear(10, 20), nt.LIFCell()), VECTOR, dt=0.01)


# --- Sinabs -----------------------------------------------------------------------------------------


def ann() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 4, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4, 5),
    )


@pytest.mark.parametrize("size", [{"batch_size": SAMPLES}, {"num_timesteps": STEPS}])
def test_sinabs_from_model(size):
    pytest.importorskip("sinabs")
    from sinabs.from_torch import from_model

    net = from_model(ann(), input_shape=MAP, min_v_mem=None, **size)
    match = check(net, MAP)
    assert match.silent == ()
    assert all(match.graph.nodes[layer.layer].multi_spike for layer in match.layers)


def test_sinabs_over_time():
    """Layers that keep time as an axis of its own, with a synaptic filter and a readout."""
    sl = pytest.importorskip("sinabs.layers")
    net = nn.Sequential(
        nn.Linear(10, 20),
        sl.LIF(tau_mem=10.0, tau_syn=5.0, spike_threshold=torch.tensor(0.2)),
        nn.Linear(20, 5),
        sl.ExpLeak(tau_mem=20.0),
    )
    assert check(net, VECTOR).spikes > 100


def test_sinabs_merge_and_spike_functions():
    sl = pytest.importorskip("sinabs.layers")
    from sinabs import activation

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            make = lambda **kwargs: sl.IAFSqueeze(batch_size=SAMPLES, **kwargs)  # noqa: E731
            self.conv1, self.spike1 = nn.Conv2d(2, 4, 3, padding=1), make(spike_fn=activation.SingleSpike)
            self.conv2, self.spike2 = nn.Conv2d(4, 4, 3, padding=1), make(spike_fn=activation.MaxSpike(1))
            self.merge, self.pool, self.flatten = sl.Merge(), sl.SumPool2d(2), nn.Flatten()
            self.fc, self.out = nn.Linear(64, 5), make()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.spike1(self.conv1(x))
            x = self.merge(self.spike2(self.conv2(x)), x)
            return self.out(self.fc(self.flatten(self.pool(x))))

    match = check(Net(), MAP)
    assert match.silent == ()
    assert [match.graph.nodes[layer.layer].multi_spike for layer in match.layers] == [False, False, True]


def test_sinabs_refusals():
    sl = pytest.importorskip("sinabs.layers")
    from sinabs import activation

    cases = {
        "min_v_mem = -1": {"min_v_mem": -1.0},
        "MaxSpike": {"spike_fn": activation.MaxSpike(3)},
        "adds its value in every step": {"reset_fn": activation.MembraneReset(0.1)},
        "subtracts 2": {"reset_fn": activation.MembraneSubtract(2.0)},
    }
    for text, options in cases.items():
        with pytest.raises(NmcError, match=text) as caught:
            trace(nn.Sequential(nn.Linear(10, 5), sl.IAFSqueeze(batch_size=2, **options)), VECTOR)
        assert caught.value.who == "1"
    two = nn.Sequential(sl.IAFSqueeze(batch_size=2), sl.IAFSqueeze(batch_size=4))
    with pytest.raises(NmcError, match="another layer expects"):
        trace(two, VECTOR)
