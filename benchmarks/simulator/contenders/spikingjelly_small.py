"""SpikingJelly, fp32, multi-step mode, one thread."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from spikingjelly.activation_based import neuron
from torch.nn.functional import conv2d

NAME = "SpikingJelly fp32"
CLOCK = "cpu"


class Contender:
    def __init__(self, problem: dict[str, npt.NDArray[np.int32]]) -> None:
        torch.set_num_threads(1)
        torch.set_grad_enabled(False)
        arrays = {name: torch.from_numpy(array).float() for name, array in problem.items()}
        self.x, self.weights = arrays["x"], [arrays[name] for name in ("conv1", "conv2", "dense")]
        # v >= threshold on integers where nmc has v > threshold - 1.
        self.neurons = [
            neuron.IFNode(v_threshold=float(t) + 1, v_reset=0.0, step_mode="m").eval()
            for t in problem["thresholds"]
        ]
        self.last: tuple[torch.Tensor, ...] = ()

    def run(self) -> None:
        for cell in self.neurons:
            cell.reset()
        first, second, third = self.weights
        conv1 = self.neurons[0](conv2d(self.x, first, padding=1).unsqueeze(1))
        conv2 = self.neurons[1](conv2d(conv1.squeeze(1), second, stride=2, padding=1).unsqueeze(1))
        self.last = conv1, conv2, self.neurons[2]((conv2.flatten(1) @ third.T).unsqueeze(1))

    def spikes(self) -> dict[str, npt.NDArray[np.int32]]:
        self.run()
        found = zip(("conv1", "conv2", "dense"), self.last, strict=True)
        return {name: array.squeeze(1).int().numpy() for name, array in found}
