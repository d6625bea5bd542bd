"""Accuracy that quantization costs, network by network, bit by bit.

    python benchmarks/quantization.py [--networks demo,sew,ms,depthwise,events,converted] [--bits 8,6,5,4,3,2]

Needs torch and scikit-learn. Networks other than the demo's are trained here, from random weights, in up to
a minute each. Columns: ``float``: the float network on held-back samples; ``layer``: the default
quantization, one scale per layer; ``channel``: one scale per output channel; ``tuned``: the channel's, then
fine-tuned with ``nmc.aware`` on the training set. Data: scikit-learn's digits (360 test images), or bars
that move in one of eight directions over a field of 16 x 16 event pixels.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from nmc import api
from nmc.backends import encode
from nmc.backends.engines import engine
from nmc.chip import load_chip
from nmc.frontend import opgraph as og
from nmc.frontend.float_engine import run_network
from nmc.frontend.lower import lower
from nmc.frontend.opgraph import OpGraph
from nmc.frontend.zoo.draft import Draft, if_neuron, lif_neuron
from nmc.frontend.zoo.events import seven_b
from nmc.frontend.zoo.residual import block, membrane_block
from nmc.ir import Conv2d, Dense, Encoding, FloatNeuron, GradedRelay, Network, Population, Reset, frozen
from nmc.passes import pipeline, run_passes
from nmc.quantize import fake
from nmc.quantize.aware import aware
from nmc.quantize.population import is_learned
from nmc.quantize.precision import Precision

CHIP = "loihi2"
SOFT_CHIP = "lava-cpu"
"""For networks that reset by subtraction, which no chip file with limits offers."""
SEED = 0
BATCH = 48
CALIBRATION = 128
TUNED_BITS = (4, 2)
TUNE_EPOCHS = 8
DIRECTIONS = 8
FIELD, EVENT_STEPS = 16, 8


@dataclass(frozen=True, eq=False)
class Data:
    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def digits() -> Data:
    """1,437 and 360 images (1, 8, 8) in sixteenths, split as for the demo network."""
    loaded = load_digits()
    x = (loaded.images / 16).astype(np.float64)[:, None]
    y = loaded.target.astype(np.int64)
    x, x_test, y, y_test = train_test_split(x, y, test_size=360, random_state=SEED, stratify=y)
    return Data(x, y, x_test, y_test)


def events() -> Data:
    """Trains (8, 2, 16, 16): the edges of a bar that moves in one of eight directions, with noise."""
    rng = np.random.default_rng(SEED)

    def one(direction: int) -> np.ndarray:
        angle = 2 * np.pi * direction / DIRECTIONS + rng.normal(0, 0.08)
        rows, columns = np.mgrid[:FIELD, :FIELD] - (FIELD - 1) / 2
        along = columns * np.cos(angle) + rows * np.sin(angle)
        start, speed, width = rng.uniform(-7, -2), rng.uniform(0.9, 1.6), rng.uniform(2, 4)
        train = np.zeros((EVENT_STEPS, 2, FIELD, FIELD))
        before = np.abs(along - start) < width
        for t in range(EVENT_STEPS):
            now = np.abs(along - start - speed * (t + 1)) < width
            train[t, 0], train[t, 1] = now & ~before, before & ~now
            before = now
        return np.where(rng.random(train.shape) < 0.02, 1 - train, train)

    y = np.arange(1560) % DIRECTIONS
    x = np.stack([one(direction) for direction in y])
    return Data(x[360:], y[360:], x[:360], y[:360])


# --- float training ---------------------------------------------------------------------------------


class FloatModule(nn.Module):
    """A FLOAT network with its weights and biases as parameters; hard or soft reset, any decay."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.learned = {p.name for p in network.compute if self._trains(p)}
        self.tensors, self.biases = nn.ParameterDict(), nn.ParameterDict()
        self.key: dict[str, str] = {}
        for index, projection in enumerate(network.projections):
            if projection.target not in self.learned or not isinstance(projection.synapse, Conv2d | Dense):
                continue
            same = [p.name for p in network.projections[:index] if p.weight is projection.weight]
            self.key[projection.name] = self.key.get(same[0], f"w{index}") if same else f"w{index}"
            self.tensors[self.key[projection.name]] = nn.Parameter(torch.tensor(projection.weight).float())
        self.place = {p.name: f"b{index}" for index, p in enumerate(network.populations)}
        for population in network.compute:
            if population.name in self.learned:
                shape = (population.shape[0],) + (1,) * (len(population.shape) - 1)
                bias = np.zeros(shape) if population.bias is None else population.bias
                self.biases[self.place[population.name]] = nn.Parameter(torch.tensor(bias).float())

    def _trains(self, population: Population) -> bool:
        return is_learned(population, self.network.incoming(population.name))

    def weight(self, projection: Any) -> Tensor:
        if projection.name in self.key:
            return self.tensors[self.key[projection.name]]
        return torch.tensor(projection.weight).float()

    def forward(self, x: Tensor) -> Tensor:
        trains: dict[str, Tensor] = {}
        outputs = []
        for population, incoming in self.network.walk():
            if population.is_input:
                train = x.float() if x.dim() == len(population.shape) + 2 else x.float()[:, None]
                trains[population.name] = train
                continue
            current: Any = 0.0
            for projection in incoming:
                source = trains[projection.source]
                rows = fake.apply(projection.synapse, self.weight(projection), source.flatten(0, 1))
                current = current + rows.reshape(*source.shape[:2], *population.shape)
            if isinstance(population.neuron, GradedRelay):
                trains[population.name] = current
                continue
            trains[population.name], v = self._fire(population, current)
            if population.name in self.network.outputs:
                outputs.append(trains[population.name].sum(1) if self.network.readout == "count" else v)
        return torch.cat(outputs, 1)

    def _fire(self, population: Population, current: Tensor) -> tuple[Tensor, Tensor]:
        neuron = population.neuron
        assert isinstance(neuron, FloatNeuron)
        learned = population.name in self.learned
        fixed = 0.0 if population.bias is None else torch.tensor(population.bias).float()
        bias = self.biases[self.place[population.name]] if learned else fixed
        u = torch.zeros_like(current[:, 0])
        v = u + torch.tensor(neuron.v0).float()
        threshold = None if neuron.threshold is None else torch.tensor(neuron.threshold).float()
        spikes = []
        for t in range(self.network.steps):
            u = neuron.keep_u * u + current[:, t if current.shape[1] > 1 else 0]
            v = neuron.keep_v * v + u + bias
            if threshold is None:
                continue
            spike = fake.fire((v - threshold) / threshold + 1e-7)
            fired = spike.detach()
            v = v - fired * threshold if neuron.reset is Reset.SUBTRACT else v * (1 - fired)
            spikes.append(spike)
        return (torch.stack(spikes, 1) if spikes else current), v

    def trained(self) -> Network:
        """The network with the parameters' values."""
        arrays = {key: frozen(value.detach().double().numpy()) for key, value in self.tensors.items()}
        projections = tuple(
            replace(p, weight=arrays[self.key[p.name]]) if p.name in self.key else p
            for p in self.network.projections
        )
        changed = {
            name: replace(
                self.network[name], bias=frozen(self.biases[self.place[name]].detach().double().numpy())
            )
            for name in self.learned
        }
        return self.network.with_(populations=self.network.map_populations(changed), projections=projections)


def train(module: nn.Module, data: Data, epochs: int, rate: float, scale: float = 1.0) -> None:
    """Adam, one cycle. scale: what logits are multiplied by."""
    rng = torch.Generator().manual_seed(SEED)
    x, y = torch.from_numpy(data.x), torch.from_numpy(data.y)
    batches = len(x) // BATCH
    optimizer = torch.optim.Adam(module.parameters(), rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * batches)
    for _ in range(epochs):
        for index in torch.randperm(len(x), generator=rng)[: batches * BATCH].split(BATCH):
            loss = nn.functional.cross_entropy(scale * module(x[index]), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


# --- networks ---------------------------------------------------------------------------------------


def demo(data: Data) -> Network:
    graph = api.load(Path(str(files("nmc") / "data" / "digits_sew.nir")))
    return lower(graph, graph.steps or 8, "relay", Encoding.GRADED)


def _trained(graph: OpGraph, data: Data, encoding: Encoding, epochs: int) -> Network:
    torch.manual_seed(SEED)
    module = FloatModule(lower(graph, graph.steps or 4, "relay", encoding))
    train(module, data, epochs, 8e-3)
    return module.trained()


def sew(data: Data) -> Network:
    """LIF, SEW ADD: stem, two blocks, the second with stride; T = 6."""
    draft = Draft((1, 8, 8), lif_neuron(), SEED, drive=2.5)
    x = draft.conv_fire("stem", "input", 12, 3)
    x = block(draft, "block1", x, 12, 1, "add")
    x = block(draft, "block2", x, 20, 2, "add")
    return _trained(draft.finish("sew_lif", draft.linear("fc", x, 10), 6), data, Encoding.GRADED, 25)


def membrane(data: Data) -> Network:
    """IF, membrane shortcut: the residual stream is a current; T = 6."""
    draft = Draft((1, 8, 8), if_neuron(), SEED)
    u = draft.conv("stem", "input", 12, 3)
    u = membrane_block(draft, "block1", u, 12, 1)
    u = membrane_block(draft, "block2", u, 20, 2)
    x = draft.linear("fc", draft.fire("last.sn", u), 10)
    return _trained(draft.finish("ms", x, 6), data, Encoding.GRADED, 25)


def depthwise(data: Data) -> Network:
    """Depthwise and pointwise convolutions, IF; T = 6."""
    draft = Draft((1, 8, 8), if_neuron(), SEED)
    x = draft.conv_fire("stem", "input", 16, 3)
    for k, (channels, stride) in enumerate(((24, 2), (32, 1))):
        size = draft.shapes[x][0]
        weight = draft.rng.normal(0, (2 / 9) ** 0.5, (size, 1, 3, 3))
        deep = og.Conv2d(weight, np.zeros(size), (stride, stride), (1, 1), groups=size)
        x = draft.fire(f"dw{k}.sn", draft.norm(f"dw{k}.bn", draft.add(f"dw{k}", deep, x)))
        x = draft.conv_fire(f"pw{k}", x, channels, 1)
    return _trained(draft.finish("depthwise", draft.linear("fc", x, 10), 6), data, Encoding.GRADED, 25)


def seven(data: Data) -> Network:
    """7B-Net of a quarter of the width on 16 x 16 event pixels; T = 8."""
    graph = seven_b("add", size=FIELD, width=0.25, classes=DIRECTIONS, steps=EVENT_STEPS)
    return _trained(graph, data, Encoding.SPIKES, 12)


class Residual(nn.Module):
    """A small residual ANN with batch norm and ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.body = nn.Sequential(
            nn.Conv2d(16, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
        )
        self.relu, self.pool, self.fc = nn.ReLU(), nn.AvgPool2d(2), nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.relu(self.body(x) + x)
        return self.fc(self.pool(x).flatten(1))


def converted(data: Data) -> Network:
    """A residual ANN, trained, then converted for T = 32 with nmc's defaults."""
    from nmc.frontend.convert import convert

    torch.manual_seed(SEED)
    ann = Residual()
    train(ann, replace(data, x=data.x.astype(np.float32)), 12, 5e-3)
    graph = convert(ann.eval(), data.x[:256].astype(np.float32), 32)
    return lower(graph, 32, "relay", Encoding.GRADED)


NETWORKS: dict[str, tuple[Callable[[Data], Network], Callable[[], Data], bool]] = {
    "demo": (demo, digits, True),
    "sew": (sew, digits, True),
    "ms": (membrane, digits, True),
    "depthwise": (depthwise, digits, True),
    "events": (seven, events, True),
    "converted": (converted, digits, False),
}
"""How each is made, its data, and whether it is fine-tuned: 32 steps are too long for this script."""
MISSING = "CUBA recurrent: not measured, nmc does not compile recurrent networks yet"


# --- measuring --------------------------------------------------------------------------------------


def float_accuracy(network: Network, data: Data) -> float:
    found = run_network(network, data.x_test, network.steps)
    output = np.concatenate(
        [found[f"output/{name}"].reshape(len(data.x_test), -1) for name in network.outputs], 1
    )
    return float((output.argmax(1) == data.y_test).mean())


def integer_accuracy(network: Network, data: Data) -> float:
    trace = engine("auto").run(network, encode.encode(network, data.x_test), network.steps)
    return float((trace.classes == data.y_test).mean())


def quantized(network: Network, data: Data, precision: Precision) -> Network:
    soft = any(getattr(p.neuron, "reset", None) is Reset.SUBTRACT for p in network.compute)
    passes = pipeline(load_chip(SOFT_CHIP if soft else CHIP), data.x[:CALIBRATION], precision)
    return run_passes(network, passes, stop_after="prove-ranges")


def tuned(network: Network, data: Data, bits: int) -> float:
    torch.manual_seed(SEED)
    module = aware(network, load_chip(CHIP), data.x[:CALIBRATION], Precision(bits, "channel"))
    # Readouts add up over T; as logits they would be far too sure.
    scale = 1.0 if network.readout == "count" else 1.0 / max(1.0, network.steps / 8)
    train(module, data, TUNE_EPOCHS, 3e-3 if bits < 4 else 1e-3, scale)
    return integer_accuracy(module.export(), data)


def measure(name: str, bits: list[int]) -> None:
    make, load, fine = NETWORKS[name]
    start = time.perf_counter()
    data = load()
    network = make(data)
    whole = float_accuracy(network, data)
    made = time.perf_counter() - start
    print(
        f"\n{name}: {network.name}, T = {network.steps}, float {whole:.2%}, made in {made:.0f} s", flush=True
    )
    print(
        f"{'bits':>4} {'layer':>8} {'loss':>6} {'channel':>8} {'loss':>6} {'tuned':>8} {'loss':>6}",
        flush=True,
    )
    for b in bits:
        cells = [
            integer_accuracy(quantized(network, data, Precision(b, g)), data) for g in ("layer", "channel")
        ]
        if fine and b in TUNED_BITS:
            cells.append(tuned(network, data, b))
        text = " ".join(f"{cell:8.2%} {100 * (whole - cell):6.2f}" for cell in cells)
        print(f"{b:>4} {text}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--bits", default="8,6,5,4,3,2")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.networks.split(","):
        measure(name, [int(bits) for bits in arguments.bits.split(",")])
    print(f"\n{MISSING}; losses in points")


if __name__ == "__main__":
    main()
