"""Two engines, one network, the same samples: equal in every spike, u and v, or where they first differ."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nmc import synapse
from nmc.backends import encode
from nmc.backends.base import Engine, Trace
from nmc.ir import Fixed, FixedNeuron, IntArray, Network, Population
from nmc.markup import summary

KINDS = ("spikes", "u", "v")
Index = tuple[int, ...]
"""(sample, step, *neuron), or the neuron alone."""


@dataclass(frozen=True)
class NeuronState:
    """One neuron after one step: payload sent, u, v after the reset. A relay has no u and v."""

    spikes: int
    u: int | None
    v: int | None

    def __str__(self) -> str:
        states = "" if self.u is None else f", u {self.u}, v {self.v}"
        return f"sent {self.spikes}{states}"


@dataclass(frozen=True)
class Divergence:
    """The earliest unequal entry in chip time: which layer, sample, step and neuron, expected and got.

    arrived: sum of weights times payloads that reached the neuron in this step, weight units; all that came
    before is equal on both sides, so it holds for both: the cause lies in this layer, not above it. inputs:
    its parts, (layer that sent, sum). bias: v units. before: the state that both had; at step 0 the start.
    wanted, found: the states after the step.
    """

    layer: str
    kind: str
    sample: int
    step: int
    neuron: tuple[int, ...]
    expected: int
    got: int
    arrived: int
    inputs: tuple[tuple[str, int], ...]
    bias: int
    before: NeuronState
    wanted: NeuronState
    found: NeuronState

    def __str__(self) -> str:
        where = ", ".join(map(str, self.neuron))
        parts = ", ".join(f"{current} from {layer}" for layer, current in self.inputs)
        return (
            f"{self.layer}: sample {self.sample}, step {self.step}, neuron ({where}): "
            f"{self.kind} expected {self.expected}, got {self.got}; "
            f"arrived {self.arrived} ({parts or 'on the host'}; equal in both), bias {self.bias}, "
            f"before: {self.before}; "
            f"expected: {self.wanted}; got: {self.found}"
        )


@dataclass(frozen=True)
class Verification:
    """Result of a comparison.

    mismatches: per population, unequal entries of spikes, u and v. compared: entries compared in all.
    input_sha256, trace_sha256: of the encoded samples, and of all that ``engine`` computed (``digest``).
    """

    engine: str
    against: str
    samples: int
    steps: int
    compared: int
    mismatches: dict[str, dict[str, int]]
    counts_equal: bool
    first: Divergence | None
    input_sha256: str
    trace_sha256: str

    @property
    def passed(self) -> bool:
        return self.first is None and self.counts_equal

    @property
    def total(self) -> int:
        return sum(sum(kinds.values()) for kinds in self.mismatches.values())

    def _repr_html_(self) -> str:
        lines = [
            ("samples x steps", f"{self.samples:,} x {self.steps}"),
            ("spikes, u and v", f"{self.compared:,} compared, {self.total:,} differ"),
            ("event counts", "equal" if self.counts_equal else "different"),
        ]
        if self.first is not None:
            lines.append(("first divergence", str(self.first)))
        return summary(f"{self.engine} and {self.against}: {'equal' if self.passed else 'different'}", lines)


def digest(arrays: Iterable[npt.NDArray[Any]]) -> str:
    """SHA-256 of integer arrays in their order: of each its shape and its values as little-endian int64."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(f"{array.shape}".encode())
        total.update(np.ascontiguousarray(array, "<i8").data)
    return total.hexdigest()


def compare(
    network: Network,
    x: IntArray,
    steps: int,
    expected: Engine,
    tested: Engine,
    progress: Callable[[int, int], None] | None = None,
) -> Verification:
    """Run both engines on the same samples, recording everything.

    Args:
        network: stage QUANTIZED or MAPPED.
        x, steps: as engines take them (``Engine.run``).
        expected: the engine that is taken as right. tested: the other.
        progress: called with (done, all) engines.
    """
    names = [population.name for population in network.compute]
    traces = []
    for done, runner in enumerate((expected, tested), 1):
        traces.append(runner.run(network, x, steps, record=names))
        if progress is not None:
            progress(done, 2)
    one, two = traces
    mismatches: dict[str, dict[str, int]] = {}
    compared = 0
    earliest: tuple[int, str, str, Index] | None = None
    for name in names:
        population = network[name]
        stateful = isinstance(population.neuron, FixedNeuron)
        mismatches[name] = {}
        for kind in KINDS if stateful else KINDS[:1]:
            a, b = _array(one, kind, name), _array(two, kind, name)
            unequal = a != b
            compared += a.size
            mismatches[name][kind] = int(unequal.sum())
            if unequal.any():
                # Sample and step are the two leading axes, so C order is time order.
                index = tuple(int(i) for i in np.unravel_index(int(unequal.argmax()), unequal.shape))
                when = index[0] * steps + index[1] + population.time
                if earliest is None or when < earliest[0]:
                    earliest = (when, name, kind, index)
    return Verification(
        expected.name,
        tested.name,
        len(x),
        steps,
        compared,
        mismatches,
        one.counts == two.counts,
        None if earliest is None else _explain(network, x, steps, one, two, *earliest[1:]),
        digest([x]),
        digest(_array(one, kind, name) for name in names for kind in KINDS),
    )


def _array(trace: Trace, kind: str, name: str) -> npt.NDArray[Any]:
    arrays: dict[str, npt.NDArray[Any]] = getattr(trace, kind)
    return arrays[name]


def _explain(
    network: Network, x: IntArray, steps: int, one: Trace, two: Trace, name: str, kind: str, index: Index
) -> Divergence:
    """What a neuron got and what it was, in the step in which it first differs."""
    population = network[name]
    (sample, step), neuron = index[:2], index[2:]
    inputs = []
    for projection in network.incoming(name):
        if not projection.on_host:
            source = network[projection.source]
            train = encode.train_of(network, x, steps) if source.is_input else one.spikes[source.name]
            past = step - projection.lag
            sent = train[sample, past] if past >= 0 else np.zeros_like(train[sample, 0])
            current = synapse.apply_integer(projection.synapse, projection.integer_weight, sent[None])
            inputs.append((source.label, int(current.reshape(population.shape)[neuron])))
    before = _state(one, population, (sample, step - 1, *neuron)) if step else _start(population, neuron)
    return Divergence(
        population.label,
        kind,
        sample,
        step,
        neuron,
        int(_array(one, kind, name)[index]),
        int(_array(two, kind, name)[index]),
        sum(current for _, current in inputs),
        tuple(inputs),
        _bias(network, population, x, sample, neuron),
        before,
        _state(one, population, index),
        _state(two, population, index),
    )


def _bias(network: Network, population: Population, x: IntArray, sample: int, neuron: Index) -> int:
    bias = population.bias
    if not isinstance(bias, Fixed):
        return 0
    if encode.has_host_input(network, population):
        mantissas = encode.host_mantissas(network, population, x[sample : sample + 1])[0]
    else:
        mantissas = np.broadcast_to(bias.mant, population.shape)
    return int(mantissas[neuron]) << bias.exp


def _start(population: Population, neuron: Index) -> NeuronState:
    if not isinstance(population.neuron, FixedNeuron):
        return NeuronState(0, None, None)
    return NeuronState(0, 0, int(np.broadcast_to(population.neuron.v0, population.shape)[neuron]))


def _state(trace: Trace, population: Population, index: Index) -> NeuronState:
    name = population.name
    spikes = int(trace.spikes[name][index])
    if not isinstance(population.neuron, FixedNeuron):
        return NeuronState(spikes, None, None)
    return NeuronState(spikes, int(trace.u[name][index]), int(trace.v[name][index]))
