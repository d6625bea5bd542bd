"""Conversion of torch modules: one call, the import checked, the module left alone."""

from __future__ import annotations

import numpy as np
import pytest

from nmc.errors import NmcError
from nmc.frontend import opgraph as og
from nmc.frontend.conversion.activations import ClipFloor, plain
from nmc.frontend.conversion.module import check_import, import_ann
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
    snn = convert(module, x, 256, "max")
    expected = forward(module, x)
    got = run(snn, x, 256, record=()).output / 256
    assert np.abs(got - expected).max() < 0.05 * np.abs(expected).max()
    assert {"relu", "layer1.relu", "layer1.relu.2", "layer2.relu"} <= set(snn.named(og.Neuron))


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


def source(module: nn.Module):
    return lambda x: forward(module, x)


def test_an_import_that_lost_a_shortcut_is_refused() -> None:
    module, x = net(), frames()
    ann = import_ann(module, x)
    check_import(ann, source(module), x)
    (shortcut,) = [e for e in ann.edges if e[0] in ("maxpool", "relu") and "add" in e[1]] or [None]
    assert shortcut is not None, ann.edges
    broken = ann.with_(edges=tuple(edge for edge in ann.edges if edge != shortcut))
    with pytest.raises(NmcError, match="NMC-V02 ResNet: outputs of the import differ by") as caught:
        check_import(broken, source(module), x)
    assert caught.value.measured > caught.value.allowed
    assert caught.value.exit_status == 1


@pytest.mark.parametrize("factor", [1.01, float("nan")])
def test_an_import_with_other_weights_is_refused(factor: float) -> None:
    module, x = net(), frames()
    ann = import_ann(module, x)
    fc = ann.nodes["fc"]
    broken = ann.with_(nodes={**ann.nodes, "fc": og.Linear(fc.weight * factor, fc.bias)})
    with pytest.raises(NmcError, match="NMC-V02"):
        check_import(broken, source(module), x)


def test_an_import_of_another_shape_is_refused() -> None:
    module, x = net(), frames()
    ann = import_ann(module, x)
    with pytest.raises(
        NmcError, match=r"NMC-V02 ResNet: the import gives shape \(6, 3\), its source \(6, 2\)"
    ):
        check_import(ann, lambda x: forward(module, x)[:, :2], x)


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
