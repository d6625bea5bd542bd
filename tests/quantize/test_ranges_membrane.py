"""The range proof of neurons whose spikes take from u (looped soft resets): never left, nearly reached."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmc.backends.sim.reference import ReferenceEngine
from nmc.ir import (
    Dense,
    Encoding,
    Fixed,
    FixedNeuron,
    Identity,
    InputNeuron,
    IntArray,
    Network,
    Population,
    Projection,
    Stage,
)
from nmc.quantize import ranges, reset_loops

MOST = 40
"""The largest payload of the input."""
LETTERS = ((0, 0), (MOST, 0), (0, MOST), (1, 0), (7, 0), (MOST, 7))
"""What exciting and inhibiting input may be in one step of a searched run."""
VALUES = st.integers(1, 120)


def looped(
    excite: int,
    inhibit: int,
    drop: int,
    *,
    theta: int,
    steps: int,
    clock: int = 0,
    lost: int = 0,
    forgets: int = 4095,
    bias: int = 0,
) -> Network:
    """One neuron that an exciting and an inhibiting input feed, and a clock; its spikes take from u.

    excite, inhibit, clock: weights in units of 2. drop: a weight in units of 64. theta, bias: weight units.
    lost, forgets: fields of the decays of u and v.
    """
    cell = FixedNeuron(
        vth=Fixed(np.array(theta), 6, 17, signed=False),
        du=Fixed(np.array(lost), -12, 12, signed=False),
        dv=Fixed(np.array(forgets), -12, 12, signed=False),
    )
    populations = (
        Population("in", (2,), InputNeuron(Encoding.SPIKES, highest=MOST), level=0, max_payload=MOST),
        Population("clock", (1,), reset_loops.CLOCK, reset_loops.CLOCK_BIAS, level=0),
        Population("cell", (1,), cell, Fixed(np.array(bias), 6, 13, signed=True), level=1),
    )
    both, tick = (Fixed(np.array(one), 1, 8, signed=True) for one in ([[excite, -inhibit]], [[clock]]))
    own = Fixed(np.array([-drop]), 6, 8, signed=True)
    projections = (
        Projection("in-cell", "in", "cell", Dense(), both),
        Projection("clock-cell", "clock", "cell", Dense(), tick),
        Projection("own", "cell", "cell", Identity(), own, lag=1),
    )
    return Network("looped", Stage.QUANTIZED, populations, projections, ("cell",), steps, "count")


def reached(network: Network, x: IntArray) -> dict[str, tuple[int, int]]:
    """Lowest and highest u and v of the cell."""
    trace = ReferenceEngine().run(network, x, network.steps, ["cell"])
    return {
        kind: (int(getattr(trace, kind)["cell"].min()), int(getattr(trace, kind)["cell"].max()))
        for kind in "uv"
    }


def proven(network: Network) -> ranges.Range:
    return ranges.bound(network, network["cell"], network.steps)


def every_run(steps: int) -> IntArray:
    """All runs of ``LETTERS``, (N, T, 2)."""
    return np.array(list(itertools.product(LETTERS, repeat=steps)))


def is_left(network: Network, bounds: ranges.Range, x: IntArray) -> bool:
    found = reached(network, x)
    return any(
        found[kind][0] < getattr(bounds, kind)[0] or found[kind][1] > getattr(bounds, kind)[1]
        for kind in "uv"
    )


@settings(max_examples=300, deadline=None, database=None, derandomize=True)
@given(
    excite=VALUES,
    inhibit=VALUES,
    drop=st.integers(0, 127),
    theta=st.integers(0, 20_000),
    clock=st.integers(-100, 100),
    lost=st.sampled_from([0, 1, 400, 2048, 4095]),
    forgets=st.sampled_from([4095, 4095, 2048, 0]),
    bias=st.integers(-4095, 4095),
    steps=st.integers(1, 4),
)
def test_no_input_drives_a_neuron_out_of_its_bounds(
    excite: int,
    inhibit: int,
    drop: int,
    theta: int,
    clock: int,
    lost: int,
    forgets: int,
    bias: int,
    steps: int,
) -> None:
    network = looped(
        excite,
        inhibit,
        drop,
        theta=theta,
        steps=steps,
        clock=clock,
        lost=lost,
        forgets=forgets,
        bias=bias,
    )
    assert not is_left(network, proven(network), every_run(steps))


# --- the bounds are reached ---------------------------------------------------------------------------

STEPS = 12
FULL, QUIET = (MOST, 0), (0, MOST)
"""Everything that excites, everything that inhibits: 8,000 and 4,000 weight units in ``EXTREMES``."""
EXTREMES = {
    "silent, then as much as a spike takes": (looped(100, 50, 127, theta=6000, steps=STEPS), (30, 0), FULL),
    "silent, then more than a spike takes": (looped(100, 50, 40, theta=6000, steps=STEPS), (30, 0), FULL),
    "more than the threshold from the start": (looped(100, 50, 10, theta=100, steps=STEPS), FULL, FULL),
    "silent for all steps": (looped(100, 50, 127, theta=6000, steps=STEPS), QUIET, QUIET),
    "a spike, then silent": (looped(100, 50, 127, theta=6000, steps=STEPS, bias=4000), (11, 0), QUIET),
    "a leak": (looped(100, 50, 100, theta=6000, steps=STEPS, lost=1000, bias=4000), (11, 0), QUIET),
}
"""Networks with the input of the first step and of all others that drives u furthest."""


def furthest(network: Network, first: tuple[int, int], then: tuple[int, int]) -> float:
    """Share of u's bound that the run reaches, at the side where the run goes."""
    bounds, side = proven(network).u, int(then == FULL)
    x = np.array([[first] + [then] * (STEPS - 1)])
    assert not is_left(network, proven(network), x)
    return reached(network, x)["u"][side] / bounds[side]


@pytest.mark.parametrize("name", EXTREMES)
def test_the_bounds_are_nearly_reached(name: str) -> None:
    """What is missing is v's remainder, 32 weight units that a silent step may leave u higher."""
    assert furthest(*EXTREMES[name]) > 0.99


MISTAKES = {
    "nothing is left of silence": lambda low, high, silent, firing, steps: (
        low,
        high,
        0 * silent,
        firing,
        steps,
    ),
    "spikes leave more": lambda low, high, silent, firing, steps: (low, high, silent, firing + 9e5, steps),
    "a step is forgotten": lambda low, high, silent, firing, steps: (low, high, silent, firing, steps - 1),
    "less arrives": lambda low, high, silent, firing, steps: (low * 0.9, high * 0.9, silent, firing, steps),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_wrong_bound_is_caught(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = ranges.membrane

    def wrong(arriving: Any, drop: Any, silent: Any, firing: Any, keep: float, steps: int) -> Any:
        low, high, silent, firing, steps = MISTAKES[mistake](*arriving, silent, firing, steps)
        return right((low, high), drop, silent, firing, keep, steps)

    monkeypatch.setattr(ranges, "membrane", wrong)
    caught = 0
    for network, first, then in EXTREMES.values():
        caught += is_left(network, proven(network), np.array([[first] + [then] * (STEPS - 1)]))
    assert caught


# --- what it is good for ------------------------------------------------------------------------------


def test_where_no_more_arrives_than_a_spike_takes_time_adds_nothing_at_the_top() -> None:
    for drop, grows in ((127, False), (40, True)):
        short, long = (
            proven(looped(100, 1, drop, theta=6000, steps=steps)).u[1] for steps in (STEPS, 2 * STEPS)
        )
        assert (long > short) is grows


def test_without_the_loop_time_adds_all_that_arrives() -> None:
    network = looped(100, 1, 127, theta=6000, steps=STEPS)
    alone = network.with_(projections=tuple(one for one in network.projections if one.name != "own"))
    assert proven(alone).u[1] > 6 * proven(network).u[1]


def test_a_clock_s_current_is_there_in_every_step() -> None:
    """It widens no range: what it adds at one side it takes from the other."""
    plain, up, down = (
        proven(looped(100, 50, 127, theta=6000, steps=STEPS, clock=clock)).u for clock in (0, 60, -60)
    )
    assert down[0] < plain[0] < up[0] < 0 < down[1] < plain[1] < up[1]


def without_bias(network: Network) -> Network:
    silent = replace(network["clock"], bias=None)
    return network.with_(populations=network.map_populations({"clock": silent}))


def driven(network: Network) -> Network:
    feeds = Projection("in-clock", "in", "clock", Dense(), Fixed(np.array([[0, 0]]), 1, 8, signed=True))
    return network.with_(projections=(feeds, *network.projections))


def late(network: Network) -> Network:
    return network.with_(
        projections=tuple(
            replace(one, lag=1) if one.source == "clock" else one for one in network.projections
        )
    )


@pytest.mark.parametrize("change", [without_bias, driven, late])
def test_only_what_fires_in_every_step_is_steady(change: Callable[[Network], Network]) -> None:
    network = looped(100, 50, 127, theta=6000, steps=STEPS, clock=-60)
    tick = network.projections[1]
    assert ranges.steady(network, tick) is not None
    changed = change(network)
    assert ranges.steady(changed, next(one for one in changed.projections if one.source == "clock")) is None
