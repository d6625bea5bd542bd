"""Models of a few neurons: a chain whose soft resets Loihi loops, and a builder's file with one layer."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from nmc.frontend import opgraph as og

LINEAR_FILE = """
import torch

class Net(torch.nn.Module):
    input_shape = (3,)
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(3, 2)
    def forward(self, x):
        return self.fc(x)

def build():
    return Net()
"""
"""Three inputs, two outputs; ``build`` makes the module."""


def soft_resets(steps: int) -> og.OpGraph:
    """Four inputs, then six and three integrate-and-fire neurons, ``n1`` and ``n2``, that subtract."""
    rng = np.random.default_rng(0)
    nodes = {
        "input": og.Input((4,)),
        "fc1": og.Linear(rng.normal(size=(6, 4)), rng.normal(size=6)),
        "n1": og.Neuron(1.0, reset=og.ResetRule.SUBTRACT),
        "fc2": og.Linear(rng.normal(size=(3, 6)), None),
        "n2": og.Neuron(1.0, reset=og.ResetRule.SUBTRACT),
        "output": og.Output(),
    }
    return og.OpGraph(nodes, tuple(pairwise(nodes)), steps=steps)
