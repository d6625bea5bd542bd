"""Calibration, layer by layer: what neurons really send on calibration data, brought to the ANN's values.

Layers are visited in order, each seeing the spikes of the layers that are already tuned. Compensation
(after Hu et al. 2018) searches the gain of a layer; correction (after Li et al. 2021) then cancels the mean
error of every channel, by a constant input or by the initial potential. Refitting (``refit.py``) adapts
the weights of the next layer to what arrives there. None needs labels.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from nmc.frontend import opgraph as og
from nmc.frontend.conversion.activations import ACTIVATIONS
from nmc.frontend.conversion.draft import WEIGHTED, Draft, bias_home, shift_bias
from nmc.frontend.conversion.method import Correction, Method
from nmc.frontend.conversion.normal import NormalForm
from nmc.frontend.conversion.refit import can_refit, refit
from nmc.frontend.conversion.scales import activations
from nmc.frontend.float_engine import Array, _evaluate, as_trains, fire
from nmc.frontend.opgraph import OpGraph
from nmc.frontend.shapes import spread
from nmc.ir import FloatArray

MIN_SAMPLES, MAX_SAMPLES = 4, 128
MAX_VALUES = 1 << 21
"""Values of one layer over samples and steps; samples are left out to come near this."""
SEARCH_VALUES = 1 << 14
"""Neurons times samples that a search of a gain looks at."""
GAINS = np.array([1.0, 0.9, 1.1, 0.8, 1.2, 1.3, 1.4, 1.5, 1.7, 2.0, 2.5])
"""What a layer's input may be multiplied by; of equally good ones the first. Gains far
above 1 make up for what hard resets throw away."""
FIT_GAINS = np.array([1.0, 1.15, 0.85, 1.3, 0.7, 1.6, 0.5, 2.0, 2.5, 3.0])
"""The same where the value of a spike makes up for the gain."""
ROUNDS = 2
"""Corrections per layer: the second one sees what the clip at T spikes left of the first."""


def tune(graph: OpGraph, form: NormalForm, data: FloatArray, steps: int, method: Method) -> OpGraph:
    """Thresholds, biases and initial potentials of a converted network, set on calibration data.

    Args:
        graph: what ``with_neurons`` made of ``form``.
        data: (N, *shape) frames.
    """
    if method.compensation == "none" and method.correction == "none" and not method.refit:
        return graph
    largest = max(math.prod(shape) for shape in graph.shapes.values())
    samples = min(max(MIN_SAMPLES, MAX_VALUES // (steps * largest)), MAX_SAMPLES)
    return _Tuning(graph, form, data[:: -(-len(data) // samples)], steps, method).result()


class _Tuning:
    """One calibration in progress. values: (n, T or 1, *shape) per node that is still read."""

    def __init__(
        self, graph: OpGraph, form: NormalForm, data: FloatArray, steps: int, method: Method
    ) -> None:
        self.graph, self.steps, self.method = graph, steps, method
        self.draft = Draft(graph)
        self.data = data
        (self.sink,) = graph.named(og.Output)
        # A gate counts whole spikes; there is nothing to tune.
        found = [name for name, op in form.graph.nodes.items() if isinstance(op, ACTIVATIONS)]
        self.tuned = [name for name in found if name not in form.gates]
        self.gates = form.gates
        layers = [name for name, op in form.graph.nodes.items() if method.refit and can_refit(op)]
        self.refitted = frozenset(layers)
        batches = list(activations(form.graph, data, [*self.tuned, *layers, self.sink]))
        self.targets = {name: np.concatenate([b[name] for b in batches]) for name in batches[0]}

    def result(self) -> OpGraph:
        values: dict[str, Array] = {}
        left = {name: len(self.graph.after(name)) for name in self.graph.nodes}
        for name in self.graph.order:
            operands = self.graph.before(name)
            values[name] = self._value(name, [values[source] for source in operands])
            for source in operands:
                left[source] -= 1
                if left[source] == 0:
                    del values[source]
        return self.draft.graph()

    def _value(self, name: str, operands: list[Array]) -> Array:
        op, shape = self.draft.nodes[name], self.graph.shapes[name]
        if isinstance(op, og.Input):
            return as_trains(self.data, shape, self.steps, name)
        if isinstance(op, WEIGHTED) and name in self.refitted:
            arriving = sum(operands[1:], operands[0]).mean(axis=1)
            op = self.draft.nodes[name] = refit(op, arriving, self.targets[name])
        if isinstance(op, og.Neuron) and name in self.tuned:
            current = sum(operands[1:], operands[0])
            return self._neuron(name, op, current)
        value = _evaluate(op, operands, shape, self.steps, np.dtype(np.float64))
        if name == self.sink and self.method.correction != "none":  # what no refitted layer has taken
            error = self.targets[name] - value.mean(axis=1)
            self._shift(name, error.mean(axis=tuple({0, *range(2, error.ndim)})))
        return value

    def _neuron(self, name: str, op: og.Neuron, current: Array) -> Array:
        assert op.threshold is not None
        scale = op.threshold
        if self.method.compensation == "gain":
            op = self._compensated(op, scale, current, self.targets[name])
        elif self.method.compensation == "fit":
            op, value = self._fitted(op, scale, current, self.targets[name])
            self._revalue(name, value)
        if self.method.correction != "none":
            op, current = self._corrected(name, op, scale, current)
        self.draft.nodes[name] = op
        return fire(op, current, self.steps)

    def _rates(self, op: og.Neuron, scale: FloatArray, current: Array) -> Array:
        """Mean output in units of the ANN, (n, *shape)."""
        return np.asarray(fire(op, current, self.steps).mean(axis=1) * spread(scale, current.shape[2:]))

    # --- compensation ---------------------------------------------------------------------------------

    def _compensated(self, op: og.Neuron, scale: FloatArray, current: Array, target: Array) -> og.Neuron:
        few, wanted = _some(current, target)
        errors = [
            float(np.mean((self._rates(_with_gain(op, gain), scale, few) - wanted) ** 2)) for gain in GAINS
        ]
        return _with_gain(op, float(GAINS[int(np.argmin(errors))]))

    def _fitted(
        self, op: og.Neuron, scale: FloatArray, current: Array, target: Array
    ) -> tuple[og.Neuron, float]:
        """The gain with which some multiple of the rates comes closest to the activations, but for their
        mean, which the layers behind take; and that multiple."""
        few, wanted = _some(current, target)
        goal = wanted - wanted.mean()
        best, least = (op, 1.0), np.inf
        for gain in FIT_GAINS:
            rates = self._rates(_with_gain(op, gain), scale, few)
            rates -= rates.mean()
            power, common = float(np.mean(rates**2)), float(np.mean(rates * goal))
            error = -(common**2) / power if power else np.inf
            if error < least and common > 0:
                best, least = (_with_gain(op, gain), common / power), error
        return best

    def _revalue(self, name: str, value: float) -> None:
        """Let every spike of a neuron count ``value`` times as much, and gates compare in the new unit."""
        for reader in dict.fromkeys(self.draft.readers(name)):
            op = self.draft.nodes[reader]
            if isinstance(op, og.Scale):
                self.draft.nodes[reader] = og.Scale(op.factor * value)
            else:  # the sum of an OR, whose spikes count as much
                for gate in dict.fromkeys(self.draft.readers(reader)):
                    self._revalue(gate, value)
        for gate in [gate for gate, compared in self.gates.items() if compared == name]:
            op = self.draft.nodes[gate]
            assert isinstance(op, og.Neuron)
            assert op.threshold is not None
            self.draft.nodes[gate] = replace(
                op, threshold=og.constant(op.threshold * value), v0=og.constant(op.v0 * value)
            )
            self._revalue(gate, value)

    # --- correction -----------------------------------------------------------------------------------

    def _corrected(
        self, name: str, op: og.Neuron, scale: FloatArray, current: Array
    ) -> tuple[og.Neuron, Array]:
        """The neuron and its current with every channel's mean error cancelled, where that lowers the
        squared error."""
        target = self.targets[name]
        axes = (0, *range(2, target.ndim))
        kind: Correction = self.method.correction
        if kind == "bias" and bias_home(self.draft, name) is None:
            if not self.method.starts:
                return op, current
            kind = "potential"

        def shifted(shift: FloatArray) -> tuple[og.Neuron, Array]:
            per_channel = shift.reshape(-1, *[1] * (target.ndim - 2))
            if kind == "bias":
                return op, current + per_channel
            return replace(op, v0=og.constant(op.v0 + self.steps * per_channel)), current

        rates = self._rates(op, scale, current)
        least = np.mean((rates - target) ** 2, axis=axes)
        best = shift = np.zeros(target.shape[1])
        for _ in range(ROUNDS):
            shift = shift + np.mean(target - rates, axis=axes)
            moved, drive = shifted(shift)
            rates = self._rates(moved, scale, drive)
            error = np.mean((rates - target) ** 2, axis=axes)
            best, least = np.where(error < least, shift, best), np.minimum(error, least)
        if kind == "bias":
            self._shift(name, best)
        return shifted(best)

    def _shift(self, reader: str, shift: FloatArray) -> None:
        home = bias_home(self.draft, reader)
        if home is not None:
            shift_bias(self.draft, home, shift)


def _some(current: Array, target: Array) -> tuple[Array, Array]:
    """The first samples, as many as a search looks at."""
    samples = max(1, -(-SEARCH_VALUES // math.prod(target.shape[1:])))
    return current[:samples], target[:samples]


def _with_gain(op: og.Neuron, gain: float) -> og.Neuron:
    """A neuron that sees its input ``gain`` times: threshold and initial potential are that much lower."""
    assert op.threshold is not None
    return replace(op, threshold=og.constant(op.threshold / gain), v0=og.constant(op.v0 / gain))
