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
from nmc.backends.sim.reference import ReferenceEngine, run_stepwise
from nmc.ir import Compare, FixedNeuron, Network, Stage
from nmc.quantize import neurons
from nmc.rules import verify

GRAPHS = 300
CHUNK = 30
SAMPLES, STEPS = 2, 6


def differences(seed: int) -> dict[str, int]:
    """Unequal entries of spikes, u and v, all populations: step-wise or oracle against layer-wise."""
    free = gen.float_network(seed, STEPS)
    max_delay = (62, 62, 0, 1, 2)[seed % 5]
    timed = timing.balance(free, max_delay)
    network = gen.quantize(timed)
    x = gen.stimulus(network, SAMPLES, STEPS, seed)
    names = [population.name for population in network.compute]
    layer = ReferenceEngine().run(network, x, STEPS, record=names)
    chip = run_stepwise(network, x, STEPS, record=names)
    truth = [oracle.run(free, sample, STEPS) for sample in x]
    wrong = {"law": 0, "oracle": 0, "spikes": 0}
    for name in names:
        level = network[name].time
        found = (layer.spikes[name], layer.u[name], layer.v[name])
        wrong["spikes"] += int(found[0].astype(bool).sum())
        for kind in range(3):
            shifted = timing.to_sample_time(chip[name][kind], level, SAMPLES, STEPS)
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
