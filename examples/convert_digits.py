"""Convert a residual ANN to a spiking network by every method, and print accuracy against time steps.

    python examples/convert_digits.py          # about two minutes on one core; needs torch and scikit-learn

The ANN is a small ResNet (stem, identity block, down-sampling block, batch norm everywhere) on scikit-learn's
handwritten digits: 1437 images to train, 360 to test. Conversion is one call, ``convert(net, images, T)``,
without labels. The second ANN is the same, fine-tuned with QCFS activations, which round as spikes will.
Spiking networks run in the float engine; the class is the largest potential of the readout. The last lines
compile for a chip with a soft reset and for one with a hard reset and run the integers.
"""

from __future__ import annotations

import time
from functools import partial

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn.functional import affine_grid, cross_entropy, grid_sample

from nmc import api
from nmc.frontend import opgraph as og
from nmc.frontend.conversion.method import named
from nmc.frontend.convert import convert
from nmc.frontend.float_engine import run

SEED = 0
WIDTHS = (12, 24)
EPOCHS, QCFS_EPOCHS = 30, 15
LEVELS = 4
STEPS = (4, 8, 16, 32, 64)
CALIBRATION = 256
BATCH = 48
RUN_BATCH = 60

ROWS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("maximum (Rueckauer)", "max", {}),
    ("99.9 % (Rueckauer)", "percentile", {}),
    ("99.9 %, compensated (Hu)", "hu", {}),
    ("99 %, v0 = threshold / 2", "half", {}),
    ("least error, calibrated (auto)", "auto", {}),
    ("99.9 %, hard reset", "percentile", {"reset": "hard"}),
    ("calibrated for hard reset (auto)", "auto", {"reset": "hard"}),
)
QCFS_ROWS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("QCFS", "percentile", {}),
    ("QCFS, calibrated (auto)", "auto", {}),
    ("QCFS, calibrated for hard reset", "auto", {"reset": "hard"}),
)


# --- data and networks ------------------------------------------------------------------------------


def load_data() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x_train (1437, 1, 8, 8), x_test (360, 1, 8, 8) float32 in 0..1, y int64."""
    digits = load_digits()
    x = (digits.images / 16).astype(np.float32)[:, None]
    y = digits.target.astype(np.int64)
    return tuple(train_test_split(x, y, test_size=360, random_state=SEED, stratify=y))  # type: ignore[return-value]


class QCFS(nn.Module):
    """``limit * clip(round(x * levels / limit) / levels, 0, 1)``; the gradient passes the rounding."""

    def __init__(self, levels: int = LEVELS) -> None:
        super().__init__()
        self.limit = nn.Parameter(torch.tensor(4.0))
        self.levels = levels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = (x / self.limit).clamp(0, 1) * self.levels
        return (y + (torch.floor(y + 0.5) - y).detach()) / self.levels * self.limit


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


def train(net: nn.Module, x: torch.Tensor, y: torch.Tensor, epochs: int, rate: float) -> None:
    rng = torch.Generator().manual_seed(SEED)
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


@torch.no_grad()
def ann_accuracy(net: nn.Module, x: np.ndarray, y: np.ndarray) -> float:
    return float((net(torch.from_numpy(x)).argmax(1).numpy() == y).mean())


# --- conversion -------------------------------------------------------------------------------------


def accuracies(graph: og.OpGraph, x: np.ndarray, y: np.ndarray, steps: tuple[int, ...]) -> list[float]:
    """Accuracy after each of ``steps``, from one run: the potential after T steps is what T steps give."""
    right = np.zeros(len(steps))
    for first in range(0, len(x), RUN_BATCH):
        part = slice(first, first + RUN_BATCH)
        potential = run(graph, x[part], max(steps), record=("output",)).values["output"].cumsum(axis=1)
        right += [(potential[:, t - 1].argmax(1) == y[part]).sum() for t in steps]
    return list(right / len(x))


def row(
    net: nn.Module, data: np.ndarray, x: np.ndarray, y: np.ndarray, method: str, choices: dict
) -> list[float]:
    """Accuracy at every T in ``STEPS``. Methods that look at T are converted for each."""
    chosen = named(method, **choices)
    if chosen.scale == "percentile" and chosen.compensation == chosen.correction == "none":
        return accuracies(convert(net, data, max(STEPS), chosen), x, y, STEPS)
    return [accuracies(convert(net, data, t, chosen), x, y, (t,))[0] for t in STEPS]


def print_table(
    title: str, net: nn.Module, rows: tuple, data: np.ndarray, x: np.ndarray, y: np.ndarray
) -> None:
    print(f"\n{title}, ANN {ann_accuracy(net, x, y):.2%}")
    print(f"{'accuracy in % at T =':34s}" + "".join(f"{t:8d}" for t in STEPS))
    for label, method, choices in rows:
        numbers = row(net, data, x, y, method, choices)
        print(f"{label:34s}" + "".join(f"{100 * n:8.2f}" for n in numbers), flush=True)


def print_chips(net: nn.Module, data: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    """The same network as integers of a chip."""
    print("\ncompiled, in the integers of the chip (8-bit weights)")
    for chip, reset in (("lava-cpu", "soft"), ("loihi2", "hard")):
        for steps in (8, 32):
            bundle = api.compile(convert(net, data, steps, reset=reset), chip, data)
            output = api.run(bundle, x).output.reshape(len(x), -1)
            print(
                f"{chip:9s} {reset} reset  T = {steps:2d}  {(output.argmax(1) == y).mean():7.2%}", flush=True
            )


def main() -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    x_train, x_test, y_train, y_test = load_data()
    data, start = x_train[:CALIBRATION], time.perf_counter()
    images, labels = torch.from_numpy(x_train), torch.from_numpy(y_train)

    torch.manual_seed(SEED)
    net = ResNet()
    train(net, images, labels, EPOCHS, 4e-3)
    tuned = ResNet(act=partial(QCFS, LEVELS))  # type: ignore[arg-type]
    tuned.load_state_dict(net.state_dict(), strict=False)
    train(tuned, images, labels, QCFS_EPOCHS, 2e-3)
    print(f"trained in {time.perf_counter() - start:.0f} s")

    print_table("ResNet with ReLU", net, ROWS, data, x_test, y_test)
    print_table(f"fine-tuned with QCFS of {LEVELS} levels", tuned, QCFS_ROWS, data, x_test, y_test)
    print_chips(net, data, x_test, y_test)
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
