"""Products, maxima and cut pools of spikes as memoryless populations (gates).

All of them ask how large a sum of spikes is. A product of k binary values is 1 where their sum reaches k
(A S: A + S >= 2; (1 - A) S: S - A >= 1). A maximum of binary values is 1 where their sum reaches 1. A value
of 0..K is the sum of K binary ones, [value >= 1] + ... + [value >= K], and the maximum of such values is the
sum of the K maxima, so that graded values need K gates in place of one.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from nmc import ir, synapse
from nmc.errors import NmcError
from nmc.frontend.neuron_fold import FoldedNeuron, collapse
from nmc.ir import (
    Conv2d,
    Dense,
    FloatArray,
    FloatNeuron,
    Identity,
    Population,
    Shape,
    SumPool2d,
    Synapse,
    frozen,
)

MAX_LEVELS = 64
"""The largest value that is written as a sum of gates; each value costs a population."""
WHOLE = 1e-9
"""Relative error of float division: 1/9 is a ninth of 1."""

TermValue = tuple[Synapse, FloatArray, Population]
"""One addend: operator, weight, source."""


def unit_of(operators: Iterable[tuple[Synapse, FloatArray]]) -> FloatArray | None:
    """What all weights are whole multiples of, when it is the smallest of them.

    Returns:
        () for one number, (C, 1, 1) for one per output channel; None where there is neither.
    """
    found = list(operators)
    if not found:
        return None
    every = _smallest_of_rows(np.concatenate([weight.reshape(1, -1) for _, weight in found], axis=1))
    if every is not None:
        return frozen(every.reshape(()), np.float64)
    if any(isinstance(one, SumPool2d | Dense) for one, _ in found):  # one weight for all, or no channels
        return None
    rows = [weight.reshape(len(weight) if weight.ndim else 1, -1) for _, weight in found]
    channels = max(map(len, rows))
    units = _smallest_of_rows(
        np.concatenate([np.broadcast_to(row, (channels, row.shape[1])) for row in rows], axis=1)
    )
    return None if units is None else frozen(units.reshape(-1, 1, 1), np.float64)


def _smallest_of_rows(rows: FloatArray) -> FloatArray | None:
    """The smallest magnitude of each row, 1 for a row of zeros; None where others are no multiples of it, or
    all are 0."""
    sizes = np.abs(rows)
    if not sizes.any():
        return None
    units = np.where(sizes > 0, sizes, np.inf).min(axis=1, keepdims=True)
    multiples = sizes / np.where(np.isinf(units), 1.0, units)
    if (np.abs(multiples - np.rint(multiples)) > WHOLE * multiples).any():
        return None
    return np.where(np.isinf(units), 1.0, units)


def value_range(terms: Iterable[TermValue], bias: FloatArray | None) -> tuple[int, int] | None:
    """(lowest, highest) of a sum of whole multiples of spikes, 0 spikes included; None for anything else.

    Inputs are anything else: what their spikes carry is only known with data.
    """
    low = high = np.zeros(1)
    for operator, weight, source in terms:
        if source.is_input or (weight != np.rint(weight)).any():
            return None
        if isinstance(source.neuron, FloatNeuron) and source.neuron.threshold is None:
            return None
        for sign in (1, -1):
            part = fan_in(operator, np.maximum(sign * weight, 0.0), source.shape) * source.max_payload
            if sign == 1:
                high = high + part
            else:
                low = low - part
    if bias is not None:
        if (bias != np.rint(bias)).any() or bias.min() != bias.max():
            return None
        low, high = low + bias.flat[0], high + bias.flat[0]
    return int(low.min()), int(high.max())


def fan_in(operator: Synapse, weight: FloatArray, source: Shape) -> FloatArray:
    """(C_out,) or (1,): the most that binary spikes can bring to one neuron; weights of at least 0."""
    if isinstance(operator, Conv2d) and (weight.shape[2] > source[1] or weight.shape[3] > source[2]):
        # No window ever sees the whole kernel.
        reached = synapse.apply(operator, weight, np.ones((1, *source)))[0]
        return np.asarray(reached.reshape(len(reached), -1).max(axis=1))
    if isinstance(operator, SumPool2d):
        return np.ravel(weight) * (operator.kernel[0] * operator.kernel[1])
    if isinstance(operator, Identity):
        return np.ravel(weight) if weight.ndim < 2 else weight.reshape(len(weight), -1).max(axis=1)
    return np.asarray(weight.reshape(len(weight), -1).sum(axis=1))


def gate(least: float, bias: FloatArray | None) -> FoldedNeuron:
    """Fires in a step where the sum of that step reaches ``least``, a whole number.

    The threshold lies half a unit below, so that rounding leaves the gate exact.
    """
    threshold = least - 0.5
    constant = None if bias is None else collapse(bias)
    if constant is not None and constant.size == 1 and threshold > constant:
        threshold, constant = threshold - float(constant.reshape(())), None
    neuron = FloatNeuron(frozen(threshold, np.float64), keep_v=0.0, compare=ir.Compare.GREATER)
    return FoldedNeuron(neuron, constant, frozen(1.0))


def check_binary(name: str, factors: Iterable[tuple[str, tuple[int, int] | None]]) -> int:
    """The highest value of the one factor that may be graded; 1 when all factors are binary.

    Raises NmcError NMC-G05 for a product of anything else, naming the factor.
    """
    highest = 1
    for source, found in factors:
        if found is None or found[0] < 0:
            raise NmcError(
                "NMC-G05",
                name,
                f"multiplies {source}, which carries no spikes",
                "put a spiking neuron behind it; a product of spikes is a gate",
            )
        if found[1] > 1 and highest > 1:
            problem = f"multiplies {source}, which carries up to {found[1]}, by another sum of spikes"
            raise NmcError("NMC-G05", name, problem, "multiply by binary spikes")
        highest = max(highest, found[1])
    check_levels(name, highest)
    return highest


def check_levels(name: str, highest: int) -> None:
    """Refuse a graded value that would take too many gates: NMC-G05."""
    if highest > MAX_LEVELS:
        raise NmcError(
            "NMC-G05",
            name,
            f"reads values up to {highest}, each of which takes a population; at most {MAX_LEVELS} are built",
            "put a spiking neuron in front of it",
            measured=highest,
            allowed=MAX_LEVELS,
        )
