"""Train the network of ``nmc demo``: a SEW-ResNet on scikit-learn's handwritten digits, then write it as NIR.

    python examples/train_digits.py            # about three minutes on one core; needs torch and scikit-learn

The neurons are integrate-and-fire with SpikingJelly's semantics: ``v += x``, fire at ``v >= 1``, hard reset
to 0. A sample is one frame of 8x8 pixels in 0..1 that is repeated in every step; the stem turns it into
spikes. Blocks join by SEW ADD: the output of a block is ``SN(F(S)) + S``, a small integer. The classifier's
neurons integrate and never fire; the class is the largest potential after the last step. Noise on the
potentials during training keeps the classes apart when integers move single spikes.

Written to ``nmc/data/``: the network with batch norm folded into the convolutions, the held-back test
images and a calibration set. The file is simulated again with NumPy and must give the same spikes.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import nir
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn.functional import affine_grid, cross_entropy, grid_sample

SEED = 0
STEPS = 8
DT = 1e-3
CHANNELS = (12, 20, 28)
IDENTITY_BLOCKS = (2, 1, 1)
EPOCHS = 50
BATCH = 48
LEARNING_RATE = 8e-3
WEIGHT_DECAY = 1e-2
CALIBRATION_IMAGES = 128
NOISE = 0.05
"""Standard deviation of what training adds to every potential in every step, in thresholds."""
DATA = Path(__file__).resolve().parent.parent / "nmc" / "data"


def load_data() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x_train (1437, 1, 8, 8), x_test (360, 1, 8, 8) float32 in 0..1 (sixteenths), y int64."""
    digits = load_digits()
    x = (digits.images / 16).astype(np.float32)[:, None]
    y = digits.target.astype(np.int64)
    return tuple(train_test_split(x, y, test_size=360, random_state=SEED, stratify=y))  # type: ignore[return-value]


# --- network ----------------------------------------------------------------------------------------


class Fire(torch.autograd.Function):
    """Heaviside with ``fire(0) = 1``; its gradient is that of ``arctan(pi x) / pi``."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return grad / (1 + (torch.pi * x) ** 2)


class IF(nn.Module):
    """Integrate and fire over the leading time axis; keeps the mean firing rate of the last call."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        v = torch.zeros_like(x[0])
        spikes = []
        for current in x:
            v = v + current
            if self.training:
                v = v + NOISE * torch.randn_like(v)
            spike = Fire.apply(v - 1.0)
            v = v * (1.0 - spike.detach())
            spikes.append(spike)
        out = torch.stack(spikes)
        self.rate = float(out.detach().mean())
        return out


class ConvNorm(nn.Module):
    """Convolution and batch norm on (T, N, C, H, W), time folded into the batch."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(c_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x.flatten(0, 1))).unflatten(0, x.shape[:2])

    def folded(self) -> tuple[np.ndarray, np.ndarray]:
        """Weight and bias of the convolution that does the same as both, float32."""
        scale = self.norm.weight / torch.sqrt(self.norm.running_var + self.norm.eps)
        weight = self.conv.weight * scale[:, None, None, None]
        bias = self.norm.bias - self.norm.running_mean * scale
        return weight.detach().numpy(), bias.detach().numpy()


class Block(nn.Module):
    """SEW block with ADD. With a stride or other channels its shortcut is convolution, norm and neuron."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.if1 = ConvNorm(c_in, c_out, 3, stride), IF()
        self.conv2, self.if2 = ConvNorm(c_out, c_out, 3, 1), IF()
        self.shortcut = None
        if stride != 1 or c_in != c_out:
            self.shortcut, self.shortcut_if = ConvNorm(c_in, c_out, 1, stride), IF()

    def forward(self, s: torch.Tensor) -> torch.Tensor:
        branch = self.if2(self.conv2(self.if1(self.conv1(s))))
        return branch + (s if self.shortcut is None else self.shortcut_if(self.shortcut(s)))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_if = ConvNorm(1, CHANNELS[0], 3, 1), IF()
        self.stages = nn.ModuleDict()
        c_in = CHANNELS[0]
        for index, (c, identities) in enumerate(zip(CHANNELS, IDENTITY_BLOCKS, strict=True)):
            down = [Block(c_in, c, 2)] if index else []
            self.stages[f"stage{index + 1}"] = nn.Sequential(
                *down, *(Block(c, c, 1) for _ in range(identities))
            )
            c_in = c
        self.classifier = nn.Linear(4 * c_in, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Frames (N, 1, 8, 8) to potentials after the last step (N, 10)."""
        s = self.stem_if(self.stem(x.expand(STEPS, *x.shape)))
        for stage in self.stages.values():
            s = stage(s)
        return self.classifier(s.flatten(2)).sum(0)


# --- training ---------------------------------------------------------------------------------------


def augment(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Small random rotations, scalings and shifts."""
    n = len(x)
    angle = (torch.rand(n, generator=rng) - 0.5) * 0.3
    scale = 1 + (torch.rand(n, generator=rng) - 0.5) * 0.15
    shift = (torch.rand(n, 2, generator=rng) - 0.5) * 0.3
    rows = torch.stack(
        [
            torch.stack([scale * angle.cos(), -scale * angle.sin(), shift[:, 0]], 1),
            torch.stack([scale * angle.sin(), scale * angle.cos(), shift[:, 1]], 1),
        ],
        1,
    )
    return grid_sample(x, affine_grid(rows, list(x.shape), align_corners=False), align_corners=False)


def train(net: Net, x: torch.Tensor, y: torch.Tensor) -> None:
    rng = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    batches = len(x) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=EPOCHS * batches)
    start = time.perf_counter()
    for epoch in range(EPOCHS):
        net.train()
        total = 0.0
        for index in torch.randperm(len(x), generator=rng)[: batches * BATCH].split(BATCH):
            loss = cross_entropy(net(augment(x[index], rng)), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
        seconds = time.perf_counter() - start
        print(f"epoch {epoch + 1:3d}/{EPOCHS}  loss {total / batches:.4f}  {seconds:5.0f} s", flush=True)


@torch.no_grad()
def predict(net: Net, x: torch.Tensor) -> np.ndarray:
    """Potentials of the classifier (N, 10)."""
    net.eval()
    return net(x).numpy()


def accuracy(potentials: np.ndarray, y: np.ndarray) -> float:
    """Share of samples whose largest potential is at the label."""
    return float((potentials.argmax(1) == y).mean())


# --- NIR --------------------------------------------------------------------------------------------


class Writer:
    """Collects NIR nodes and edges. A value in the network is the list of nodes whose outputs it adds up."""

    def __init__(self) -> None:
        self.nodes: dict[str, nir.NIRNode] = {}
        self.edges: list[tuple[str, str]] = []

    def add(self, name: str, node: nir.NIRNode, sources: list[str]) -> list[str]:
        self.nodes[name] = node
        self.edges += [(source, name) for source in sources]
        return [name]

    def neurons(self, name: str, shape: tuple[int, ...], sources: list[str]) -> list[str]:
        """``dv/dt = r x``: with r = 1 / dt one step adds x."""
        node = nir.IF(np.full(shape, 1 / DT), np.full(shape, 1.0), np.zeros(shape))
        return self.add(name, node, sources)

    def conv(self, name: str, layer: ConvNorm, size: int, sources: list[str]) -> tuple[list[str], int]:
        """The folded convolution and its neurons; returns the neurons and their height."""
        weight, bias = layer.folded()
        conv = layer.conv
        node = nir.Conv2d((size, size), weight, conv.stride, conv.padding, conv.dilation, conv.groups, bias)
        out = (size + 2 * conv.padding[0] - conv.kernel_size[0]) // conv.stride[0] + 1
        self.add(name, node, sources)
        neurons = name.replace("conv", "if") if "conv" in name else f"{name}_if"
        return self.neurons(neurons, (weight.shape[0], out, out), [name]), out


def to_nir(net: Net) -> nir.NIRGraph:
    w = Writer()
    source = w.add("input", nir.Input({"input": np.array([1, 8, 8])}), [])
    s, size = w.conv("stem.conv", net.stem, 8, source)
    for stage_name, stage in net.stages.items():
        for index, block in enumerate(stage):
            name = f"{stage_name}.{index}"
            hidden, out = w.conv(f"{name}.conv1", block.conv1, size, s)
            branch, _ = w.conv(f"{name}.conv2", block.conv2, out, hidden)
            if block.shortcut is not None:
                s, _ = w.conv(f"{name}.shortcut.conv", block.shortcut, size, s)
            s, size = s + branch, out
    shape = (CHANNELS[-1], size, size)
    flat = w.add("flatten", nir.Flatten({"input": np.array(shape)}, start_dim=0, end_dim=-1), s)
    weight, bias = (p.detach().numpy() for p in (net.classifier.weight, net.classifier.bias))
    linear = w.add("classifier.linear", nir.Affine(weight, bias), flat)
    potential = w.add("classifier.i", nir.I(np.full(10, 1 / DT)), linear)
    w.add("output", nir.Output({"output": np.array([10])}), potential)
    metadata = {"nmc": {"profile": "spikingjelly", "dt": DT, "steps": STEPS}}
    return nir.NIRGraph(w.nodes, w.edges, metadata=metadata)


# --- the file, simulated without torch --------------------------------------------------------------


def convolve(node: nir.Conv2d, x: np.ndarray) -> np.ndarray:
    """Correlation of x (N, C, H, W) with zero padding."""
    (ph, pw), (sh, sw) = node.padding, node.stride
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    windows = np.lib.stride_tricks.sliding_window_view(x, node.weight.shape[2:], axis=(2, 3))[
        :, :, ::sh, ::sw
    ]
    return np.einsum("nchwij,ocij->nohw", windows, node.weight, optimize=True) + node.bias[:, None, None]


def simulate(graph: nir.NIRGraph, x: np.ndarray) -> np.ndarray:
    """Output potentials (N, 10) of a NIR graph on frames (N, 1, 8, 8), node by node, in float64."""
    sources: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for source, target in graph.edges:
        sources[target].append(source)
    order: list[str] = []
    while len(order) < len(sources):
        order += [n for n in sources if n not in order and all(s in order for s in sources[n])]
    v: dict[str, Any] = dict.fromkeys(sources, 0.0)
    values: dict[str, np.ndarray] = {}
    for _ in range(int(graph.metadata["nmc"]["steps"])):
        values = {"input": x.astype(np.float64)}
        for name in order[1:]:
            node, value = graph.nodes[name], sum(values[source] for source in sources[name])
            if isinstance(node, nir.Conv2d):
                value = convolve(node, value)
            elif isinstance(node, nir.Affine):
                value = value @ node.weight.T + node.bias
            elif isinstance(node, nir.Flatten):
                value = value.reshape(len(x), -1)
            elif isinstance(node, nir.IF):
                v[name] = v[name] + DT * node.r * value
                value = (v[name] >= node.v_threshold).astype(np.float64)
                v[name] = np.where(value, node.v_reset, v[name])
            elif isinstance(node, nir.I):
                value = v[name] = v[name] + DT * node.r * value
            values[name] = value
    return values["output"]


def print_results(net: Net, potentials: np.ndarray, y: np.ndarray) -> None:
    """What a reader wants to know of the trained network; ``potentials`` come from its last call."""
    top = np.sort(potentials, axis=1)
    margin = np.quantile(top[:, -1] - top[:, -2], 0.05)
    print(f"parameters {sum(p.numel() for p in net.parameters())}, steps {STEPS}")
    print(f"test accuracy {accuracy(potentials, y):.4f}; 95 % of the images win by {margin:.2f} or more")
    print("firing rates on the test images:")
    for name, module in net.named_modules():
        if isinstance(module, IF):
            print(f"  {name.removeprefix('stages.'):24s} {module.rate:6.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=DATA, help="folder for the files (default: nmc/data)")
    out: Path = parser.parse_args().out
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)

    x_train, x_test, y_train, y_test = load_data()
    net = Net()
    train(net, torch.from_numpy(x_train), torch.from_numpy(y_train))
    print(f"train accuracy {accuracy(predict(net, torch.from_numpy(x_train)), y_train):.4f}")
    potentials = predict(net, torch.from_numpy(x_test))
    print_results(net, potentials, y_test)

    out.mkdir(parents=True, exist_ok=True)
    nir.write(out / "digits_sew.nir", to_nir(net))
    np.savez_compressed(out / "digits_test.npz", x=x_test, y=y_test)
    head = slice(CALIBRATION_IMAGES)
    np.savez_compressed(out / "digits_calibration.npz", x=x_train[head], y=y_train[head])

    again = simulate(nir.read(out / "digits_sew.nir"), x_test)
    # torch adds up in float32 and in another order: a potential exactly at threshold may tip over.
    differ = int((np.abs(again - potentials).max(axis=1) > 1e-3).sum())
    print(f"the file in NumPy: accuracy {accuracy(again, y_test):.4f}, {differ} images differ from torch")
    if differ > len(y_test) / 50:
        raise SystemExit("the NIR file does not compute what torch computed")


if __name__ == "__main__":
    main()
