"""snnTorch, fp32, its loop over the steps, one thread."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import snntorch
import torch
from torch.nn.functional import conv2d

NAME = "snnTorch fp32"
CLOCK = "cpu"


class Contender:
    def __init__(self, problem: dict[str, npt.NDArray[np.int32]]) -> None:
        torch.set_num_threads(1)
        torch.set_grad_enabled(False)
        arrays = {name: torch.from_numpy(array).float() for name, array in problem.items()}
        self.x, self.weights = (
            arrays["x"].unsqueeze(1),
            [arrays[name] for name in ("conv1", "conv2", "dense")],
        )
        # snnTorch fires at v > threshold, as nmc does; it resets one step later unless it is told not to.
        self.cells = [
            snntorch.Leaky(beta=1.0, threshold=float(t), reset_mechanism="zero", reset_delay=False)
            for t in problem["thresholds"]
        ]
        self.last: list[tuple[torch.Tensor, ...]] = []

    def run(self) -> None:
        first, second, third = self.weights
        potentials = [cell.reset_mem() for cell in self.cells]
        self.last = []
        for x in self.x:
            conv1, potentials[0] = self.cells[0](conv2d(x, first, padding=1), potentials[0])
            conv2, potentials[1] = self.cells[1](conv2d(conv1, second, stride=2, padding=1), potentials[1])
            dense, potentials[2] = self.cells[2](conv2.flatten(1) @ third.T, potentials[2])
            self.last.append((conv1, conv2, dense))

    def spikes(self) -> dict[str, npt.NDArray[np.int32]]:
        self.run()
        layers = zip(("conv1", "conv2", "dense"), zip(*self.last, strict=True), strict=True)
        return {name: torch.cat(steps).int().numpy() for name, steps in layers}
