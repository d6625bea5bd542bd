"""Conversion against depth, with and without Hu's shortcut normalisation; a small residual job end to end.

    python benchmarks/conversion.py            # about ten minutes on one core; needs torch and scikit-learn

Depth: residual ANNs of 6 n + 2 layers (three stages, n blocks each) on scikit-learn's digits, converted with
and without the factor max_1 / max_3 on identity shortcuts. Published (Hu et al. 2018, CIFAR-10): without it
accuracy drops by 2.3 points at depth 20 and by 6.3 at depth 32.
Read the last columns: few steps flatter unscaled shortcuts, which amplify what has hardly arrived yet. The
search of gains ("hu") runs on the network as it is, so it makes up for a part of the missing factor.

Job: stem, identity block and down-sampling block, 8 and 16 channels, no augmentation: how fast it converts
and what its integers reach on a chip with a soft and with a hard reset.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

from convert_digits import CALIBRATION, SEED, ResNet, accuracies, ann_accuracy, load_data, train

from nmc import api
from nmc.frontend.convert import convert

DEPTHS = (8, 20, 32)
WIDTHS = (8, 12, 16)
EPOCHS = 20
STEPS = (16, 32, 64, 128)
JOB_WIDTHS = (8, 16)
JOB_EPOCHS = 8


def measure_depth(
    depth: int, x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray
) -> dict[str, Any]:
    """Accuracy of the ANN, and at every T with and without the normalisation; by percentile and by Hu."""
    torch.manual_seed(SEED)
    net = ResNet(WIDTHS, (depth - 2) // 6)
    train(net, torch.from_numpy(x), torch.from_numpy(y), EPOCHS, 4e-3)
    result: dict[str, Any] = {"depth": depth, "ann": ann_accuracy(net, x_test, y_test)}
    for method in ("percentile", "hu"):
        for shortcut in (True, False):
            snn = convert(net, x[:CALIBRATION], max(STEPS), method, shortcut=shortcut)
            key = f"{method}{'' if shortcut else ', shortcut not scaled'}"
            result[key] = accuracies(snn, x_test, y_test, STEPS)
    return result


def train_plain(net: nn.Module, x: torch.Tensor, y: torch.Tensor, epochs: int) -> None:
    """Without augmentation."""
    rng = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    net.train()
    for _ in range(epochs):
        for index in torch.randperm(len(x), generator=rng).split(64):
            loss = cross_entropy(net(x[index]), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    net.eval()


def measure_job(x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray) -> dict[str, Any]:
    """The accuracy of float and integers at T = 8 and 32 and the seconds that conversion took."""
    torch.manual_seed(SEED)
    net = ResNet(JOB_WIDTHS)
    train_plain(net, torch.from_numpy(x), torch.from_numpy(y), JOB_EPOCHS)
    data = x[:CALIBRATION]
    result: dict[str, Any] = {"ann": ann_accuracy(net, x_test, y_test)}
    for chip, reset in (("lava-cpu", "soft"), ("loihi2", "hard")):
        for steps in (8, 32):
            start, cpu = time.perf_counter(), time.process_time()
            snn = convert(net, data, steps, reset=reset)
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
            output = api.run(api.compile(snn, chip, data), x_test).output.reshape(len(x_test), -1)
            result[f"{chip} {reset} T={steps}"] = {
                "float": accuracies(snn, x_test, y_test, (steps,))[0],
                "integer": float((output.argmax(1) == y_test).mean()),
                "convert_s": round(seconds, 2),
                "convert_cpu_s": round(cpu, 2),
            }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--depths", type=int, nargs="*", default=list(DEPTHS), help="of the form 6 n + 2")
    parser.add_argument("--json", type=Path, help="write the numbers here, too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    x, x_test, y, y_test = load_data()

    job = measure_job(x, y, x_test, y_test)
    print(f"small residual job, ANN {job['ann']:.2%}")
    for name, numbers in job.items():
        if isinstance(numbers, dict):
            print(f"  {name:24s}" + "  ".join(f"{k} {v:.4g}" for k, v in numbers.items()), flush=True)

    print(f"\n{'accuracy in % at T =':46s}" + "".join(f"{t:8d}" for t in STEPS))
    depths = []
    for depth in args.depths:
        depths.append(measure_depth(depth, x, y, x_test, y_test))
        print(f"depth {depth}, ANN {depths[-1]['ann']:.2%}")
        for name, numbers in depths[-1].items():
            if isinstance(numbers, list):
                print(f"  {name:44s}" + "".join(f"{100 * n:8.2f}" for n in numbers), flush=True)
    if args.json:
        args.json.write_text(json.dumps({"job": job, "depths": depths}, indent=1) + "\n")


if __name__ == "__main__":
    main()
