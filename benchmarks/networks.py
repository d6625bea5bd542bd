"""Networks of the papers' shapes with random integer weights: what the mapping benchmarks split over cores.

Neurons follow every convolution (stem, block convolutions, downsampling). Joins of residual blocks:

relay       SEW ADD as a graded relay population: chips with payloads
iand        SEW IAND as a memoryless binary population, S and not A: any chip
distribute  SEW ADD as one projection per addend, delayed: any chip; no population
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from nmc import synapse, timing
from nmc.chip import Chip
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
    Shape,
    Stage,
    SumPool2d,
    Synapse,
)

Joins = Literal["relay", "iand", "distribute"]

SEW_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
CIFAR_BLOCKS = {20: 3, 44: 7, 110: 18}
BOTTLENECK = 4
STEPS = 4


def _decay(full: bool) -> Fixed:
    return Fixed(np.array(4095 if full else 0), -12, 12, signed=False)


def _neuron(keeps: bool = True) -> FixedNeuron:
    return FixedNeuron(Fixed(np.array(64), 6, 17, signed=False), _decay(True), _decay(not keeps))


@dataclass
class Builder:
    """Adds populations and projections; ``Sources`` are populations whose spikes count as one sum."""

    joins: Joins
    bits: int = 8
    seed: int = 0
    populations: list[Population] = field(default_factory=list)
    projections: list[Projection] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.one = Fixed(np.array(1), 6, 8, signed=True)
        self.shapes: dict[str, Shape] = {}
        self.payloads: dict[str, int] = {}

    def weight(self, *shape: int) -> Fixed:
        half = 1 << (self.bits - 1)
        mant = self.rng.integers(-half, half, shape, dtype=np.int16)
        return Fixed(mant, 9 - self.bits, self.bits, signed=True)

    def population(
        self,
        name: str,
        sources: list[str],
        operator: Synapse,
        weight: Fixed,
        neuron: FixedNeuron | GradedRelay | None = None,
        host: bool = False,
    ) -> str:
        payload = 1
        for source in sources:
            where = f"{source}->{name}"
            self.projections.append(Projection(where, source, name, operator, weight, on_host=host))
            shape = synapse.output_shape(operator, weight.mant.shape, self.shapes[source], name)
        if isinstance(neuron, GradedRelay):
            window = int(np.prod(operator.kernel)) if isinstance(operator, SumPool2d) else 1
            payload = window * sum(self.payloads[source] for source in sources)
        self.populations.append(
            Population(name, shape, neuron or _neuron(), max_payload=payload, origin=(name,))
        )
        self.shapes[name], self.payloads[name] = shape, payload
        return name

    def conv(
        self, name: str, sources: list[str], channels: int, kernel: int, stride: int = 1, host: bool = False
    ) -> list[str]:
        weight = self.weight(channels, self.shapes[sources[0]][0], kernel, kernel)
        pad = kernel // 2
        return [
            self.population(name, sources, Conv2d((stride, stride), (pad, pad)), weight, host=host),
        ]

    def join(self, name: str, inner: list[str], skip: list[str]) -> list[str]:
        if self.joins == "distribute":
            return inner + skip
        neuron = GradedRelay() if self.joins == "relay" else _neuron(keeps=False)
        return [self.population(name, inner + skip, Identity(), self.one, neuron)]

    def input(self, shape: Shape, encoding: Encoding) -> list[str]:
        self.populations.append(
            Population("input", shape, InputNeuron(encoding, highest=255), max_payload=255)
        )
        self.shapes["input"], self.payloads["input"] = shape, 255
        return ["input"]

    def network(self, name: str, outputs: list[str], chip: Chip) -> Network:
        """QUANTIZED, with levels and delays."""
        drawn = Network(
            name, Stage.FLOAT, tuple(self.populations), tuple(self.projections), tuple(outputs), STEPS
        )
        timed = timing.balance(drawn, chip.max_delay)
        plain = {
            one.name: Population(one.name, one.shape, _neuron(False), None, 1, one.level, one.origin)
            for one in timed.populations
            if one.name not in self.shapes and one.max_payload == 1
        }
        projections = tuple(
            one
            if isinstance(one.weight, Fixed)
            else Projection(
                one.name, one.source, one.target, one.synapse, self.one, one.delay, origin=one.origin
            )
            for one in timed.projections
        )
        return timed.with_(
            stage=Stage.QUANTIZED, populations=timed.map_populations(plain), projections=projections
        )


def _stage(build: Builder, name: str, x: list[str], channels: int, stride: int, wide: bool) -> list[str]:
    """One SEW block: spikes of every convolution, and of the downsampling."""
    if wide:
        y = build.conv(f"{name}.conv1", x, channels, 1)
        y = build.conv(f"{name}.conv2", y, channels, 3, stride)
        y = build.conv(f"{name}.conv3", y, channels * BOTTLENECK, 1)
    else:
        y = build.conv(f"{name}.conv1", x, channels, 3, stride)
        y = build.conv(f"{name}.conv2", y, channels, 3)
    if stride > 1 or build.shapes[x[0]] != build.shapes[y[0]]:
        x = build.conv(f"{name}.downsample", x, build.shapes[y[0]][0], 1, stride)
    return build.join(f"{name}.join", y, x)


def joins_for(chip: Chip) -> Joins:
    """SEW ADD as relays where the chip carries payloads, else SEW IAND."""
    return "relay" if chip.payload_bits else "iand"


def sew_resnet(depth: int, chip: Chip, joins: Joins | None = None, size: int = 224, seed: int = 0) -> Network:
    """SEW-ResNet for ImageNet; the max pool is a population of OR neurons.

    The classifier is a sum pool and a dense layer where the chip carries payloads; else the host reads
    the last block's spikes.
    """
    build = Builder(joins or joins_for(chip), seed=seed)
    graded = chip.payload_bits > 0
    x = build.input((3, size, size), Encoding.GRADED if graded else Encoding.CURRENT)
    x = build.conv("conv1", x, 64, 7, 2, host=not graded)
    x = [build.population("maxpool", x, SumPool2d((3, 3), (2, 2), (1, 1)), build.one, _neuron(False))]
    wide = depth >= 50
    for stage, blocks in enumerate(SEW_BLOCKS[depth]):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            x = _stage(build, f"layer{stage + 1}.{block}", x, 64 << stage, stride, wide)
    if graded and build.joins == "relay":
        x = _classifier(build, x, 1000)
    return build.network(f"SEW-ResNet-{depth}", x, chip)


def cifar_resnet(depth: int, chip: Chip, joins: Joins | None = None, seed: int = 0) -> Network:
    """The 6n + 2 layer ResNet for 32 x 32 images, with SEW blocks."""
    build = Builder(joins or joins_for(chip), seed=seed)
    graded = chip.payload_bits > 0
    x = build.input((3, 32, 32), Encoding.GRADED if graded else Encoding.CURRENT)
    x = build.conv("conv1", x, 16, 3, host=not graded)
    for stage in range(3):
        for block in range(CIFAR_BLOCKS[depth]):
            stride = 2 if stage and not block else 1
            x = _stage(build, f"layer{stage + 1}.{block}", x, 16 << stage, stride, wide=False)
    if graded and build.joins == "relay":
        x = _classifier(build, x, 10)
    return build.network(f"CIFAR-ResNet-{depth}", x, chip)


def _classifier(build: Builder, x: list[str], classes: int) -> list[str]:
    kernel = build.shapes[x[0]][1:]
    assert len(kernel) == 2
    pooled = build.population("avgpool", x, SumPool2d(kernel, (1, 1)), build.one, GradedRelay())
    weight = build.weight(classes, build.shapes[pooled][0])
    return [build.population("fc", [pooled], Dense(), weight)]


PILOTNET = ((24, 2, 0, 5), (36, 2, 0, 4), (48, 2, 0, 4), (64, (2, 1), (1, 0), 4), (64, 1, 0, 4))
"""Channels, stride, padding, bits of PilotNet's convolutions, all 3 x 3; as in lava-dl's ``network.net``."""
YOLO = ((16, 3, 2), (32, 3, 2), (64, 3, 2), (128, 3, 2), (256, 3, 1), (256, 3, 2), (512, 3, 1), (256, 1, 1))
YOLO_END = ((512, 3, 1), (48, 1, 1))
"""Channels, kernel, stride of YOLO-KP's convolutions; its weights had 4 to 8 bits, 5 fits most rows."""


def lava_tables(chip: Chip) -> dict[str, tuple[Network, tuple[int, ...]]]:
    """Sequential networks with the cores per layer that Intel's compiler took, first layer first.

    Sources: lava-dl tutorials, netx/mnist, oxford, yolo_kp (run.ipynb), pilotnet_snn (benchmark.ipynb). The
    tables of Oxford and PilotNet come from a compiler that used 12,000 words of synapse memory per core, the
    later ones 16,000. MNIST's first layer follows from its 50 neurons per core.
    """

    def built(name: str, build: Builder, x: list[str]) -> Network:
        return build.network(name, x, chip)

    result = {}
    for name, sizes, counts in (
        ("MNIST", (784, 128, 64, 10), (3, 1, 1)),
        ("Oxford", (200, 256, 200), (3, 2)),
    ):
        build = Builder("relay")
        x = build.input((sizes[0],), Encoding.SPIKES)
        for number, (inner, outer) in enumerate(itertools.pairwise(sizes)):
            x = [build.population(f"dense{number}", x, Dense(), build.weight(outer, inner))]
        result[name] = built(name, build, x), counts
    result["PilotNet"] = _pilotnet(chip), (13, 25, 13, 3, 3, 2, 12, 1, 1, 1)
    build = Builder("relay", bits=5)
    x = build.input((3, 448, 448), Encoding.GRADED)
    for number, (channels, kernel, stride) in enumerate((*YOLO, *YOLO_END)):
        x = build.conv(f"conv{number}", x, channels, kernel, stride)
    result["YOLO-KP"] = built("YOLO-KP", build, x), (224, 112, 56, 28, 56, 16, 32, 14, 32, 4)
    return result


def _pilotnet(chip: Chip) -> Network:
    build = Builder("relay")
    x = build.input((3, 66, 200), Encoding.CURRENT)
    x = [build.population("encoder", x, Identity(), build.one, host=True)]
    for number, (channels, stride, padding, bits) in enumerate(PILOTNET):
        build.bits = bits
        weight = build.weight(channels, build.shapes[x[0]][0], 3, 3)
        operator = Conv2d(*((one, one) if isinstance(one, int) else one for one in (stride, padding)))
        x = [build.population(f"conv{number}", x, operator, weight)]
    for number, (size, bits) in enumerate(((100, 3), (50, 4), (10, 5), (1, 6))):
        build.bits = bits
        weight = build.weight(size, int(np.prod(build.shapes[x[0]])))
        x = [build.population(f"dense{number}", x, Dense(), weight)]
    return build.network("PilotNet", x, chip)
