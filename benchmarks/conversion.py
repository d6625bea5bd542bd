"""Conversion of ANNs: every method over time steps, shortcut normalisation over depth, two small jobs.

    python benchmarks/conversion.py [table] [job] [depth] [transient] [--seeds 0 1 2] [--steps 4 8]
                                    [--validation]

needs torch and scikit-learn; about ten minutes on one free core, most of it to train the deep ANNs. All
accuracies of ``table`` and ``job`` are those of the chip's integers (8-bit weights): soft resets and start
values on ``lava-cpu``, by loops and biases on ``loihi2``, and there hard resets from 0 as well.

table   the network of ``examples/convert_digits.py``, and itself fine-tuned with QCFS activations.
job     two networks that other converters were tried with, no augmentation: two convolutions ("conv"), and
        stem, identity block and down-sampling block ("res"), 8 and 16 channels, batch norm everywhere.
        Seconds to convert, float and integer accuracy.
depth   residual ANNs of 6 n + 2 layers, with and without max_1 / max_3 on identity shortcuts, float.
        Published (Hu et al. 2018, CIFAR-10): without it 2.3 points are lost at depth 20, 6.3 at 32. Read the
        last columns: few steps flatter unscaled shortcuts, which amplify what has hardly arrived yet.
transient  what a voltage clamp (Rueckauer et al. 2017) would give, float: layer l stays silent for its first
        c l steps. Conversion has none; v0 = threshold / 2 does its work.

Methods were chosen with ``--validation``, which trains on four fifths of the training images and reports on
the rest; the test images are only reported.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn.functional import cross_entropy

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

from convert_digits import CALIBRATION, ResNet, ann_accuracy, load_data, train, trained

import nmc
from nmc.frontend import float_engine
from nmc.frontend.opgraph import Input, Neuron, OpGraph

Split: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Images and labels to train and calibrate with, then to report on."""

STEPS = (4, 8, 16, 32, 64)
LEVELS, QCFS_EPOCHS = 4, 15
Row: TypeAlias = tuple[str, str, str, dict[str, Any]]
"""Label, method, chip, choices that differ from the method's."""
HARD: dict[str, Any] = {"reset": "hard"}
ROWS: tuple[Row, ...] = (
    ("maximum (Rueckauer)", "max", "lava-cpu", {}),
    ("99.9 % (Rueckauer)", "percentile", "lava-cpu", {}),
    ("99.9 %, compensated (Hu)", "hu", "lava-cpu", {}),
    ("99 %, v0 = threshold / 2", "half", "lava-cpu", {}),
    ("least error, v0 = threshold / 2", "least-error", "lava-cpu", {}),
    ("calibrated (auto)", "auto", "lava-cpu", {}),
    ("99.9 %, compensated (Hu)", "hu", "loihi2", {}),
    ("least error, v0 = threshold / 2", "least-error", "loihi2", {}),
    ("calibrated (auto)", "auto", "loihi2", {}),
    ("hard, 99.9 % (Rueckauer)", "percentile", "loihi2", HARD),
    ("hard, 99.9 %, compensated (Hu)", "hu", "loihi2", HARD),
    ("hard, 99 %, v0 as bias", "half", "loihi2", HARD),
    ("hard, calibrated (auto)", "auto", "loihi2", HARD),
)
QCFS_ROWS: tuple[Row, ...] = (
    ("QCFS", "percentile", "lava-cpu", {}),
    ("QCFS, calibrated (auto)", "auto", "lava-cpu", {}),
    ("QCFS, calibrated (auto)", "auto", "loihi2", {}),
    ("QCFS, hard, calibrated (auto)", "auto", "loihi2", HARD),
)
JOB_WIDTHS, JOB_EPOCHS = (8, 16), 8
DEPTHS, DEPTH_WIDTHS, DEPTH_EPOCHS, DEPTH_STEPS = (8, 20, 32), (8, 12, 16), 20, (16, 32, 64, 128)
RUN_BATCH = 60


def split(validation: bool) -> Split:
    x, x_test, y, y_test = load_data()
    if validation:
        x, x_test, y, y_test = train_test_split(x, y, test_size=287, random_state=1, stratify=y)
    return x, y, x_test, y_test


def integers(snn: OpGraph, chip: str, data: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    """Accuracy in the chip's integers; the mapping, which changes none, is left out."""
    bundle = nmc.compile(snn, chip, data, stop_after="prove-ranges")
    return float((nmc.run(bundle, x).classes == y).mean())


def floats(snn: OpGraph, x: np.ndarray, y: np.ndarray, steps: Sequence[int]) -> list[float]:
    """Accuracy after each of ``steps``, from one run: the potential after T steps is what T steps give."""
    right = np.zeros(len(steps))
    for first in range(0, len(x), RUN_BATCH):
        part = slice(first, first + RUN_BATCH)
        values = float_engine.run(snn, x[part], max(steps), record=("output",)).values
        potential = values["output"].cumsum(axis=1)
        right += [(potential[:, t - 1].argmax(1) == y[part]).sum() for t in steps]
    return list(right / len(x))


# --- table ------------------------------------------------------------------------------------------


class QCFS(nn.Module):
    """``limit * clip(round(x * levels / limit) / levels, 0, 1)``; the gradient passes the rounding."""

    def __init__(self, levels: int = LEVELS) -> None:
        super().__init__()
        self.limit = nn.Parameter(torch.tensor(4.0))
        self.levels = levels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = (x / self.limit).clamp(0, 1) * self.levels
        return (y + (torch.floor(y + 0.5) - y).detach()) / self.levels * self.limit


def measure_table(seed: int, on: Split, table_steps: Sequence[int]) -> list[dict[str, Any]]:
    """One entry per row: label, chip, accuracy of the ANN and at every T."""
    x, y, x_test, y_test = on
    net = trained(x, y, seed=seed)
    tuned = ResNet(act=partial(QCFS, LEVELS))  # type: ignore[arg-type]
    tuned.load_state_dict(net.state_dict(), strict=False)
    train(tuned, torch.from_numpy(x), torch.from_numpy(y), QCFS_EPOCHS, 2e-3, seed)
    entries = []
    for ann, rows in ((net, ROWS), (tuned, QCFS_ROWS)):
        for label, method, chip, choices in rows:
            data, found = x[:CALIBRATION], []
            for steps in table_steps:
                snn = nmc.convert(ann, data, steps, method, chip=chip, **choices)
                found.append(integers(snn, chip, data, x_test, y_test))
            entries.append(
                {"row": label, "chip": chip, "ann": ann_accuracy(ann, x_test, y_test), "accuracy": found}
            )
            line = "".join(f"{100 * n:8.2f}" for n in (entries[-1]["ann"], *found))
            print(f"  seed {seed}  {chip:9s} {label:32s}{line}", flush=True)
    return entries


def print_means(tables: Sequence[list[dict[str, Any]]]) -> None:
    for rows in zip(*tables, strict=True):
        numbers = np.mean([(row["ann"], *row["accuracy"]) for row in rows], axis=0)
        line = "".join(f"{100 * n:8.2f}" for n in numbers)
        print(f"  mean    {rows[0]['chip']:9s} {rows[0]['row']:32s}{line}", flush=True)


# --- job --------------------------------------------------------------------------------------------


def train_plain(net: nn.Module, x: torch.Tensor, y: torch.Tensor, epochs: int, seed: int) -> None:
    """Without augmentation."""
    rng = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    net.train()
    for _ in range(epochs):
        for index in torch.randperm(len(x), generator=rng).split(64):
            loss = cross_entropy(net(x[index]), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    net.eval()


def conv_net() -> nn.Module:
    a, b = JOB_WIDTHS
    stem = (nn.Conv2d(1, a, 3, 1, 1, bias=False), nn.BatchNorm2d(a), nn.ReLU())
    down = (nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
    return nn.Sequential(*stem, *down, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(b * 4, 10))


JOB_CHIPS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("lava-cpu", "lava-cpu", {}),
    ("loihi2", "loihi2", {}),
    ("loihi2, hard", "loihi2", HARD),
)
JOBS: dict[str, Callable[[], nn.Module]] = {"conv": conv_net, "res": lambda: ResNet(JOB_WIDTHS)}


def measure_job(name: str, seed: int, on: Split) -> dict[str, Any]:
    """Accuracy of the ANN, of float and integers at T = 8 and 32, and the seconds that conversion took."""
    x, y, x_test, y_test = on
    torch.manual_seed(seed)
    net = JOBS[name]()
    train_plain(net, torch.from_numpy(x), torch.from_numpy(y), JOB_EPOCHS, seed)
    data = x[:CALIBRATION]
    result: dict[str, Any] = {"net": name, "seed": seed, "ann": ann_accuracy(net, x_test, y_test)}
    print(f"  {name:4s} seed {seed}  ANN {result['ann']:.2%}")
    for label, chip, choices in JOB_CHIPS:
        for steps in (8, 32):
            start, cpu = time.perf_counter(), time.process_time()
            snn = nmc.convert(net, data, steps, chip=chip, **choices)
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
            found = {
                "float": floats(snn, x_test, y_test, (steps,))[0],
                "integer": integers(snn, chip, data, x_test, y_test),
                "convert_s": round(seconds, 2),
                "convert_cpu_s": round(cpu, 2),
            }
            result[f"{label} T={steps}"] = found
            line = f"float {found['float']:.2%}  integers {found['integer']:.2%}"
            took = f"converted in {seconds:.2f} s, {cpu:.2f} s of CPU"
            print(f"  {name:4s} seed {seed}  {label:12s} T = {steps:2d}  {line}  {took}", flush=True)
    return result


# --- depth ------------------------------------------------------------------------------------------


def measure_depth(depth: int, seed: int, on: Split) -> dict[str, Any]:
    """Accuracy of the ANN, and at every T with and without the normalisation; by percentile and by Hu."""
    x, y, x_test, y_test = on
    net = trained(x, y, widths=DEPTH_WIDTHS, blocks=(depth - 2) // 6, epochs=DEPTH_EPOCHS, seed=seed)
    result: dict[str, Any] = {"depth": depth, "seed": seed, "ann": ann_accuracy(net, x_test, y_test)}
    print(f"  depth {depth}, ANN {result['ann']:.2%}", flush=True)
    for method in ("percentile", "hu"):
        for shortcut in (True, False):
            data, most = x[:CALIBRATION], max(DEPTH_STEPS)
            snn = nmc.convert(net, data, most, method, chip="lava-cpu", shortcut=shortcut)
            key = f"{method}{'' if shortcut else ', shortcut not scaled'}"
            result[key] = floats(snn, x_test, y_test, DEPTH_STEPS)
            print(f"    {key:34s}" + "".join(f"{100 * n:8.2f}" for n in result[key]), flush=True)
    return result


# --- transient --------------------------------------------------------------------------------------


def clamped(snn: OpGraph, x: np.ndarray, y: np.ndarray, steps: int, clamp: int) -> float:
    """Accuracy after T steps if the l-th layer of neurons holds still for its first ``clamp * l`` steps."""
    values: dict[str, np.ndarray] = {}
    wait = 0
    for name in snn.order:
        op, operands = snn.nodes[name], [values[source] for source in snn.before(name)]
        if isinstance(op, Input):
            values[name] = np.broadcast_to(x[:, None].astype(float), (len(x), steps, *x.shape[1:]))
        elif isinstance(op, Neuron):
            spikes = float_engine.fire(op, sum(operands)[:, wait:], steps - wait)
            values[name] = np.pad(spikes, ((0, 0), (wait, 0), *[(0, 0)] * (spikes.ndim - 2)))
            wait = min(wait + clamp, steps - 1)
        else:
            values[name] = float_engine._evaluate(op, operands, snn.shapes[name], steps, np.dtype(float))
    return float((values["output"][:, wait:].sum(axis=1).argmax(axis=1) == y).mean())


def measure_transient(seed: int, on: Split) -> dict[str, Any]:
    """Accuracy for every method, T and clamp of 0, 1 and 2 steps per layer."""
    x, y, x_test, y_test = on
    torch.manual_seed(seed)
    net = ResNet(JOB_WIDTHS)
    train_plain(net, torch.from_numpy(x), torch.from_numpy(y), JOB_EPOCHS, seed)
    result: dict[str, Any] = {"seed": seed}
    for method in ("percentile", "half"):
        for steps in (8, 16, 32):
            snn = nmc.convert(net, x[:CALIBRATION], steps, method, chip="lava-cpu")
            found = [clamped(snn, x_test, y_test, steps, clamp) for clamp in (0, 1, 2)]
            result[f"{method} T={steps}"] = found
            line = "".join(f"{100 * n:8.2f}" for n in found)
            print(f"  seed {seed}  {method:10s} T = {steps:2d}{line}", flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "parts", nargs="*", default=["table", "job", "depth"], help="table, job, depth, transient"
    )
    parser.add_argument("--seeds", type=int, nargs="*", default=[0], help="of the ANNs")
    parser.add_argument("--steps", type=int, nargs="*", default=list(STEPS), help="T of the table")
    parser.add_argument("--depths", type=int, nargs="*", default=list(DEPTHS), help="of the form 6 n + 2")
    parser.add_argument("--validation", action="store_true", help="report on images held out of training")
    parser.add_argument("--json", type=Path, help="write the numbers here, too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    on, found = split(args.validation), {}
    if "table" in args.parts:
        print(
            f"accuracy in %, integers of the chip{'ANN':>24s}" + "".join(f"   T ={t:3d}" for t in args.steps)
        )
        found["table"] = [measure_table(seed, on, args.steps) for seed in args.seeds]
        print_means(found["table"])
    if "job" in args.parts:
        print("\nsmall jobs")
        found["job"] = [measure_job(name, seed, on) for name in JOBS for seed in args.seeds]
    if "depth" in args.parts:
        print(f"\naccuracy in %, float{'':18s}" + "".join(f"   T ={t:3d}" for t in DEPTH_STEPS))
        found["depth"] = [measure_depth(depth, seed, on) for seed in args.seeds for depth in args.depths]
    if "transient" in args.parts:
        print("\naccuracy in %, float; silent steps per layer: 0, 1, 2")
        found["transient"] = [measure_transient(seed, on) for seed in args.seeds]
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
