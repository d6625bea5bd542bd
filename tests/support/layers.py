"""Random one-layer networks at stage QUANTIZED, for comparing engines bit by bit.

Every dimension that an engine may treat specially varies: operator, kernel, stride, padding, dilation,
groups, channels 1-520, payloads (binary, graded, signed, wide), rates 0-100 %, weights up to the ends of
their field, all neuron models and resets, parameters per population, channel or neuron, sums up to and
over the edges of 24 bits.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import numpy as np

from nmc import synapse
from nmc.ir import (
    Conv2d,
    Dense,
    Encoding,
    Fixed,
    FixedNeuron,
    GradedRelay,
    Identity,
    InputNeuron,
    IntArray,
    Network,
    Population,
    Projection,
    Reset,
    Stage,
    SumPool2d,
    frozen,
)

REACH_LIMIT = 1 << 18
"""Sums reach over the 17 bits that u holds, but not so far that u could pile up beyond all registers."""
MAC_BUDGET = 1_500_000
"""Multiplications that the NumPy reference may spend on a case."""


@dataclass(frozen=True)
class Case:
    network: Network
    x: IntArray
    steps: int


class _Maker:
    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.np = np.random.default_rng(seed)

    def case(self) -> Case:
        rng = self.rng
        source = self.source()
        op, weight, shape = self.operator(source.shape)
        projections = [self.projection("first", source, op, weight)]
        if rng.random() < 0.25:
            projections += self.second(source, shape)
        on_host = source.neuron.encoding is Encoding.CURRENT
        relay = not on_host and rng.random() < 0.15
        while (reach := self.reach(source, projections)) >= REACH_LIMIT:
            projections = [self.halved(p) for p in projections]
        if on_host:
            target = self.hosted(shape, reach, projections)
        elif relay:
            target = Population("layer", shape, GradedRelay(), max_payload=max(1, reach), level=1)
        else:
            target = Population("layer", shape, self.neuron(shape, reach), self.bias(shape, reach), level=1)
        if on_host:
            projections = [self.host(p, target) for p in projections]
        samples = rng.choice([1, 1, 1, 2, 3, 8])
        work = sum(self.macs(p, source.shape) for p in projections) * samples
        steps = rng.choice([1, 2, 3, 4, 4, 5, 7, 8, 16, 32, 33])
        while steps > 1 and work * steps > MAC_BUDGET:
            steps //= 2
        network = Network(
            "case",
            Stage.QUANTIZED,
            (source, target),
            tuple(projections),
            ("layer",),
            steps,
            readout=rng.choice(["count", "potential"]),
        )
        return Case(network, self.stimulus(source, samples, steps), steps)

    # --- source -------------------------------------------------------------------------------------

    def source(self) -> Population:
        rng = self.rng
        encoding = rng.choice([Encoding.SPIKES] * 7 + [Encoding.GRADED] * 2 + [Encoding.CURRENT])
        if encoding is Encoding.SPIKES:
            lowest, highest = rng.choice(
                [(0, 1)] * 5 + [(0, 2), (0, 3), (0, 7), (-1, 1), (0, 255), (-300, 900)]
            )
        else:
            lowest, highest = rng.choice([(0, 255), (0, 255), (0, 15), (-128, 127)])
        neuron = InputNeuron(encoding, 1.0, lowest, highest)
        return Population("input", self.shape(), neuron, max_payload=max(highest, -lowest), level=0)

    def shape(self) -> tuple[int, ...]:
        rng = self.rng
        channels = rng.choice([1, 2, 3, 4, 5, 8, 15, 16, 17, 31, 32, 33, 48, 64, 65, 100, 128, 130, 256, 520])
        if rng.random() < 0.12:
            return (channels,)
        most = max(1, min(11, int((2500 / channels) ** 0.5)))
        return channels, rng.randint(1, most), rng.randint(1, most)

    def stimulus(self, source: Population, samples: int, steps: int) -> IntArray:
        rng, neuron = self.rng, source.neuron
        lead = (samples, steps) if neuron.encoding is Encoding.SPIKES else (samples,)
        shape = (*lead, *source.shape)
        values = self.np.integers(neuron.lowest, neuron.highest + 1, shape)
        if rng.random() < 0.2:
            values[:] = neuron.highest
        rate = rng.choice([0.0, 0.02, 0.1, 0.2, 0.35, 0.6, 1.0])
        mask = self.np.random(shape) < rate
        # Samples of one batch differ in activity, so that engines choose per image.
        mask[rng.randrange(samples)] &= bool(rng.random() < 0.8)
        return (values * mask).astype(np.int64)

    # --- operators ----------------------------------------------------------------------------------

    def operator(self, source: tuple[int, ...]):
        rng = self.rng
        kind = rng.choice(["conv"] * 8 + ["dense"] * 2 + ["pool", "identity"])
        if kind == "dense" or (len(source) == 1 and kind != "identity"):
            outputs = self.channels(int(np.prod(source)))
            return Dense(), self.weights((outputs, int(np.prod(source)))), (outputs,)
        if kind == "identity":
            return self.identity(source)
        if kind == "pool":
            kernel = (rng.randint(1, 3), rng.randint(1, 3))
            op = SumPool2d(kernel, (rng.randint(1, 3), rng.randint(1, 3)), (kernel[0] // 2, kernel[1] // 2))
            weight = np.asarray(rng.randint(-128, 127))
            return self.fit(op, weight, source) or self.identity(source)
        return self.conv(source) or self.identity(source)

    def conv(self, source: tuple[int, ...]):
        rng = self.rng
        kernel = rng.choice([(1, 1), (3, 3), (3, 3), (3, 3), (5, 5), (7, 7), (1, 3), (5, 2)])
        stride = rng.choice([(1, 1), (1, 1), (2, 2), (3, 3), (1, 2)])
        dilation = rng.choice([(1, 1)] * 4 + [(2, 2), (1, 3), (2, 1)])
        padding = tuple(rng.choice([0, d * (k - 1) // 2, k]) for k, d in zip(kernel, dilation, strict=True))
        groups = rng.choice([g for g in (1, 1, 1, 2, 4, source[0], 3, 16) if source[0] % g == 0])
        inputs = source[0] // groups
        outputs = groups * max(1, self.channels(inputs * kernel[0] * kernel[1]) // groups)
        if groups == source[0] and rng.random() < 0.7:
            outputs = groups
        op = Conv2d(stride, padding, dilation, groups)
        return self.fit(op, self.weights((outputs, inputs, *kernel)), source)

    def fit(self, op, weight, source):
        """None when the kernel is larger than the padded source."""
        try:
            return op, weight, synapse.output_shape(op, weight.shape, source, "case")
        except Exception:
            return None

    def identity(self, source: tuple[int, ...]):
        rng = self.rng
        per_channel = (source[0],) + (1,) * (len(source) - 1)
        shape = rng.choice([(), per_channel])
        target = rng.choice([source, source, (int(np.prod(source)),)])
        return Identity(), self.np.integers(-128, 128, shape), target

    def channels(self, fan_in: int) -> int:
        choices = [1, 2, 7, 10, 16, 17, 32, 40, 64, 80, 100, 128, 144, 200, 256, 520]
        return self.rng.choice([c for c in choices if c * fan_in <= 120_000] or [1])

    def weights(self, shape: tuple[int, ...]) -> IntArray:
        kind = self.rng.choice(["any"] * 4 + ["lowest", "highest", "ends", "odd", "sparse", "zero"])
        if kind == "lowest":
            return np.full(shape, -128)
        if kind == "highest":
            return np.full(shape, 127)
        if kind == "ends":
            return self.np.choice([-128, 127], shape)
        if kind == "odd":  # nine bits: no byte holds them
            return self.np.integers(-256, 256, shape)
        if kind == "sparse":
            return self.np.integers(-128, 128, shape) * (self.np.random(shape) < 0.1)
        if kind == "zero":
            return np.zeros(shape, np.int64)
        return self.np.integers(-128, 128, shape)

    def projection(self, name: str, source: Population, op, weight) -> Projection:
        exp = self.rng.choice([0, 0, 1, 1, 2])
        return Projection(name, source.name, "layer", op, Fixed(weight, exp, 10, True))

    def second(self, source: Population, shape: tuple[int, ...]) -> list[Projection]:
        """Another projection that gives the same shape: the currents add."""
        if source.shape == shape and self.rng.random() < 0.5:
            return [self.projection("second", source, Identity(), self.np.integers(-9, 9, ()))]
        if len(shape) == 1:
            weight = self.weights((shape[0], int(np.prod(source.shape))))
            return [self.projection("second", source, Dense(), weight)]
        if len(source.shape) == 3 and source.shape[1:] == shape[1:]:
            weight = self.weights((shape[0], source.shape[0], 1, 1))
            return [self.projection("second", source, Conv2d(), weight)]
        return []

    def halved(self, projection: Projection) -> Projection:
        weight = projection.weight
        return replace(
            projection, weight=Fixed((weight.mant / 2).astype(np.int64), weight.exp, weight.bits, True)
        )

    def reach(self, source: Population, projections: list[Projection]) -> int:
        """Largest magnitude of the summed current, over all projections."""
        total = 0
        for projection in projections:
            weight = np.abs(projection.integer_weight)
            per_output = weight.reshape(weight.shape[0], -1).sum(axis=1) if weight.ndim > 1 else weight
            copies = int(np.prod(getattr(projection.synapse, "kernel", (1,))))
            total += int(np.max(per_output)) * copies * source.max_payload
        return total

    def macs(self, projection: Projection, source: tuple[int, ...]) -> int:
        return synapse.synapse_count(projection.synapse, projection.integer_weight.shape, source)

    # --- neurons ------------------------------------------------------------------------------------

    def over(self, shape: tuple[int, ...], draw) -> IntArray:
        """A parameter of the population, per channel or per neuron."""
        per_channel = (shape[0],) + (1,) * (len(shape) - 1)
        return draw(self.rng.choice([(), per_channel, per_channel, shape]))

    def neuron(self, shape: tuple[int, ...], reach: int) -> FixedNeuron:
        rng = self.rng
        kind = rng.choice(["if", "if", "lif", "cuba", "memoryless"])
        du = rng.choice([0, 1, 100, 2048, 4000, 4094]) if kind == "cuba" else 4095
        dv = {"if": 0, "memoryless": 4095}.get(kind, rng.choice([0, 1, 128, 1024, 4000, 4095]))
        typical = max(1, min((1 << 17) - 1, int(reach * rng.choice([0.01, 0.05, 0.2, 1.0]))))
        vth = self.over(shape, lambda s: self.np.integers(0, typical + 1, s))
        reset = rng.choice(list(Reset))
        drop = None
        if reset is Reset.SUBTRACT:
            drop = frozen((vth + rng.choice([0, 1])) << 6, np.int64)
        v0 = np.zeros((), np.int64)
        if rng.random() < 0.3:
            v0 = self.over(shape, lambda s: self.np.integers(-(typical << 6), (typical << 6) + 1, s))
        return FixedNeuron(
            None if rng.random() < 0.15 else Fixed(vth, 6, 17, False),
            Fixed(np.asarray(du), -12, 12, False),
            Fixed(np.asarray(dv), -12, 12, False),
            reset,
            frozen(v0, np.int64),
            drop,
        )

    def bias(self, shape: tuple[int, ...], reach: int) -> Fixed | None:
        if self.rng.random() < 0.3:
            return None
        exp = self.rng.randint(0, 7)
        most = min(4095, max(1, (reach << 6) >> exp))
        return Fixed(self.over(shape, lambda s: self.np.integers(-most, most + 1, s)), exp, 13, True)

    # --- current input ------------------------------------------------------------------------------

    def hosted(self, shape: tuple[int, ...], reach: int, projections: list[Projection]) -> Population:
        exp = self.rng.randint(0, 7)
        mant = self.over(shape, lambda s: self.np.integers(-500, 501, s))
        neuron = self.neuron(shape, max(1, reach >> 8))
        return Population("layer", shape, neuron, Fixed(mant, exp, 13, True), level=0)

    def host(self, projection: Projection, target: Population) -> Projection:
        return replace(projection, on_host=True, host_shift=self.rng.choice([0, 4, 8, 12]))


def case(seed: int) -> Case:
    """The random case of that number."""
    return _Maker(seed).case()
