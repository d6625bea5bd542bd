"""Exported ``.net`` files: netx sends the same spikes; what the format lacks is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import features
import gen
import h5py
import numpy as np
import pytest
from features import FEATURES, STEPS, Sketch, neuron

from nmc import timing
from nmc.backends.loihi.netx import OFFSET, write_net
from nmc.backends.sim.reference import ReferenceEngine
from nmc.errors import NmcError
from nmc.ir import Conv2d, Identity, Network, SumPool2d

LOAD = """
import sys
import numpy as np
from lava.lib.dl.netx.hdf5 import Network
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source

path, spikes, interval, out = sys.argv[1], np.load(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
net = Network(net_config=path, reset_interval=interval, reset_offset=int(sys.argv[5]))
source = Source(data=spikes)
steps = spikes.shape[-1]
source.s_out.connect(net.inp)
sinks = [Sink(shape=layer.shape, buffer=steps) for layer in net.layers]
for layer, sink in zip(net.layers, sinks):
    layer.neuron.s_out.connect(sink.a_in)
try:
    net.run(RunSteps(num_steps=steps), Loihi2SimCfg(select_tag="fixed_pt"))
    np.savez(out, *[sink.data.get() for sink in sinks])
finally:
    net.stop()
"""


def chain() -> Network:
    """Convolutions with every geometry, a pool, one-to-one synapses and dense layers, with biases."""
    net = Sketch(2, 6, 7)
    net.conv("a", "in", 4, (3, 2), stride=(1, 2), padding=(1, 0), bias=3.0)
    net.conv("b", "a", 4, (3, 3), groups=2, cell=neuron(16.0, keep_v=3000 / 4096), bias=-1.0)
    net.add("c", "b", SumPool2d((2, 1), (2, 1)), 6.0, neuron(10.0))
    net.add("d", "c", Identity(), np.array([6.0, 8.0, 10.0, 12.0]).reshape(4, 1, 1), neuron(9.0))
    net.conv("e", "d", 3, (1, 1), cell=neuron(10.0, keep_u=1000 / 4096), bias=[[[2.0]], [[0.0]], [[4.0]]])
    net.dense("f", "e", 6, bias=2.0)
    net.dense("out", "f", 3)
    return gen.quantize(timing.balance(net.network(), 62))


@pytest.mark.runtime
def test_netx_sends_the_same_spikes(tmp_path: Path) -> None:
    network = chain()
    x = np.random.default_rng(0).integers(0, 2, (3, STEPS, 2, 6, 7))
    write_net(network, tmp_path / "chain.net")
    total = timing.total_steps(network, len(x), STEPS)
    train = np.zeros((7, 6, 2, total), np.int32)
    train[..., : len(x) * STEPS] = x.reshape(-1, 2, 6, 7).transpose(3, 2, 1, 0)
    np.save(tmp_path / "in.npy", train)
    arguments = [str(tmp_path / name) for name in ("chain.net", "in.npy", "out.npz")]
    arguments.insert(2, str(STEPS))
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *arguments, str(OFFSET)], capture_output=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    names = [population.name for population in network.compute]
    trace = ReferenceEngine().run(network, x, STEPS, names)
    fired = []
    with np.load(tmp_path / "out.npz") as found:
        for name, key in zip(names, found.files, strict=True):
            spikes = np.moveaxis(found[key].reshape(*network[name].shape[::-1], total), -1, 0)
            got = timing.to_sample_time(spikes, network[name].time, len(x), STEPS)
            torch_order = got.transpose(0, 1, *range(got.ndim - 1, 1, -1))
            assert np.array_equal(torch_order, trace.spikes[name]), name
            fired.append(trace.spikes[name].mean())
    assert all(0.01 < rate < 0.99 for rate in fired), fired


def test_a_file_is_deterministic(tmp_path: Path) -> None:
    for name in ("one.net", "two.net"):
        write_net(chain(), tmp_path / name)
    assert (tmp_path / "one.net").read_bytes() == (tmp_path / "two.net").read_bytes()
    with h5py.File(tmp_path / "one.net") as file:
        kinds = [file[f"layer/{i}/type"][0].decode() for i in range(len(file["layer"]))]
    assert kinds == ["input", "conv", "conv", "conv", "conv", "conv", "flatten", "dense", "dense"]


REFUSED = {
    "by subtraction": "a soft reset",
    "to a value below the start": "start value",
    "threshold per neuron": "one threshold per neuron",
    "vanilla: into the membrane": "no link of a chain",
    "SEW ADD by relay": "no link of a chain",
    "graded frame": "payloads",
    "current": "bias current",
    "bias off the weight grid": "whole weight units",
    "1": "a delay of 1",
    "two outputs": "no link of a chain",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_format_lacks_is_refused(tmp_path: Path, name: str) -> None:
    (feature, *_) = (one for one in FEATURES if one.name == name)
    with pytest.raises(NmcError, match=f"NMC-Q03.*{REFUSED[name]}.*--to lava"):
        write_net(feature.network(), tmp_path / "no.net")
    assert not (tmp_path / "no.net").exists()


@pytest.mark.parametrize("weight", [0.0, -4.0])
def test_matrices_that_netx_reads_wrongly_are_refused(tmp_path: Path, weight: float) -> None:
    net = Sketch(4)
    net.add("out", "in", features.Dense(), np.full((2, 4), weight))
    network = gen.quantize(timing.balance(net.network(), 62))
    with pytest.raises(NmcError, match="reads wrongly"):
        write_net(network, tmp_path / "no.net")


def test_a_single_convolution_needs_no_flatten(tmp_path: Path) -> None:
    net = Sketch(1, 3, 3)
    net.add("out", "in", Conv2d(), net.weights(2, 1, 3, 3))
    write_net(gen.quantize(timing.balance(net.network(), 62)), tmp_path / "one.net")
    with h5py.File(tmp_path / "one.net") as file:
        assert len(file["layer"]) == 2
