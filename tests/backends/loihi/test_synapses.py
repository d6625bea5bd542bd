"""``nmc.synapse`` equals Lava's own synapse models, run in process, delays included."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from nmc import synapse as operators
from nmc.backends.loihi import build
from nmc.backends.loihi.lower import synapse_matrix, synapses_of
from nmc.backends.loihi.models import Wire, model_of, step, to_synapse, to_target
from nmc.backends.loihi.program import Synapses
from nmc.ir import (
    Conv2d,
    Dense,
    Encoding,
    Fixed,
    Identity,
    InputNeuron,
    Network,
    Population,
    Projection,
    Stage,
    SumPool2d,
    Synapse,
)

CASES, STEPS = 200, 5


def payloads(rng: np.random.Generator, shape: tuple[int, ...], graded: bool) -> Any:
    return rng.integers(-100, 101, shape) if graded else rng.integers(0, 2, shape)


def weights(rng: np.random.Generator, shape: tuple[int, ...]) -> Fixed:
    """Signed even or unsigned weights, zeros and edges included."""
    if rng.random() < 0.3:
        mant = rng.choice([0, 1, 2, 254, 255, int(rng.integers(256))], shape)
        return Fixed(mant, 0, 8, signed=False)
    return Fixed(rng.choice([-128, 127, 0, *rng.integers(-128, 128, 12)], shape), 1, 8, signed=True)


def mismatches(part: Synapses, currents: Any, sent: Any) -> int:
    """Unequal entries when the spikes of each step are sent through Lava's model.

    currents, sent: per step, what the specification gives and what enters.
    """
    spikes, sums = Wire("s_in", to_synapse(part)), Wire("a_out", to_target(part))
    model = model_of(build.synapse_process(part), {"s_in": [spikes], "a_out": [sums]})
    wrong = 0
    for t in range(len(sent)):
        spikes.send(sent[t])
        step(model)
        before = t - 1 - part.delay
        expected = currents[before] if before >= 0 else np.zeros_like(currents[0])
        got = sums.recv()
        assert got.shape == expected.shape
        wrong += int((got != expected).sum())
    return wrong


@pytest.mark.parametrize("process", ["Dense", "Sparse", "DelayDense", "DelaySparse"])
def test_matrices_equal_lava(process: str) -> None:
    wrong = 0
    for seed in range(CASES):
        rng = np.random.default_rng(seed)
        out, into = (int(n) for n in rng.integers(1, 13, 2))
        weight, graded = weights(rng, (out, into)), bool(rng.integers(2))
        delay = int(rng.integers(1, 4)) if process.startswith("Delay") else 0
        matrix = weight.value * (rng.random((out, into)) < rng.choice([0.2, 1.0]))
        rows, columns = (None, None) if process.endswith("Dense") else np.nonzero(matrix)
        part = Synapses(
            "w",
            process,
            "a",
            "b",
            (into,),
            (out,),
            matrix if rows is None else matrix[rows, columns],
            "MIXED" if weight.signed else "EXCITATORY",
            8 if graded else 0,
            delay,
            rows,
            columns,
        )
        sent = payloads(rng, (STEPS + delay, into), graded)
        wrong += mismatches(part, operators.apply_integer(Dense(), matrix, sent), sent)
    assert wrong == 0


def lowered(op: Synapse, weight: Fixed, source: tuple[int, ...], graded: bool, delay: int = 0) -> Synapses:
    """The Lava process that the back end chooses for one projection."""
    target = operators.output_shape(op, weight.mant.shape, source, "case")
    highest = 100 if graded else 1
    neuron = InputNeuron(Encoding.SPIKES, lowest=-100 if graded else 0, highest=highest)
    populations = (Population("a", source, neuron, max_payload=highest), Population("b", target, neuron))
    projection = Projection("w", "a", "b", op, weight, delay)
    return synapses_of(Network("n", Stage.QUANTIZED, populations, (projection,), ("b",), 1), projection)


def random_convolution(rng: np.random.Generator) -> tuple[Conv2d, Fixed, tuple[int, int, int]]:
    groups = int(rng.choice([1, 1, 2, 3]))
    kernel = tuple(int(k) for k in rng.integers(1, 5, 2))
    stride, dilation = (tuple(int(n) for n in rng.integers(1, high, 2)) for high in (4, 3))
    padding = tuple(int(p) for p in rng.integers(0, 3, 2))
    spans = [dilation[i] * (kernel[i] - 1) + 1 for i in (0, 1)]
    size = [max(1, spans[i] - 2 * padding[i]) + int(rng.integers(0, 6)) for i in (0, 1)]
    per_group = int(rng.integers(1, 3))
    weight = weights(rng, (groups * int(rng.integers(1, 3)), per_group, *kernel))
    return Conv2d(stride, padding, dilation, groups), weight, (groups * per_group, *size)


@pytest.mark.parametrize("process", ["Conv", "DelaySparse"])
def test_convolutions_equal_lava(process: str) -> None:
    """Kernel, stride, padding, dilation and groups; with a delay they are written out as a matrix."""
    wrong = 0
    for seed in range(CASES):
        rng = np.random.default_rng(seed)
        op, weight, source = random_convolution(rng)
        graded, delay = bool(rng.integers(2)), int(rng.integers(1, 3)) if process != "Conv" else 0
        part = lowered(op, weight, source, graded, delay)
        assert part.process == process
        sent = payloads(rng, (STEPS, *source), graded)
        wrong += mismatches(part, operators.apply_integer(op, weight.value, sent), sent)
    assert wrong == 0


@pytest.mark.parametrize(
    ("op", "shape", "source", "process"),
    [
        (SumPool2d((2, 2), (2, 2)), (), (3, 4, 6), "Conv"),
        (SumPool2d((3, 2), (1, 2), (1, 0)), (), (2, 5, 6), "Conv"),
        (SumPool2d((2, 2), (2, 2)), (), (128, 2, 4), "Conv"),
        (SumPool2d((2, 2), (2, 2)), (), (131, 2, 4), "Sparse"),
        (Conv2d(padding=(1, 1), groups=127), (127, 1, 3, 3), (127, 2, 3), "Conv"),
        (Conv2d(padding=(1, 1), groups=128), (128, 1, 3, 3), (128, 2, 3), "Conv"),
        (Conv2d(padding=(1, 1), groups=131), (131, 1, 3, 3), (131, 2, 3), "Sparse"),
        (Conv2d((2, 1), (1, 1), groups=160), (160, 1, 3, 2), (160, 3, 2), "Conv"),
        (Conv2d(padding=(0, 1), groups=192), (384, 2, 1, 2), (384, 1, 2), "Conv"),
        (Conv2d(padding=(0, 130)), (1, 1, 1, 1), (1, 2, 3), "Sparse"),
        (Conv2d(), (1, 1, 1, 128), (1, 1, 130), "Sparse"),
        (Identity(), (), (2, 3, 4), "Sparse"),
        (Identity(), (2, 1, 1), (2, 3, 4), "Sparse"),
        (Dense(), (5, 24), (2, 3, 4), "Dense"),
    ],
)
@pytest.mark.parametrize("delay", [0, 2])
def test_every_operator_equals_lava(
    op: Synapse, shape: tuple[int, ...], source: tuple[int, ...], process: str, delay: int
) -> None:
    rng = np.random.default_rng(7)
    weight = Fixed(rng.integers(1, 128, shape), 1, 8, signed=True)
    part = lowered(op, weight, source, graded=True, delay=delay)
    assert part.process == process if delay == 0 else part.process in {"DelayDense", "DelaySparse"}
    sent = payloads(rng, (STEPS, *source), graded=True)
    assert mismatches(part, operators.apply_integer(op, weight.value, sent), sent) == 0


def test_written_out_convolutions_have_every_synapse_once() -> None:
    for seed in range(50):
        op, weight, source = random_convolution(np.random.default_rng(seed))
        ones = np.ones_like(weight.mant)
        targets = math.prod(operators.output_shape(op, ones.shape, source, "conv"))
        rows, columns, values = synapse_matrix(op, ones, source, targets)
        assert len(values) == operators.synapse_count(op, ones.shape, source)
        assert len({*zip(rows.tolist(), columns.tolist(), strict=True)}) == len(values)
