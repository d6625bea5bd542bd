"""Recordings in the lava-dl wheel, reproduced: files imported, engines run, every entry compared.

PilotNet with LIF neurons: spikes, u and v of nine layers over 24 steps; nobody says where it was taken. Its v
reads 128 at every spike, as Loihi's does, where Lava's CPU models and nmc have 0. Every 17 steps a layer is
cleared, at step depth + 1. Its last layer (fc-3) was recorded in another run and follows from nothing here.
tinynet: spikes of three layers. ntidigits: dense layers with a delay per neuron, spikes of the last.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import netfiles
import numpy as np
import pytest

from nmc.backends import encode
from nmc.backends.engines import engine
from nmc.backends.sim.reference import ReferenceEngine, run_stepwise
from nmc.frontend.slayer import load_net
from nmc.ir import Encoding, InputNeuron, Network, Population, Stage
from nmc.rules import verify

STEPS, INTERVAL, V_AT_SPIKE = 24, 17, 128
LAYERS = ["conv-0", "conv-1", "conv-2", "conv-3", "conv-4", "fc-0", "fc-1", "fc-2"]


def folder() -> Path | None:
    """Where the wheel keeps the recording: its tests are installed beside it."""
    found = find_spec("lava")
    for place in () if found is None else found.submodule_search_locations or ():
        path = Path(place).parent / "tests/lava/lib/dl/netx"
        if path.is_dir():
            return path
    return None


FOLDER = folder()
pytestmark = pytest.mark.skipif(FOLDER is None, reason="the lava-dl wheel with its tests is not installed")


def recorded(name: str) -> np.ndarray:
    """(T, C, H, W) or (T, N) int32; on disk it is (W, H, C, T)."""
    assert FOLDER is not None
    array = np.load(FOLDER / f"gts/pilotnet_lif/{name}.npy").astype(np.int32)
    return np.ascontiguousarray(array.T)


@cache
def pilotnet() -> Network:
    assert FOLDER is not None
    return load_net(FOLDER / "gts/pilotnet_lif/network.net", steps=INTERVAL)


def layer(depth: int) -> Network:
    """One layer of the file behind an input of spikes; depth 1 is the first convolution."""
    whole = pilotnet()
    cell = whole.compute[depth]
    (projection,) = whole.incoming(cell.name)
    source = Population("in", whole[projection.source].shape, InputNeuron(Encoding.SPIKES), level=0)
    network = Network(
        LAYERS[depth - 1],
        Stage.QUANTIZED,
        (source, replace(cell, name="cell", level=1)),
        (replace(projection, source="in", target="cell"),),
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


def test_the_whole_network_step_by_step() -> None:
    """As the chip ran it: from the image to the last layer, also before each layer's first reset. The image
    is stored as bias mantissas: the file's weight and bias are in it already."""
    assert FOLDER is not None
    network = pilotnet()
    mantissas = np.load(FOLDER / "gts/pilotnet_lif/image.npy").astype(np.int64).T
    x = encode.encode(network, np.repeat((mantissas[None] - 36) / 40, 2, axis=0))
    names = [population.name for population in network.compute[:-1]]
    ran = run_stepwise(network, x, INTERVAL, names)
    compared = 0
    for name, recording in zip(names, ["input", *LAYERS], strict=True):
        spikes, u, v = (array[:STEPS] for array in ran[name])
        found = {"": spikes, "-u": u, "-v": np.where(spikes, V_AT_SPIKE, v)}
        for kind, array in found.items():
            if recording == "input" and kind:
                continue  # only its spikes were recorded
            np.testing.assert_array_equal(array, recorded(recording + kind).reshape(array.shape))
            compared += array.size
    assert compared > 9_000_000


def test_tinynet_equals_the_recording() -> None:
    """Whose first entry is the step before the first; that of a file with 5-D kernels."""
    assert FOLDER is not None
    network = load_net(FOLDER / "tiny.net", steps=15)
    mantissas = np.load(FOLDER / "gts/tinynet/input_bias.npy").T
    x = encode.encode(network, ((mantissas - 34) / 36)[None])
    names = [population.name for population in network.compute]
    trace = ReferenceEngine().run(network, x, 15, names)
    for name, recording in zip(names, ("input", "layer1", "output"), strict=True):
        expected = np.moveaxis(np.load(FOLDER / f"gts/tinynet/{recording}.npy")[0], -1, 0)[1:]
        np.testing.assert_array_equal(trace.spikes[name][0], expected)
        assert expected.any()


def test_delays_equal_the_recording() -> None:
    """ntidigits, the first 60 of 3000 steps: each neuron has a delay of its own, 0 to 62 steps; the
    recording is four steps late, one per layer and one for the input."""
    assert FOLDER is not None
    steps = 60
    network = load_net(FOLDER / "gts/ntidigits/ntidigits.net", steps=steps)
    train = np.load(FOLDER / "gts/ntidigits/input.npy").T[:steps].astype(np.int64)
    trace = ReferenceEngine().run(network, train[None, :, None, None], steps, ["layer4.dense"])
    expected = np.load(FOLDER / "gts/ntidigits/output.npy").T[4 : steps + 4]
    np.testing.assert_array_equal(trace.spikes["layer4.dense"][0], expected)
    assert expected.sum() > 100


def test_a_dense_layer_equals_the_recording(tmp_path: Path) -> None:
    """256 neurons on 200 inputs over 2000 steps: the weights as a file, the spikes as recorded."""
    assert FOLDER is not None
    weight, train, fired = (np.load(FOLDER / f"gts/dense/{name}.npy") for name in ("weight", "in", "out"))
    cell = netfiles.NEURON | {"iDecay": 4096, "vDecay": 415, "vThMant": 6}
    dense = {"type": "dense", "shape": [256], "inFeatures": 200, "weight": weight, "neuron": cell}
    network = load_net(netfiles.write(tmp_path / "x.net", [dense]), steps=2000)
    trace = ReferenceEngine().run(network, train.T[None].astype(np.int64), 2000, ["layer0.dense"])
    np.testing.assert_array_equal(trace.spikes["layer0.dense"][0, :-1], fired.T[1:])
    assert fired.sum() > 1_000
