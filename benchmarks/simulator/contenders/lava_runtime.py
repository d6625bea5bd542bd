"""Lava's runtime with its fixed-point CPU models (Loihi2SimCfg), as its users run it: several processes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.conv.process import Conv
from lava.proc.dense.process import Dense
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source
from lava.proc.lif.process import LIF

NAME = "Lava fixed_pt, runtime"
CLOCK = "wall"

SYNAPSES = 3


def _lif(shape: tuple[int, ...], threshold: np.int32) -> LIF:
    """du = 4095: no synaptic filter. One weight unit is 64 of v, and Lava shifts vth by as much."""
    return LIF(shape=shape, du=4095, dv=0, vth=int(threshold))


def _conv(weight: npt.NDArray[np.int32], shape: tuple[int, ...], stride: int) -> Conv:
    """Lava convolves (the kernel is mirrored against torch's) and keeps channels last."""
    mirrored = weight[:, :, ::-1, ::-1].transpose(0, 2, 3, 1)
    return Conv(weight=np.ascontiguousarray(mirrored), input_shape=shape, padding=1, stride=stride)


class Contender:
    """Every synapse takes one step: a layer's spikes come one step after those of the layer before."""

    def __init__(self, problem: dict[str, npt.NDArray[np.int32]]) -> None:
        self.steps = len(problem["x"])
        # Silent steps at the end let the last spikes through.
        data = np.zeros((32, 32, 2, self.steps + SYNAPSES), np.int32)
        data[..., : self.steps] = problem["x"].transpose(2, 3, 1, 0)
        first, second, third = problem["thresholds"]
        self.source = Source(data=data)
        conv1 = _conv(problem["conv1"], (32, 32, 2), 1)
        lif1 = _lif(conv1.output_shape, first)
        conv2 = _conv(problem["conv2"], conv1.output_shape, 2)
        lif2 = _lif(conv2.output_shape, second)
        # The source is flattened with channels last.
        weights = problem["dense"].reshape(10, 32, 16, 16).transpose(0, 2, 3, 1).reshape(10, -1)
        dense = Dense(weights=weights)
        self.last = lif3 = _lif((10,), third)
        self.sinks = {
            name: Sink(shape=lif.proc_params["shape"], buffer=data.shape[-1])
            for name, lif in (("conv1", lif1), ("conv2", lif2), ("dense", lif3))
        }
        self.source.s_out.connect(conv1.s_in)
        conv1.a_out.connect(lif1.a_in)
        lif1.s_out.connect(conv2.s_in)
        conv2.a_out.connect(lif2.a_in)
        lif2.s_out.reshape((8192,)).connect(dense.s_in)
        dense.a_out.connect(lif3.a_in)
        for lif, sink in zip((lif1, lif2, lif3), self.sinks.values(), strict=True):
            lif.s_out.connect(sink.a_in)
        self.found: dict[str, npt.NDArray[np.int32]] = {}
        self._go(self.steps + SYNAPSES)
        for shift, (name, sink) in enumerate(self.sinks.items(), 1):
            self.found[name] = sink.data.get().astype(np.int32)[..., shift : shift + self.steps]

    def _go(self, steps: int) -> None:
        self.last.run(condition=RunSteps(num_steps=steps), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))

    def run(self) -> None:
        """As many further steps; the source starts again, potentials go on from where they were."""
        self._go(self.steps)

    def spikes(self) -> dict[str, npt.NDArray[np.int32]]:
        """Of the first run."""
        return {
            name: np.moveaxis(array, (-1, -2), (0, 1)) if array.ndim == 4 else array.T
            for name, array in self.found.items()
        }

    def close(self) -> None:
        self.last.stop()
