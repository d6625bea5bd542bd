"""Random residual op graphs whose every number is dyadic, so that float results are exact; NIR files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import nir
import numpy as np
import pytest

from nmc.frontend import opgraph as og
from nmc.ir import Compare


def dyadic(rng: np.random.Generator, shape: tuple[int, ...], bound: int = 16) -> np.ndarray:
    return rng.integers(-bound, bound + 1, shape) / 16


@dataclass
class Builder:
    """Adds random ops one by one; a value is the list of nodes whose outputs add up."""

    rng: np.random.Generator
    shape: tuple[int, int, int]
    nodes: dict[str, og.Op] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)

    def add(self, op: og.Op, sources: list[str], name: str | None = None) -> list[str]:
        name = name or f"{type(op).__name__.lower()}{len(self.nodes)}"
        self.nodes[name] = op
        self.edges += [(source, name) for source in sources]
        return [name]

    def coin(self, chance: float = 0.5) -> bool:
        return bool(self.rng.random() < chance)

    def pick(self, *choices: object) -> object:
        return choices[self.rng.integers(len(choices))]

    def conv(self, sources: list[str], c_in: int, c_out: int, kernel: int, stride: int) -> list[str]:
        weight = dyadic(self.rng, (c_out, c_in, kernel, kernel))
        bias = dyadic(self.rng, (c_out,)) if self.coin() else None
        return self.add(og.Conv2d(weight, bias, (stride, stride), (kernel // 2, kernel // 2)), sources)

    def neuron(self, sources: list[str], channels: int | None = None) -> list[str]:
        per_channel = channels is not None and self.coin(0.3)
        threshold = (
            self.rng.integers(4, 24, (channels, 1, 1)) / 8 if per_channel else self.pick(0.5, 1.0, 1.75)
        )
        subtract = self.coin(0.3)
        keep = self.pick(1.0, 1.0, 0.5, 0.75)
        return self.add(
            og.Neuron(
                threshold,
                keep_v=keep,
                gain=self.pick(1.0, 0.5, 2.0),
                v_leak=self.pick(0.0, 0.25),
                v_reset=0.0 if subtract else self.pick(0.0, 0.0, -0.5, 0.25),
                v0=self.pick(0.0, 0.25),
                reset=og.ResetRule.SUBTRACT if subtract else og.ResetRule.VALUE,
                compare=self.pick(Compare.GREATER, Compare.GREATER_EQUAL),
            ),
            sources,
        )

    def join(self, *values: list[str]) -> list[str]:
        together = [name for value in values for name in value]
        return self.add(og.Add(), together) if self.coin() else together

    def block(self, s: list[str], c_in: int, c_out: int, stride: int) -> list[str]:
        """A residual block: SEW ADD or vanilla, with or without a layer in its shortcut."""
        hidden = self.neuron(self.conv(s, c_in, c_out, 3, stride), c_out)
        branch = self.conv(hidden, c_out, c_out, int(self.pick(1, 3)), 1)
        changes = stride != 1 or c_in != c_out
        if self.coin(0.6):
            shortcut = self.neuron(self.conv(s, c_in, c_out, 1, stride), c_out) if changes else s
            return self.join(self.neuron(branch, c_out), shortcut)
        shortcut = self.conv(s, c_in, c_out, 1, stride) if changes else s
        return self.neuron(self.join(branch, shortcut), c_out)

    def pool(self, s: list[str], height: int, width: int) -> tuple[list[str], int, int]:
        kernel, stride, padding = self.pick((2, 2, 0), (1, 1, 0), (3, 2, 1), (2, 2, 1), (3, 3, 0))
        kind = og.SumPool if kernel == 3 else self.pick(og.AvgPool, og.SumPool)  # 1 / 9 is not dyadic
        if min(height, width) < kernel:
            return s, height, width
        sizes = [(size + 2 * padding - kernel) // stride + 1 for size in (height, width)]
        # A window that the next convolution's padding would cut in two is refused (test_compose).
        if any(out * stride - padding < size for out, size in zip(sizes, (height, width), strict=True)):
            return s, height, width
        pooled = self.add(kind((kernel, kernel), (stride, stride), (padding, padding)), s)
        return pooled, sizes[0], sizes[1]

    def graph(self) -> og.OpGraph:
        c, height, width = self.shape
        s = self.add(og.Input(self.shape), [], "input")
        c_now = int(self.rng.integers(1, 5))
        s = self.neuron(self.conv(s, c, c_now, 3, 1), c_now)
        for _ in range(self.rng.integers(1, 5)):
            stride = int(self.pick(1, 1, 2))
            c_out = c_now if self.coin(0.6) else int(self.rng.integers(1, 5))
            s = self.block(s, c_now, c_out, stride)
            c_now, height, width = c_out, (height - 1) // stride + 1, (width - 1) // stride + 1
            if self.coin(0.25):
                s = self.join(s, s)
            if self.coin(0.3):
                s, height, width = self.pool(s, height, width)
            if self.coin(0.2):
                s = self.add(og.Scale(self.rng.integers(1, 4, (c_now, 1, 1)) / 2), s)
        if self.coin(0.3) and min(height, width) >= 2:
            s = self.add(og.AvgPool((2, 2), (1, 1)), s)
            height, width = height - 1, width - 1
        s = self.add(og.Flatten(), s)
        size = c_now * height * width
        s = self.add(
            og.Linear(dyadic(self.rng, (3, size)), dyadic(self.rng, (3,)) if self.coin() else None), s
        )
        ending = self.rng.integers(3)
        if ending == 0:
            s = self.neuron(s)
        elif ending == 1:
            s = self.add(og.Neuron(None, keep_v=0.5, gain=0.5, v_leak=0.25, v0=0.5), s)
        self.add(og.Output(), s, "output")
        return og.OpGraph(self.nodes, tuple(self.edges))


@pytest.fixture
def random_graph() -> Callable[[np.random.Generator], og.OpGraph]:
    def make(rng: np.random.Generator) -> og.OpGraph:
        shape = (int(rng.integers(1, 4)), int(rng.integers(3, 8)), int(rng.integers(3, 8)))
        return Builder(rng, shape).graph()

    return make


# --- NIR files --------------------------------------------------------------------------------------


@pytest.fixture
def write_nir(tmp_path: Path) -> Callable[..., Path]:
    """Write nodes in a row (or with edges) as a NIR file with the nir package; returns its path."""

    def write(
        nodes: dict[str, nir.NIRNode],
        edges: list[tuple[str, str]] | None = None,
        metadata: dict[str, object] | None = None,
    ) -> Path:
        graph = nir.NIRGraph(nodes, edges or list(pairwise(nodes)), metadata=metadata or {}, type_check=False)
        path = tmp_path / "model.nir"
        nir.write(path, graph)
        return path

    return write


@pytest.fixture
def one_neuron(write_nir: Callable[..., Path]) -> Callable[..., Path]:
    """A file with one NIR node of three neurons between input and output."""

    def write(node: nir.NIRNode, metadata: dict[str, object] | None = None) -> Path:
        ends = {"input": nir.Input({"input": np.array([3])}), "output": nir.Output({"output": np.array([3])})}
        return write_nir({"input": ends["input"], "n": node, "output": ends["output"]}, metadata=metadata)

    return write
