"""Train a residual ANN on handwritten digits and run it as a spiking network in a chip's integers.

    python examples/convert_digits.py          # half a minute on one core; needs torch and scikit-learn

The ANN is a small ResNet (stem, identity block, down-sampling block, batch norm everywhere) on scikit-learn's
digits: 1437 images to train, 360 to test. Conversion is one call without labels,
``nmc.convert(net, images, T, chip=...)``; the chip decides how neurons reset and whether they may start from
another potential than 0. ``benchmarks/conversion.py`` compares every method; ``trained`` also gives deeper
residual networks, such as a ResNet-20 of the CIFAR style: ``trained(x, y, widths=(16, 32, 64), blocks=3)``.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn.functional import affine_grid, cross_entropy, grid_sample

import nmc

SEED = 0
WIDTHS = (12, 24)
EPOCHS = 30
RATE = 4e-3
CALIBRATION = 256
BATCH = 48


# --- data and networks ------------------------------------------------------------------------------


def load_data() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x_train (1437, 1, 8, 8), x_test (360, 1, 8, 8) float32 in 0..1, y int64."""
    digits = load_digits()
    x = (digits.images / 16).astype(np.float32)[:, None]
    y = digits.target.astype(np.int64)
    return tuple(train_test_split(x, y, test_size=360, random_state=SEED, stratify=y))  # type: ignore[return-value]


class Block(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int, act: type[nn.Module]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1, self.act1 = nn.BatchNorm2d(c_out), act()
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2, self.act2 = nn.BatchNorm2d(c_out), act()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or c_in != c_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x)))))
        return self.act2(out + self.shortcut(x))


class ResNet(nn.Module):
    """``blocks`` residual blocks per width; every width but the first starts with stride 2."""

    def __init__(
        self, widths: tuple[int, ...] = WIDTHS, blocks: int = 1, act: type[nn.Module] = nn.ReLU
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, widths[0], 3, 1, 1, bias=False)
        self.bn, self.act = nn.BatchNorm2d(widths[0]), act()
        layers: list[nn.Module] = []
        c_in = widths[0]
        for stage, width in enumerate(widths):
            for index in range(blocks):
                layers.append(Block(c_in, width, 2 if stage and not index else 1, act))
                c_in = width
        self.blocks = nn.Sequential(*layers)
        self.pool = nn.AvgPool2d(2)
        self.fc = nn.Linear(c_in * (4 // 2 ** (len(widths) - 1)) ** 2, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.act(self.bn(self.conv(x))))
        return self.fc(self.pool(x).flatten(1))


# --- training ---------------------------------------------------------------------------------------


def augment(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Small random rotations, scalings and shifts."""
    n = len(x)
    angle = (torch.rand(n, generator=rng) - 0.5) * 0.4
    scale = 1 + (torch.rand(n, generator=rng) - 0.5) * 0.2
    shift = (torch.rand(n, 2, generator=rng) - 0.5) * 0.5
    rows = torch.stack(
        [
            torch.stack([scale * angle.cos(), -scale * angle.sin(), shift[:, 0]], 1),
            torch.stack([scale * angle.sin(), scale * angle.cos(), shift[:, 1]], 1),
        ],
        1,
    )
    return grid_sample(x, affine_grid(rows, list(x.shape), align_corners=False), align_corners=False)


def train(
    net: nn.Module, x: torch.Tensor, y: torch.Tensor, epochs: int, rate: float, seed: int = SEED
) -> None:
    """AdamW on augmented images; leaves the net in eval mode."""
    rng = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=1e-3)
    batches = len(x) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * batches)
    net.train()
    for _ in range(epochs):
        for index in torch.randperm(len(x), generator=rng)[: batches * BATCH].split(BATCH):
            loss = cross_entropy(net(augment(x[index], rng)), y[index], label_smoothing=0.02)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    net.eval()


def trained(
    x: np.ndarray,
    y: np.ndarray,
    *,
    widths: tuple[int, ...] = WIDTHS,
    blocks: int = 1,
    epochs: int = EPOCHS,
    seed: int = SEED,
) -> ResNet:
    """A ResNet of 2 * blocks * len(widths) + 2 layers, trained on images (N, 1, 8, 8) with labels (N,)."""
    torch.manual_seed(seed)
    net = ResNet(widths, blocks)
    train(net, torch.from_numpy(x), torch.from_numpy(y), epochs, RATE, seed)
    return net


@torch.no_grad()
def ann_accuracy(net: nn.Module, x: np.ndarray, y: np.ndarray) -> float:
    return float((net(torch.from_numpy(x)).argmax(1).numpy() == y).mean())


def main() -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    start = time.perf_counter()
    x_train, x_test, y_train, y_test = load_data()
    net = trained(x_train, y_train)
    print(f"ANN {ann_accuracy(net, x_test, y_test):.2%}, trained in {time.perf_counter() - start:.0f} s")
    for chip in ("lava-cpu", "loihi2"):
        for steps in (8, 32):
            snn = nmc.convert(net, x_train[:CALIBRATION], steps, chip=chip)
            bundle = nmc.compile(snn, chip, x_train[:CALIBRATION])
            right = nmc.run(bundle, x_test).classes == y_test
            print(f"{chip:9s} T = {steps:2d}: {right.mean():.2%} in integers", flush=True)


if __name__ == "__main__":
    main()
