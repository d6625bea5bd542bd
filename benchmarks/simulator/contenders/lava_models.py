"""Lava's own fixed-point process models, called one after the other in one process, without its runtime."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from contenders import nmc_native

from nmc.backends.engines import engine

NAME = "Lava fixed_pt, models in process"
CLOCK = "cpu"


class Contender:
    def __init__(self, problem: dict[str, npt.NDArray[np.int32]]) -> None:
        self.network = nmc_native.network(problem)
        self.x = problem["x"][None].astype(np.int64)
        self.engine = engine("lava-inprocess")

    def run(self) -> None:
        self.engine.run(self.network, self.x, self.x.shape[1])

    def spikes(self) -> dict[str, npt.NDArray[np.int32]]:
        names = list(nmc_native.SHAPES)
        trace = self.engine.run(self.network, self.x, self.x.shape[1], record=names)
        return {name: trace.spikes[name][0] for name in names}
