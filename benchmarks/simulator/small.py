"""A small network, for simulators that a ResNet takes too long: two convolutions, a dense layer, IF neurons.

32 x 32 x 2 spikes (10 % are 1) -> 3 x 3, 16 channels -> 3 x 3, stride 2, 32 channels -> 10 neurons; 64 steps.
Neurons fire at v > threshold and are then set to 0. Weights and thresholds are integers. Only NumPy is needed
here, because contenders in environments of their own read the same file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

Problem = dict[str, npt.NDArray[np.int32]]

STEPS = 64
SEED = 7
LAYERS = ("conv1", "conv2", "dense")


def problem() -> Problem:
    """x (T, 2, 32, 32), thresholds (3,) and the weights: conv1 and conv2 as in torch, dense (10, 8192)."""
    rng = np.random.default_rng(SEED)

    def weights(mean: float, spread: float, *shape: int) -> npt.NDArray[np.int32]:
        """Even: the grid of mixed-sign weights of 8 bits on Loihi, and so in Lava."""
        return 2 * np.clip(np.rint(rng.normal(mean, spread, shape)), -64, 63).astype(np.int32)

    return {
        "x": (rng.random((STEPS, 2, 32, 32)) < 0.1).astype(np.int32),
        "conv1": weights(3, 12, 16, 2, 3, 3),
        "conv2": weights(1, 12, 32, 16, 3, 3),
        "dense": weights(0.25, 10, 10, 32 * 16 * 16),
        "thresholds": np.array([60, 150, 400], np.int32),
    }


def read(path: Path) -> Problem:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}
