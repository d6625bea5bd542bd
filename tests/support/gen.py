"""Random residual networks whose integer form is exact: whole even weights, whole thresholds.

``float_network(seed)`` is a FLOAT network; ``quantize(network)`` turns a TIMED one into integers with
scale 1, through the same field functions as the real quantizer.
"""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np

from nmc import synapse, timing
from nmc.errors import NmcError
from nmc.ir import (
    Compare,
    Conv2d,
    Dense,
    Encoding,
    Fixed,
    FixedNeuron,
    FloatNeuron,
    GradedRelay,
    Identity,
    InputNeuron,
    Network,
    Population,
    Projection,
    Reset,
    Stage,
    SumPool2d,
    frozen,
)
from nmc.quantize import neurons


class Builder:
    """Grows a network population by population; every choice comes from one seeded generator."""

    def __init__(
        self, seed: int, *, soft: bool = True, cuba: bool = True, graded: bool = True, groups: bool = True
    ):
        self.rng = random.Random(seed)
        self.np = np.random.default_rng(seed)
        self.soft, self.cuba, self.graded, self.groups = soft, cuba, graded, groups
        self.populations: list[Population] = []
        self.projections: list[Projection] = []

    def population(self, shape, neuron, bias=None, max_payload=1) -> Population:
        name = f"p{len(self.populations)}"
        population = Population(name, shape, neuron, bias, max_payload, origin=(f"layer.{name}",))
        self.populations.append(population)
        return population

    def project(self, source, target, op, weight) -> None:
        name = f"s{len(self.projections)}"
        self.projections.append(Projection(name, source.name, target.name, op, frozen(weight, np.float64)))

    def weights(self, *shape) -> np.ndarray:
        return 2.0 * self.np.integers(-12, 15, shape)

    def neuron(self, drive: float) -> FloatNeuron:
        rng = self.rng
        theta = float(max(2, round(drive * rng.uniform(0.2, 1.5) / 2) * 2))
        kind = rng.choice(["if", "if", "lif"] + ["cuba"] * self.cuba)
        dv = 0 if kind == "if" else rng.choice([1, 128, 1024, 2048, 4000])
        keep_u = (4096 - 1 - rng.choice([0, 100, 2048, 4000])) / 4096 if kind == "cuba" else 0.0
        return FloatNeuron(
            frozen(theta, np.float64),
            keep_v=(4096 - dv) / 4096,
            keep_u=keep_u,
            compare=rng.choice(list(Compare)),
            reset=rng.choice([Reset.ZERO] + [Reset.SUBTRACT] * self.soft),
        )

    def bias(self, shape, drive: float):
        """None, or per channel: on the weight grid or off it."""
        rng = self.rng
        if rng.random() < 0.4:
            return None
        step = rng.choice([1.0, 1 / 64])
        per_channel = (shape[0],) + (1,) * (len(shape) - 1)
        drive = min(drive, 4095 * step)  # a 13-bit mantissa holds it without rounding
        return frozen(np.rint(self.np.uniform(-0.3, 0.5, per_channel) * drive / step) * step, np.float64)

    def conv(self, source: Population, channels: int, kernel: int, stride: int):
        """A convolution that keeps the map's size up to the stride; (operator, weight, target shape)."""
        groups = 1
        if self.groups and self.rng.random() < 0.2 and source.shape[0] == channels:
            groups = channels
        op = Conv2d((stride, stride), (kernel // 2, kernel // 2), groups=groups)
        weight = self.weights(channels, source.shape[0] // groups, kernel, kernel)
        return op, weight, synapse.output_shape(op, weight.shape, source.shape, "gen")

    def join(self, target: Population, source: Population) -> None:
        """A skip from ``source``: identity where shapes agree, else a strided 1x1 convolution or pool."""
        if source.shape == target.shape:
            if self.rng.random() < 0.6:
                self.project(source, target, Identity(), 2.0 * self.rng.randint(1, 20))
            else:
                self.project(
                    source, target, *self.conv(source, target.shape[0], self.rng.choice([1, 3]), 1)[:2]
                )
            return
        stride = -(-source.shape[1] // target.shape[1])
        if (
            source.shape[0] == target.shape[0]
            and self.rng.random() < 0.2
            and source.shape[1] % target.shape[1] == 0
        ):
            self.project(
                source, target, SumPool2d((stride, stride), (stride, stride)), 2.0 * self.rng.randint(1, 9)
            )
            return
        self.project(
            source, target, Conv2d((stride, stride)), self.weights(target.shape[0], source.shape[0], 1, 1)
        )


def float_network(seed: int, steps: int = 6, depth: int | None = None, **features) -> Network:
    """A residual network with nested and overlapping skips, strides, relays, and a dense output."""
    build = Builder(seed, **features)
    rng = build.rng
    frames = rng.random() < 0.5 and build.graded
    size = rng.choice([4, 5])
    encoding = Encoding.GRADED if frames else Encoding.SPIKES
    highest = 5 if frames else 1
    source = build.population(
        (rng.randint(1, 2), size, size), InputNeuron(encoding, highest=highest), max_payload=highest
    )
    maps = [source]
    for _ in range(depth or rng.randint(2, 7)):
        last = maps[-1]
        same = [p for p in maps[1:] if p.shape == last.shape and p is not last]
        if build.graded and same and rng.random() < 0.25:
            other = rng.choice(same)
            payload = last.max_payload + other.max_payload
            relay = build.population(last.shape, GradedRelay(), max_payload=payload)
            for part in (last, other):
                build.project(part, relay, Identity(), 1.0)
            maps.append(relay)
            continue
        stride = 2 if last.shape[1] > 2 and rng.random() < 0.25 else 1
        op, weight, shape = build.conv(
            last, rng.choice([last.shape[0], rng.randint(1, 3)]), rng.choice([1, 3]), stride
        )
        drive = float(np.abs(weight).sum(axis=(1, 2, 3)).mean()) * 0.3 * last.max_payload
        target = build.population(shape, build.neuron(drive), build.bias(shape, drive))
        build.project(last, target, op, weight)
        for skip in rng.sample(maps, min(len(maps), rng.choice([0, 1, 1, 2]))):
            if skip is not last and not skip.is_input:
                build.join(target, skip)
        maps.append(target)
    weight = build.weights(3, maps[-1].size)
    drive = float(np.abs(weight).sum(axis=1).mean()) * 0.2 * maps[-1].max_payload
    out = build.population((3,), build.neuron(drive), build.bias((3,), drive))
    build.project(maps[-1], out, Dense(), weight)
    return Network(
        f"random{seed}", Stage.FLOAT, tuple(build.populations), tuple(build.projections), (out.name,), steps
    )


def with_loops(network: Network, seed: int) -> Network:
    """The network with one to three more projections of lag 1 to 5: loops of one population and of many, and
    skips that arrive late. Lags are raised until the chip's steps fit into them."""
    build = Builder(1_000_000 + seed)
    rng = build.rng
    neurons = [p for p in network.populations if isinstance(p.neuron, FloatNeuron)]
    for _ in range(rng.randint(1, 3)):
        target = rng.choice(neurons)
        source = target if rng.random() < 0.5 else rng.choice(neurons)
        if len(source.shape) == len(target.shape) == 3 and source.shape[1] >= target.shape[1]:
            build.join(target, source)
        elif source is target and rng.random() < 0.5:
            build.project(source, target, Identity(), 2.0 * rng.randint(-20, 20))
        elif len(target.shape) == 1:
            build.project(source, target, Dense(), build.weights(target.size, source.size))
    lags = {one.name: rng.choice([1, 1, 1, 2, 5]) for one in build.projections}
    while True:
        added = tuple(replace(p, name=f"loop.{p.name}", lag=lags[p.name]) for p in build.projections)
        looped = network.with_(projections=(*network.projections, *added))
        try:
            timing.levels(looped)
            return looped
        except NmcError:
            lags = {name: lag + 1 for name, lag in lags.items()}


def chain_with_feedback(lag: int) -> Network:
    """input -> p1 -> p2, and p2 back to p1."""
    build = Builder(0)
    source = build.population((3,), InputNeuron(Encoding.SPIKES))
    first, second = (build.population((4,), FloatNeuron(frozen(8.0, np.float64))) for _ in range(2))
    build.project(source, first, Dense(), build.weights(4, 3))
    build.project(first, second, Dense(), build.weights(4, 4))
    build.project(second, first, Dense(), build.weights(4, 4))
    build.projections[-1] = replace(build.projections[-1], lag=lag)
    return Network(
        "feedback", Stage.FLOAT, tuple(build.populations), tuple(build.projections), (second.name,), 6
    )


def stimulus(network: Network, samples: int, steps: int, seed: int) -> np.ndarray:
    """Random integers that fit the input."""
    (population,) = network.inputs
    rng = np.random.default_rng(seed)
    frames = population.neuron.encoding is not Encoding.SPIKES
    shape = (samples, *population.shape) if frames else (samples, steps, *population.shape)
    dense = rng.integers(0, population.neuron.highest + 1, shape)
    return dense * (rng.random(shape) < rng.choice([0.1, 0.5, 0.9]))


def quantize(network: Network) -> Network:
    """TIMED to QUANTIZED with scale 1: exact by construction. Delay-line relays get weight 2."""
    projections = tuple(replace(p, weight=_weight(network, p)) for p in network.projections)
    populations = tuple(_fixed(p) for p in network.populations)
    return network.with_(stage=Stage.QUANTIZED, populations=populations, projections=projections)


def _is_line(population: Population) -> bool:
    return ".delay" in population.name and not isinstance(population.neuron, GradedRelay)


def _weight(network: Network, projection: Projection) -> Fixed:
    target = network[projection.target]
    if isinstance(target.neuron, GradedRelay):
        return Fixed(projection.weight.astype(np.int64), 0, 8, signed=False)
    doubled = 2 * projection.weight if _is_line(target) else projection.weight
    return Fixed((doubled / 2).astype(np.int64), 1, 8, signed=True)


def _fixed(population: Population) -> Population:
    neuron = population.neuron
    if not isinstance(neuron, FloatNeuron):
        return population
    bias = None if population.bias is None else neurons.bias_field(population.bias * 64, population.label)
    threshold = frozen(1.0, np.float64) if _is_line(population) else neuron.threshold
    on_grid = neurons.on_weight_grid(neuron, bias)
    fixed = FixedNeuron(
        neurons.threshold_field(threshold, neuron.compare, on_grid, population.label),
        neurons.decay_field(neuron.keep_u, 1),
        neurons.decay_field(neuron.keep_v, 0),
        neuron.reset,
        drop=frozen(threshold * 64, np.int64) if neuron.reset is Reset.SUBTRACT else None,
    )
    return replace(population, neuron=fixed, bias=bias)
