"""Small QUANTIZED networks for mapping tests: shapes and operators matter, weights and neurons do not."""

from __future__ import annotations

import numpy as np

from nmc import synapse
from nmc.ir import (
    Conv2d,
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
    Synapse,
)

LIF = FixedNeuron(
    Fixed(np.array(10), 6, 17, False),
    Fixed(np.array(4095), -12, 12, False),
    Fixed(np.array(0), -12, 12, False),
)


def weight(*shape: int, bits: int = 8) -> Fixed:
    return Fixed(np.ones(shape, np.int64), 1, bits, True)


class Chain:
    """Adds layers; every method returns the new population's name."""

    def __init__(self, *shape: int, encoding: Encoding = Encoding.SPIKES) -> None:
        self.populations = [Population("in", shape, InputNeuron(encoding), level=0, origin=("image",))]
        self.projections: list[Projection] = []

    def _get(self, name: str) -> Population:
        return next(one for one in self.populations if one.name == name)

    def add(self, source: str, op: Synapse, weights: Fixed, *, neuron=LIF, on_host: bool = False) -> str:
        start = self._get(source)
        shape = synapse.output_shape(op, weights.mant.shape, start.shape, source)
        name = f"p{len(self.populations)}"
        level = start.time + (0 if on_host else 1)
        payload = start.max_payload if isinstance(neuron, GradedRelay) else 1
        one = Population(name, shape, neuron, level=level, max_payload=payload, origin=(f"layer.{name}",))
        self.populations.append(one)
        self.project(source, name, op, weights, on_host=on_host)
        return name

    def project(
        self, source: str, target: str, op: Synapse, weights: Fixed, *, on_host: bool = False
    ) -> None:
        """A further projection; its delay follows from the levels."""
        delay = 0 if on_host else self._get(target).time - self._get(source).time - 1
        name = f"s{len(self.projections)}"
        self.projections.append(Projection(name, source, target, op, weights, delay, on_host))

    def conv(
        self, source: str, channels: int, kernel: int = 3, stride: int = 1, groups: int = 1, **more
    ) -> str:
        c_in = self._get(source).shape[0] // groups
        op = Conv2d((stride, stride), (kernel // 2, kernel // 2), groups=groups)
        return self.add(source, op, weight(channels, c_in, kernel, kernel), **more)

    def relay(self, a: str, b: str) -> str:
        """a + b, ``a`` being the later one."""
        name = self.add(a, Identity(), weight(), neuron=GradedRelay())
        self.project(b, name, Identity(), weight())
        return name

    def network(self) -> Network:
        last = self.populations[-1].name
        return Network("net", Stage.QUANTIZED, tuple(self.populations), tuple(self.projections), (last,), 4)
