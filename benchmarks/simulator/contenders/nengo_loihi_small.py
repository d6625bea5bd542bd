"""nengo-loihi's emulator on less than the small network.

It has no padding and its blocks take few inputs, so the input is padded by hand, the second convolution gives
15 x 15 and the dense layer is left out. Its neurons differ, so that spikes are not compared.
"""

from __future__ import annotations

import nengo
import nengo_loihi
import numpy as np
import numpy.typing as npt

NAME = "nengo-loihi emulator (less work)"
CLOCK = "cpu"


def _kernels(weight: npt.NDArray[np.int32], threshold: np.int32) -> npt.NDArray[np.float64]:
    return weight.transpose(2, 3, 1, 0) / float(threshold)


class Contender:
    def __init__(self, problem: dict[str, npt.NDArray[np.int32]]) -> None:
        self.steps = len(problem["x"])
        padded = np.pad(problem["x"], ((0, 0), (0, 0), (1, 1), (1, 1))).transpose(0, 2, 3, 1)
        frames = padded.reshape(self.steps, -1)
        nengo_loihi.set_defaults()
        with nengo.Network(seed=0) as net:
            nengo_loihi.add_params(net)
            net.config[nengo.Ensemble].neuron_type = nengo_loihi.neurons.LoihiSpikingRectifiedLinear()
            net.config[nengo.Connection].synapse = None
            stimulus = nengo.Node(lambda t: frames[round(t * 1000) % self.steps] * 1000.0)

            def ensemble(size: int, **more: object) -> nengo.Ensemble:
                return nengo.Ensemble(size, 1, gain=np.ones(size), bias=np.zeros(size), **more)

            source = ensemble(frames.shape[1], neuron_type=nengo.SpikingRectifiedLinear())
            net.config[source].on_chip = False
            conv1, conv2 = ensemble(16 * 32 * 32), ensemble(32 * 15 * 15)
            net.config[conv1].block_shape = nengo_loihi.BlockShape((8, 8, 8), (32, 32, 16))
            net.config[conv2].block_shape = nengo_loihi.BlockShape((5, 5, 8), (15, 15, 32))
            nengo.Connection(stimulus, source.neurons)
            for before, after, shape, stride, index, name in (
                (source, conv1, (34, 34, 2), 1, 0, "conv1"),
                (conv1, conv2, (32, 32, 16), 2, 1, "conv2"),
            ):
                kernels = _kernels(problem[name], problem["thresholds"][index])
                transform = nengo.Convolution(
                    kernels.shape[3],
                    shape,
                    kernel_size=(3, 3),
                    strides=(stride, stride),
                    padding="valid",
                    init=kernels,
                )
                nengo.Connection(before.neurons, after.neurons, transform=transform)
        self.simulator = nengo_loihi.Simulator(net, target="sim", progress_bar=False)
        self.simulator.run_steps(4)

    def run(self) -> None:
        self.simulator.run_steps(self.steps)

    def spikes(self) -> dict[str, npt.NDArray[np.int32]]:
        return {}
