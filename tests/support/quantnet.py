"""A small float network of a convolution and a dense layer, for tests of quantization."""

from __future__ import annotations

import numpy as np

from nmc.ir import (
    Conv2d,
    Dense,
    Encoding,
    FloatNeuron,
    InputNeuron,
    Network,
    Population,
    Projection,
    Reset,
    Stage,
    frozen,
)

STEPS = 8


def network(
    *,
    bias: float | None = 0.11,
    threshold: float | None = 1.0,
    keep_v: float = 1.0,
    keep_u: float = 0.0,
    reset: Reset = Reset.ZERO,
    spread: float = 1.0,
    encoding: Encoding = Encoding.GRADED,
    seed: int = 0,
) -> Network:
    """Frames or trains (2, 5, 5) -> conv1 -> fc; float numbers on no grid.

    threshold, keep_u and reset are those of fc, whose threshold None makes it a readout; keep_v of both.
    spread: how much larger conv1's last channel (weights, bias, threshold) is than its first.
    """
    rng = np.random.default_rng(seed)
    factor = np.geomspace(1, spread, 4)[:, None, None]
    conv = rng.normal(0, 0.2, (4, 2, 3, 3)) * factor[..., None]
    dense = rng.normal(0, 0.15, (3, 100))
    out = FloatNeuron(
        None if threshold is None else frozen(threshold, np.float64), keep_v, keep_u, reset=reset
    )
    offset = None if bias is None else frozen(np.full((4, 1, 1), bias) * factor, np.float64)
    hidden = FloatNeuron(frozen(factor if spread != 1 else 1.0, np.float64), keep_v)
    populations = (
        Population("in", (2, 5, 5), InputNeuron(encoding), origin=("input",)),
        Population("a", (4, 5, 5), hidden, offset, origin=("conv1",)),
        Population("b", (3,), out, origin=("fc",)),
    )
    projections = (
        Projection("in-a", "in", "a", Conv2d(padding=(1, 1)), frozen(conv, np.float64)),
        Projection("a-b", "a", "b", Dense(), frozen(dense, np.float64)),
    )
    readout = "count" if threshold is not None else "potential"
    return Network("small", Stage.FLOAT, populations, projections, ("b",), STEPS, readout)


def images(count: int = 20, seed: int = 0) -> np.ndarray:
    """Frames in sixteenths."""
    return np.random.default_rng(seed).integers(0, 17, (count, 2, 5, 5)) / 16


def trains(count: int = 20, seed: int = 0) -> np.ndarray:
    """Random binary trains."""
    return (np.random.default_rng(seed).random((count, STEPS, 2, 5, 5)) < 0.3).astype(np.float64)
