"""One small network per architecture, with the neurons, layers and habits of each SNN framework.

``KITS`` says how a framework's user writes a neuron; ``ARCHITECTURES`` are modules on (2, 8, 8) written with
whatever the kit gives. Frameworks are imported when a kit is made, never before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

SHAPE = (2, 8, 8)
WIDTH = 8


@dataclass(frozen=True)
class Kit:
    """neuron(): a module that maps currents to spikes; soft(): the same with reset by subtraction.

    conv, norm, max_pool, pool, linear, flatten: the framework's layers, or torch's.
    prepare: what the user does to the finished network.
    """

    neuron: Callable[[], nn.Module]
    soft: Callable[[], nn.Module]
    recurrent: Callable[[int], nn.Module] | None = None
    layers: Any = nn
    prepare: Callable[[nn.Module], nn.Module] = lambda net: net

    def conv(self, c_in: int, c_out: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Module:
        return self.layers.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)

    def norm(self, channels: int) -> nn.Module:
        return self.layers.BatchNorm2d(channels)


class Stateful(nn.Module):
    """How Norse's cells are used outside of a SequentialState: the caller keeps the state."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell
        self.state = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spikes, self.state = self.cell(x, self.state)
        return spikes

    def reset(self) -> None:
        self.state = None


# --- architectures ----------------------------------------------------------------------------------


class ConvNet(nn.Module):
    def __init__(self, kit: Kit, neuron: Callable[[], nn.Module] | None = None) -> None:
        super().__init__()
        neuron = neuron or kit.neuron
        layers = kit.layers
        self.features = nn.Sequential(
            layers.Conv2d(2, WIDTH, 3, padding=1),
            neuron(),
            layers.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1),
            neuron(),
            layers.AvgPool2d(2),
        )
        self.flatten = layers.Flatten()
        self.classifier = nn.Sequential(
            layers.Linear(WIDTH * 4, 16), neuron(), layers.Linear(16, 5), neuron()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.flatten(self.features(x)))


class PoolNet(nn.Module):
    """Max pool of spikes, then batch norm."""

    def __init__(self, kit: Kit, max_pool: bool, norm: bool, groups: int = 1) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for c_in in (2, WIDTH):
            parts.append(kit.conv(c_in, WIDTH, groups=groups if c_in == WIDTH else 1))
            if norm:
                parts.append(kit.norm(WIDTH))
            parts.append(kit.neuron())
            if max_pool:
                parts.append(kit.layers.MaxPool2d(2))
        if groups > 1:
            parts += [kit.conv(WIDTH, 2 * WIDTH, groups=WIDTH), kit.neuron()]
        self.body = nn.Sequential(*parts)
        size = (2 * WIDTH if groups > 1 else WIDTH) * (4 if max_pool else 64)
        self.flatten = kit.layers.Flatten()
        self.head = nn.Sequential(kit.layers.Linear(size, 5), kit.neuron())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.flatten(self.body(x)))


class Block(nn.Module):
    """A residual block; ``kind`` says where the neurons are and what joins the paths."""

    def __init__(self, kit: Kit, kind: str, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.kind = kind
        self.conv1, self.bn1 = kit.conv(c_in, c_out, 3, stride), kit.norm(c_out)
        self.conv2, self.bn2 = kit.conv(c_out, c_out), kit.norm(c_out)
        self.sn1, self.sn2 = kit.neuron(), kit.neuron()
        self.down: nn.Module | None = None
        if stride != 1 or c_in != c_out:
            tail = [kit.neuron()] if kind.startswith("SEW") else []
            self.down = nn.Sequential(kit.conv(c_in, c_out, 1, stride), kit.norm(c_out), *tail)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.down is None else self.down(x)
        if self.kind == "MS":
            y = self.bn2(self.conv2(self.sn2(self.bn1(self.conv1(self.sn1(x))))))
            y += shortcut
            return y
        y = self.bn2(self.conv2(self.sn1(self.bn1(self.conv1(x)))))
        if self.kind == "vanilla":
            return self.sn2(torch.add(y, shortcut))
        y = self.sn2(y)
        if self.kind == "SEW ADD":
            return y + shortcut
        return shortcut * y if self.kind == "SEW AND" else shortcut * (1.0 - y)


class ResNet(nn.Module):
    def __init__(self, kit: Kit, kind: str) -> None:
        super().__init__()
        self.stem = nn.Sequential(kit.conv(2, WIDTH), kit.norm(WIDTH))
        self.sn = kit.neuron()
        self.ms = kind == "MS"
        self.layer1 = Block(kit, kind, WIDTH, WIDTH, 1)
        self.layer2 = Block(kit, kind, WIDTH, 2 * WIDTH, 2)
        self.pool, self.flatten = kit.layers.AdaptiveAvgPool2d(1), kit.layers.Flatten()
        self.fc, self.out = kit.layers.Linear(2 * WIDTH, 5), kit.neuron()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = self.layer2(self.layer1(x if self.ms else self.sn(x)))
        x = self.sn(x) if self.ms else x
        return self.out(self.fc(self.flatten(self.pool(x))))


class Recurrent(nn.Module):
    def __init__(self, kit: Kit) -> None:
        super().__init__()
        self.flatten, self.fc = kit.layers.Flatten(), kit.layers.Linear(128, 8)
        assert kit.recurrent is not None
        self.cell = kit.recurrent(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.cell(self.fc(self.flatten(x)))


ARCHITECTURES: dict[str, Callable[[Kit], nn.Module]] = {
    "conv net": ConvNet,
    "vanilla residual": lambda kit: ResNet(kit, "vanilla"),
    "SEW ADD": lambda kit: ResNet(kit, "SEW ADD"),
    "SEW AND": lambda kit: ResNet(kit, "SEW AND"),
    "SEW IAND": lambda kit: ResNet(kit, "SEW IAND"),
    "MS": lambda kit: ResNet(kit, "MS"),
    "max pool": lambda kit: PoolNet(kit, max_pool=True, norm=False),
    "batch norm": lambda kit: PoolNet(kit, max_pool=False, norm=True),
    "grouped": lambda kit: PoolNet(kit, max_pool=False, norm=False, groups=4),
    "soft reset": lambda kit: ConvNet(kit, kit.soft),
    "recurrent": Recurrent,
}


# --- frameworks -------------------------------------------------------------------------------------


def spikingjelly(step_mode: str) -> Kit:
    from spikingjelly.activation_based import functional, layer, neuron

    def prepare(net: nn.Module) -> nn.Module:
        functional.set_step_mode(net, step_mode)
        return net

    return Kit(
        neuron=lambda: neuron.LIFNode(tau=1.7, v_threshold=0.7, v_reset=0.1),
        soft=lambda: neuron.IFNode(v_threshold=0.8, v_reset=None),
        recurrent=lambda n: layer.LinearRecurrentContainer(neuron.IFNode(), n, n),
        layers=layer,
        prepare=prepare,
    )


def snntorch(samples: int) -> Kit:
    import snntorch as snn

    return Kit(
        neuron=lambda: snn.Leaky(beta=0.8, threshold=0.7, reset_mechanism="zero", init_hidden=True),
        soft=lambda: snn.Leaky(beta=0.9, threshold=0.6, init_hidden=True),
        recurrent=lambda n: snn.RLeaky(beta=0.9, linear_features=n, init_hidden=True),
    )


def norse(samples: int) -> Kit:
    import norse.torch as norse_torch

    rate = torch.tensor(600.0)
    hard = norse_torch.LIFBoxParameters(tau_mem_inv=rate, v_th=torch.tensor(0.35), v_reset=torch.tensor(0.05))
    from norse.torch.functional.reset import reset_subtract

    soft = norse_torch.LIFBoxParameters(tau_mem_inv=rate, v_th=torch.tensor(0.3), reset_method=reset_subtract)
    return Kit(
        neuron=lambda: Stateful(norse_torch.LIFBoxCell(hard)),
        soft=lambda: Stateful(norse_torch.LIFBoxCell(soft)),
        recurrent=lambda n: Stateful(norse_torch.LIFRecurrentCell(n, n)),
    )


def sinabs(samples: int) -> Kit:
    from sinabs import activation, layers

    hard = {"spike_fn": activation.SingleSpike, "reset_fn": activation.MembraneReset()}
    return Kit(
        neuron=lambda: layers.LIFSqueeze(
            batch_size=samples, tau_mem=5.0, spike_threshold=torch.tensor(0.6), norm_input=False, **hard
        ),
        soft=lambda: layers.IAFSqueeze(batch_size=samples, spike_threshold=torch.tensor(0.4)),
        recurrent=lambda n: nn.Sequential(
            layers.UnflattenTime(batch_size=samples),
            layers.LIFRecurrent(tau_mem=5.0, rec_connect=nn.Linear(n, n), **hard),
            layers.FlattenTime(),
        ),
    )


class SlayerLayers:
    """SLAYER's synapses under torch's names: time is the last axis, there is neither bias nor norm."""

    def __init__(self) -> None:
        from lava.lib.dl.slayer import block, synapse

        self.block, self.synapse = block.cuba, synapse

    def Conv2d(
        self, c_in: int, c_out: int, kernel: int, stride: int = 1, padding: int = 0, **options: Any
    ) -> Any:
        return self.synapse.Conv(c_in, c_out, kernel, stride, padding, groups=options.get("groups", 1))

    def BatchNorm2d(self, channels: int) -> nn.Module:
        return nn.Identity()

    def AvgPool2d(self, kernel: int) -> Any:
        return self.synapse.Pool(kernel, weight_scale=1 / kernel**2)

    def AdaptiveAvgPool2d(self, size: int) -> Any:
        return self.AvgPool2d(4 // size)

    def Flatten(self) -> Any:
        return self.block.Flatten()

    def Linear(self, features: int, outputs: int) -> Any:
        return self.synapse.Dense(features, outputs)


def slayer(samples: int) -> Kit:
    from lava.lib.dl.slayer import block, neuron

    class Recurrent(nn.Module):
        def __init__(self, n: int) -> None:
            super().__init__()
            params = {"threshold": 1.0, "current_decay": 1, "voltage_decay": 0}
            self.cell = block.cuba.Recurrent(params, n, n)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.cell(x)

    return Kit(
        neuron=lambda: neuron.cuba.Neuron(threshold=0.7, current_decay=1, voltage_decay=0),
        soft=lambda: neuron.cuba.Neuron(threshold=0.7, current_decay=1, voltage_decay=0),
        recurrent=Recurrent,
        layers=SlayerLayers(),
    )


SLAYER_LACKS = ("max pool", "batch norm", "soft reset")
"""Architectures that SLAYER's layers cannot say."""

KITS: dict[str, Callable[[int], Kit]] = {
    "SpikingJelly, single-step": lambda samples: spikingjelly("s"),
    "SpikingJelly, multi-step": lambda samples: spikingjelly("m"),
    "snnTorch": snntorch,
    "Norse": norse,
    "Sinabs": sinabs,
}
"""Kits by the name in the support table; the argument is the number of samples of a batch (Sinabs asks)."""


def liven(net: nn.Module, seed: int) -> nn.Module:
    """Weights, biases and statistics with which every layer fires, and none fires always."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(tensor: torch.Tensor, low: float, high: float) -> None:
        tensor.data.copy_(low + (high - low) * torch.rand(tensor.shape, generator=generator))

    for part in net.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            uniform(part.running_mean, -0.2, 0.2)
            uniform(part.running_var, 0.3, 1.2)
            uniform(part.weight, 0.6, 1.4)
            uniform(part.bias, -0.1, 0.5)
        elif isinstance(part, nn.Conv2d | nn.Linear):
            bound = 2.0 / part.weight[0].numel() ** 0.5
            uniform(part.weight, -bound, 1.2 * bound)
            if part.bias is not None:
                uniform(part.bias, 0.0, 0.3)
        elif isinstance(part, nn.Conv3d) and part.weight.requires_grad:
            bound = 2.0 / part.weight[0].numel() ** 0.5
            uniform(part.weight, -bound, 1.4 * bound)
            # SLAYER's states are integers: these weights it represents exactly.
            part.weight.data = torch.round(part.weight.data * 32) / 32
    return net.eval()
