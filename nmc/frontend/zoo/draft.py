"""Layer by layer: op graphs with random but reproducible weights, and what they cost."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from nmc.frontend import opgraph as og
from nmc.frontend.opgraph import OpGraph
from nmc.frontend.shapes import output_shape
from nmc.ir import Shape

GAIN = 2.0
"""Variance of a weight times its fan-in: keeps currents near the threshold at the usual firing rates."""

LEAKY_DRIVE = 2.5
"""``Draft.drive`` for neurons that leak behind their reset."""
SCALED_DRIVE = 5.0
"""The same for neurons that scale their input by 1 / tau and see small maps."""


def if_neuron(reset: og.ResetRule = og.ResetRule.VALUE) -> og.Neuron:
    """v += x, fires at v >= 1."""
    return og.Neuron(og.constant(1.0), reset=reset)


def lif_neuron(tau: float = 2.0) -> og.Neuron:
    """v += (x - v) / tau, fires at v >= 1, reset to 0; PLIF learns tau and starts from 2."""
    return og.Neuron(og.constant(1.0), keep_v=og.constant(1 - 1 / tau), gain=og.constant(1 / tau))


def leak_after_reset(beta: float = 0.5) -> og.Neuron:
    """u = beta u (1 - s) + x, fires at u >= 1: the input is not scaled."""
    return og.Neuron(og.constant(1.0), keep_v=og.constant(beta))


@dataclass
class Draft:
    """A graph in the making. Methods return the name of the node that they added last.

    width: every number of channels is multiplied by it (at least 2 remain).
    drive: what random batch norms multiply currents by, so that spikes reach the end of deep networks.
    """

    shape: Shape
    neuron: og.Neuron
    seed: int = 0
    width: float = 1.0
    drive: float = 1.25
    nodes: dict[str, og.Op] = field(default_factory=dict)
    edges: list[og.Edge] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.add("input", og.Input(self.shape))

    def add(self, name: str, op: og.Op, *sources: str) -> str:
        self.shapes[name] = output_shape(name, op, [(source, self.shapes[source]) for source in sources])
        self.nodes[name] = op
        self.edges += [(source, name) for source in sources]
        return name

    def channels(self, number: int) -> int:
        return max(2, round(number * self.width))

    def conv(
        self,
        name: str,
        x: str,
        channels: int,
        kernel: int | og.Pair,
        stride: int = 1,
        *,
        same: bool = True,
        norm: bool = True,
        bias: bool = False,
        lift: float = 0.0,
    ) -> str:
        """Convolution with "same" padding (or none), batch norm; ``channels`` before scaling by ``width``.

        lift: added to the random biases, of the convolution or of its norm.
        """
        rows, columns = (kernel, kernel) if isinstance(kernel, int) else kernel
        c_in, c_out = self.shapes[x][0], self.channels(channels)
        weight = self._weights(c_out, c_in, rows, columns)
        offset = lift + self.rng.uniform(0, 0.25, c_out) if bias else None
        padding = (rows // 2, columns // 2) if same else (0, 0)
        x = self.add(f"{name}.conv", og.Conv2d(weight, offset, (stride, stride), padding), x)
        return self.norm(f"{name}.bn", x, lift) if norm else x

    def depthwise(
        self, name: str, x: str, kernel: int | og.Pair, stride: int = 1, *, lift: float = 0.0
    ) -> str:
        """One kernel per channel with "same" padding, and batch norm."""
        rows, columns = (kernel, kernel) if isinstance(kernel, int) else kernel
        groups = self.shapes[x][0]
        weight = self._weights(groups, 1, rows, columns)
        op = og.Conv2d(weight, None, (stride, stride), (rows // 2, columns // 2), groups=groups)
        return self.norm(f"{name}.bn", self.add(f"{name}.conv", op, x), lift)

    def norm(self, name: str, x: str, lift: float = 0.0) -> str:
        size = self.shapes[x][0]
        gamma = self.drive * self.rng.uniform(0.75, 1.25, size)
        beta = lift + self.drive * self.rng.uniform(0, 0.25, size)
        return self.add(name, og.BatchNorm(np.zeros(size), np.ones(size), gamma, beta), x)

    def fire(self, name: str, *sources: str) -> str:
        return self.add(name, self.neuron, *sources)

    def conv_fire(self, name: str, x: str, channels: int, kernel: int, stride: int = 1) -> str:
        return self.fire(f"{name}.sn", self.conv(name, x, channels, kernel, stride))

    def linear(self, name: str, x: str, outputs: int, *, bias: bool = True) -> str:
        if len(self.shapes[x]) > 1:
            x = self.add(f"{name}.flatten", og.Flatten(), x)
        weight = self._weights(outputs, self.shapes[x][0])
        return self.add(name, og.Linear(weight, np.zeros(outputs) if bias else None), x)

    def max_pool(self, name: str, x: str, kernel: int, stride: int, padding: int = 0) -> str:
        return self.add(name, og.MaxPool((kernel, kernel), (stride, stride), (padding, padding)), x)

    def average(self, name: str, x: str) -> str:
        """Mean over the whole map."""
        size = (self.shapes[x][1], self.shapes[x][2])
        return self.add(name, og.AvgPool(size, size), x)

    def spread(self, name: str, x: str, like: str) -> str:
        """A map of one pixel on all pixels of ``like``'s: a depthwise kernel of ones as large as that map, of
        which padding leaves each pixel one tap. A map of that size already is left as it is."""
        (channels, *source), (rows, columns) = self.shapes[x], self.shapes[like][1:]
        if source == [rows, columns]:
            return x
        ones = np.ones((channels, 1, rows, columns))
        return self.add(name, og.Conv2d(ones, None, (1, 1), (rows - 1, columns - 1), groups=channels), x)

    def _weights(self, *shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        return self.rng.normal(0, math.sqrt(GAIN / math.prod(shape[1:])), shape)

    def finish(self, name: str, x: str, steps: int) -> OpGraph:
        """The result is the mean over time."""
        self.add("output", og.Output(), self.add("mean", og.TimeMean(), x))
        return OpGraph(self.nodes, tuple(self.edges), name, steps)


def parameters(graph: OpGraph) -> int:
    """Learned numbers: weights, biases, gamma and beta of batch norms. A norm with eps 0 and a kernel of ones
    are constants."""
    total = 0
    for op in graph.nodes.values():
        if isinstance(op, og.Conv2d | og.Linear) and _learned(op):
            total += op.weight.size + (0 if op.bias is None else op.bias.size)
        elif isinstance(op, og.BatchNorm) and op.eps:
            total += 2 * op.gamma.size
    return total


def operations(graph: OpGraph) -> int:
    """Multiplications of convolutions and linear layers in one step, padding included."""
    return sum(operations_by_layer(graph).values())


def operations_by_layer(graph: OpGraph) -> dict[str, int]:
    """``operations`` of each convolution and linear layer."""
    found = {}
    for name, op in graph.nodes.items():
        if isinstance(op, og.Conv2d) and _learned(op):
            found[name] = math.prod(graph.shapes[name]) * math.prod(op.weight.shape[1:])
        elif isinstance(op, og.Linear):
            found[name] = op.weight.size
    return found


def normalized(graph: OpGraph) -> int:
    """Values that batch norms compute in one step."""
    return sum(math.prod(graph.shapes[name]) for name in graph.named(og.BatchNorm))


def _learned(op: og.Conv2d | og.Linear) -> bool:
    return bool((op.weight != 1).any())
