"""Train 7B-Net on synthetic events: shapes that move in one of eleven ways before an event camera.

    python examples/train_events.py            # needs torch; about eleven minutes of one core
    python examples/train_events.py --evaluate # only the table, from the weights that ship with nmc

The network is the zoo's ``7b-net`` (Fang et al. 2021) with half the channels, on 32 x 32 pixels, T = 16: SEW
ADD blocks with PLIF neurons, whose tau is learned per layer. Gradients pass through a spike as through the
derivative of ``arctan(pi x) / pi``; the class is the largest mean over time of the last layer. The data are
drawn anew by every run, from seeds (``nmc.frontend.zoo.moving_shapes``). Whatever was chosen (rate, epochs,
which epoch is kept) was chosen on the validation split; the test split is only read for the last table.

Written: ``nmc/data/moving_shapes_7b.safetensors``, weights as float16.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import nmc
from nmc.frontend import opgraph as og
from nmc.frontend.float_engine import run
from nmc.frontend.opgraph import OpGraph
from nmc.frontend.safetensors import read_safetensors
from nmc.frontend.zoo.moving_shapes import MOTIONS, moving_shapes
from nmc.frontend.zoo.trained import STEPS, WEIGHTS, seven_b_untrained
from nmc.frontend.zoo.weights import tensors, with_tensors

SEED = 0
DATA = Path(__file__).resolve().parent.parent / "nmc" / "data"
TRAIN, VALIDATION, TEST = 1650, 330, 550
CALIBRATION = 55
LOGIT_SCALE = 0.1
"""Of the last layer's random weights: training starts unsure."""
EPOCHS, BATCH, RATE, DECAY = 14, 16, 6e-3, 1e-2


# --- network ----------------------------------------------------------------------------------------


class Plif(torch.autograd.Function):
    """Leaky neurons over all steps: h = v + g (x - v), s = h >= 1, v = h (1 - s); g = 1 / tau is learned."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor) -> Tensor:
        h, spikes = torch.empty_like(x), torch.empty_like(x)
        v = torch.zeros_like(x[0])
        for t, current in enumerate(x):
            torch.lerp(v, current, gain, out=h[t])
            torch.ge(h[t], 1, out=spikes[t])
            v = h[t] * (1 - spikes[t])
        ctx.save_for_backward(h, spikes, gain)
        return spikes

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        h, spikes, gain = ctx.saved_tensors
        result, carried, gain_grad = torch.empty_like(h), torch.zeros_like(h[0]), torch.zeros(())
        for t in range(len(h) - 1, -1, -1):
            into = grad[t] / (h[t] - 1).mul_(torch.pi).square_().add_(1)
            into.addcmul_(carried, 1 - spikes[t])
            # x - v[t-1] is (h - v[t-1]) / gain.
            moved = h[t] if t == 0 else torch.addcmul(h[t], h[t - 1], 1 - spikes[t - 1], value=-1)
            gain_grad += torch.dot(into.flatten(), moved.flatten())
            torch.mul(into, gain, out=result[t])
            carried = into.mul_(1 - gain)
        return result, gain_grad / gain


class Trainable(nn.Module):
    """An op graph whose weights, batch norms and membrane leaks learn; time leads: (T, N, ...)."""

    def __init__(self, graph: OpGraph) -> None:
        super().__init__()
        self.graph = graph
        self.key = {name: name.replace(".", "_") for name in graph.nodes}
        self.weights, self.norms, self.gains = nn.ParameterDict(), nn.ModuleDict(), nn.ParameterDict()
        for name, op in graph.nodes.items():
            key = self.key[name]
            if isinstance(op, og.Conv2d | og.Linear):
                scale = LOGIT_SCALE if isinstance(op, og.Linear) else 1.0
                self.weights[key] = nn.Parameter(scale * torch.tensor(op.weight).float())
            elif isinstance(op, og.BatchNorm):
                self.norms[key] = nn.BatchNorm2d(len(op.gamma), op.eps)
            elif isinstance(op, og.Neuron):
                self.gains[key] = nn.Parameter(torch.logit(torch.tensor(op.gain)).float())

    def forward(self, x: Tensor) -> Tensor:
        """Trains (N, T, C, H, W) to logits (N, classes)."""
        values: dict[str, Tensor] = {}
        for name in self.graph.order:
            befores = self.graph.before(name)
            value = sum((values[one] for one in befores[1:]), values[befores[0]]) if befores else x
            values[name] = self._apply(name, self.graph.nodes[name], value)
        return values[self.graph.named(og.Output)[0]]

    def _apply(self, name: str, op: og.Op, x: Tensor) -> Tensor:
        key = self.key[name]
        if isinstance(op, og.Input):
            return x.transpose(0, 1).float()
        if isinstance(op, og.Neuron):
            fired: Tensor = Plif.apply(x, torch.sigmoid(self.gains[key]))
            return fired
        if isinstance(op, og.TimeMean):
            return x.mean(0)
        if isinstance(op, og.Add | og.Output):
            return x
        if isinstance(op, og.Flatten):
            return x.flatten(2)
        if isinstance(op, og.Linear):
            return functional.linear(x, self.weights[key])
        rows = x.flatten(0, 1)
        if isinstance(op, og.Conv2d):
            rows = functional.conv2d(rows, self.weights[key], None, op.stride, op.padding)
        elif isinstance(op, og.BatchNorm):
            rows = self.norms[key](rows)
        else:
            assert isinstance(op, og.MaxPool)
            rows = functional.max_pool2d(rows, op.kernel, op.stride, op.padding)
        return rows.unflatten(0, x.shape[:2])

    @torch.no_grad()
    def trained(self) -> OpGraph:
        """The graph with what was learned; numbers as they are stored (``stored``)."""
        found: dict[str, Tensor] = {}
        for name, op in self.graph.nodes.items():
            key = self.key[name]
            if isinstance(op, og.Conv2d | og.Linear):
                found[f"{name}/weight"] = self.weights[key].half()
            elif isinstance(op, og.BatchNorm):
                norm = self.norms[key]
                for field, tensor in zip(
                    ("mean", "var", "gamma", "beta"),
                    (norm.running_mean, norm.running_var, norm.weight, norm.bias),
                    strict=True,
                ):
                    found[f"{name}/{field}"] = tensor
            elif isinstance(op, og.Neuron):
                found[f"{name}/gain"] = torch.sigmoid(self.gains[key])
                found[f"{name}/keep_v"] = 1 - found[f"{name}/gain"]
        return with_tensors(self.graph, {name: tensor.numpy() for name, tensor in found.items()})


# --- training ---------------------------------------------------------------------------------------


@torch.no_grad()
def accuracy(net: Trainable, x: np.ndarray, y: np.ndarray) -> float:
    net.eval()
    right = [
        (net(torch.from_numpy(x[i : i + 64])).argmax(1).numpy() == y[i : i + 64])
        for i in range(0, len(x), 64)
    ]
    return float(np.concatenate(right).mean())


def train(net: Trainable, options: argparse.Namespace) -> None:
    """AdamW, one cycle; the epoch that was best on the validation split is written."""
    x, y = moving_shapes(TRAIN, "train")
    checks = moving_shapes(VALIDATION, "validation")
    rng = torch.Generator().manual_seed(SEED)
    batches = len(x) // BATCH
    optimizer = torch.optim.AdamW(net.parameters(), options.rate, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.rate, total_steps=options.epochs * batches
    )
    best, start = -1.0, time.perf_counter()
    for epoch in range(options.epochs):
        net.train()
        total, right = 0.0, 0
        for index in torch.randperm(len(x), generator=rng)[: batches * BATCH].split(BATCH):
            logits = net(torch.from_numpy(x[index]))
            labels = torch.from_numpy(y[index])
            loss = functional.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total, right = total + float(loss.detach()), right + int((logits.argmax(1) == labels).sum())
        found = accuracy(net, *checks)
        if found >= best:
            best = found
            save(net.trained(), options.weights)
        print(
            f"epoch {epoch + 1:2d}/{options.epochs}  loss {total / batches:.3f}  train"
            f" {right / batches / BATCH:.2%}  validation {found:.2%}  {time.perf_counter() - start:5.0f} s",
            flush=True,
        )


def save(graph: OpGraph, path: Path) -> None:
    """What was learned, weights of layers as float16."""
    from safetensors.numpy import save_file

    arrays = {
        name: np.array(array, np.float16 if name.endswith("/weight") else np.float32)
        for name, array in tensors(graph).items()
    }
    save_file(arrays, str(path))


# --- results ----------------------------------------------------------------------------------------


def evaluate(graph: OpGraph) -> None:
    """Float and integer accuracy on the test split; calibration samples come from the training split."""
    calibration, _ = moving_shapes(CALIBRATION, "train")
    x, y = moving_shapes(TEST, "test")
    output = run(graph, x, STEPS, record=()).output
    print(f"test: {TEST} samples, {len(MOTIONS)} classes\n| numbers | accuracy |\n|---|---|")
    print(f"| float | {(output.argmax(1) == y).mean():.2%} |", flush=True)
    for chip, bits in (("loihi2", 8), ("loihi2", 4), ("loihi1:nahuku-32", 8)):
        bundle = nmc.compile(graph, chip, calibration, steps=STEPS, weight_bits=bits)
        right = (nmc.run(bundle, x).classes == y).mean()
        cores = bundle.network.mapping.cores_used if bundle.network.mapping else 0
        print(f"| {chip}, {bits}-bit weights, {cores} cores | {right:.2%} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--evaluate", action="store_true", help="do not train")
    parser.add_argument("--weights", type=Path, default=DATA / WEIGHTS, help="written, then evaluated")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--rate", type=float, default=RATE)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    graph = seven_b_untrained(SEED)
    if not options.evaluate:
        net = Trainable(graph)
        train(net, options)
    evaluate(with_tensors(graph, read_safetensors(options.weights)))


if __name__ == "__main__":
    main()
