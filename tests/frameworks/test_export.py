"""Exported files in the frameworks' own importers, and modules that their exporters refuse or cut."""

from __future__ import annotations

import nir
import numpy as np
import pytest

torch = pytest.importorskip("torch")

import snn_nets  # noqa: E402

import nmc  # noqa: E402
from nmc.frontend import opgraph as og  # noqa: E402
from nmc.frontend.float_engine import run  # noqa: E402
from nmc.frontend.nir_write import DT, write_nir  # noqa: E402

pytestmark = pytest.mark.frameworks
SHAPE = (2, 6, 6)
STEPS = 6


def test_a_module_and_its_export_compile_to_the_same_bytes(tmp_path):
    """A residual module with batch norm, max pool and IAND: what framework exporters refuse or cut."""
    neuron = pytest.importorskip(
        "spikingjelly.activation_based.neuron", reason="SpikingJelly is not installed"
    )

    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = torch.nn.Conv2d(2, 4, 3, padding=1)
            self.norm = torch.nn.BatchNorm2d(4)
            self.s, self.a, self.end = neuron.IFNode(), neuron.IFNode(), neuron.IFNode()
            self.conv = torch.nn.Conv2d(4, 4, 3, padding=1)
            self.pool = torch.nn.MaxPool2d(2)
            self.fc = torch.nn.Linear(36, 3)

        def forward(self, x):
            s = self.s(self.norm(self.stem(x)))
            joined = (1.0 - self.a(self.conv(s))) * s
            return self.end(self.fc(self.pool(joined).flatten(1)))

    torch.manual_seed(0)
    module = Block().eval()
    path = tmp_path / "model.nir"
    nmc.export(module, path, input_shape=SHAPE, steps=4)
    x = np.random.default_rng(0).integers(0, 2, (2, 4, *SHAPE))
    direct, again = (nmc.compile(m, "loihi2", data=x, steps=4) for m in (module, path))
    direct.save(tmp_path / "direct.nmc")
    again.save(tmp_path / "again.nmc")
    assert (tmp_path / "direct.nmc").read_bytes() == (tmp_path / "again.nmc").read_bytes()
    assert isinstance(nir.read(path), nir.NIRGraph)


@pytest.mark.parametrize("architecture", snn_nets.ARCHITECTURES)
def test_every_architecture_compiles_to_the_same_bytes(architecture, tmp_path):
    """compile(module) and compile(export(module)), and the nir package reads the file."""
    pytest.importorskip("spikingjelly", reason="SpikingJelly is not installed")
    kit = snn_nets.KITS["SpikingJelly, multi-step"](1)
    torch.manual_seed(0)
    module = kit.prepare(snn_nets.liven(snn_nets.ARCHITECTURES[architecture](kit), seed=7))
    path = tmp_path / "model.nir"
    nmc.export(module, path, input_shape=snn_nets.SHAPE, steps=4)
    assert isinstance(nir.read(path), nir.NIRGraph)
    x = np.random.default_rng(0).integers(0, 2, (1, 4, *snn_nets.SHAPE))
    direct, again = (nmc.compile(model, "lava-cpu", data=x, steps=4) for model in (module, path))
    direct.save(tmp_path / "direct.nmc")
    again.save(tmp_path / "again.nmc")
    assert (tmp_path / "direct.nmc").read_bytes() == (tmp_path / "again.nmc").read_bytes()


def network(tmp_path, shortcut: bool) -> tuple[og.OpGraph, str]:
    """A SEW ADD block with an average pool, or a chain of convolutions; batch norms in both."""
    rng = np.random.default_rng(2)

    def conv(c_in: int, c_out: int) -> og.Conv2d:
        return og.Conv2d(
            rng.integers(-8, 13, (c_out, c_in, 3, 3)) / 16, rng.integers(-2, 3, c_out) / 16, (1, 1), (1, 1)
        )

    def norm() -> og.BatchNorm:
        return og.BatchNorm(np.zeros(3), np.ones(3), np.ones(3) / 2, np.ones(3) / 8, 0.0)

    neuron = og.Neuron(0.97)
    nodes: dict[str, og.Op] = {"input": og.Input(SHAPE), "c0": conv(2, 3), "n0": norm(), "s": neuron}
    nodes |= {
        "c1": conv(3, 3),
        "n1": norm(),
        "a": neuron,
        "add": og.Add(),
        "pool": og.AvgPool((2, 2), (2, 2)),
    }
    nodes |= {
        "flat": og.Flatten(),
        "fc": og.Linear(rng.integers(-8, 9, (4, 27)) / 16, np.zeros(4)),
        "e": neuron,
    }
    nodes["output"] = og.Output()
    pairs = "input>c0 c0>n0 n0>s s>c1 c1>n1 n1>a a>add s>add add>pool pool>flat flat>fc fc>e e>output"
    if not shortcut:
        pairs = "input>c0 c0>n0 n0>s s>c1 c1>n1 n1>a a>output"
        nodes = {name: op for name, op in nodes.items() if name in pairs.replace(">", " ").split()}
    graph = og.OpGraph(nodes, tuple(tuple(pair.split(">")) for pair in pairs.split()))
    path = tmp_path / "residual.nir"
    write_nir(graph, path)
    return graph, str(path)


def stepped(net: torch.nn.Module, x: np.ndarray) -> np.ndarray:
    """(N, classes): spikes over ``STEPS`` steps of a module that takes and returns its state."""
    frames, state, total = torch.as_tensor(x, dtype=torch.float32), None, 0
    with torch.no_grad():
        for _ in range(STEPS):
            out, state = net(frames, state)
            total = total + out
    return total.numpy()


def test_spikingjelly_runs_the_file(tmp_path):
    exchange = pytest.importorskip(
        "spikingjelly.activation_based.nir_exchange", reason="SpikingJelly is not installed"
    )
    graph, path = network(tmp_path, shortcut=True)
    x = np.random.default_rng(4).integers(0, 9, (20, *SHAPE)) / 8
    expected = run(graph, x, STEPS).output
    net = exchange.import_from_nir(nir.read(path), dt=DT).eval()
    np.testing.assert_array_equal(stepped(net, x), expected)
    assert len(np.unique(expected)) > 3


def test_norse_runs_the_file(tmp_path):
    """A chain of convolutions: its importer has no average pool, flattens the batch, and its executor takes
    residual graphs in another order. Norse fires above the threshold, not at it; no sum meets it here."""
    norse = pytest.importorskip("norse.torch", reason="Norse is not installed")
    graph, path = network(tmp_path, shortcut=False)
    x = np.random.default_rng(4).integers(0, 9, (20, *SHAPE)) / 8
    expected = run(graph, x, STEPS).output
    np.testing.assert_array_equal(stepped(norse.from_nir(nir.read(path)), x), expected)
    assert len(np.unique(expected)) > 3
