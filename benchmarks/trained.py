"""Small networks of every kind, trained here: what the benchmark of quantization measures.

Data are scikit-learn's digits as images or row by row, or synthetic events of moving shapes, in
three parts: what is trained and calibrated on, what is selected on, and what is only reported. Networks are
trained with noise on their potentials, like the demo network: without it, these few neurons turn a change of
the float weights by one part in a thousand into other classes for 2 % of the images, so that nothing could be
said about rounding.
"""

from __future__ import annotations

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
from nmc.frontend import opgraph as og
from nmc.frontend.convert import convert
from nmc.frontend.lower import lower
from nmc.frontend.opgraph import OpGraph
from nmc.frontend.zoo.draft import Draft, if_neuron, lif_neuron
from nmc.frontend.zoo.moving_shapes import moving_shapes
from nmc.frontend.zoo.residual import block, membrane_block
from nmc.frontend.zoo.trained import STEPS as EVENT_STEPS
from nmc.frontend.zoo.trained import seven_b_trained
from nmc.ir import (
    Conv2d,
    Dense,
    Encoding,
    FloatNeuron,
    GradedRelay,
    Network,
    Population,
    Projection,
    Reset,
    frozen,
)
from nmc.quantize import through
from nmc.quantize.population import is_learned

BATCH = 48
NOISE = 0.05
"""Standard deviation of what training adds to every potential in every step, in thresholds."""
DECAY = 1e-2
EPOCHS = 40
RATE = 8e-3
COPIES, CHOOSING, SHOWN = 12, 5, 20
"""Views of every image: to fine-tune on, to choose its epoch by, to tell a loss from chance."""
CHOOSING_SEED, SHOWN_SEED = 31, 9


@dataclass(frozen=True, eq=False)
class Data:
    """x, y: for training and calibration. moves: whether an image may be moved by a pixel. x_choosing:
    ``CHOOSING`` views of every validation image, x_shown: ``SHOWN`` of every test image, one of events; all
    images come once, as they are, before any comes again."""

    x: np.ndarray
    y: np.ndarray
    x_val: np.ndarray
    y_val: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    x_choosing: np.ndarray
    x_shown: np.ndarray
    moves: bool


def digits() -> Data:
    """1,197, 240 and 360 images (1, 8, 8) in sixteenths; the last are those the demo network was held to."""
    loaded = load_digits()
    x = (loaded.images / 16).astype(np.float64)[:, None]
    y = loaded.target.astype(np.int64)
    x, x_test, y, y_test = train_test_split(x, y, test_size=360, random_state=0, stratify=y)
    x, x_val, y, y_val = train_test_split(x, y, test_size=240, random_state=1, stratify=y)
    choosing, shown = seen(x_val, CHOOSING, CHOOSING_SEED), seen(x_test, SHOWN, SHOWN_SEED)
    return Data(x, y, x_val, y_val, x_test, y_test, choosing, shown, True)


def rows() -> Data:
    """The same digits as trains (8, 16): in step t the pixels of row t above a quarter, and above 5/8. The
    training part holds every image four times, three of them moved."""

    def train(x: np.ndarray) -> np.ndarray:
        return np.concatenate([x[:, 0] > 4 / 16, x[:, 0] > 10 / 16], axis=2).astype(np.float64)

    data = digits()
    return Data(
        train(seen(data.x, 4, 0)),
        np.tile(data.y, 4),
        train(data.x_val),
        data.y_val,
        train(data.x_test),
        data.y_test,
        train(data.x_choosing),
        train(data.x_shown),
        False,
    )


def events() -> Data:
    """Trains (16, 2, 32, 32) of moving shapes, those that ``examples/train_events.py`` uses."""
    x_val, y_val = moving_shapes(330, "validation")
    x_test, y_test = moving_shapes(550, "test")
    return Data(*moving_shapes(1650, "train"), x_val, y_val, x_test, y_test, x_val, x_test, False)


def moved(x: Tensor, rng: torch.Generator) -> Tensor:
    """Every image turned by up to 10 degrees, scaled and shifted by up to 8 %."""
    turn, grow, right, down = torch.rand(4, len(x), generator=rng, dtype=x.dtype) * 2 - 1
    turn, grow = turn * (torch.pi / 18), 1 + 0.08 * grow
    rows = (
        grow * turn.cos(),
        -grow * turn.sin(),
        0.16 * right,
        grow * turn.sin(),
        grow * turn.cos(),
        0.16 * down,
    )
    grid = nn.functional.affine_grid(
        torch.stack(rows, 1).reshape(-1, 2, 3), list(x.shape), align_corners=False
    )
    return nn.functional.grid_sample(x, grid, align_corners=False)


def seen(x: np.ndarray, count: int, seed: int) -> np.ndarray:
    """All images ``count`` times, the first time as they are."""
    rng = torch.Generator().manual_seed(seed)
    return np.concatenate([x, *(moved(torch.from_numpy(x), rng).numpy() for _ in range(count - 1))])


def copies(data: Data, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """``COPIES`` views of the training part; itself where it cannot be moved."""
    if not data.moves:
        return data.x, data.y
    return seen(data.x, COPIES, seed), np.tile(data.y, COPIES)


# --- training ---------------------------------------------------------------------------------------


class FloatModule(nn.Module):
    """A FLOAT network with its weights and biases as parameters; hard or soft reset, any decay.

    In training mode, potentials carry noise.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.learned = {p.name for p in network.compute if is_learned(p, network.incoming(p.name))}
        self.tensors, self.biases = nn.ParameterDict(), nn.ParameterDict()
        self.key: dict[str, str] = {}
        made: dict[int, str] = {}
        for index, projection in enumerate(network.projections):
            if projection.target not in self.learned or not isinstance(projection.synapse, Conv2d | Dense):
                continue
            if id(projection.weight) not in made:
                made[id(projection.weight)] = f"w{index}"
                self.tensors[f"w{index}"] = nn.Parameter(torch.tensor(projection.weight).float())
            self.key[projection.name] = made[id(projection.weight)]
        self.place = {p.name: f"b{index}" for index, p in enumerate(network.populations)}
        for population in network.compute:
            if population.name in self.learned:
                shape = (population.shape[0],) + (1,) * (len(population.shape) - 1)
                bias = np.zeros(shape) if population.bias is None else population.bias
                self.biases[self.place[population.name]] = nn.Parameter(torch.tensor(bias).float())

    def weight(self, projection: Any) -> Tensor:
        if projection.name not in self.key:
            return torch.tensor(projection.weight).float()
        return self.tensors[self.key[projection.name]]

    def forward(self, x: Tensor) -> Tensor:
        trains: dict[str, Tensor] = {}
        outputs = []
        for population, incoming in self.network.walk():
            if population.is_input:
                train = x.float() if x.dim() == len(population.shape) + 2 else x.float()[:, None]
                trains[population.name] = train
                continue
            current: Any = 0.0
            own = [p for p in incoming if p.source == population.name]
            for projection in incoming:
                if projection in own:
                    continue
                source = trains[projection.source]
                rows = through.apply(projection.synapse, self.weight(projection), source.flatten(0, 1))
                current = current + rows.reshape(*source.shape[:2], *population.shape)
            if isinstance(population.neuron, GradedRelay):
                trains[population.name] = current
                continue
            trains[population.name], v = self._fire(population, current, own)
            if population.name in self.network.outputs:
                outputs.append(trains[population.name].sum(1) if self.network.readout == "count" else v)
        return torch.cat(outputs, 1)

    def _fire(self, population: Population, current: Tensor, own: list[Projection]) -> tuple[Tensor, Tensor]:
        """Spikes and the last potential; ``own``: projections from the population to itself."""
        neuron = population.neuron
        assert isinstance(neuron, FloatNeuron)
        learned = population.name in self.learned
        fixed = 0.0 if population.bias is None else torch.tensor(population.bias).float()
        bias = self.biases[self.place[population.name]] if learned else fixed
        u = torch.zeros_like(current[:, 0])
        v = u + torch.tensor(neuron.v0).float()
        threshold = None if neuron.threshold is None else torch.tensor(neuron.threshold).float()
        spikes: list[Tensor] = []
        for t in range(self.network.steps):
            arriving = current[:, t if current.shape[1] > 1 else 0]
            for p in own:
                if t >= p.lag:
                    back = through.apply(p.synapse, self.weight(p), spikes[t - p.lag])
                    arriving = arriving + back.reshape(arriving.shape)
            u = neuron.keep_u * u + arriving
            v = neuron.keep_v * v + u + bias
            if threshold is None:
                continue
            if self.training and learned:
                v = v + NOISE * threshold * torch.randn_like(v)
            spike = through.fire((v - threshold) / threshold + 1e-7)
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


def train(module: nn.Module, data: Data, epochs: int, rate: float, seed: int, *, scale: float = 1.0) -> None:
    """AdamW, one cycle of the learning rate.

    Args:
        scale: what logits are multiplied by; readouts add up over T and would be far too sure.
    """
    rng = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    x, y = torch.from_numpy(data.x), torch.from_numpy(data.y)
    batches = len(x) // BATCH
    optimizer = torch.optim.AdamW(module.parameters(), rate, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * batches)
    module.train()
    for _ in range(epochs):
        for index in torch.randperm(len(x), generator=rng)[: batches * BATCH].split(BATCH):
            seen = moved(x[index], rng) if data.moves else x[index]
            loss = nn.functional.cross_entropy(scale * module(seen), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    module.eval()


def softening(network: Network) -> float:
    """``train``'s scale for a network's outputs."""
    return 1.0 if network.readout == "count" else 1.0 / max(1.0, network.steps / 8)


# --- networks ---------------------------------------------------------------------------------------


def demo(data: Data, seed: int, cache: Path | None) -> Network:
    """The network that ships with nmc. It was trained on the validation part, too."""
    graph = api.load(Path(str(files("nmc") / "data" / "digits_sew.nir")))
    return lower(graph, graph.steps or 8, "relay", Encoding.GRADED)


def _trained(graph: OpGraph, data: Data, seed: int, cache: Path | None, epochs: int = EPOCHS) -> Network:
    encoding = Encoding.GRADED if data.moves else Encoding.SPIKES
    module = FloatModule(lower(graph, graph.steps or 4, "relay", encoding))
    stored = None if cache is None else cache / f"{graph.name}-{seed}.pt"
    if stored is not None and stored.exists():
        module.load_state_dict(torch.load(stored))
    else:
        train(module, data, epochs, RATE, seed, scale=softening(module.network))
        if stored is not None:
            torch.save(module.state_dict(), stored)
    return module.trained()


def sew(data: Data, seed: int, cache: Path | None) -> Network:
    """LIF, SEW ADD: stem, two blocks, the second with stride; T = 8."""
    draft = Draft((1, 8, 8), lif_neuron(), seed, drive=2.5)
    x = draft.conv_fire("stem", "input", 12, 3)
    x = block(draft, "block1", x, 12, 1, "add")
    x = block(draft, "block2", x, 20, 2, "add")
    return _trained(draft.finish("sew_lif", draft.linear("fc", x, 10), 8), data, seed, cache)


def membrane(data: Data, seed: int, cache: Path | None) -> Network:
    """IF, membrane shortcut: the residual stream is a current; T = 8."""
    draft = Draft((1, 8, 8), if_neuron(), seed)
    u = draft.conv("stem", "input", 12, 3)
    u = membrane_block(draft, "block1", u, 12, 1)
    u = membrane_block(draft, "block2", u, 20, 2)
    x = draft.linear("fc", draft.fire("last.sn", u), 10)
    return _trained(draft.finish("ms", x, 8), data, seed, cache)


def depthwise(data: Data, seed: int, cache: Path | None) -> Network:
    """Depthwise and pointwise convolutions, IF; T = 8."""
    draft = Draft((1, 8, 8), if_neuron(), seed)
    x = draft.conv_fire("stem", "input", 16, 3)
    for k, (channels, stride) in enumerate(((24, 2), (32, 1))):
        size = draft.shapes[x][0]
        weight = draft.rng.normal(0, (2 / 9) ** 0.5, (size, 1, 3, 3))
        deep = og.Conv2d(weight, np.zeros(size), (stride, stride), (1, 1), groups=size)
        x = draft.fire(f"dw{k}.sn", draft.norm(f"dw{k}.bn", draft.add(f"dw{k}", deep, x)))
        x = draft.conv_fire(f"pw{k}", x, channels, 1)
    return _trained(draft.finish("depthwise", draft.linear("fc", x, 10), 8), data, seed, cache)


def seven(data: Data, seed: int, cache: Path | None) -> Network:
    """7B-Net of half the width that ships with nmc, trained by ``examples/train_events.py``; T = 16."""
    return lower(seven_b_trained(), EVENT_STEPS, "relay", Encoding.SPIKES)


def recurrent(data: Data, seed: int, cache: Path | None) -> Network:
    """96 current-based neurons, all to all, and a readout, on digits row by row; T = 8."""
    neuron = og.Neuron(og.constant(1.0), keep_v=og.constant(0.9), keep_u=og.constant(0.5))
    draft = Draft((16,), neuron, seed)
    size = 96
    nodes = {
        "input": og.Input((16,)),
        "fc": og.Linear(draft.rng.normal(0, 0.5, (size, 16)), np.zeros(size)),
        "rec": og.Linear(draft.rng.normal(0, 0.5 / size**0.5, (size, size))),
        "cell": neuron,
        "previous": og.Delay(),
        "readout": og.Linear(draft.rng.normal(0, size**-0.5, (10, size)), np.zeros(10)),
        "output": og.Output(),
    }
    edges = (
        *(("input", "fc"), ("fc", "cell"), ("cell", "previous"), ("previous", "rec"), ("rec", "cell")),
        *(("cell", "readout"), ("readout", "output")),
    )
    graph = OpGraph(nodes, edges, "recurrent", 8)
    return _trained(graph, data, seed, cache)


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


def converted(data: Data, seed: int, cache: Path | None) -> Network:
    """A residual ANN, trained, then converted for T = 32 with nmc's defaults."""
    torch.manual_seed(seed)
    ann = Residual()
    train(ann, replace(data, x=data.x.astype(np.float32)), 12, 5e-3, seed)
    return lower(convert(ann.eval(), data.x[:256].astype(np.float32), 32), 32, "relay", Encoding.GRADED)


@dataclass(frozen=True)
class Kind:
    """make: network from data, seed and folder of trained ones. tuned: passes of fine-tuning over ``copies``
    of the training part. batch: samples per update of it; few samples make few updates, and long trains take
    memory. seeds: whether there is more than one such network."""

    make: Callable[[Data, int, Path | None], Network]
    data: Callable[[], Data] = digits
    tuned: int = 5
    batch: int = BATCH
    seeds: bool = True


NETWORKS = {
    "demo": Kind(demo, seeds=False),
    "converted": Kind(converted, tuned=1),
    "sew": Kind(sew),
    "ms": Kind(membrane),
    "events": Kind(seven, events, tuned=2, batch=8, seeds=False),
    "depthwise": Kind(depthwise),
    "recurrent": Kind(recurrent, rows, tuned=40),
}
