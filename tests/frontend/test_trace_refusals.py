"""Every refusal names the module, the line of the user's code, and what to do."""

from __future__ import annotations

import sys

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812
from standins import IFNode  # noqa: E402
from torch import nn  # noqa: E402

from nmc.errors import NmcError  # noqa: E402
from nmc.frontend.trace import trace  # noqa: E402

MAP, VECTOR = (4, 6, 6), (12,)


class Body(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(12, 5)
        self.table = nn.Parameter(torch.rand(4, 6, 6))

    def forward(self, x):
        return self.function(self, x)


class Net(nn.Module):
    """The line that is refused runs two modules deep."""

    def __init__(self, function) -> None:
        super().__init__()
        self.stage = nn.Sequential(nn.Identity(), Body(function))

    def forward(self, x):
        return self.stage(x)


def threshold_by_hand(m, x):
    return (m.conv(x) > 1).float()


def zeros_under_another_name(m, x):
    total = torch.zeros(2, 5)
    total.add_(m.fc(x))
    return total + m.fc(x)


FUNCTIONS = {
    "unknown function": (MAP, lambda m, x: torch.sort(x)[0], "sort", ""),
    "unknown method": (MAP, lambda m, x: x.cumsum(1), "cumsum", ""),
    "comparison": (MAP, threshold_by_hand, "compares", "SpikingJelly"),
    "control flow on data": (MAP, lambda m, x: x if x.sum((2, 3)).mean(0)[0] > 0 else -x, "batch", ""),
    "truth of data": (MAP, lambda m, x: x if m.conv(x) else -x, "numbers", "control flow"),
    "item": (MAP, lambda m, x: x * m.conv(x).item(), "numbers", ""),
    "division": (MAP, lambda m, x: x / m.conv(x), "divides", "constants"),
    "power": (MAP, lambda m, x: m.conv(x) ** 2, "pow", ""),
    "exp": (MAP, lambda m, x: torch.exp(m.conv(x)), "exp", ""),
    "attention": (VECTOR, lambda m, x: x @ x.T, "attribute T", ""),
    "interpolate": (MAP, lambda m, x: F.interpolate(x, scale_factor=2), "interpolate", ""),
    "active dropout": (MAP, lambda m, x: F.dropout(x, 0.5), "dropout", "training=self.training"),
    "bias per pixel": (MAP, lambda m, x: m.conv(x) + m.table, "pixel", "channel"),
    "split channels": (MAP, lambda m, x: x.view(-1, 2, 2, 6, 6).sum(2), "splits", ""),
    "mixes channels and batch": (MAP, lambda m, x: x.reshape(-1, 6, 6), "mixes", ""),
    "reorders": (MAP, lambda m, x: m.fc(x.permute(0, 2, 3, 1).flatten(1)), "mixes", ""),
    "permuted into a layer": (MAP, lambda m, x: m.conv(x.transpose(2, 3)), "permuted", ""),
    "gate per channel": (MAP, lambda m, x: x * x.mean((2, 3), keepdim=True), "repeat", "same shape"),
    "mean over the batch": (MAP, lambda m, x: x - x.mean(0), "batch", ""),
    "mean over all": (MAP, lambda m, x: x - x.mean(), "every axis", "name the axes"),
    "mean over channels": (MAP, lambda m, x: x.mean(1), "mean over axes", "H and W"),
    "clamp": (MAP, lambda m, x: x.clamp(0, 1), "clamps", "ReLU"),
    "index of the batch": (MAP, lambda m, x: x[0], "batch", "step_mode='m'"),
    "pixels": (MAP, lambda m, x: x[:, :, 1:], "data axis", "channels"),
    "mask": (MAP, lambda m, x: x[:, [0, 1]], "list", ""),
    "cat of the batch": (MAP, lambda m, x: torch.cat([x, x]), "batch", "stack"),
    "stack of layers": (MAP, lambda m, x: torch.stack([x, m.conv(x)]), "different layers", ""),
    "ceil mode": (MAP, lambda m, x: F.max_pool2d(x, 4, ceil_mode=True), "ceil_mode", ""),
    "uneven adaptive pool": (MAP, lambda m, x: F.adaptive_avg_pool2d(x, 4), "different sizes", ""),
    "padding not counted": (
        MAP,
        lambda m, x: F.avg_pool2d(x, 3, padding=1, count_include_pad=False),
        "pad",
        "",
    ),
    "reflect": (MAP, lambda m, x: F.pad(x, (1, 1, 1, 1), "reflect"), "reflect", "zeros"),
    "padding of channels": (MAP, lambda m, x: F.pad(x, (1, 0, 0, 0, 0, 1)), "pads by", "rows and columns"),
    "cutting by padding": (MAP, lambda m, x: F.pad(x, (1, -1)), "pads by", "cut nothing"),
    "data times data": (VECTOR, lambda m, x: torch.matmul(m.fc.weight, x), "matrix", ""),
    "batch statistics": (MAP, lambda m, x: F.batch_norm(x, None, None, training=True), "statistics", ""),
    "softmax inside": (VECTOR, lambda m, x: m.fc(x.softmax(1)), "softmax", ""),
    "write into a tensor": (VECTOR, lambda m, x: torch.zeros(2, 12).__setitem__(0, x), "writes", "stack"),
    "zeros that were written to": (VECTOR, zeros_under_another_name, "in place", "total = total + x"),
    "whole numbers": (MAP, lambda m, x: x.to(torch.int32).float(), "int32", "keep floats"),
    "whole numbers by name": (MAP, lambda m, x: x.type(dtype=torch.uint8), "uint8", "keep floats"),
    "shared memory": (MAP, lambda m, x: x.view(x.shape).add_(1) + x, "shares", "x = x + y"),
    "wrong size": (VECTOR, lambda m, x: m.fc(x[:, :6]), "NMC-G03", ""),
    "not enough axes": (VECTOR, lambda m, x: m.conv(x), "2-D operator", ""),
    "two outputs": (MAP, lambda m, x: (x, m.conv(x)), "several", "return the one"),
    "no output": (MAP, lambda m, x: torch.zeros(3), "does not depend", ""),
    "exit": (MAP, lambda m, x: sys.exit(0), "SystemExit", ""),
    "bug": (MAP, lambda m, x: x.shape.nonsense, "AttributeError", "input_shape"),
}
WITHOUT_LINE = ("wrong size", "not enough axes", "two outputs", "no output")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_operations(name):
    shape, function, problem, remedy = FUNCTIONS[name]
    with pytest.raises(NmcError) as caught:
        trace(Net(function), shape)
    error = caught.value
    text = str(error)
    assert problem in text
    assert remedy in error.remedy
    assert error.code in ("NMC-G05", "NMC-G03")
    assert "\n" not in text
    if name not in WITHOUT_LINE:
        assert error.who.startswith("stage.1")
        assert f"{__file__.rpartition('/')[2]} line " in text
    if name == "comparison":
        assert "`return (m.conv(x) > 1).float()`" in text


LAYERS = {
    "Conv1d": (VECTOR, nn.Conv1d(12, 4, 1)),
    "LSTM": (VECTOR, nn.LSTM(12, 4)),
    "LayerNorm": (VECTOR, nn.LayerNorm(12)),
    "Sigmoid": (VECTOR, nn.Sigmoid()),
    "ConvTranspose2d": (MAP, nn.ConvTranspose2d(4, 4, 2)),
    "Upsample": (MAP, nn.Upsample(scale_factor=2)),
    "padding mode": (MAP, nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular")),
    "same with a dilated even kernel": (MAP, nn.Conv2d(4, 4, 2, padding="same", dilation=(1, 3))),
    "BatchNorm without statistics": (MAP, nn.BatchNorm2d(4, track_running_stats=False)),
    "MaxPool2d with indices": (MAP, nn.MaxPool2d(2, return_indices=True)),
    "MaxPool2d with dilation": (MAP, nn.MaxPool2d(2, dilation=2)),
    "LPPool2d": (MAP, nn.LPPool2d(2, 2)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name):
    shape, layer = LAYERS[name]
    with pytest.raises(NmcError) as caught:
        trace(nn.Sequential(nn.Identity(), layer), shape)
    assert caught.value.code == "NMC-G05"
    assert caught.value.who == "1"
    assert caught.value.remedy or name in ("LSTM",)


class MyNode(IFNode):
    def step(self, x):
        return super().step(2 * x)


class MyConv(nn.Conv2d):
    """A user's own layer is followed, not taken for the layer that it derives from."""

    def forward(self, x):
        return F.conv2d(x, self.weight * 2, self.bias, padding=1)


def test_own_neuron_class():
    with pytest.raises(NmcError, match="replaces step") as caught:
        trace(nn.Sequential(nn.Linear(12, 4), MyNode()), VECTOR)
    assert caught.value.who == "1"


def test_own_layer_class_is_followed():
    layer = MyConv(4, 4, 3)
    graph = trace(layer, MAP)
    (name,) = [name for name in graph.nodes if "conv" in name.lower()]
    assert graph.nodes[name].weight.tolist() == (layer.weight * 2).double().tolist()


def test_own_subclass_without_changes_is_the_layer():
    class Wide(nn.Conv2d):
        def __init__(self) -> None:
            super().__init__(4, 8, 3)

        def extra_repr(self) -> str:
            return "wide"

    assert list(trace(nn.Sequential(Wide()), MAP).nodes) == ["input", "0", "output"]


def test_own_forward_of_one_object():
    """A method that was put on the object itself counts, not the class's."""
    layer = nn.Linear(12, 4)
    layer.forward = lambda x: F.linear(x, 3 * layer.weight)
    graph = trace(nn.Sequential(layer), VECTOR)
    assert graph.nodes["0.linear"].weight.tolist() == (3 * layer.weight).double().tolist()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"input_shape": ()}, "one sample"),
        ({"input_shape": (0, 3)}, "one sample"),
        ({"input_shape": VECTOR, "steps": 0}, "at least 1"),
        ({"input_shape": VECTOR, "module": "net"}, "torch.nn.Module"),
    ],
)
def test_arguments(arguments, text):
    with pytest.raises(NmcError, match=text) as caught:
        trace(**{"module": nn.Linear(12, 2), **arguments})
    assert caught.value.code == "NMC-U02"
