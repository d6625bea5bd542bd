"""Conversion of torch modules: one call, the import checked, the module left alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import nmc
from nmc.errors import NmcError
from nmc.frontend import opgraph as og
from nmc.frontend.conversion.activations import ClipFloor, plain
from nmc.frontend.conversion.module import check_import, import_ann, layers_of
from nmc.frontend.conversion.normal import normal_form
from nmc.frontend.convert import convert
from nmc.frontend.float_engine import run

torch = pytest.importorskip("torch")
nn = torch.nn


class QCFS(nn.Module):
    """Quantization, clip, floor, shift, written as its authors do."""

    def __init__(self, levels: int = 4, slope: float = 1.0) -> None:
        super().__init__()
        self.thresh = nn.Parameter(torch.tensor([2.0]))
        self.L = levels
        self.slope = slope

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.clamp(x / self.thresh * self.slope, 0, 1)
        return torch.floor(x * self.L + 0.5) / self.L * self.thresh


class BasicBlock(nn.Module):
    """torchvision's: one ReLU module, used twice."""

    def __init__(self, c_in: int, c_out: int, stride: int, act: nn.Module) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.relu = act
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.downsample = None
        if stride != 1 or c_in != c_out:
            self.downsample = nn.Sequential(
                nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class ResNet(nn.Module):
    def __init__(self, act: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.relu = act()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = BasicBlock(4, 4, 1, act())
        self.layer2 = BasicBlock(4, 6, 2, act())
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer2(self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(x))))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def net(act: type[nn.Module] = nn.ReLU) -> ResNet:
    torch.manual_seed(0)
    module = ResNet(act)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.3, 0.3)
            nn.init.uniform_(part.running_var, 0.2, 1.0)
    return module


def frames(n: int = 6) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 1, (n, 1, 8, 8))


def forward(module: nn.Module, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return module.eval()(torch.tensor(x, dtype=torch.float32)).numpy()


def test_a_torchvision_style_resnet_in_one_call() -> None:
    module, x = net(), frames()
    snn = nmc.convert(module, x, 256, "max", chip="lava-cpu")
    expected = forward(module, x)
    got = run(snn, x, 256, record=()).output / 256
    assert np.abs(got - expected).max() < 0.05 * np.abs(expected).max()
    assert {"relu", "layer1.relu", "layer1.relu.2", "layer2.relu"} <= set(snn.named(og.Neuron))


@pytest.mark.parametrize(("chip", "reset"), [("loihi2", "soft"), ("loihi2", "hard"), ("lava-cpu", "soft")])
def test_a_torchvision_style_resnet_as_integers_of_a_chip(chip: str, reset: str) -> None:
    """Max pool, shared ReLUs, both kinds of shortcuts: the integers do what the converted network does."""
    module, x = net(), frames(40)
    snn = nmc.convert(module, x, 16, chip=chip, reset=reset)
    bundle = nmc.compile(snn, chip, x)
    rates = run(snn, x, 16, record=()).output
    assert np.corrcoef(nmc.run(bundle, x).output.ravel(), rates.ravel())[0, 1] > 0.95


def test_the_module_is_left_as_it_was() -> None:
    module, x = net(QCFS), frames()
    module.train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    parts = [type(part) for part in module.modules()]
    convert(module, x, 4)
    assert module.training
    assert [type(part) for part in module.modules()] == parts
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert all(p.requires_grad for p in module.parameters())


def test_qcfs_modules_are_recognised_by_what_they_compute() -> None:
    module, x = net(QCFS), frames()
    ann = import_ann(module, x)
    clips = [op for op in ann.nodes.values() if isinstance(op, ClipFloor)]
    assert len(clips) == 5
    assert not ann.named(og.ReLU)
    assert {(op.levels, op.limit.item()) for op in clips} == {(4, 2.0)}
    np.testing.assert_allclose(run(plain(ann), x, 1, record=()).output, forward(module, x), atol=1e-5)
    snn = convert(module, x, 4, "max")
    assert {snn.nodes[name].v0.item() for name in ("relu", "layer1.relu")} == {0.5}


def test_a_module_that_only_looks_like_qcfs_is_refused() -> None:
    with pytest.raises(NmcError, match=r"NMC-G05 .*clamp"):
        import_ann(net(lambda: QCFS(slope=0.5)), frames())  # type: ignore[arg-type]


def source(module: nn.Module, ann: og.OpGraph):
    return lambda x: layers_of(torch, module.eval(), ann, x)


def without(ann: og.OpGraph, edge: tuple[str, str]) -> og.OpGraph:
    assert edge in ann.edges, ann.edges
    return ann.with_(edges=tuple(one for one in ann.edges if one != edge))


def test_an_import_that_lost_a_shortcut_names_the_layer_behind_it() -> None:
    module, x = net(), frames()
    ann = import_ann(module, x)
    check_import(ann, source(module, ann), x)
    broken = without(ann, ("maxpool", "layer1.add"))
    with pytest.raises(NmcError, match=r"NMC-V02 layer1\.relu\.2: outputs of the import differ by") as caught:
        check_import(broken, source(net(), broken), x)
    assert caught.value.measured > caught.value.allowed
    assert caught.value.exit_status == 1


@pytest.mark.parametrize("factor", [1.01, float("nan")])
def test_an_import_with_other_weights_names_the_layer(factor: float) -> None:
    module, x = net(), frames()
    ann = import_ann(module, x)
    conv = ann.nodes["layer2.conv1"]
    changed = replace(conv, weight=conv.weight * factor)
    broken = ann.with_(nodes={**ann.nodes, "layer2.conv1": changed})
    with pytest.raises(NmcError, match=r"NMC-V02 layer2\.conv1: outputs of the import differ by"):
        check_import(broken, source(module, broken), x)


def test_a_change_outside_of_the_modules_parts_names_the_network() -> None:
    module, x = net(), frames()
    ann = import_ann(module, x)
    nodes, edges = {**ann.nodes, "odd": og.Scale([2.0])}, list(without(ann, ("fc", "output")).edges)
    broken = ann.with_(nodes=nodes, edges=(*edges, ("fc", "odd"), ("odd", "output")))
    with pytest.raises(NmcError, match="NMC-V02 ResNet: outputs of the import differ by"):
        check_import(broken, source(module, broken), x)


def test_an_import_of_another_shape_is_refused() -> None:
    module, x = net(), frames()
    ann = import_ann(module, x)

    def cut(x: np.ndarray) -> dict[str, np.ndarray]:
        found = source(module, ann)(x)
        return {**found, "output": found["output"][:, :2]}

    with pytest.raises(
        NmcError, match=r"NMC-V02 ResNet: the import gives shape \(6, 3\), its source \(6, 2\)"
    ):
        check_import(ann, cut, x)


@pytest.mark.parametrize("end", [nn.Softmax(1), nn.LogSoftmax(1)])
def test_a_softmax_at_the_end_is_left_to_the_host_and_checked(end: nn.Module) -> None:
    module, x = nn.Sequential(net(), end), frames()
    ann = import_ann(module, x)
    assert any("softmax at the end is left to the host" in note for note in ann.notes)
    np.testing.assert_allclose(run(ann, x, 1, record=()).output, forward(net(), x), atol=1e-5)
    fc = ann.nodes["0.fc"]
    broken = ann.with_(nodes={**ann.nodes, "0.fc": replace(fc, weight=fc.weight * 1.05)})
    with pytest.raises(NmcError, match=r"NMC-V02 0\.fc: outputs"):
        check_import(broken, source(module, broken), x)


@pytest.mark.parametrize(("act", "top"), [(nn.ReLU6(), 6.0), (nn.Hardtanh(0.0, 0.5), 0.5)])
def test_clipped_activations_of_torch_are_clips(act: nn.Module, top: float) -> None:
    module, x = net(lambda: act), frames()  # type: ignore[arg-type]
    ann = import_ann(module, x)
    clips = [op for op in ann.nodes.values() if isinstance(op, ClipFloor)]
    assert {(op.levels, op.limit.item()) for op in clips} == {(None, top)}
    assert len(clips) == 5


def test_a_folding_that_changes_the_function_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    form = normal_form(import_ann(net(), frames()), "gated")
    conv = form.graph.nodes["layer1.conv2"]
    nodes = {**form.graph.nodes, "layer1.conv2": replace(conv, weight=conv.weight * 1.05)}
    monkeypatch.setattr(
        "nmc.frontend.convert.normal_form",
        lambda ann, pool: replace(form, graph=form.graph.with_(nodes=nodes)),
    )
    with pytest.raises(NmcError, match=r"NMC-V02 layer1\.relu\.2: outputs"):
        convert(net(), frames(), 4)


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(NmcError, match=r"NMC-U02 ann: a str; give an OpGraph or a torch\.nn\.Module"):
        convert("model.pt", frames(), 4)


@pytest.mark.parametrize("data", [np.zeros((0, 1, 8, 8)), np.array(1.0)])
def test_data_are_looked_at_before_the_module(data: np.ndarray) -> None:
    with pytest.raises(NmcError, match="NMC-D03 data"):
        convert(net(), data, 4)


def test_a_module_with_weights_that_are_not_finite_is_refused() -> None:
    module = net()
    with torch.no_grad():
        module.layer1.conv2.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(NmcError, match=r"NMC-G04 layer1\.conv2"):
        convert(module, frames(), 4)
