"""The networks that the simulators are timed on, as tables of layers; calibrated in torch, run as integers.

SEW-ResNet-18 (ADD, IF neurons with hard reset) for 224 x 224 and 32 x 32 images, and the SEW form of the
CIFAR ResNet-20. Weights are random; batch norm has gain 0.5 and one offset for all layers, bisected until
the mean firing rate is 12 %, with the statistics of one batch of smooth random images. ``fold`` turns a
calibrated network into 8-bit weights, whole biases and thresholds; ``network`` turns those into an nmc
Network that computes the same spikes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nmc import synapse, timing
from nmc.ir import (
    Conv2d,
    Dense,
    Encoding,
    Fixed,
    FixedNeuron,
    GradedRelay,
    Identity,
    InputNeuron,
    Network,
    Population,
    Projection,
    Stage,
    SumPool2d,
)

GAIN = 0.5
TARGET_RATE = 0.12
IMAGE_TOP = 255
CURRENT_TOP = (1 << 17) - 1
CLASSIFIER_TOP = 15
"""Small enough that the readout's potential stays inside 24 bits over all steps."""


@dataclass(frozen=True)
class Layer:
    """conv: convolution, batch norm, IF. pool: 3 x 3 maximum. add: sum of two. sources: earlier layers."""

    name: str
    kind: str
    sources: tuple[str, ...]
    channels: int = 0
    kernel: int = 0
    stride: int = 1


@dataclass(frozen=True)
class Model:
    name: str
    size: int
    steps: int
    classes: int
    layers: tuple[Layer, ...]


@dataclass
class Folded:
    """Integers of one network: per convolution weights int8, biases and the threshold, in weight units."""

    model: Model
    weights: dict[str, npt.NDArray[np.int8]] = field(default_factory=dict)
    biases: dict[str, npt.NDArray[np.int32]] = field(default_factory=dict)
    thresholds: dict[str, int] = field(default_factory=dict)
    classifier: npt.NDArray[np.int8] | None = None
    rates: dict[str, float] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        arrays = {f"w/{name}": w for name, w in self.weights.items()}
        arrays |= {f"b/{name}": b for name, b in self.biases.items()}
        arrays |= {f"t/{name}": np.asarray(t) for name, t in self.thresholds.items()}
        arrays |= {f"r/{name}": np.asarray(r) for name, r in self.rates.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, classifier=self.classifier, **arrays)

    @classmethod
    def read(cls, model: Model, path: Path) -> Folded:
        with np.load(path) as file:
            part = {
                kind: {name[2:]: file[name] for name in file.files if name.startswith(f"{kind}/")}
                for kind in "wbtr"
            }
            return cls(
                model,
                part["w"],
                part["b"],
                {name: int(t) for name, t in part["t"].items()},
                file["classifier"],
                {name: float(r) for name, r in part["r"].items()},
            )


def _blocks(stem: str, widths: tuple[int, ...], per_stage: int) -> list[Layer]:
    layers: list[Layer] = []
    x = stem
    for stage, width in enumerate(widths):
        for block in range(per_stage):
            name = f"layer{stage + 1}.{block}"
            stride = 2 if stage and not block else 1
            layers.append(Layer(f"{name}.conv1", "conv", (x,), width, 3, stride))
            layers.append(Layer(f"{name}.conv2", "conv", (f"{name}.conv1",), width, 3))
            if stride > 1:
                layers.append(Layer(f"{name}.down", "conv", (x,), width, 1, stride))
                x = f"{name}.down"
            layers.append(Layer(f"{name}.add", "add", (f"{name}.conv2", x)))
            x = f"{name}.add"
    return layers


def sew_resnet18(size: int) -> Model:
    stem = [Layer("conv1", "conv", ("input",), 64, 7, 2), Layer("maxpool", "pool", ("conv1",), 64, 3, 2)]
    layers = (*stem, *_blocks("maxpool", (64, 128, 256, 512), 2))
    return Model(f"SEW-ResNet-18 {size}", size, 4, 1000, layers)


def sew_resnet152(size: int = 224) -> Model:
    """For its memory: 60 M weights. Not in MODELS, because calibrating it takes hours."""
    layers = [Layer("conv1", "conv", ("input",), 64, 7, 2), Layer("maxpool", "pool", ("conv1",), 64, 3, 2)]
    x = "maxpool"
    for stage, (width, blocks) in enumerate(zip((64, 128, 256, 512), (3, 8, 36, 3), strict=True), 1):
        for block in range(blocks):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and not block else 1
            layers.append(Layer(f"{name}.conv1", "conv", (x,), width, 1))
            layers.append(Layer(f"{name}.conv2", "conv", (f"{name}.conv1",), width, 3, stride))
            layers.append(Layer(f"{name}.conv3", "conv", (f"{name}.conv2",), 4 * width, 1))
            if not block:
                layers.append(Layer(f"{name}.down", "conv", (x,), 4 * width, 1, stride))
                x = f"{name}.down"
            layers.append(Layer(f"{name}.add", "add", (f"{name}.conv3", x)))
            x = f"{name}.add"
    return Model("SEW-ResNet-152", size, 4, 1000, tuple(layers))


def random_integers(model: Model) -> Folded:
    """Weights and thresholds of some activity, without calibration."""
    rng = np.random.default_rng(0)
    channels, made = {"input": 3}, Folded(model)
    for layer in model.layers:
        source = channels[layer.sources[0]]
        channels[layer.name] = layer.channels or source
        if layer.kind != "conv":
            continue
        shape = (layer.channels, source, layer.kernel, layer.kernel)
        made.weights[layer.name] = rng.integers(-60, 61, shape).astype(np.int8)
        made.biases[layer.name] = np.zeros(layer.channels, np.int32)
        made.thresholds[layer.name] = round(35 * (source * layer.kernel**2) ** 0.5)
    made.thresholds["conv1"] *= IMAGE_TOP
    made.classifier = rng.integers(-1, 2, (model.classes, channels[model.layers[-1].name])).astype(np.int8)
    return made


def resnet20(steps: int = 32) -> Model:
    stem = Layer("conv1", "conv", ("input",), 16, 3)
    return Model("ResNet-20 32", 32, steps, 10, (stem, *_blocks("conv1", (16, 32, 64), 3)))


MODELS = {"sew224": sew_resnet18(224), "sew32": sew_resnet18(32), "resnet20": resnet20()}


def images(count: int, size: int, seed: int = 1) -> npt.NDArray[np.int64]:
    """Smooth random images (N, 3, H, W), 0..255."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(count, 3, size, size)
    for grain in (4, 8, 16, size // 4, size // 2, size):
        noise = torch.randn(count, 3, grain, grain, generator=generator)
        total += torch.nn.functional.interpolate(noise, size=(size, size), mode="bilinear")
    total = (total - total.mean()) / total.std()
    return (total * 50 + 128).clamp(0, IMAGE_TOP).round().numpy().astype(np.int64)


def folded(key: str, cache: Path) -> Folded:
    """The calibrated integers of a model; made once, then read from the cache."""
    model = MODELS[key]
    path = cache / f"{key}.npz"
    if not path.exists():
        calibrate(model, images(2 if model.size > 32 else 4, model.size)).save(path)
    return Folded.read(model, path)


def calibrate(model: Model, x: npt.NDArray[np.int64]) -> Folded:
    """Random weights, then the offset of all batch norms by bisection of the mean rate."""
    import torch

    generator = torch.Generator().manual_seed(0)
    channels = {"input": 3}
    weights = {}
    for layer in model.layers:
        channels[layer.name] = layer.channels or channels[layer.sources[0]]
        if layer.kind == "conv":
            shape = (layer.channels, channels[layer.sources[0]], layer.kernel, layer.kernel)
            std = (2 / (layer.channels * layer.kernel**2)) ** 0.5
            weights[layer.name] = torch.randn(shape, generator=generator) * std
    low, high = -1.0, 1.5
    for _ in range(9):
        offset = (low + high) / 2
        statistics, rates = _forward(model, weights, torch.from_numpy(x).float() / IMAGE_TOP, offset)
        if sum(rates.values()) / len(rates) > TARGET_RATE:
            high = offset
        else:
            low = offset
    result = Folded(model, rates=rates)
    for name, weight in weights.items():
        mean, variance = statistics[name]
        factor = GAIN / torch.sqrt(variance + 1e-5)
        bias = offset - mean * factor
        scaled = (weight * factor[:, None, None, None]).double().numpy()
        if name == "conv1":
            scaled = scaled / IMAGE_TOP
        step = 127 / np.abs(scaled).max()
        if name == "conv1":  # a chip's 24 bits hold the sum of a whole bright window
            step = min(step, CURRENT_TOP / (IMAGE_TOP * np.abs(scaled).sum(axis=(1, 2, 3)).max()) * 0.95)
        result.weights[name] = np.clip(np.rint(scaled * step), -127, 127).astype(np.int8)
        result.biases[name] = np.rint(bias.double().numpy() * step).astype(np.int32)
        result.thresholds[name] = max(1, round(step))
    last = channels[model.layers[-1].name]
    fc = torch.randn(model.classes, last, generator=generator).numpy()
    result.classifier = np.rint(fc / np.abs(fc).max() * CLASSIFIER_TOP).astype(np.int8)
    return result


def _forward(model: Model, weights, x, offset: float):
    """Batch-norm statistics (mean, variance) and the firing rate of every convolution; all steps at once."""
    import torch
    from torch.nn import functional

    outputs = {"input": x.repeat(model.steps, 1, 1, 1)}
    statistics, rates = {}, {}
    with torch.no_grad():
        for layer in model.layers:
            sources = [outputs[name] for name in layer.sources]
            if layer.kind == "add":
                outputs[layer.name] = sources[0] + sources[1]
            elif layer.kind == "pool":
                outputs[layer.name] = functional.max_pool2d(sources[0], 3, 2, 1)
            else:
                y = functional.conv2d(sources[0], weights[layer.name], None, layer.stride, layer.kernel // 2)
                variance, mean = torch.var_mean(y, dim=(0, 2, 3))
                statistics[layer.name] = mean, variance
                y = (y - mean[:, None, None]) / torch.sqrt(variance + 1e-5)[:, None, None] * GAIN + offset
                y = y.reshape(model.steps, len(x), *y.shape[1:])
                v = torch.zeros_like(y[0])
                spikes = torch.empty_like(y)
                for t in range(model.steps):
                    v += y[t]
                    spikes[t] = v >= 1
                    v[spikes[t] > 0] = 0
                rates[layer.name] = float(spikes.mean())
                outputs[layer.name] = spikes.reshape(-1, *y.shape[2:])
    return statistics, rates


def network(folded: Folded) -> Network:
    """The same integers on the chip's neurons: v in 1/64 weight, thresholds strict, SEW ADD as relays."""
    model = folded.model
    populations = [
        Population(
            "input",
            (3, model.size, model.size),
            InputNeuron(Encoding.GRADED, highest=IMAGE_TOP),
            max_payload=IMAGE_TOP,
            level=0,
        )
    ]
    projections: list[Projection] = []
    shapes, payloads = {"input": populations[0].shape}, {"input": IMAGE_TOP}
    one = Fixed(np.array(1), 0, 8, True)

    def add(name, sources, op, weight, neuron, bias=None, payload=1):
        for source in sources:
            projections.append(Projection(f"{source}->{name}", source, name, op, weight))
        shapes[name] = synapse.output_shape(op, weight.mant.shape, shapes[sources[0]], name)
        payloads[name] = payload
        populations.append(Population(name, shapes[name], neuron, bias, payload, origin=(name,)))

    for layer in model.layers:
        if layer.kind == "add":
            payload = sum(payloads[source] for source in layer.sources)
            add(layer.name, layer.sources, Identity(), one, GradedRelay(), payload=payload)
        elif layer.kind == "pool":
            op = SumPool2d((3, 3), (2, 2), (1, 1))
            add(layer.name, layer.sources, op, one, _neuron(1, keeps=False))
        else:
            pad = (layer.kernel // 2,) * 2
            op = Conv2d((layer.stride,) * 2, pad)
            weight = Fixed(folded.weights[layer.name], 0, 8, True)
            bias = Fixed(folded.biases[layer.name].reshape(-1, 1, 1), 6, 24, True)
            add(layer.name, layer.sources, op, weight, _neuron(folded.thresholds[layer.name]), bias)
    last = model.layers[-1].name
    side = shapes[last][1:]
    summed = payloads[last] * side[0] * side[1]
    add("avgpool", (last,), SumPool2d(side, (1, 1)), one, GradedRelay(), payload=summed)
    assert folded.classifier is not None
    add("fc", ("avgpool",), Dense(), Fixed(folded.classifier, 0, 8, True), _neuron(None))
    drawn = Network(
        model.name,
        Stage.FLOAT,
        tuple(populations),
        tuple(projections),
        ("fc",),
        model.steps,
        readout="potential",
    )
    levels = timing.balance(drawn, 62)
    assert len(levels.populations) == len(populations)
    return levels.with_(stage=Stage.QUANTIZED)


def _neuron(threshold: int | None, keeps: bool = True) -> FixedNeuron:
    """v >= threshold on whole weight units is v > threshold - 1."""
    return FixedNeuron(
        None if threshold is None else Fixed(np.array(threshold - 1), 6, 17, False),
        Fixed(np.array(4095), -12, 12, False),
        Fixed(np.array(0 if keeps else 4095), -12, 12, False),
    )
