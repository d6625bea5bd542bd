"""Event counts of toy networks, worked out by hand: what is one spike, one operation, one update."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from nmc import timing
from nmc.backends.engines import engine
from nmc.chip import load_chip
from nmc.errors import NmcError
from nmc.ir import (
    Conv2d,
    Dense,
    Encoding,
    Fixed,
    FixedNeuron,
    FloatNeuron,
    GradedRelay,
    Identity,
    InputNeuron,
    Network,
    Population,
    Projection,
    Shape,
    Stage,
    SumPool2d,
    Synapse,
    frozen,
)
from nmc.reports.build import build_report

ENGINES = ("reference", "stepwise", "native")


@dataclass(frozen=True)
class Toy:
    """What is built: layers as (name, shape, threshold or None for a relay), synapses as (source, target,
    operator, weight, lag). x: (T, *shape) of one sample. What is expected: per population (spikes, grades,
    updates), per projection (synops, graded synops)."""

    shape: Shape
    highest: int
    layers: tuple[tuple[str, Shape, int | None], ...]
    synapses: tuple[tuple[str, str, Synapse, object, int], ...]
    x: object
    populations: dict[str, tuple[int, int, int]]
    projections: dict[str, tuple[int, int]]


def ones(*shape: int) -> np.ndarray:
    return np.full(shape, 2)


def at(size: int, steps: int, *spikes: tuple[int, int, int]) -> np.ndarray:
    """A train (T, 1, size, size) with spikes at (step, row, column)."""
    train = np.zeros((steps, 1, size, size), np.int64)
    for t, row, column in spikes:
        train[t, 0, row, column] = 1
    return train


SAME = Conv2d(padding=(1, 1))
TOYS = {
    # One synapse of weight 2 onto a threshold of 2: every spike makes one. One neuron, four steps.
    "a wire": Toy(
        (1,),
        1,
        (("a", (1,), 2),),
        (("in", "a", Dense(), ones(1, 1), 0),),
        [[1], [0], [1], [1]],
        {"in": (3, 3, 0), "a": (3, 3, 4)},
        {"in-a": (3, 3)},
    ),
    # Three spikes reach five neurons each, and none of them its threshold.
    "fan-out": Toy(
        (1,),
        1,
        (("a", (5,), 100),),
        (("in", "a", Dense(), ones(5, 1), 0),),
        [[1], [0], [1], [1]],
        {"in": (3, 3, 0), "a": (0, 0, 20)},
        {"in-a": (15, 15)},
    ),
    # A zero weight is stored in a dense list like any other, and read.
    "zero weights": Toy(
        (2,),
        1,
        (("a", (2,), 100),),
        (("in", "a", Dense(), np.array([[2, 0], [0, 0]]), 0),),
        [[1, 1], [0, 1]],
        {"in": (3, 3, 0), "a": (0, 0, 4)},
        {"in-a": (6, 6)},
    ),
    # 3 x 3 taps on 3 x 3 pixels: a corner is read by 4 windows, an edge by 6, the middle by 9.
    "borders": Toy(
        (1, 3, 3),
        1,
        (("a", (1, 3, 3), 100),),
        (("in", "a", SAME, ones(1, 1, 3, 3), 0),),
        at(3, 3, (0, 0, 0), (1, 0, 1), (2, 1, 1)),
        {"in": (3, 3, 0), "a": (0, 0, 27)},
        {"in-a": (4 + 6 + 9, 19)},
    ),
    # Stride 2 on 4 x 4: (0, 0) lies in one window, (1, 1) in four, (1, 2) in two.
    "stride": Toy(
        (1, 4, 4),
        1,
        (("a", (1, 2, 2), 100),),
        (("in", "a", Conv2d((2, 2), (1, 1)), ones(1, 1, 3, 3), 0),),
        at(4, 1, (0, 0, 0), (0, 1, 1), (0, 1, 2)),
        {"in": (3, 3, 0), "a": (0, 0, 4)},
        {"in-a": (1 + 4 + 2, 7)},
    ),
    # Two groups, 1 x 1: each of two input channels is read by two of four output channels.
    "groups": Toy(
        (2, 1, 1),
        1,
        (("a", (4, 1, 1), 100),),
        (("in", "a", Conv2d(groups=2), ones(4, 1, 1, 1), 0),),
        np.array([[[[1]], [[1]]], [[[0]], [[1]]]]),
        {"in": (3, 3, 0), "a": (0, 0, 8)},
        {"in-a": (6, 6)},
    ),
    # Windows that do not overlap: one operation per spike.
    "pool": Toy(
        (1, 4, 4),
        1,
        (("a", (1, 2, 2), 100),),
        (("in", "a", SumPool2d((2, 2), (2, 2)), 2, 0),),
        at(4, 2, (0, 0, 0), (0, 3, 3), (1, 1, 2)),
        {"in": (3, 3, 0), "a": (0, 0, 8)},
        {"in-a": (3, 3)},
    ),
    # Payloads 3 and 1: two events, four grades; each reaches two neurons.
    "graded": Toy(
        (1,),
        3,
        (("a", (2,), 100),),
        (("in", "a", Dense(), ones(2, 1), 0),),
        [[3], [0], [1]],
        {"in": (2, 4, 0), "a": (0, 0, 6)},
        {"in-a": (4, 8)},
    ),
    # Two wires into a relay: it sends their sum, 2, then 1; it has no potential and no update.
    "relay": Toy(
        (2,),
        1,
        (("sum", (1,), None), ("a", (1,), 100)),
        (("in", "sum", Dense(), np.array([[1, 1]]), 0), ("sum", "a", Identity(), 2, 0)),
        [[1, 1], [0, 1], [0, 0]],
        {"in": (3, 3, 0), "sum": (2, 3, 0), "a": (0, 0, 3)},
        {"in-sum": (3, 3), "sum-a": (2, 3)},
    ),
    # Every spike comes back one step later and makes the next; the last one arrives after the end.
    "a loop": Toy(
        (1,),
        1,
        (("a", (1,), 2),),
        (("in", "a", Dense(), ones(1, 1), 0), ("a", "a", Dense(), ones(1, 1), 1)),
        [[1], [0], [0], [0]],
        {"in": (1, 1, 0), "a": (4, 4, 4)},
        {"in-a": (1, 1), "a-a": (4, 4)},
    ),
}


def network_of(toy: Toy) -> Network:
    top = toy.highest
    payloads = {"in": top}
    drawn = [Population("in", toy.shape, InputNeuron(Encoding.SPIKES, highest=top), None, top)]
    for name, shape, threshold in toy.layers:
        payloads[name] = 1 if threshold is not None else 2
        # Drawn with float neurons, because only FLOAT networks are balanced.
        neuron = GradedRelay() if threshold is None else FloatNeuron(frozen(threshold, np.float64))
        drawn.append(Population(name, shape, neuron, None, payloads[name]))
    projections = tuple(
        Projection(f"{a}-{b}", a, b, operator, Fixed(np.array(w), 0, 9, True), lag=lag)
        for a, b, operator, w, lag in toy.synapses
    )
    last = toy.layers[-1][0]
    flat = Network("toy", Stage.FLOAT, tuple(drawn), projections, (last,), len(toy.x))
    timed = timing.balance(flat, 62)
    cells = {name: cell(threshold) for name, _, threshold in toy.layers if threshold is not None}
    populations = tuple(
        replace(one, neuron=cells[one.name]) if one.name in cells else one for one in timed.populations
    )
    return timed.with_(stage=Stage.QUANTIZED, populations=populations)


def cell(threshold: int) -> FixedNeuron:
    """v >= threshold weight units, no leak, no current memory."""
    return FixedNeuron(
        Fixed(np.array(threshold - 1), 6, 17, False),
        Fixed(np.array(4095), -12, 12, False),
        Fixed(np.array(0), -12, 12, False),
    )


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize("runner", ENGINES)
def test_counts_by_hand(name: str, runner: str) -> None:
    toy = TOYS[name]
    try:
        machine = engine(runner)
    except NmcError as error:
        pytest.skip(str(error))
    x = np.asarray(toy.x, np.int64)[None]
    found = machine.run(network_of(toy), x, len(toy.x)).counts
    populations = {
        one: (found.spikes[one], found.grades[one], found.updates.get(one, 0)) for one in toy.populations
    }
    assert populations == toy.populations
    assert {one: (found.synops[one], found.graded_synops[one]) for one in toy.projections} == toy.projections


@pytest.mark.parametrize("name", TOYS)
def test_reports_add_up_to_the_last_bit(name: str) -> None:
    toy = TOYS[name]
    network = network_of(toy)
    counts = engine("reference").run(network, np.asarray(toy.x, np.int64)[None], len(toy.x)).counts
    report = build_report(network, load_chip("loihi2"), counts)
    total = report.total.activity
    assert total is not None
    assert total.synops == sum(synops for synops, _ in toy.projections.values())
    assert total.updates == sum(updates for _, _, updates in toy.populations.values())
    assert total.spikes == sum(spikes for spikes, _, _ in toy.populations.values())
