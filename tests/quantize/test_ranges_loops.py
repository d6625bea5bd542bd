"""The range proof over loops: spikes are bounded, so what they bring back is, whatever the loop does."""

from __future__ import annotations

import gen
import numpy as np
import pytest

from nmc import timing
from nmc.backends.engines import engine
from nmc.errors import NmcError
from nmc.ir import FixedNeuron, IntArray, Network
from nmc.quantize import ranges

STEPS = 8


def searched(network: Network, rng: np.random.Generator) -> IntArray:
    """Inputs of every kind: random, all at their ends, and the worst of them changed little by little."""
    (source,) = network.inputs
    low, high = source.neuron.lowest, source.neuron.highest  # type: ignore[union-attr]
    x = gen.stimulus(network, 6, STEPS, int(rng.integers(1 << 30)))
    x[0], x[1] = high, low
    for _ in range(4):
        names = [p.name for p in network.compute]
        trace = engine("reference").run(network, x, STEPS, names)
        reach = [max(int(np.abs(trace.u[name][n]).max()) for name in names) for n in range(len(x))]
        best = x[int(np.argmax(reach))]
        x[2:] = np.where(rng.random(x[2:].shape) < 0.1, rng.integers(low, high + 1, x[2:].shape), best)
    return x


def test_no_state_leaves_its_bounds() -> None:
    rng, proved, loops = np.random.default_rng(4), 0, 0
    for seed in range(40):
        free = gen.with_loops(gen.float_network(seed, STEPS), seed)
        network = gen.quantize(timing.balance(free, 62))
        try:
            found = ranges.prove(network)
        except NmcError:
            continue
        proved += 1
        loops += any(p.source == p.target for p in network.projections)
        trace = engine("reference").run(network, searched(network, rng), STEPS, [r.population for r in found])
        for one in found:
            if isinstance(network[one.population].neuron, FixedNeuron):
                for what, (low, high) in (("u", one.u), ("v", one.v)):
                    states = getattr(trace, what)[one.population]
                    assert low <= states.min(), (seed, one, what)
                    assert states.max() <= high, (seed, one, what)
    assert proved > 20
    assert loops > 8


def test_the_loop_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what comes back the bound is too low, and the test above would see it."""
    arriving = ranges.arriving

    def without_loops(network: Network, projection: object) -> ranges.Bounds:
        if projection.lag:  # type: ignore[attr-defined]
            return np.zeros(1, np.int64), np.zeros(1, np.int64)
        return arriving(network, projection)  # type: ignore[arg-type]

    monkeypatch.setattr(ranges, "arriving", without_loops)
    with pytest.raises(AssertionError, match="Range"):
        test_no_state_leaves_its_bounds()
