"""NeuroBench 2.3 and nmc on the same networks: every shared metric side by side.

NeuroBench needs an environment of its own (it cannot be locked beside Lava):

    python3.11 -m venv nb && nb/bin/pip install torch snntorch .
    nb/bin/pip install --no-deps neurobench==2.3.0
    nb/bin/python benchmarks/shared_metrics.py
"""

from __future__ import annotations

import sys

import numpy as np
import snntorch as snn
import torch
from neurobench.metrics.static import ConnectionSparsity, Footprint, ParameterCount
from neurobench.metrics.workload import ActivationSparsity, MembraneUpdates, SynapticOperations
from neurobench.models import SNNTorchModel
from torch import nn

import nmc

SAMPLES, STEPS, SIZE = 6, 5, 8


def leaky(**options: object) -> snn.Leaky:
    return snn.Leaky(beta=0.8, init_hidden=True, **options)


class Chain(nn.Module):
    """Convolutions, a stride, a grouped layer and a classifier; analog input."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            leaky(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1, groups=4, bias=False),
            leaky(reset_mechanism="zero"),
            nn.Flatten(),
            nn.Linear(16 * 16, 10),
            leaky(output=True),
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.layers(x)


class Residual(nn.Module):
    """Batch norm, and a spike sum of up to 2 that a convolution reads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn1, self.lif1 = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), leaky()
        self.conv2, self.bn2, self.lif2 = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), leaky()
        self.conv3, self.lif3 = nn.Conv2d(6, 4, 3, padding=1), leaky()
        self.fc, self.lif4 = nn.Linear(4 * SIZE * SIZE, 10), leaky(output=True)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        s = self.lif1(self.bn1(self.stem(x)))
        s = self.lif2(self.bn2(self.conv2(s))) + s
        s = self.lif3(self.conv3(s))
        return self.lif4(self.fc(s.flatten(1)))


class Pruned(nn.Module):
    """A fully connected network on spike trains, half of its weights zero."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(SIZE * SIZE, 40, bias=False), leaky()
        self.fc2, self.lif2 = nn.Linear(40, 10), leaky(output=True)
        with torch.no_grad():
            for layer in (self.fc1, self.fc2):
                layer.weight *= torch.rand_like(layer.weight) < 0.5

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.lif2(self.fc2(self.lif1(self.fc1(x))))


def theirs(net: nn.Module, trains: torch.Tensor) -> dict[str, float]:
    """NeuroBench on one batch of trains (N, T, ...)."""
    model = SNNTorchModel(net)
    static = {one.__name__: one()(model) for one in (Footprint, ParameterCount, ConnectionSparsity)}
    model.register_hooks()
    with torch.no_grad():
        predictions = model(trains)
    data = (trains, torch.zeros(len(trains)))
    sparsity = ActivationSparsity()(model, predictions, data)
    updates = MembraneUpdates()(model, predictions, data)
    operations = SynapticOperations()(model, predictions, data)
    model.cleanup_hooks()
    flat = {**static, "ActivationSparsity": sparsity, "MembraneUpdates": updates, **operations}
    return {name: float(value) for name, value in flat.items()}


def ours(net: nn.Module, trains: torch.Tensor) -> dict[str, float]:
    found = nmc.neurobench(net, trains.numpy(), steps=STEPS).to_dict()
    flat = {**found, **found.pop("SynapticOperations")}
    return {
        name: float(flat[name]) for name in flat if flat[name] is not None and name != "SynapticOperations"
    }


def main() -> int:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    frames = rng.random((SAMPLES, 1, 1, SIZE, SIZE)).astype(np.float32)
    analog = torch.from_numpy(np.repeat(frames, STEPS, axis=1) * 3)
    spikes = torch.from_numpy((rng.random((SAMPLES, STEPS, SIZE * SIZE)) < 0.3).astype(np.float32))
    unequal = 0
    for net, trains in ((Chain(), analog), (Residual(), analog), (Pruned(), spikes)):
        net.eval()
        # Ours first: NeuroBench leaves states in the module that count as buffers afterwards.
        two, one = ours(net, trains), theirs(net, trains)
        print(f"\n{type(net).__name__}\n{'metric':22} {'NeuroBench':>16} {'nmc':>16}")
        for name, value in one.items():
            same = value == two[name]
            unequal += not same
            print(f"{name:22} {value:16,.6g} {two[name]:16,.6g} {'' if same else '  <- differs'}")
    print(f"\n{unequal} of the numbers differ")
    return int(unequal > 0)


if __name__ == "__main__":
    sys.exit(main())
