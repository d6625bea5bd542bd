"""From a framework's neuron to ``ir.FloatNeuron``: gains, leak potentials and reset values fold away.

With c = w_in * gain and the reference r = v_reset (reset to a value) or 0 (reset by subtraction), the
substitution U = u / w_in, V = (v - r) / c turns

    u[t] = keep_u u[t-1] + w_in x[t]
    v[t] = keep_v v[t-1] + gain u[t] + (1 - keep_v) v_leak,  threshold, reset to v_reset

into

    U[t] = keep_u U[t-1] + x[t]
    V[t] = keep_v V[t-1] + U[t] + (1 - keep_v) (v_leak - r) / c,  threshold (threshold - r) / c, reset to 0

so that weights stay as they are, and stay shared. A readout keeps the user's units (its potential is the
result), so there c goes into the weights. A threshold that is subtracted one step late,

    v[t] = keep_v v[t-1] + ... - threshold s[t-1] = keep_v (v[t-1] - threshold / keep_v s[t-1]) + ...

is one of threshold / keep_v that is subtracted at once: it fires in the same steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nmc.errors import NmcError
from nmc.frontend.opgraph import Neuron, ResetRule
from nmc.frontend.shapes import spread
from nmc.ir import FloatArray, FloatNeuron, Reset, Shape, frozen

LEAST_KEPT = 1 / 64
"""A membrane that keeps less has too few bits left for what is subtracted from it before it decays."""


@dataclass(frozen=True, eq=False)
class FoldedNeuron:
    """neuron and bias in the population's shape (collapsed); factor: what the weights are multiplied by."""

    neuron: FloatNeuron
    bias: FloatArray | None
    factor: FloatArray


def collapse(values: FloatArray) -> FloatArray:
    """The smallest array that broadcasts to the same: (), (C, 1, 1), or as it is; read-only."""
    if values.size and values.min() == values.max():
        return frozen(values.flat[0])
    if values.ndim > 1:
        first = values.reshape(len(values), -1)[:, :1].reshape(-1, *[1] * (values.ndim - 1))
        if np.array_equal(np.broadcast_to(first, values.shape), values):
            return frozen(first)
    return frozen(values)


def some(bias: FloatArray) -> FloatArray | None:
    """The bias collapsed, None when it is all zeros."""
    return collapse(bias) if bias.any() else None


def fold_neuron(name: str, op: Neuron, bias: FloatArray | None, node: Shape, shape: Shape) -> FoldedNeuron:
    """The population's neuron and bias.

    Args:
        name: the user's name of the neuron.
        op: the neuron.
        bias: constant part of its input, in shape ``node``; None for zero.
        node: shape in the op graph. shape: the population's, with the same elements in the same order.

    Raises:
        NmcError: NMC-Q03 for semantics that no lowering has yet, NMC-G05 for a gain that is not positive,
            NMC-Q02 for a threshold below the reset potential.
    """
    keep_v, keep_u = (_uniform(name, field, getattr(op, field)) for field in ("keep_v", "keep_u"))
    gain = spread(op.w_in, node) * spread(op.gain, node)
    if gain.min() <= 0:
        raise NmcError("NMC-G05", name, f"input gain {gain.min():g}", "only positive gains can be folded")
    if keep_u and bias is not None and bias.any():
        raise NmcError(
            "NMC-Q03",
            name,
            "a bias in front of a neuron with a current filter (CUBA) is filtered too, chips add it to v",
            "train without that bias",
        )
    leak = (1 - keep_v) * spread(op.v_leak, node)
    drive = np.zeros(node) if bias is None else np.broadcast_to(bias, node)

    def shaped(values: FloatArray) -> FloatArray:
        return collapse(np.broadcast_to(values, node).reshape(shape))

    if op.threshold is None:
        neuron = FloatNeuron(None, keep_v, keep_u, v0=shaped(spread(op.v0, node)))
        total = np.asarray((drive * gain + leak).reshape(shape))
        return FoldedNeuron(neuron, some(total), shaped(gain))
    reset = _reset(name, op, keep_v)
    reference = spread(op.v_reset, node) if reset is Reset.ZERO else np.zeros(node)
    room = spread(op.threshold, node) - reference
    if room.min() < 0:
        problem = f"its threshold lies {-room.min():g} below the potential that a spike leaves behind"
        raise NmcError("NMC-Q02", name, problem, "it would fire for ever; use a positive threshold")
    neuron = FloatNeuron(
        shaped(room / gain),
        keep_v,
        keep_u,
        op.compare,
        reset,
        shaped((spread(op.v0, node) - reference) / gain),
        shaped(spread(op.threshold, node) / gain / keep_v) if _is_late(op, keep_v) else None,
    )
    total = np.asarray((drive + (leak - (1 - keep_v) * reference) / gain).reshape(shape))
    return FoldedNeuron(neuron, some(total), frozen(1.0))


def _uniform(name: str, field: str, values: FloatArray) -> float:
    lowest, highest = float(values.min()), float(values.max())
    if lowest != highest:
        raise NmcError(
            "NMC-Q03",
            name,
            f"{field} differs from neuron to neuron ({lowest:g} to {highest:g})",
            "give a layer one time constant",
        )
    if not 0 <= lowest <= 1:
        raise NmcError("NMC-Q03", name, f"{field} = {lowest:g}, allowed 0 to 1", "check tau and dt")
    return lowest


def _reset(name: str, op: Neuron, keep_v: float) -> Reset:
    if op.multi_spike:
        raise NmcError(
            "NMC-Q03",
            name,
            "fires floor(v / threshold) spikes in one step, chips fire one",
            "train with one spike per step, or run it with --engine float",
        )
    if op.reset is ResetRule.VALUE:
        return Reset.ZERO
    if op.reset is ResetRule.SUBTRACT or (op.reset is ResetRule.SUBTRACT_NEXT and keep_v >= LEAST_KEPT):
        return Reset.SUBTRACT
    remedy = "train with reset_delay=False"
    if op.reset is ResetRule.SUBTRACT_NEXT:
        remedy = f"keep at least 1/{1 / LEAST_KEPT:g} of v from step to step, reset to zero"
    raise NmcError(
        "NMC-Q03",
        name,
        "is reset in the step after its spike, chips reset in the same step",
        f"{remedy}, or run it with --engine float",
    )


def _is_late(op: Neuron, keep_v: float) -> bool:
    """Without a leak it makes no difference whether v loses the threshold now or in the next step."""
    return op.reset is ResetRule.SUBTRACT_NEXT and keep_v < 1
