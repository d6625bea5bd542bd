"""A ``.net`` file that nmc writes reads back as the same network, and runs the same."""

from __future__ import annotations

from pathlib import Path

import gen
import netfiles
import numpy as np
import pytest
from features import Sketch, neuron

from nmc import timing
from nmc.backends import encode
from nmc.backends.loihi.netx import write_net
from nmc.backends.sim.reference import ReferenceEngine
from nmc.errors import NmcError
from nmc.frontend.slayer import load_net
from nmc.ir import Conv2d, Dense, FixedNeuron, Identity, Network, SumPool2d


def every(network: Network, x: np.ndarray) -> list[np.ndarray]:
    """Spikes, u and v of all layers."""
    names = [population.name for population in network.compute]
    trace = ReferenceEngine().run(network, encode.encode(network, x), network.steps, names)
    return [kind[name] for name in names for kind in (trace.spikes, trace.u, trace.v)]


def equal(one: Network, other: Network, x: np.ndarray) -> None:
    """Field for field what a file says, then every spike, u and v."""
    assert [p.shape for p in one.populations] == [p.shape for p in other.populations]
    assert [p.level for p in one.populations] == [p.level for p in other.populations]
    assert (one.steps, one.readout) == (other.steps, other.readout)
    for a, b in zip(one.compute, other.compute, strict=True):
        assert isinstance(a.neuron, FixedNeuron)
        assert isinstance(b.neuron, FixedNeuron)
        for key in ("vth", "du", "dv"):
            mine, yours = getattr(a.neuron, key), getattr(b.neuron, key)
            assert (mine is None) == (yours is None)
            assert mine is None or int(mine.mant) == int(yours.mant)
    ran = list(zip(every(one, x), every(other, x), strict=True))
    for mine, yours in ran:
        np.testing.assert_array_equal(mine, yours)
    assert any(mine.any() for mine, _ in ran)


def test_a_chain_of_everything(tmp_path: Path) -> None:
    net = Sketch(2, 6, 7)
    net.conv("a", "in", 4, (3, 2), stride=(1, 2), padding=(1, 0), bias=3.0)
    net.conv("b", "a", 4, (3, 3), groups=2, cell=neuron(16.0, keep_v=3000 / 4096), bias=-1.0)
    net.add("c", "b", SumPool2d((2, 1), (2, 1)), 6.0, neuron(10.0))
    net.add("d", "c", Identity(), np.array([6.0, 8.0, 10.0, 12.0]).reshape(4, 1, 1), neuron(9.0))
    net.conv("e", "d", 3, (1, 1), cell=neuron(10.0, keep_u=1000 / 4096), bias=[[[2.0]], [[0.0]], [[4.0]]])
    net.dense("f", "e", 6, bias=2.0)
    net.dense("out", "f", 3)
    network = gen.quantize(timing.balance(net.network(), 62))
    write_net(network, tmp_path / "x.net")
    read = load_net(tmp_path / "x.net")
    equal(network, read, np.random.default_rng(0).integers(0, 2, (3, network.steps, 2, 6, 7)))
    for one, other in zip(network.projections, read.projections, strict=True):
        if isinstance(one.synapse, Conv2d | Dense):
            np.testing.assert_array_equal(one.integer_weight, other.integer_weight)


@pytest.mark.parametrize("name", netfiles.VARIANTS)
def test_a_file_read_and_written_is_the_same_file(tmp_path: Path, name: str) -> None:
    first = load_net(netfiles.write(tmp_path / "first.net", netfiles.variant(name)))
    write_net(first, tmp_path / "second.net")
    second = load_net(tmp_path / "second.net")
    x = np.random.default_rng(1).integers(0, 2, (2, 8, 2, 5, 6))
    equal(first, second, x[:, 0] if name == "frames" else x)
    for one, other in zip(first.projections, second.projections, strict=True):
        np.testing.assert_array_equal(one.integer_weight, other.integer_weight)
        assert (one.lag, one.delay, one.on_host) == (other.lag, other.delay, other.on_host)
    write_net(second, tmp_path / "third.net")
    assert (tmp_path / "second.net").read_bytes() == (tmp_path / "third.net").read_bytes()


def test_many_groups_are_written_as_fewer(tmp_path: Path) -> None:
    """160 groups do not fit Lava's 8-bit field: pairs of groups become one, with zeros between them."""
    net = Sketch(160, 2, 2)
    net.add("out", "in", Conv2d(padding=(1, 1), groups=160), net.weights(160, 1, 3, 3))
    network = gen.quantize(timing.balance(net.network(), 62))
    write_net(network, tmp_path / "x.net")
    read = load_net(tmp_path / "x.net")
    assert read.projections[0].synapse == Conv2d(padding=(1, 1), groups=80)
    equal(network, read, np.random.default_rng(0).integers(0, 2, (2, network.steps, 160, 2, 2)))


def test_delays_of_convolutions_are_not_written_for_netx(tmp_path: Path) -> None:
    layers = netfiles.chain()
    layers[1]["delay"] = [0.0, 1.0, 0.0, 2.0]
    network = load_net(netfiles.write(tmp_path / "x.net", layers))
    with pytest.raises(NmcError, match=r"NMC-Q03 layer1.conv: a delay in front of a convolution.*netx"):
        write_net(network, tmp_path / "no.net")
    assert not (tmp_path / "no.net").exists()
