"""One neuron on Loihi 2 and in the frameworks: the recordings published with the NIR paper.

Pedersen et al., "Neuromorphic intermediate representation", Nature Communications 15:8122 (2024); files
``paper/01_lif/lif_*.csv`` of github.com/neuromorphs/NIR: 1000 steps of 0.1 ms, one input spike train, what
the neuron had as v and when it fired. Columns of 1000 numbers stand here as SHA-256 of their int32.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import netfiles
import nir
import numpy as np
import pytest

import nmc
from nmc.backends.engines import engine
from nmc.frontend.float_engine import run
from nmc.frontend.nir_read import load_nir
from nmc.frontend.slayer import load_net

STEPS, DT = 1000, 1e-4
SENT = [60, 220, 270, 310, 320, 350, 370, 400, 410, 430, 440, 450, 460, 470, 480, 490, 500]
SENT += [510, 520, 530, 670, 680, 690, 700, 710, 720, 730, 740, 750, 760, 770, 780, 840, 850]
FIRED = [460, 510, 710, 760]
"""Norse, snnTorch, Nengo, SpiNNaker2; Loihi and Lava one step later, which is the synapse's."""
LOIHI_V = "a3c44bcb18cf938a1d32c6521d7af576f600acf3820302b16c98efc90abe803c"
V_AT_SPIKE = 128


def train() -> np.ndarray:
    """(1, T, 1)"""
    x = np.zeros((1, STEPS, 1), np.int64)
    x[0, SENT] = 1
    return x


@pytest.mark.parametrize("name", ["reference", "native"])
def test_the_trace_of_loihi(name: str, tmp_path: Path) -> None:
    """lif_lava_loihi_fixed.csv: weight 10, threshold 25, dv 163; on the chip v reads 128 at a spike."""
    cell = netfiles.NEURON | {"iDecay": 4096, "vDecay": 163, "vThMant": 25}
    dense = {"type": "dense", "shape": [1], "inFeatures": 1, "weight": [[10.0]], "neuron": cell}
    network = load_net(netfiles.write(tmp_path / "x.net", [dense]), steps=STEPS)
    trace = engine(name).run(network, train(), STEPS, ["layer0.dense"])
    spikes, v = trace.spikes["layer0.dense"][0, :, 0], trace.v["layer0.dense"][0, :, 0]
    assert np.flatnonzero(spikes).tolist() == FIRED
    late = np.concatenate([[0], np.where(spikes, V_AT_SPIKE, v)[:-1]])
    assert late[61:66].tolist() == [640, 614, 589, 565, 542]
    assert hashlib.sha256(late.astype("<i4").tobytes()).hexdigest() == LOIHI_V


def lif(path: Path) -> Path:
    """lif_norse.nir: weight 1, tau 2.5 ms, threshold 0.1."""
    one = np.ones(1)
    nodes = {
        "input": nir.Input(input_type={"input": np.array([1])}),
        "fc": nir.Affine(np.ones((1, 1)), np.zeros(1)),
        "lif": nir.LIF(tau=0.0025 * one, r=one, v_leak=0 * one, v_threshold=0.1 * one),
        "output": nir.Output(output_type={"output": np.array([1])}),
    }
    nir.write(path, nir.NIRGraph(nodes=nodes, edges=[("input", "fc"), ("fc", "lif"), ("lif", "output")]))
    return path


def test_the_file_of_norse(tmp_path: Path) -> None:
    """The float network fires as Norse did, and so do its integers on the chip."""
    graph = load_nir(lif(tmp_path / "x.nir"), "norse", DT)
    spikes = run(graph, train(), STEPS).values["lif"][0, :, 0]
    assert np.flatnonzero(spikes).tolist() == FIRED
    bundle = nmc.compile(tmp_path / "x.nir", "loihi2", train(), profile="norse", dt=DT, steps=STEPS)
    trace = nmc.run(bundle, train(), "reference", record=("lif",))
    assert np.flatnonzero(trace.spikes["lif"][0]).tolist() == FIRED
