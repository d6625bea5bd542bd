"""Brian2: explicit synapses, one time step per step. NMC_BRIAN2_TARGET=cython for compiled code."""

from __future__ import annotations

import os

import brian2 as b2
import numpy as np
import numpy.typing as npt

TARGET = os.environ.get("NMC_BRIAN2_TARGET", "numpy")
NAME = f"Brian2, {TARGET}"
CLOCK = "cpu"

Edges = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int32]]


def _edges(weight: npt.NDArray[np.int32], side: int, stride: int) -> Edges:
    """Source, target (both in C, H, W order) and weight of every synapse of a padded 3 x 3 convolution."""
    out = side // stride
    y, x = (grid.reshape(-1) for grid in np.meshgrid(np.arange(out), np.arange(out), indexing="ij"))
    sources, targets, values = [], [], []
    for (o, c, ky, kx), w in np.ndenumerate(weight):
        iy, ix = y * stride + ky - 1, x * stride + kx - 1
        inside = (iy >= 0) & (iy < side) & (ix >= 0) & (ix < side)
        sources.append(c * side * side + (iy * side + ix)[inside])
        targets.append(o * out * out + (y * out + x)[inside])
        values.append(np.full(int(inside.sum()), w))
    return np.concatenate(sources), np.concatenate(targets), np.concatenate(values)


class Contender:
    """Resets before synapses, unlike Brian2's own order: else a spike deletes what arrives in its step."""

    def __init__(self, problem: dict[str, npt.NDArray[np.int32]]) -> None:
        b2.prefs.codegen.target = TARGET
        self.steps, step = len(problem["x"]), 1 * b2.ms
        b2.defaultclock.dt = step
        t, neuron = np.nonzero(problem["x"].reshape(self.steps, -1))
        source = b2.SpikeGeneratorGroup(2048, neuron, t * step)
        self.shapes = {"conv1": (16, 32, 32), "conv2": (32, 16, 16), "dense": (10,)}
        groups = []
        for shape, threshold in zip(self.shapes.values(), problem["thresholds"], strict=True):
            size = int(np.prod(shape))
            group = b2.NeuronGroup(size, "v : 1", threshold=f"v > {threshold}", reset="v = 0", method="euler")
            group.resetter["spike"].when = "after_thresholds"
            groups.append(group)
        out, from_ = np.divmod(np.arange(problem["dense"].size), problem["dense"].shape[1])
        wired = (
            (source, groups[0], _edges(problem["conv1"], 32, 1)),
            (groups[0], groups[1], _edges(problem["conv2"], 32, 2)),
            (groups[1], groups[2], (from_, out, problem["dense"].reshape(-1))),
        )
        synapses = []
        for before, after, (i, j, w) in wired:
            made = b2.Synapses(before, after, "w : 1", on_pre="v_post += w")
            made.connect(i=i, j=j)
            made.w = w
            synapses.append(made)
        self.monitors = [b2.SpikeMonitor(group) for group in groups]
        self.net = b2.Network(source, groups, synapses, self.monitors)
        self.net.store()
        self.run()

    def run(self) -> None:
        """From the start again. Synapses come after thresholds in a step, so each layer is one step late."""
        self.net.restore()
        self.net.run((self.steps + 3) * b2.ms)

    def spikes(self) -> dict[str, npt.NDArray[np.int32]]:
        self.run()
        found = {}
        for late, ((name, shape), monitor) in enumerate(
            zip(self.shapes.items(), self.monitors, strict=True), 1
        ):
            train = np.zeros((self.steps + 3, int(np.prod(shape))), np.int32)
            train[np.rint(monitor.t / b2.ms).astype(int), np.asarray(monitor.i)] = 1
            found[name] = train[late : late + self.steps].reshape(self.steps, *shape)
        return found
