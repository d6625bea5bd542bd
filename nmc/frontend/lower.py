"""From the op graph to populations and projections: what "+" means on a chip.

Every value in the op graph is a current: a sum of terms "operator applied to the spikes of one
population", plus a constant. Linear ops act on every term (F(A + S) = F(A) + F(S), all terms of one
layer holding the same weight array), so pools, flattening, scales and sums cost no population. A neuron
turns its current into projections. With ``joins="relay"`` a sum of spikes that a weighted layer reads
becomes a population of its own, which sends the sum as one graded spike. Products and maxima of spikes
are gates (``gates.py``), and a concatenation is a sum of branches that each fill channels of their own.
A Delay gives the terms behind it a lag; one that closes a loop reads a neuron that is lowered after it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Literal, TypeAlias

import numpy as np

from nmc import ir, synapse
from nmc.errors import NmcError
from nmc.frontend import gates
from nmc.frontend import opgraph as og
from nmc.frontend.compose import Operator, WindowCutError, dense
from nmc.frontend.currents import ONE, Algebra, Current, Term
from nmc.frontend.neuron_fold import FoldedNeuron, collapse, fold_neuron
from nmc.frontend.opgraph import OpGraph
from nmc.frontend.overflow import refuse_overflow
from nmc.frontend.shapes import spread
from nmc.ir import Encoding, FloatArray, FloatNeuron, Identity, InputNeuron, Network, Population, Shape

Joins: TypeAlias = Literal["distribute", "relay"]
SpikeSum: TypeAlias = frozenset[tuple[str, int, int]]
"""(population, how often, lag) of every addend."""

MAX_FOLDED_INPUTS = 1 << 13
"""Neurons that a linear layer behind a pool may read in place of the pool; more are pooled by a relay."""

REFUSED: dict[type[og.Op], tuple[str, str]] = {
    og.ReLU: ("a ReLU carries values, not spikes", "replace it by a spiking neuron"),
    og.TimeMean: ("a mean over time is only possible behind the last neuron", "move it to the end"),
}
"""Ops without a lowering: (problem, remedy)."""


LAST_POTENTIAL = "a chip's potential is read after the last step"

LINEAR = (
    *(og.Conv2d, og.Linear, og.BatchNorm, og.Scale, og.AvgPool, og.SumPool),
    *(og.Add, og.Sub, og.Concat, og.Flatten, og.TimeMean),
)
"""Ops that a sum over time can be exchanged with."""


def lower(graph: OpGraph, steps: int, joins: Joins, encoding: Encoding) -> Network:
    """Op graph to Network, stage FLOAT.

    Args:
        graph: with one Input and one Output; batch norms that are left act as scales.
        steps: T, at least 1.
        joins: how sums of spikes that a weighted layer reads are lowered.
        encoding: how samples enter.

    Raises:
        NmcError: NMC-G05 for an op without a lowering, NMC-Q03 for a neuron that the float Network
            cannot state, NMC-G04 for numbers whose product no float holds, NMC-G08 for a dead end, NMC-U02
            for ``steps`` below 1, and those of shape inference.
    """
    if steps < 1:
        raise NmcError("NMC-U02", "steps", f"{steps} time steps", "give at least 1")
    graph.check_ends()
    with np.errstate(over="ignore", invalid="ignore"):
        network = _Lowering(graph, joins, encoding).network(steps)
    refuse_overflow(network)
    return network


class _Lowering(Algebra):
    """One lowering in progress: populations and projections so far."""

    def __init__(self, graph: OpGraph, joins: Joins, encoding: Encoding) -> None:
        super().__init__()
        self.graph, self.joins, self.encoding = graph, joins, encoding
        self.currents: dict[str, Current] = {}
        self.projections: dict[str, ir.Projection] = {}
        self.sum_names: dict[SpikeSum, str] = {}
        self.relays: dict[SpikeSum, str] = {}
        self.awaited: set[str] = set()

    def network(self, steps: int) -> Network:
        output, readout = "", ""
        for name in self.graph.order:
            op = self.graph.nodes[name]
            if isinstance(op, og.Output):
                output, readout = self._output(name)
            else:
                self.currents[name] = self._value(name, op)
        return Network(
            self.graph.name,
            ir.Stage.FLOAT,
            tuple(self.populations.values()),
            tuple(self.projections.values()),
            (output,),
            steps,
            readout,
            notes=self.graph.notes,
        )

    # --- values ---------------------------------------------------------------------------------------

    def _value(self, name: str, op: og.Op) -> Current:
        if isinstance(op, og.Input):
            return self._input(name, op)
        if type(op) in REFUSED and not self._is_readout(name, op):
            raise NmcError("NMC-G05", name, *REFUSED[type(op)])
        if isinstance(op, og.Delay):
            return self._delayed(name, op)
        operands = [self.currents[before] for before in self.graph.before(name)]
        if isinstance(op, og.Mul):
            return self._product(name, operands)
        if isinstance(op, og.Concat):
            sizes = [self.graph.shapes[before][op.axis] for before in self.graph.before(name)]
            return self.concatenated(name, op.axis, self.graph.shapes[name], operands, sizes)
        if isinstance(op, og.Sub):
            operands[1] = self.times(operands[1], -1.0)
        current = self.total(operands)
        if isinstance(op, og.TimeMean):
            self._check_fires(name, current)
        if isinstance(op, og.Neuron):
            return self._neuron(name, op, current)
        if isinstance(op, og.MaxPool):
            return self._maximum(name, op, current)
        if isinstance(op, og.Flatten):
            shape = self.graph.shapes[name]
            return replace(current, bias=None if current.bias is None else current.bias.reshape(shape))
        if isinstance(op, og.Add | og.Sub | og.TimeMean):
            key = self._spike_sum(current)
            if key is not None:
                self.sum_names.setdefault(key, name)
            return current
        return self._linear(name, op, self._joined(name, current))

    def _is_readout(self, name: str, op: og.Op) -> bool:
        """Whether a mean over time only meets linear layers on its way out: the readout sums over time."""
        if not isinstance(op, og.TimeMean):
            return False
        behind = list(self.graph.after(name))
        while behind:
            node = behind.pop()
            if isinstance(self.graph.nodes[node], LINEAR):
                behind += self.graph.after(node)
            elif not isinstance(self.graph.nodes[node], og.Output):
                return False
        return True

    def _check_fires(self, name: str, current: Current) -> None:
        """A readout that counts spikes over time takes their mean; of potentials it has the last one."""
        for term in current.terms:
            neuron = self.populations[term.source].neuron
            if isinstance(neuron, FloatNeuron) and neuron.threshold is None:
                problem = f"takes a mean over time of {term.source}, which never fires: {LAST_POTENTIAL}"
                raise NmcError("NMC-G05", name, problem, "end the network with its last step")

    def _input(self, name: str, op: og.Input) -> Current:
        self.populations[name] = Population(name, op.shape, InputNeuron(self.encoding), origin=(name,))
        return self._spikes_of(name)

    def _spikes_of(self, name: str) -> Current:
        return Current((Term(name, Identity(), ONE, self.populations[name].shape),))

    def _delayed(self, name: str, op: og.Delay) -> Current:
        for before in self.graph.before(name):
            if before not in self.currents:
                self._await(name, before)
        current = self.total(
            self.currents[before] if before in self.currents else self._spikes_of(before)
            for before in self.graph.before(name)
        )
        if current.bias is not None:
            problem = "delays a layer with a bias, which would start later than the layer's neurons"
            raise NmcError("NMC-G05", name, problem, "delay the spikes in front of the layer")
        return Current(tuple(replace(term, lag=term.lag + op.steps) for term in current.terms))

    def _await(self, name: str, source: str) -> None:
        """Let a Delay that closes a loop read a neuron's spikes before the neuron is lowered."""
        op = self.graph.nodes[source]
        if isinstance(op, og.Conv2d | og.Linear) and op.bias is not None:
            problem = f"feeds back {source} with its bias, which would start a step late"
            raise NmcError("NMC-G05", name, problem, "train the recurrent layer without bias")
        if not isinstance(op, og.Neuron) or op.threshold is None:
            problem = f"closes a loop behind {source}, which sends no spikes"
            raise NmcError("NMC-G09", name, problem, "feed back the spikes of a neuron")
        if source not in self.populations:
            unknown = FloatNeuron(og.constant(0.0))
            self.populations[source] = Population(source, self.graph.shapes[source], unknown)
            self.awaited.add(source)

    def _linear(self, name: str, op: og.Op, current: Current) -> Current:
        """A weighted layer, scale or pool on every term and on the constant."""
        before = self.graph.shapes[self.graph.before(name)[0]]
        shape = self.graph.shapes[name]
        if self._too_wide(op, current):
            refusal = WindowCutError("NMC-G05", name, "reads a pool of what is no sum of spikes")
            with suppress(WindowCutError):  # then the pool is folded, however wide
                current = self._materialised(name, current, refusal)
        try:
            terms = self._all_after(name, op, before, current)
        except WindowCutError as refusal:
            current = self._materialised(name, current, refusal)
            terms = self._all_after(name, op, before, current)
        bias = self._own_bias(op, shape)
        if current.bias is not None:
            operator, weight = self._operator(op, before, before)
            moved = synapse.apply(operator, weight, current.bias[None])[0]
            bias = moved if bias is None else moved + bias
        return Current(terms, bias)

    def _too_wide(self, op: og.Op, current: Current) -> bool:
        """Whether a matrix that pools are folded into would read more neurons than a core has lists for."""
        pools = all(isinstance(term.synapse, ir.SumPool2d) for term in current.terms)
        widest = max((self.populations[term.source].size for term in current.terms), default=0)
        return isinstance(op, og.Linear) and self.joins == "relay" and pools and widest > MAX_FOLDED_INPUTS

    def _all_after(self, name: str, op: og.Op, before: Shape, current: Current) -> tuple[Term, ...]:
        return tuple(self.after(term, self._operator(op, before, term.shape), name) for term in current.terms)

    def _operator(self, op: og.Op, before: Shape, natural: Shape) -> Operator:
        """The op as synapse and weight, for an operand of node shape ``before`` that lies as ``natural``."""
        if isinstance(op, og.Conv2d):
            return ir.Conv2d(op.stride, op.padding, op.dilation, op.groups), op.weight
        if isinstance(op, og.Linear):
            return ir.Dense(), op.weight
        if isinstance(op, og.SumPool | og.AvgPool):
            area = op.kernel[0] * op.kernel[1] if isinstance(op, og.AvgPool) else 1
            return ir.SumPool2d(op.kernel, op.stride, op.padding), self.memo(
                ("pool", area), lambda: (Identity(), og.constant(1.0 / area)), op
            )[1]
        if isinstance(op, og.BatchNorm | og.Scale):
            return self.memo(("scale", id(op), natural), lambda: _scale(op, before, natural), op)
        raise NmcError("NMC-G05", type(op).__name__, "has no lowering", "leave it out")

    @staticmethod
    def _own_bias(op: og.Op, shape: Shape) -> FloatArray | None:
        values = op.offset if isinstance(op, og.BatchNorm) else getattr(op, "bias", None)
        if values is None:
            return None
        return np.broadcast_to(values.reshape(-1, *[1] * (len(shape) - 1)), shape)

    # --- joins ----------------------------------------------------------------------------------------

    def _spike_sum(self, current: Current) -> SpikeSum | None:
        """The addends of a sum of spikes; None when the current is anything else."""
        if current.bias is not None or len(current.terms) < 2:
            return None
        for term in current.terms:
            whole = term.scalar is not None and term.scalar >= 1 and term.scalar.is_integer()
            # An analog input is scaled by the quantizer, so its integers cannot be added to spikes.
            analog = self.populations[term.source].is_input and self.encoding is not Encoding.SPIKES
            if not whole or analog:
                return None
        return frozenset((term.source, int(term.scalar or 0), term.lag) for term in current.terms)

    def _joined(self, consumer: str, current: Current) -> Current:
        """What a weighted layer reads: with ``joins="relay"`` a sum of spikes becomes one population."""
        key = self._spike_sum(current) if self.joins == "relay" else None
        if key is None:
            return current
        if key not in self.relays:
            self.relays[key] = self._relay(consumer, key, current)
        return self._spikes_of(self.relays[key])

    def _range(self, current: Current) -> tuple[int, int] | None:
        values = [(term.synapse, term.weight, self.populations[term.source]) for term in current.terms]
        return gates.value_range(values, current.bias)

    def _gate(self, name: str, node: str, current: Current, least: int) -> Current:
        """A memoryless population that fires where a current of node ``node``'s shape reaches ``least``."""
        shapes = {term.shape for term in current.terms}
        shape = shapes.pop() if len(shapes) == 1 else self.graph.shapes[node]
        self._populate(name, shape, gates.gate(least, current.bias), current.terms, (node,))
        return self._spikes_of(name)

    def _levels(self, name: str, addends: list[Current]) -> Current:
        """A graded value made of binary ones; a later sum of them is called by the node's name."""
        current = self.total(addends)
        key = self._spike_sum(current)
        if key is not None:
            self.sum_names.setdefault(key, name)
        return current

    def _product(self, name: str, operands: list[Current]) -> Current:
        """One gate per value of the one factor that may be graded: it is at least l, all others are 1."""
        names = self.graph.before(name)
        ranges = [self._range(current) for current in operands]
        highest = gates.check_binary(name, zip(names, ranges, strict=True))
        weighted = [
            self.times(current, float(highest)) if found == (0, 1) and highest > 1 else current
            for current, found in zip(operands, ranges, strict=True)
        ]
        total, others = self.total(weighted), len(operands) - 1
        if highest == 1:
            return self._gate(name, name, total, len(operands))
        each = [
            self._gate(self._fresh(f"{name}.{level}"), name, total, level + highest * others)
            for level in range(1, highest + 1)
        ]
        return self._levels(name, each)

    def _maximum(self, name: str, op: og.MaxPool, current: Current) -> Current:
        """A gate per value: fires where a window holds at least that value."""
        found, before = self._range(current), self.graph.before(name)[0]
        if found is None or found[0] < 0 or found[1] < 1 or current.bias is not None:
            raise NmcError(
                "NMC-G05",
                name,
                f"a maximum of {before}, which carries no spikes",
                "put the max pool behind a spiking neuron, or use an average pool",
            )
        highest = found[1]
        gates.check_levels(name, highest)
        if highest > 1:
            current = self._joined(name, current)
        pool = (ir.SumPool2d(op.kernel, op.stride, op.padding), ONE)
        # A window reaches 1 where its sum does; above that its sum no longer tells its maximum.
        lowest = Current(tuple(replace(self.after(t, pool, name), path=t.path) for t in current.terms))
        if highest == 1:
            return self._gate(name, name, lowest, 1)
        each = [self._gate(self._fresh(f"{name}.1"), name, lowest, 1)]
        for level in range(2, highest + 1):
            exact = self._gate(self._fresh(f"{name}.level{level}"), before, current, level)
            window = Current(tuple(replace(self.after(t, pool, name), path=()) for t in exact.terms))
            each.append(self._gate(self._fresh(f"{name}.{level}"), name, window, 1))
        return self._levels(name, each)

    def _materialised(self, consumer: str, current: Current, refusal: NmcError) -> Current:
        """The current, a multiple of a sum of spikes, as populations that send that sum: one relay, or one
        gate per value."""
        unit = gates.unit_of((term.synapse, term.weight) for term in current.terms)
        if unit is None or current.bias is not None:
            raise refusal
        whole = Current(tuple(self.multiple(term, unit) for term in current.terms))
        found = self._range(whole)
        if found is None or found[0] < 0:
            raise refusal
        node = self.graph.before(consumer)[0]
        # A relay adds exactly only what arrives one to one or by sums over windows (R08).
        adds = all(isinstance(term.synapse, Identity | ir.SumPool2d) for term in whole.terms)
        if self.joins == "relay" and adds:
            name = self._fresh(f"{node}.sum")
            shape = whole.terms[0].shape
            relay = Population(name, shape, ir.GradedRelay(), max_payload=found[1], origin=(node,))
            self.populations[name] = relay
            self._project(name, whole.terms)
            return self.times(self._spikes_of(name), unit)
        gates.check_levels(node, found[1])
        each = [
            self._gate(self._fresh(f"{node}.{level}"), node, whole, level) for level in range(1, found[1] + 1)
        ]
        return self.times(self._levels(node, each), unit)

    def _relay(self, consumer: str, key: SpikeSum, current: Current) -> str:
        """A population that adds; it builds on the largest sum that is already there (a deep stage of SEW
        blocks adds one branch per block, where NIR lists all of them at every layer)."""
        part = max((k for k in self.relays if k < key), key=len, default=frozenset[tuple[str, int, int]]())
        terms = [term for term in current.terms if (term.source, term.scalar, term.lag) not in part]
        if part:
            terms.insert(0, self._spikes_of(self.relays[part]).terms[0])
        payload = sum(int(t.scalar or 0) * self.populations[t.source].max_payload for t in terms)
        labels = "+".join(self.populations[term.source].label for term in current.terms)
        name = self.sum_names.get(key) or self._fresh(f"{consumer}.sum")
        population = Population(name, current.terms[0].shape, ir.GradedRelay(), max_payload=payload)
        self.populations[name] = replace(population, origin=(self.sum_names.get(key, labels),))
        self._project(name, terms)
        return name

    # --- populations ----------------------------------------------------------------------------------

    def _neuron(self, name: str, op: og.Neuron, current: Current) -> Current:
        node = self.graph.shapes[name]
        shapes = {term.shape for term in current.terms if not isinstance(term.synapse, Identity)}
        shape = shapes.pop() if len(shapes) == 1 and name not in self.awaited else node
        folded = fold_neuron(name, op, current.bias, node, shape)
        self._populate(name, shape, folded, current.terms, (name,))
        return self._spikes_of(name)

    def _populate(
        self, name: str, shape: Shape, folded: FoldedNeuron, terms: tuple[Term, ...], origin: tuple[str, ...]
    ) -> None:
        if not terms:
            raise NmcError("NMC-G05", name, "its input is always zero", "remove it")
        neuron = folded.neuron
        host = any(self.populations[term.source].is_input for term in terms)
        if host and self.encoding is Encoding.CURRENT and neuron.keep_u:
            raise NmcError(
                "NMC-Q03",
                name,
                "a current filter (CUBA) on the analog input, which enters behind the filter",
                "use graded input or a neuron without filter",
            )
        if not (folded.factor.size == 1 and folded.factor.reshape(()) == 1):
            factor = (Identity(), folded.factor)
            terms = tuple(replace(self.after(t, factor, name), path=t.path) for t in terms)
        self.populations.pop(name, None)  # an awaited neuron stands where its current is known
        self.populations[name] = Population(name, shape, neuron, folded.bias, origin=origin)
        self._project(name, terms)

    def _output(self, name: str) -> tuple[str, str]:
        """(population, readout). Whatever is not a neuron at the end gets a readout that integrates it."""
        current = self.total(self.currents[before] for before in self.graph.before(name))
        (one, *others) = current.terms or (None,)
        if one and not others and current.bias is None and one.scalar == 1 and not one.lag:
            end = self.populations[one.source]
            if isinstance(end.neuron, FloatNeuron):
                return end.name, "potential" if end.neuron.threshold is None else "count"
        last, shape = self.graph.before(name)[-1], self.graph.shapes[name]
        population = last if last not in self.populations else self._fresh(f"{last}.readout")
        folded = fold_neuron(last, og.Neuron(None), current.bias, shape, shape)
        self._populate(population, shape, folded, current.terms, (last,))
        return population, "potential"

    def _project(self, target: str, terms: Iterable[Term]) -> None:
        layers = Counter(term.path[-1] for term in terms if term.path)
        for term in terms:
            source = self.populations[term.source]
            if isinstance(source.neuron, FloatNeuron) and source.neuron.threshold is None:
                problem = f"never fires, yet {target} reads it"
                raise NmcError("NMC-G05", term.source, problem, "end the network there")
            operator = self._fitted(term, target)
            layer = term.path[-1] if term.path else target
            alone = layers[layer] == 1 and layer not in self.projections
            name = layer if alone else f"{layer}.from.{term.source}"
            name = _unique(self.projections, name)
            self.projections[name] = ir.Projection(
                name,
                term.source,
                target,
                *operator,
                on_host=source.is_input and self.encoding is Encoding.CURRENT,
                origin=term.path or (target,),
                lag=term.lag,
            )

    def _fitted(self, term: Term, target: str) -> Operator:
        """The term's operator, as a matrix where it gives another shape than its flat target has."""
        source, shape = self.populations[term.source].shape, self.populations[target].shape
        if isinstance(term.synapse, Identity):
            fits = all(size == 1 for size in term.weight.shape[1:])
        else:
            fits = term.shape == shape
        operator: Operator = (term.synapse, term.weight)
        if fits:
            return operator
        if len(shape) != 1:
            raise NmcError("NMC-G05", target, "its factors differ inside of a channel", "use one per channel")
        key = ("dense", term.synapse, id(term.weight), source)
        return self.memo(key, lambda: (ir.Dense(), dense(operator, source, target)), operator)

    def _fresh(self, name: str) -> str:
        """A population name that no node has."""
        return _unique({*self.populations, *self.graph.nodes}, name)


def _unique(taken: Container[str], name: str) -> str:
    candidate, index = name, 2
    while candidate in taken:
        candidate, index = f"{name}.{index}", index + 1
    return candidate


def _scale(op: og.BatchNorm | og.Scale, before: Shape, natural: Shape) -> Operator:
    if isinstance(op, og.Scale):
        factor = spread(op.factor, before)
    else:
        factor = np.broadcast_to(op.factor.reshape(-1, *[1] * (len(before) - 1)), before)
    assert math.prod(before) == math.prod(natural)
    return Identity(), collapse(factor.reshape(natural))
