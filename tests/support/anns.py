"""Small ANNs that are to be converted, and what they and their conversions compute."""

from __future__ import annotations

import itertools
import math

import numpy as np

from nmc.frontend import opgraph as og
from nmc.frontend.float_engine import run


def chain(*ops: tuple[str, og.Op]) -> og.OpGraph:
    names = [name for name, _ in ops]
    return og.OpGraph(dict(ops), tuple(itertools.pairwise(names)))


def unit(weight: float = 1.0) -> og.OpGraph:
    """One ReLU, read with weight 1."""
    return chain(
        ("in", og.Input((1,))),
        ("first", og.Linear([[weight]])),
        ("relu", og.ReLU()),
        ("last", og.Linear([[1.0]])),
        ("out", og.Output()),
    )


def block(w1: float = 3.0, w2: float = 0.5) -> og.OpGraph:
    """relu0 -> fc1 -> relu1 -> fc2 -(+ relu0)-> relu3 -> last, all of one unit."""
    nodes: dict[str, og.Op] = {
        "in": og.Input((1,)),
        "fc0": og.Linear([[1.0]]),
        "relu0": og.ReLU(),
        "fc1": og.Linear([[w1]], [6.0]),
        "relu1": og.ReLU(),
        "fc2": og.Linear([[w2]], [-1.0]),
        "add": og.Add(),
        "relu3": og.ReLU(),
        "last": og.Linear([[10.0]], [7.0]),
        "out": og.Output(),
    }
    path = ["in", "fc0", "relu0", "fc1", "relu1", "fc2", "add", "relu3", "last", "out"]
    return og.OpGraph(nodes, (*itertools.pairwise(path), ("relu0", "add")))


def residual(seed: int, dyadic: bool = False) -> og.OpGraph:
    """A net with batch norms, an identity and a projection shortcut, a concatenation, a scale and pools."""
    rng = np.random.default_rng(seed)

    def weights(*shape: int) -> np.ndarray:
        if dyadic:
            return rng.integers(-8, 9, shape) / 8
        return rng.normal(0, 1 / math.sqrt(math.prod(shape[1:])), shape)

    def norm(channels: int) -> og.BatchNorm:
        return og.BatchNorm(
            rng.normal(0, 0.2, channels), rng.uniform(0.5, 2, channels), rng.uniform(0.5, 2, channels),
            rng.normal(0, 0.3, channels),
        )  # fmt: skip

    pad = {"padding": (1, 1)}
    nodes: dict[str, og.Op] = {
        "in": og.Input((2, 6, 6)),
        "stem": og.Conv2d(weights(4, 2, 3, 3), None, **pad),
        "stem.norm": norm(4),
        "stem.relu": og.ReLU(),
        "a.conv1": og.Conv2d(weights(4, 2, 3, 3), None, **pad, groups=2),
        "a.norm1": norm(4),
        "a.relu1": og.ReLU(),
        "a.conv2": og.Conv2d(weights(4, 4, 3, 3), None, **pad),
        "a.norm2": norm(4),
        "a.add": og.Add(),
        "a.relu2": og.ReLU(),
        "b.conv": og.Conv2d(weights(3, 4, 3, 3), weights(3), (2, 2), (1, 1)),
        "b.short": og.Conv2d(weights(3, 4, 1, 1), None, (2, 2)),
        "b.relu": og.ReLU(),
        "pool": og.AvgPool((2, 2), (2, 2)),
        "joined": og.Concat(0),
        "scale": og.Scale(np.array([1.0, 0.5, 2.0, 1.0, 4.0, 0.25, 1.0])[:, None, None]),
        "last.relu": og.ReLU(),
        "flat": og.Flatten(),
        "fc": og.Linear(weights(5, 63), weights(5)),
        "out": og.Output(),
    }
    edges = [
        ("in", "stem"), ("stem", "stem.norm"), ("stem.norm", "stem.relu"), ("stem.relu", "a.conv1"),
        ("a.conv1", "a.norm1"), ("a.norm1", "a.relu1"), ("a.relu1", "a.conv2"), ("a.conv2", "a.norm2"),
        ("a.norm2", "a.add"), ("stem.relu", "a.add"), ("a.add", "a.relu2"), ("a.relu2", "b.conv"),
        ("a.relu2", "b.short"), ("b.conv", "b.relu"), ("b.short", "b.relu"), ("a.relu2", "pool"),
        ("b.relu", "joined"), ("pool", "joined"), ("joined", "scale"), ("scale", "last.relu"),
        ("last.relu", "flat"), ("flat", "fc"), ("fc", "out"),
    ]  # fmt: skip
    if dyadic:
        nodes = {name: op for name, op in nodes.items() if not isinstance(op, og.BatchNorm)}
        edges = [(a.replace("norm", "conv"), b) for a, b in edges if "norm" not in b]
        edges = [("stem" if a == "stem.conv" else a, b) for a, b in edges]
    return og.OpGraph(nodes, tuple(edges))


def frames(n: int, seed: int = 0, shape: tuple[int, ...] = (2, 6, 6)) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 1, (n, *shape))


def value(graph: og.OpGraph, x: np.ndarray, steps: int = 1) -> np.ndarray:
    return run(graph, x, steps, record=()).output / steps
