"""The benchmark networks in other simulators, with the same integers, so that the same spikes come out.

Needs Python 3.11 or newer with spikingjelly and torch; see README.md in this folder.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from models import Folded, Layer, Model
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly.activation_based.model import sew_resnet
from torch import nn


class Table(nn.Module):
    """A model's layers built from SpikingJelly's, multi-step mode: what its users write by hand."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        self.convs, self.norms, self.neurons = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        channels = {"input": 3}
        for item in model.layers:
            channels[item.name] = item.channels or channels[item.sources[0]]
            if item.kind == "conv":
                key = _key(item)
                self.convs[key] = layer.Conv2d(
                    channels[item.sources[0]],
                    item.channels,
                    item.kernel,
                    item.stride,
                    item.kernel // 2,
                    bias=False,
                )
                self.norms[key] = layer.BatchNorm2d(item.channels)
                self.neurons[key] = neuron.IFNode(v_reset=0.0)
        self.pool = layer.MaxPool2d(3, 2, 1)
        self.fc = layer.Linear(channels[model.layers[-1].name], model.classes, bias=False)
        functional.set_step_mode(self, "m")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs = {"input": x}
        for item in self.model.layers:
            source = outputs[item.sources[0]]
            if item.kind == "add":
                outputs[item.name] = source + outputs[item.sources[1]]
            elif item.kind == "pool":
                outputs[item.name] = self.pool(source)
            else:
                key = _key(item)
                outputs[item.name] = self.neurons[key](self.norms[key](self.convs[key](source)))
        return self.fc(outputs[self.model.layers[-1].name].sum((3, 4)))


def _key(item: Layer) -> str:
    return item.name.replace(".", "_")


class SewResNet(nn.Module):
    """SpikingJelly's own sew_resnet18; its average pool gives means where the integers have sums."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.net = sew_resnet.sew_resnet18(
            cnf="ADD", spiking_neuron=neuron.IFNode, v_reset=0.0, detach_reset=True
        )
        self.net.fc.bias = None
        functional.set_step_mode(self.net, "m")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


def spikingjelly(folded: Folded) -> nn.Module:
    """The folded network: convolutions hold integers, batch norms add the biases, thresholds are whole."""
    model = folded.model
    net = SewResNet(model) if model.name.startswith("SEW") else Table(model)
    with torch.no_grad():
        for name, found in parts(net, model):
            conv, norm, spiking = found
            conv.weight.copy_(torch.from_numpy(folded.weights[name].astype(np.float32)))
            norm.running_mean.zero_()
            norm.running_var.fill_(1.0 - norm.eps)
            norm.weight.fill_(1.0)
            norm.bias.copy_(torch.from_numpy(folded.biases[name].astype(np.float32)))
            spiking.v_threshold = float(folded.thresholds[name])
        fc = net.net.fc if isinstance(net, SewResNet) else net.fc
        assert folded.classifier is not None
        fc.weight.copy_(torch.from_numpy(folded.classifier.astype(np.float32)))
    return net.eval()


def parts(net: nn.Module, model: Model) -> list[tuple[str, tuple[Any, Any, Any]]]:
    """(conv, batch norm, neuron) of every convolution."""
    found = []
    for item in model.layers:
        if item.kind != "conv":
            continue
        if isinstance(net, Table):
            key = _key(item)
            found.append((item.name, (net.convs[key], net.norms[key], net.neurons[key])))
        elif item.name == "conv1":
            found.append((item.name, (net.net.conv1, net.net.bn1, net.net.sn1)))
        else:
            stage, block, part = item.name.split(".")
            home = getattr(net.net, stage)[int(block)]
            if part == "down":
                found.append((item.name, (*home.downsample, home.downsample_sn)))
            else:
                number = part[-1]
                found.append(
                    (item.name, tuple(getattr(home, f"{kind}{number}") for kind in ("conv", "bn", "sn")))
                )
    return found


def prepare(x: npt.NDArray[np.int64], steps: int) -> torch.Tensor:
    """(T, N, 3, H, W) float32: the frame in every step."""
    return torch.from_numpy(x).float().unsqueeze(0).repeat(steps, 1, 1, 1, 1)


def run(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        functional.reset_net(net)
        return net(x)
