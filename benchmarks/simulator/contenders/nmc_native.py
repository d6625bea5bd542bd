"""nmc's native engine, one thread."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nmc import timing
from nmc.backends.sim.native import NativeEngine
from nmc.ir import (
    Conv2d,
    Dense,
    Encoding,
    Fixed,
    FixedNeuron,
    InputNeuron,
    Network,
    Population,
    Projection,
    Stage,
    Synapse,
)

NAME = "nmc native"
CLOCK = "cpu"

SHAPES = {"conv1": (16, 32, 32), "conv2": (32, 16, 16), "dense": (10,)}
SYNAPSES: dict[str, Synapse] = {
    "conv1": Conv2d((1, 1), (1, 1)),
    "conv2": Conv2d((2, 2), (1, 1)),
    "dense": Dense(),
}


def network(problem: dict[str, npt.NDArray[np.int32]]) -> Network:
    """The small network at stage QUANTIZED."""
    populations = [Population("input", (2, 32, 32), InputNeuron(Encoding.SPIKES), level=0)]
    projections = []
    source = "input"
    for name, threshold in zip(SHAPES, problem["thresholds"], strict=True):
        neuron = FixedNeuron(
            Fixed(threshold, 6, 17, False),
            Fixed(np.array(4095), -12, 12, False),
            Fixed(np.array(0), -12, 12, False),
        )
        populations.append(Population(name, SHAPES[name], neuron, origin=(name,)))
        weight = Fixed(problem[name], 0, 8, True)
        projections.append(Projection(f"{source}->{name}", source, name, SYNAPSES[name], weight))
        source = name
    drawn = Network(
        "small",
        Stage.FLOAT,
        tuple(populations),
        tuple(projections),
        (source,),
        len(problem["x"]),
        readout="count",
    )
    return timing.balance(drawn, 62).with_(stage=Stage.QUANTIZED)


class Contender:
    def __init__(self, problem: dict[str, npt.NDArray[np.int32]]) -> None:
        self.network = network(problem)
        self.x = problem["x"][None].astype(np.int64)
        self.engine = NativeEngine(1)

    def run(self) -> None:
        self.engine.run(self.network, self.x, self.x.shape[1])

    def spikes(self) -> dict[str, npt.NDArray[np.int32]]:
        trace = self.engine.run(self.network, self.x, self.x.shape[1], record=list(SHAPES))
        return {name: trace.spikes[name][0] for name in SHAPES}
