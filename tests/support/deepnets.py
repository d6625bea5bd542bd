"""Deep and wide pieces of published networks at tiny width, compiled to stage QUANTIZED for Lava.

    python tests/support/deepnets.py               all of them against Lava's models in process; takes minutes
    python tests/support/deepnets.py lava Incep    those whose names start so, through Lava's runtime

What takes longer than a few seconds there runs smaller in the tests.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial

import numpy as np

from nmc.backends.compare import compare
from nmc.backends.engines import engine
from nmc.chip import load_chip
from nmc.frontend import opgraph as og
from nmc.frontend import zoo
from nmc.frontend.lower import Joins, lower
from nmc.ir import Encoding, IntArray, Network
from nmc.passes import pipeline, run_passes


class Graph:
    """An op graph under construction; every method returns the new node's name."""

    def __init__(self, *shape: int, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: dict[str, og.Op] = {"input": og.Input(shape)}
        self.edges: list[tuple[str, str]] = []
        self.channels = {"input": shape[0]}

    def add(self, op: og.Op, *sources: str, channels: int | None = None) -> str:
        name = f"{type(op).__name__.lower()}{len(self.nodes)}"
        self.nodes[name] = op
        self.edges += [(source, name) for source in sources]
        self.channels[name] = self.channels[sources[0]] if channels is None else channels
        return name

    def conv(self, source: str, channels: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> str:
        """Weights with a mean above zero, so that activity does not die out in deep chains."""
        fan_in = self.channels[source] // groups
        weight = self.rng.normal(0.45, 0.5, (channels, fan_in, kernel, kernel)) / np.sqrt(fan_in * kernel)
        padding = (kernel // 2, kernel // 2)
        op = og.Conv2d(weight, None, (stride, stride), padding, (1, 1), groups)
        return self.add(op, source, channels=channels)

    def spikes(self, source: str, threshold: float = 0.5) -> str:
        return self.add(og.Neuron(np.asarray(threshold)), source)

    def layer(self, source: str, channels: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> str:
        return self.spikes(self.conv(source, channels, kernel, stride, groups))

    def sum(self, *sources: str) -> str:
        return self.add(og.Add(), *sources)

    def finished(self, last: str, size: int) -> og.OpGraph:
        flat = self.add(og.Flatten(), last, channels=size)
        weight = self.rng.normal(0.1, 0.5, (3, size)) / np.sqrt(size) * 2
        out = self.spikes(self.add(og.Linear(weight), flat, channels=3))
        self.add(og.Output(), out)
        return og.OpGraph(self.nodes, tuple(self.edges))


def sew_chain(kind: str, blocks: int = 6, size: int = 4) -> og.OpGraph:
    """Identity blocks of two convolutions joined by ADD, AND or IAND."""
    net = Graph(1, size, size, seed=len(kind))
    x = net.layer("input", 2)
    for _ in range(blocks):
        # What fires too often inhibits everything behind an IAND.
        body = net.spikes(net.conv(net.layer(x, 2), 2), 3.0 if kind == "IAND" else 0.5)
        if kind == "ADD":
            x = net.sum(body, x)
        elif kind == "AND":
            x = net.add(og.Mul(), body, x)
        else:
            one_minus = og.BatchNorm(np.zeros(2), np.ones(2), np.full(2, -1.0), np.ones(2), 0.0)
            x = net.add(og.Mul(), x, net.add(one_minus, body))
    return net.finished(x, 2 * size * size)


def ms_chain(blocks: int = 6, size: int = 4) -> og.OpGraph:
    """The stream carries currents; every block is neuron, convolution, neuron, convolution."""
    net = Graph(1, size, size, seed=11)
    x = net.conv("input", 2)
    for _ in range(blocks):
        x = net.sum(x, net.conv(net.layer(net.spikes(x), 2), 2))
    return net.finished(net.spikes(x), 2 * size * size)


def bottleneck_stage(blocks: int = 23, size: int = 2) -> og.OpGraph:
    """ResNet-101's third stage: 1x1, 3x3, 1x1 and ADD, far deeper than a synapse can delay."""
    net = Graph(1, size, size, seed=2)
    x = net.layer("input", 2)
    for _ in range(blocks):
        body = net.layer(net.layer(net.layer(x, 1, 1), 1, 3), 2, 1)
        x = net.sum(body, x)
    return net.finished(x, 2 * size * size)


def ghost_bottleneck(channels: int = 160, size: int = 3) -> og.OpGraph:
    """Two Ghost modules around a depthwise stride; half of each module's maps are depthwise of the others."""
    net = Graph(4, size, size, seed=3)

    def ghost(source: str, out: int) -> str:
        primary = net.layer(source, out // 2, 1)
        cheap = net.layer(primary, out // 2, 3, 1, groups=out // 2)
        return net.add(og.Concat(), primary, cheap, channels=out)

    wide = ghost("input", channels)
    down = net.layer(wide, channels, 3, 2, groups=channels)
    narrow = ghost(down, 8)
    shortcut = net.conv(net.layer("input", 4, 3, 2, groups=4), 8, 1)
    joined = net.sum(net.conv(narrow, 8, 1), shortcut)
    small = (size + 1) // 2
    return net.finished(net.spikes(joined), 8 * small * small)


def inception_block(size: int = 4) -> og.OpGraph:
    """Branches of depth one, two, three and a pool, concatenated."""
    net = Graph(2, size, size, seed=4)
    x = net.layer("input", 3)
    one = net.layer(x, 2, 1)
    two = net.layer(net.layer(x, 2, 1), 2)
    three = net.layer(net.layer(net.layer(x, 2, 1), 2), 2)
    pool = net.layer(net.add(og.MaxPool((3, 3), (1, 1), (1, 1)), x), 2, 1)
    joined = net.add(og.Concat(), one, two, three, pool, channels=8)
    return net.finished(net.layer(joined, 4), 4 * size * size)


def compiled(
    graph: og.OpGraph, steps: int, joins: Joins, max_delay: int = 62, samples: int = 2
) -> tuple[Network, IntArray]:
    """Through the real passes, for a chip that takes everything; and trains of random spikes for it."""
    shape = graph.input_shapes[0]
    x = (np.random.default_rng(9).random((samples, steps, *shape)) < 0.6).astype(np.int64)
    network = lower(graph, steps, joins, Encoding.SPIKES)
    passes = pipeline(replace(load_chip("lava-cpu"), max_delay=max_delay), x.astype(np.float64))
    return run_passes(network, passes, stop_after="prove-ranges"), x


NETWORKS: dict[str, tuple[partial[og.OpGraph], Joins]] = {
    "SEW ADD, 6 blocks, relay": (partial(sew_chain, "ADD"), "relay"),
    "SEW ADD, 6 blocks, distribute": (partial(sew_chain, "ADD"), "distribute"),
    "SEW AND, 6 blocks": (partial(sew_chain, "AND"), "relay"),
    "SEW IAND, 6 blocks": (partial(sew_chain, "IAND"), "relay"),
    "MS, 6 blocks": (partial(ms_chain), "distribute"),
    "23 bottlenecks, relay": (partial(bottleneck_stage), "relay"),
    "23 bottlenecks, distribute": (partial(bottleneck_stage), "distribute"),
    "GhostNet bottleneck, 160 depthwise channels": (partial(ghost_bottleneck), "distribute"),
    "Inception block": (partial(inception_block), "distribute"),
    "7B-Net, 32x32": (partial(zoo.NETWORKS["7b-net"].build, size=32), "relay"),
    "7B-Net, 32x32, distribute": (partial(zoo.NETWORKS["7b-net"].build, size=32), "distribute"),
    "7B-Net AND, 32x32": (partial(zoo.NETWORKS["7b-net-and"].build, size=32), "relay"),
    "7B-Net IAND, 32x32": (partial(zoo.NETWORKS["7b-net-iand"].build, size=32), "relay"),
}
SLOW = ("23", "7B")
"""Starts of names that only the command runs."""


def main(against: str = "lava-inprocess", start: str = "", steps: int = 4) -> int:
    failed = 0
    for name, (make, joins) in NETWORKS.items():
        if not name.startswith(start):
            continue
        network, x = compiled(make(), steps, joins)
        result = compare(network, x, steps, engine("reference"), engine(against))
        failed += not result.passed
        populations = len(network.compute)
        verdict = "equal" if result.passed else str(result.first)
        delay = max(projection.delay for projection in network.projections)
        line = f"{populations} populations, depth {network.depth}, longest delay {delay}"
        print(f"{name}: {line}, {result.compared:,} spikes, u and v: {verdict}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
