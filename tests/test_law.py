"""The law of ``timing.py`` on random residual graphs, against an oracle that shares no code.

stepwise(network)[population][n T + t + level] == layerwise(network)[population][n, t] == oracle[n][t]
"""

from __future__ import annotations

from dataclasses import replace

import gen
import numpy as np
import oracle
import pytest

from nmc import neuron, timing
from nmc.backends.sim.reference import ReferenceEngine, StepwiseEngine, run_stepwise
from nmc.errors import NmcError
from nmc.ir import Compare, FixedNeuron, Network, Stage
from nmc.quantize import neurons
from nmc.rules import verify

GRAPHS = 300
LOOPED = 60
CHUNK = 30
SAMPLES, STEPS = 2, 6


def differences(seed: int, *, loops: bool = False) -> dict[str, int]:
    """Unequal entries of spikes, u and v, all populations: step-wise or oracle against layer-wise."""
    free = gen.float_network(seed, STEPS)
    if loops:
        free = gen.with_loops(free, seed)
    max_delay = (62, 62, 0, 1, 2)[seed % 5]
    timed = timing.balance(free, max_delay)
    network = gen.quantize(timed)
    x = gen.stimulus(network, SAMPLES, STEPS, seed)
    names = [population.name for population in network.compute]
    layer = ReferenceEngine().run(network, x, STEPS, record=names)
    sessions = timing.sessions(network, SAMPLES)
    chip = [run_stepwise(network, x[part], STEPS, record=names) for part in sessions]
    truth = [oracle.run(free, sample, STEPS) for sample in x]
    wrong = {"law": 0, "oracle": 0, "spikes": 0}
    for name in names:
        level = network[name].time
        found = (layer.spikes[name], layer.u[name], layer.v[name])
        wrong["spikes"] += int(found[0].astype(bool).sum())
        for kind in range(3):
            shifted = np.concatenate(
                [
                    timing.to_sample_time(run[name][kind], level, part.stop - part.start, STEPS)
                    for part, run in zip(sessions, chip, strict=True)
                ]
            )
            wrong["law"] += int((shifted != found[kind]).sum())
            if name in free and isinstance(network[name].neuron, FixedNeuron):
                expected = np.array([[truth[n][name][t][kind] for t in range(STEPS)] for n in range(SAMPLES)])
                wrong["oracle"] += int((expected.reshape(found[kind].shape) != found[kind]).sum())
    return wrong


@pytest.mark.parametrize("first", range(0, GRAPHS, CHUNK))
def test_the_law_holds(first: int) -> None:
    spikes = 0
    for seed in range(first, first + CHUNK):
        wrong = differences(seed)
        assert wrong["law"] == 0, f"seed {seed}: step-wise and layer-wise differ in {wrong['law']} entries"
        assert wrong["oracle"] == 0, f"seed {seed}: oracle and engine differ in {wrong['oracle']} entries"
        spikes += wrong["spikes"]
    assert spikes > 1000, "silent networks prove nothing"


@pytest.mark.parametrize("first", range(0, LOOPED, CHUNK))
def test_the_law_holds_with_loops_and_lags(first: int) -> None:
    spikes = 0
    for seed in range(first, first + CHUNK):
        wrong = differences(seed, loops=True)
        assert wrong["law"] == 0, f"seed {seed}: step-wise and layer-wise differ in {wrong['law']} entries"
        assert wrong["oracle"] == 0, f"seed {seed}: oracle and engine differ in {wrong['oracle']} entries"
        spikes += wrong["spikes"]
    assert spikes > 1000, "silent networks prove nothing"


def test_random_loops_are_loops() -> None:
    """What ``gen.with_loops`` adds: loops of one population, loops of several, and delay lines in them."""
    kinds = {"one": 0, "several": 0, "lag": 0, "line": 0}
    for seed in range(LOOPED):
        network = timing.balance(gen.with_loops(gen.float_network(seed, STEPS), seed), seed % 3)
        verify(network, Stage.TIMED)
        kinds["one"] += any(p.source == p.target for p in network.projections)
        kinds["several"] += any(len(segment) > 1 for segment in network.segments)
        kinds["lag"] += any(p.lag > 1 for p in network.projections)
        kinds["line"] += any(p.lag and ".delay" in p.source for p in network.projections)
    assert min(kinds.values()) > LOOPED // 6, kinds


def test_spikes_of_one_sample_reach_the_next_past_the_reset() -> None:
    """Why looped networks run one sample at a time: back to back, the loop's last spikes arrive in the
    first step of the next sample, after it was cleared."""
    leaked = 0
    for seed in range(CHUNK):
        network = gen.quantize(timing.balance(gen.with_loops(gen.float_network(seed, STEPS), seed), 62))
        x = gen.stimulus(network, SAMPLES, STEPS, seed)
        names = [population.name for population in network.compute]
        apart = StepwiseEngine().run(network, x, STEPS, record=names)
        joined = run_stepwise(network, x, STEPS, record=names)
        for name in names:
            u = timing.to_sample_time(joined[name][1], network[name].time, SAMPLES, STEPS)
            assert np.array_equal(u[0], apart.u[name][0])
            leaked += int((u[1, 0] != apart.u[name][1, 0]).any())
    assert leaked > CHUNK // 2


def test_a_loop_with_more_synapses_than_lag_is_refused() -> None:
    """Two layers, the second feeding the first: the chip takes two steps where the network has one."""
    loop = gen.chain_with_feedback(lag=1)
    with pytest.raises(NmcError, match=r"layer\.p1 -> layer\.p2 -> layer\.p1 takes 2 steps") as caught:
        timing.balance(loop, 62)
    assert (caught.value.code, caught.value.measured, caught.value.allowed) == ("NMC-T01", 2, 1)
    verify(timing.balance(gen.chain_with_feedback(lag=2), 62), Stage.TIMED)


def _unbalanced(network: Network, max_delay: int) -> Network:
    timed = BALANCE(network, max_delay)
    return timed.with_(projections=tuple(replace(p, delay=0) for p in timed.projections))


BALANCE = timing.balance
THRESHOLD = neurons.threshold_field


@pytest.mark.parametrize(
    ("where", "name", "broken", "kind"),
    [
        pytest.param(timing, "balance", _unbalanced, "law", id="skip left unbalanced"),
        pytest.param(
            timing, "is_cleared", lambda population, step, steps: step == 0, "law", id="bias starts early"
        ),
        pytest.param(
            neurons,
            "threshold_field",
            lambda t, compare, grid, who: THRESHOLD(t, Compare.GREATER, grid, who),
            "oracle",
            id=">= becomes >",
        ),
        pytest.param(
            neuron, "truncating_shift", lambda x, bits: x >> bits, "oracle", id="truncation becomes floor"
        ),
    ],
)
def test_the_law_has_teeth(
    monkeypatch: pytest.MonkeyPatch, where: object, name: str, broken: object, kind: str
) -> None:
    monkeypatch.setattr(where, name, broken)
    assert sum(differences(seed)[kind] > 0 for seed in range(CHUNK)) >= 3


def test_random_networks_obey_every_rule() -> None:
    for seed in range(60):
        free = gen.float_network(seed, STEPS)
        verify(free, Stage.FLOAT)
        timed = timing.balance(free, seed % 3)
        verify(timed, Stage.TIMED)
        verify(gen.quantize(timed), Stage.QUANTIZED)
