"""Conv1d and Delay nodes of NIR files."""

from __future__ import annotations

from itertools import pairwise

import nir
import numpy as np
import pytest

import nmc
from nmc.backends.sim.reference import ReferenceEngine, run_stepwise
from nmc.errors import NmcError
from nmc.frontend import opgraph as og
from nmc.frontend.float_engine import run
from nmc.frontend.lower import lower
from nmc.frontend.nir_read import load_nir
from nmc.frontend.nir_write import DT
from nmc.ir import Encoding
from nmc.timing import to_sample_time

RNG = np.random.default_rng(5)
STEPS = 9


def chain(path, shape, out, type_check=True, **nodes):
    """Input, the nodes one after the other, Output, as the nir package writes them."""
    every = {
        "input": nir.Input(input_type={"input": np.array(shape)}),
        **nodes,
        "output": nir.Output(output_type={"output": np.array(out)}),
    }
    graph = nir.NIRGraph(nodes=every, edges=list(pairwise(every)), type_check=type_check)
    nir.write(path, graph)
    return path


def neuron(*shape, threshold=1.0):
    return nir.IF(r=np.full(shape, 1 / DT), v_threshold=np.full(shape, threshold))


def fire(current, threshold):
    """Spikes (T, ...) of an IF with reset to 0, fired at the threshold."""
    v, spikes = np.zeros_like(current[0]), []
    for a in current:
        v = v + a
        spikes.append(v >= threshold)
        v = np.where(v >= threshold, 0, v)
    return np.array(spikes, float)


# --- Conv1d -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "groups"),
    [
        (3, 1, 1, 1, 1),
        (4, 2, 0, 1, 1),
        (3, 1, 2, 2, 3),
        (5, 3, 2, 1, 1),
        (3, 1, "same", 1, 1),
        (4, 1, "valid", 1, 1),
    ],
)
def test_conv1d(tmp_path, kernel, stride, padding, dilation, groups):
    weight = RNG.integers(-8, 13, (6, 3 // groups, kernel)) / 8
    bias = RNG.integers(-2, 4, 6) / 8
    size = 20
    pad = {"same": dilation * (kernel - 1) // 2, "valid": 0}.get(padding, padding)
    length = (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
    conv = nir.Conv1d(
        input_shape=size,
        weight=weight,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=bias,
    )
    path = chain(
        tmp_path / "x.nir", (3, size), (6, length), type_check=groups == 1, conv=conv, s=neuron(6, length)
    )
    graph = load_nir(path)
    assert graph.shapes["s"] == (6, 1, length)
    x = RNG.integers(0, 2, (STEPS, 3, size)).astype(float)
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad)))
    current = np.zeros((STEPS, 6, length))
    for o in range(6):
        for i in range(3 // groups):
            source = padded[:, o // (6 // groups) * (3 // groups) + i]
            for k in range(kernel):
                taps = source[:, k * dilation : k * dilation + (length - 1) * stride + 1 : stride]
                current[:, o] += weight[o, i, k] * taps
    expected = fire(current + bias[:, None], 1.0)
    found = run(graph, x[None, :, :, None], STEPS).values["s"][0, :, :, 0]
    np.testing.assert_array_equal(found, expected)
    assert 0.05 < expected.mean() < 0.95


def test_a_network_of_one_dimensional_maps_compiles(tmp_path):
    path = chain(
        tmp_path / "x.nir",
        (2, 12),
        (4,),
        conv=nir.Conv1d(12, RNG.integers(-4, 9, (3, 2, 3)) / 8, 1, 1, 1, 1, np.zeros(3)),
        s=neuron(3, 12),
        double=nir.Scale(np.full((3, 12), 2.0)),
        flat=nir.Flatten(start_dim=0, end_dim=1, input_type={"input": np.array([3, 12])}),
        fc=nir.Affine(weight=RNG.integers(-4, 9, (4, 36)) / 16, bias=np.zeros(4)),
        e=neuron(4),
    )
    bundle = nmc.compile(path, "loihi2", steps=STEPS, encoding=Encoding.SPIKES)
    x = RNG.integers(0, 2, (3, STEPS, 2, 1, 12))
    assert nmc.run(bundle, x, "stepwise", record=("s",)).spikes["s"].shape == (3, STEPS, 3, 1, 12)
    assert nmc.check(path) == []


# --- Delay ------------------------------------------------------------------------------------------


def delayed(path, delay, dt=DT):
    """Affine -> IF -> Delay -> Affine -> IF."""
    weight = np.random.default_rng(0).integers(-3, 9, (2, 5, 5)) / 8
    return chain(
        path,
        (5,),
        (5,),
        fc=nir.Affine(weight[0], np.zeros(5)),
        s=neuron(5),
        wait=nir.Delay(np.broadcast_to(np.asarray(delay, float) * dt, (5,)).copy()),
        last=nir.Affine(weight[1], np.full(5, 0.125)),
        e=neuron(5),
    ), weight


@pytest.mark.parametrize("delay", [3, 0, [0, 2, 1, 2, 5], [4, 4, 7, 4, 4], 20])
def test_delays_shift_spikes(tmp_path, delay):
    path, weight = delayed(tmp_path / "x.nir", delay)
    graph = load_nir(path)
    x = RNG.integers(0, 2, (2, STEPS, 5)).astype(float)
    for sample, found in zip(x, run(graph, x, STEPS).values["e"], strict=True):
        spikes = fire(sample @ weight[0].T, 1.0)
        late = np.zeros_like(spikes)
        for neuron_, steps in enumerate(np.broadcast_to(delay, 5)):
            late[steps:, neuron_] = spikes[: max(0, STEPS - steps), neuron_]
        np.testing.assert_array_equal(found, fire(late @ weight[1].T + 0.125, 1.0))


@pytest.mark.parametrize("delay", [3, [0, 2, 1, 2, 5], 70])
def test_a_delay_is_a_lag_of_the_projection(tmp_path, delay):
    """And the law holds: on the chip a delay adds to what balances the paths; beyond the chip's longest delay
    relays carry it."""
    path, _ = delayed(tmp_path / "x.nir", delay)
    steps = 80
    free = lower(load_nir(path), steps, "distribute", Encoding.SPIKES)
    lags = {projection.lag for projection in free.incoming("e")}
    assert lags == set(np.unique(delay))
    network = nmc.compile(path, "loihi2", steps=steps, encoding=Encoding.SPIKES).network
    assert max(projection.delay for projection in network.projections) <= 62
    x = RNG.integers(0, 2, (1, steps, 5))
    trace = ReferenceEngine().run(network, x, steps, [p.name for p in network.compute])
    chip = run_stepwise(network, x, steps, [p.name for p in network.compute])
    for population in network.compute:
        (train,) = to_sample_time(chip[population.name][0], population.time, 1, steps)
        np.testing.assert_array_equal(train, trace.spikes[population.name][0])
    assert trace.spikes["e"][0, 71:].any()


def test_samples_do_not_leak_into_each_other(tmp_path):
    """Spikes that are still under way when a sample ends are not part of the next."""
    path, _ = delayed(tmp_path / "x.nir", 4)
    bundle = nmc.compile(path, "loihi2", steps=STEPS, encoding=Encoding.SPIKES)
    x = RNG.integers(0, 2, (3, STEPS, 5))
    for engine in ("reference", "stepwise"):
        together = nmc.run(bundle, x, engine, record=("all",)).spikes["e"]
        alone = [nmc.run(bundle, one[None], engine, record=("all",)).spikes["e"][0] for one in x]
        np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize(
    ("seconds", "code", "message"),
    [(1.5 * DT, "NMC-G07", "1.5 steps of 0.0001 s.*--dt"), (-DT, "NMC-F04", "delay of -0.0001")],
)
def test_delays_that_are_refused(tmp_path, seconds, code, message):
    path, _ = delayed(tmp_path / "x.nir", seconds / DT)
    with pytest.raises(NmcError, match=f"{code} wait: .*{message}"):
        load_nir(path)


def test_a_delay_of_a_current_with_bias_is_refused(tmp_path):
    path = chain(
        tmp_path / "x.nir",
        (5,),
        (5,),
        fc=nir.Affine(np.eye(5), np.ones(5)),
        wait=nir.Delay(np.full(5, DT)),
        e=neuron(5),
    )
    (finding,) = nmc.check(path)
    assert (finding.code, finding.who) == ("NMC-G05", "wait")


def test_delays_survive_export(tmp_path):
    path, _ = delayed(tmp_path / "x.nir", [0, 2, 1, 2, 5])
    graph = load_nir(path)
    nmc.export(graph, tmp_path / "again.nir", steps=STEPS)
    assert isinstance(nir.read(tmp_path / "again.nir"), nir.NIRGraph)
    again = load_nir(tmp_path / "again.nir")
    assert {n: op.steps for n, op in again.nodes.items() if isinstance(op, og.Delay)} == {
        n: op.steps for n, op in graph.nodes.items() if isinstance(op, og.Delay)
    }
    x = RNG.integers(0, 2, (2, STEPS, 5)).astype(float)
    np.testing.assert_array_equal(run(graph, x, STEPS).output, run(again, x, STEPS).output)
