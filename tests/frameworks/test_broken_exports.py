"""Files that the frameworks' own exporters break: refused with the cause; the modules themselves compile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import nmc  # noqa: E402
from nmc.errors import NmcError  # noqa: E402
from nmc.frontend.float_engine import run  # noqa: E402
from nmc.frontend.lint import check_file  # noqa: E402
from nmc.frontend.nir_read import load_nir  # noqa: E402
from nmc.frontend.trace import trace  # noqa: E402

pytestmark = pytest.mark.frameworks
SIZE, DT = 8, 1e-4


class Residual(nn.Module):
    """A spiking layer, a block s1(c1(a) + a), and layers behind it where ``deep``."""

    def __init__(self, neuron: Callable[[], nn.Module], deep: bool = False) -> None:
        super().__init__()
        self.c0, self.s0, self.c1, self.s1 = nn.Linear(SIZE, SIZE), neuron(), nn.Linear(SIZE, SIZE), neuron()
        self.c2, self.s2 = (nn.Linear(SIZE, SIZE), neuron()) if deep else (None, None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.s0(self.c0(x))
        b = self.s1(self.c1(a) + a)
        return b if self.c2 is None else self.s2(self.c2(b))


class Convolutional(nn.Module):
    """The same with maps, and a linear layer at the end."""

    def __init__(self, neuron: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.c0, self.s0 = nn.Conv2d(2, 2, 3, padding=1), neuron()
        self.c1, self.s1 = nn.Conv2d(2, 2, 3, padding=1), neuron()
        self.flatten, self.fc, self.s2 = nn.Flatten(), nn.Linear(32, 4), neuron()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.s0(self.c0(x))
        return self.s2(self.fc(self.flatten(self.s1(self.c1(a) + a))))


def written(graph: Any, path: Path) -> Path:
    nir.write(path, graph)
    return path


def refusal(path: Path, profile: str | None = None, dt: float | None = None) -> NmcError:
    with pytest.raises(NmcError) as caught:
        load_nir(path, profile, dt)
    return caught.value


def errors(path: Path) -> list[tuple[str, str]]:
    return [(one.code, one.who) for one in check_file(path) if one.severity == "error"]


def leaky() -> nn.Module:
    snn = pytest.importorskip("snntorch", reason="snnTorch is not installed")
    return snn.Leaky(
        beta=torch.full((SIZE,), 0.9), threshold=torch.ones(SIZE), init_hidden=True, reset_mechanism="zero"
    )


def compiles(module: nn.Module, shape: tuple[int, ...], tmp_path: Path) -> None:
    """What the remedy says: the module itself, or what nmc exports of it."""
    nmc.export(module, tmp_path / "ours.nir", input_shape=shape, steps=4)
    assert [one for one in check_file(tmp_path / "ours.nir") if one.severity == "error"] == []
    bundle = nmc.compile(tmp_path / "ours.nir", "loihi2", steps=4)
    assert len(bundle.network.compute) == len(
        [one for one in module.modules() if "snn" in type(one).__module__]
    )


def test_snntorch_cuts_a_residual_network(tmp_path):
    """The block's neuron is not in the file at all; what is left looks complete."""
    export = pytest.importorskip("snntorch.export_nir", reason="snnTorch is not installed").export_to_nir
    module = Residual(leaky)
    graph = export(module, torch.rand(SIZE))
    assert "s1" not in graph.nodes
    path = written(graph, tmp_path / "cut.nir")
    found = {(one.severity, one.code, one.who): one.remedy for one in check_file(path)}
    assert "snnTorch" in found["warning", "NMC-G07", "c1"]
    for profile in ("snntorch", "snntorch-zero"):
        error = refusal(path, profile)
        assert (error.code, error.who) == ("NMC-G07", "c1")
        assert "loses all that stands behind its last '+'" in error.problem
        assert "export the module with nmc" in error.remedy
    compiles(module, (SIZE,), tmp_path)


def test_snntorchs_plain_exports_pass(tmp_path):
    """The rule has no quarrel with what the exporter does right."""
    export = pytest.importorskip("snntorch.export_nir", reason="snnTorch is not installed").export_to_nir
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(SIZE, SIZE), leaky(), nn.Linear(SIZE, SIZE), leaky())
    path = written(export(module, torch.rand(SIZE)), tmp_path / "x.nir")
    assert check_file(path, "snntorch-zero") == []
    x = np.random.default_rng(0).random((6, 9, SIZE)) * 4
    got, direct = (
        run(graph, x, 9).output for graph in (load_nir(path, "snntorch-zero"), trace(module, (SIZE,)))
    )
    np.testing.assert_array_equal(got, direct)
    assert direct.any()


def test_sinabs_cuts_a_residual_network(tmp_path):
    """The block's neuron has no input and the layer before it becomes a second output."""
    to_nir = pytest.importorskip("sinabs.nir", reason="Sinabs is not installed").to_nir
    layers = pytest.importorskip("sinabs.layers")
    module = Convolutional(lambda: layers.IAFSqueeze(batch_size=1))
    graph = to_nir(module, torch.rand(1, 2, 4, 4))
    graph.infer_types()  # without it nir cannot write the file
    path = written(graph, tmp_path / "cut.nir")
    assert errors(path) == [("NMC-G02", "s1"), ("NMC-G05", "output")]
    for profile in (None, "sinabs"):
        error = refusal(path, profile)
        assert (error.code, error.who) == ("NMC-G02", "s1")
        assert "Sinabs drop functional additions" in error.remedy
    assert trace(module, (2, 4, 4), steps=4).before("s1") != ()


def norse_cell(norse: Any, size: int = SIZE) -> nn.Module:
    parameters = norse.LIFBoxParameters(
        tau_mem_inv=torch.full((size,), 100.0),
        v_th=torch.full((size,), 0.1),
        v_leak=torch.zeros(size),
        v_reset=torch.zeros(size),
    )
    return norse.LIFBoxCell(parameters, dt=1e-3)


def norse_chain(norse: Any) -> nn.Module:
    torch.manual_seed(0)
    net = norse.SequentialState(
        nn.Linear(SIZE, SIZE), norse_cell(norse), nn.Linear(SIZE, SIZE), norse_cell(norse)
    )
    for parameter in net.parameters():
        parameter.data = parameter.data * 3 + 0.1
    return net


def test_norses_wrong_tau(tmp_path):
    norse = pytest.importorskip("norse.torch", reason="Norse is not installed")
    path = written(norse.to_nir(norse_chain(norse), torch.rand(1, SIZE)), tmp_path / "tau.nir")
    error = refusal(path, "norse", 1e-3)
    assert (error.code, error.who) == ("NMC-G07", "1")
    assert "tau = 1e-05 is not above dt = 0.001" in error.problem
    assert "to_nir(..., dt=1.0)" in error.remedy
    hints = [one for one in check_file(path) if "dt=1.0" in one.remedy]
    assert [(one.severity, one.who) for one in hints] == [("warning", "1"), ("warning", "3")]
    named = {one.who for one in check_file(path, "norse", 1e-3) if one.code == "NMC-G07"}
    assert named == {"1", "3"}


def test_norses_right_tau_runs_as_in_norse(tmp_path):
    """What the remedy says; the batch axis that Norse writes into the file is left out."""
    norse = pytest.importorskip("norse.torch", reason="Norse is not installed")
    net = norse_chain(norse)
    path = written(norse.to_nir(net, torch.rand(1, SIZE), dt=1.0), tmp_path / "x.nir")
    assert check_file(path, "norse", 1e-3) == []
    x = np.random.default_rng(1).random((10, 30, SIZE), np.float32)
    state, total = None, torch.zeros(10, SIZE)
    with torch.no_grad():
        for t in range(30):
            spikes, state = net(torch.as_tensor(x[:, t]), state)
            total += spikes
    np.testing.assert_array_equal(run(load_nir(path, "norse", 1e-3), x, 30).output, total.numpy())
    assert total.sum() > 50


def test_norse_cuts_a_residual_network(tmp_path):
    norse = pytest.importorskip("norse.torch", reason="Norse is not installed")

    class Stateful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c0, self.s0 = nn.Linear(SIZE, SIZE), norse_cell(norse)
            self.c1, self.s1 = nn.Linear(SIZE, SIZE), norse_cell(norse)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            a, _ = self.s0(self.c0(x))
            return self.s1(self.c1(a) + a)[0]

    graph = norse.to_nir(Stateful(), torch.rand(1, SIZE), dt=1.0)
    assert "s1" not in graph.nodes
    error = refusal(written(graph, tmp_path / "cut.nir"), "norse", 1e-3)
    assert (error.code, error.who) == ("NMC-G07", "c1")
    assert "norse's exporter loses" in error.problem
