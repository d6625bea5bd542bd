"""A recording of PilotNet with LIF neurons, shipped in the lava-dl wheel, reproduced layer by layer.

The recording holds spikes, u and v of nine layers over 24 steps; nobody says where it was taken. Its v reads
128 at every spike, as Loihi's does, where Lava's CPU models and nmc have 0. Every 17 steps a layer is
cleared, at step depth + 1. Its last layer (fc-3) was recorded in another run and follows from nothing here.
"""

from __future__ import annotations

import itertools
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from nmc import neuron as spec
from nmc.backends.engines import engine
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
from nmc.rules import verify

STEPS, INTERVAL, V_AT_SPIKE, BIAS_EXP = 24, 17, 128, 6
LAYERS = ["conv-0", "conv-1", "conv-2", "conv-3", "conv-4", "fc-0", "fc-1", "fc-2"]
GROUPS = [1, 2, 3, 4, 5, 7, 8, 9]
"""Number of each layer in the file; 0 is the input, 6 says "flatten"."""


def folder() -> Path | None:
    """Where the wheel keeps the recording: its tests are installed beside it."""
    found = find_spec("lava")
    for place in () if found is None else found.submodule_search_locations or ():
        path = Path(place).parent / "tests/lava/lib/dl/netx/gts/pilotnet_lif"
        if path.is_dir():
            return path
    return None


FOLDER = folder()
pytestmark = pytest.mark.skipif(FOLDER is None, reason="the lava-dl wheel with its tests is not installed")


def recorded(name: str) -> np.ndarray:
    """(T, C, H, W) or (T, N) int32; on disk it is (W, H, C, T)."""
    assert FOLDER is not None
    array = np.load(FOLDER / f"{name}.npy").astype(np.int32)
    return np.ascontiguousarray(array.T)


def neuron_of(group: Any) -> FixedNeuron:
    """The neuron's fields; the file counts the decay of u from 1."""

    def field(name: str, offset: int = 0) -> np.ndarray:
        return np.asarray(int(group["neuron"][name][()]) - offset)

    return FixedNeuron(
        Fixed(field("vThMant"), 6, 17, signed=False),
        Fixed(field("iDecay", 1), -12, 12, signed=False),
        Fixed(field("vDecay"), -12, 12, signed=False),
    )


def layer(depth: int) -> Network:
    """One layer of the file behind an input of spikes; depth 1 is the first convolution."""
    assert FOLDER is not None
    with h5py.File(FOLDER / "network.net", "r") as file:
        group = file["layer"][str(GROUPS[depth - 1])]
        weight = np.asarray(group["weight"][()])
        bias = np.asarray(group["bias"][()]).astype(np.int64)
        neuron = neuron_of(group)
        shape = tuple(int(n) for n in group["shape"][()])
        op: Synapse = Dense()
        if weight.ndim >= 4:
            stride, padding, dilation = (
                tuple(int(n) for n in group[key][()]) for key in ("stride", "padding", "dilation")
            )
            op = Conv2d(stride, padding, dilation, int(group["groups"][()]))
            weight = weight.reshape(weight.shape[:4])
        else:
            shape = shape[:1]
    assert np.array_equal(weight % 2, np.zeros_like(weight))
    source = recorded(LAYERS[depth - 2] if depth > 1 else "input").shape[1:]
    mant = bias.reshape(-1, *(1,) * (len(shape) - 1))
    network = Network(
        LAYERS[depth - 1],
        Stage.QUANTIZED,
        (
            Population("in", source, InputNeuron(Encoding.SPIKES), level=0),
            Population("cell", shape, neuron, Fixed(mant, BIAS_EXP, 13, signed=True), level=1),
        ),
        (Projection("w", "in", "cell", op, Fixed((weight / 2).astype(np.int64), 1, 8, signed=True)),),
        ("cell",),
        STEPS,
    )
    verify(network, Stage.QUANTIZED)
    return network


def mismatches(name: str, depth: int) -> tuple[int, int]:
    """Unequal and all entries of s, u and v when an engine gets the recorded spikes of the layer before."""
    network = layer(depth)
    expected = {
        kind: recorded(LAYERS[depth - 1] + end) for kind, end in (("spikes", ""), ("u", "-u"), ("v", "-v"))
    }
    before = recorded(LAYERS[depth - 2] if depth > 1 else "input")
    arriving = np.concatenate([np.zeros_like(before[:1]), before[:-1]])
    starts = (0, depth, min(depth + INTERVAL, STEPS), STEPS)
    wrong = size = 0
    runner = engine(name)
    for start, stop in itertools.pairwise(starts):
        if start == stop:
            continue
        trace = runner.run(network, arriving[None, start:stop].astype(np.int64), stop - start, ["cell"])
        spikes = trace.spikes["cell"][0]
        found = {
            "spikes": spikes,
            "u": trace.u["cell"][0],
            "v": np.where(spikes, V_AT_SPIKE, trace.v["cell"][0]),
        }
        for kind, array in expected.items():
            wrong += int((found[kind] != array[start:stop].reshape(found[kind].shape)).sum())
            size += found[kind].size
    return wrong, size


@pytest.mark.parametrize("name", ["reference", "native", "lava-inprocess"])
def test_every_layer_equals_the_recording(name: str) -> None:
    results = {LAYERS[depth - 1]: mismatches(name, depth) for depth in range(1, len(LAYERS) + 1)}
    assert {layer: wrong for layer, (wrong, _) in results.items()} == dict.fromkeys(LAYERS, 0)
    assert sum(size for _, size in results.values()) > 8_000_000


def test_the_input_layer_equals_the_recording() -> None:
    """The image is stored as bias mantissas of exponent 6: the file's weight and bias are in it already."""
    assert FOLDER is not None
    with h5py.File(FOLDER / "network.net", "r") as file:
        cell = neuron_of(file["layer"]["0"])
    image = np.load(FOLDER / "image.npy").astype(np.int64).T
    spikes = recorded("input")
    u = v = np.zeros(image.shape, np.int64)
    for t in range(STEPS):
        if t % INTERVAL == 0:
            u = v = np.zeros(image.shape, np.int64)
        fired, u, v = spec.step(cell, u, v, np.zeros_like(u), image << BIAS_EXP)
        assert np.array_equal(fired, spikes[t]), t
