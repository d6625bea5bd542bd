"""Activations become neurons, scales disappear into weights: the spiking network of a normal form.

A neuron with threshold ``scale`` that reads the ANN's pre-activation, and whose spikes count ``scale``
each, has the ANN's activation as its mean output. That network is the start; then scales move:

- forward, from the spikes into whatever reads them: through pools and flattening into the columns of the
  next weights. An identity shortcut keeps its scale as a node.
- backward, with ``place="weights"``: everything that enters a neuron is divided by its scale, so that the
  threshold becomes 1. In a residual block this gives W1 max_1 / max_2, W2 max_2 / max_3 and the shortcut
  max_1 / max_3 (Hu et al. 2018). Where something else reads the same sum, the threshold keeps the scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from nmc.frontend import opgraph as og
from nmc.frontend.conversion.activations import ACTIVATIONS, ClipFloor
from nmc.frontend.conversion.draft import WEIGHTED, Draft, bias_home, shift_bias
from nmc.frontend.conversion.method import Method, ScalePlace
from nmc.frontend.conversion.normal import NormalForm
from nmc.frontend.opgraph import OpGraph, ResetRule
from nmc.frontend.shapes import spread
from nmc.ir import FloatArray, Shape

POOLS = (og.AvgPool, og.SumPool, og.MaxPool)


def with_neurons(form: NormalForm, scales: Mapping[str, FloatArray], method: Method, steps: int) -> OpGraph:
    """Every activation as a neuron with threshold ``scale`` (same name) and a node that counts its spikes
    ``scale`` each; whatever reads it sees the units of the ANN.

    Where neurons cannot start from v0, the bias adds it up over the ``steps``; an activation that reads no
    layer of its own starts from 0 then.
    """
    draft = Draft(form.graph)
    reset = ResetRule.SUBTRACT if method.reset == "soft" else ResetRule.VALUE
    for name in draft.named(*ACTIVATIONS):
        # QCFS training rounds to the nearest level, which is what v0 = threshold / 2 does.
        start = 0.5 if isinstance(draft.nodes[name], ClipFloor) else method.v0
        scale = scales[name]
        draft.nodes[name] = og.Neuron(scale, v0=(start if method.starts else 0.0) * scale, reset=reset)
        home = None if method.starts else bias_home(draft, name)
        if home is not None and start:
            shift_bias(draft, home, start * scale.reshape(-1) / steps)
        draft.put_behind(name, f"{name}.scale", og.Scale(scale))
    if not method.shortcut:
        _unscaled_shortcuts(draft, scales, set(form.gates))
    for name in draft.named(og.MaxPool):
        _or(draft, name)
    return draft.graph()


def fold_scales(graph: OpGraph, place: ScalePlace) -> OpGraph:
    """The same network with its scales in weights and thresholds."""
    draft = Draft(graph)
    shapes = dict(graph.shapes)
    for name in _scales(draft):
        _forward(draft, name, shapes)
    _unscaled_output(draft)
    if place == "weights":
        for name in draft.named(og.Neuron):
            _backward(draft, name)
    for name in _scales(draft):
        op = draft.nodes[name]
        if isinstance(op, og.Scale) and (op.factor == 1).all():
            draft.bypass(name)
    return draft.graph()


def _scales(draft: Draft) -> list[str]:
    """Scales of one operand; one that adds several stays where it is."""
    return [name for name in draft.named(og.Scale) if len(draft.inputs[name]) == 1]


# --- forward ----------------------------------------------------------------------------------------


def _forward(draft: Draft, name: str, shapes: dict[str, Shape]) -> None:
    """Move a scale into its readers, one edge at a time; what cannot take it keeps reading the node."""
    op = draft.nodes[name]
    assert isinstance(op, og.Scale)
    (source,) = draft.inputs[name]
    for reader in dict.fromkeys(draft.readers(name)):
        if draft.inputs[reader] != [name]:
            continue
        target = draft.nodes[reader]
        if isinstance(target, WEIGHTED):
            draft.nodes[reader] = replace(target, weight=_columns(target, op.factor, shapes[name]))
            draft.redirect(reader, name, source)
        elif isinstance(target, og.Scale):
            draft.nodes[reader] = og.Scale(_product(op.factor, target.factor))
            draft.redirect(reader, name, source)
        elif isinstance(target, (*POOLS, og.Flatten)):
            # Pools act channel by channel, so a scale per channel may act behind them as well.
            factor = op.factor
            if isinstance(target, og.Flatten) and factor.size > 1:
                factor = og.constant(spread(factor, shapes[name]).reshape(shapes[reader]))
            draft.redirect(reader, name, source)
            behind = draft.put_behind(reader, f"{reader}.scale", og.Scale(factor))
            shapes[behind] = shapes[reader]
            _forward(draft, behind, shapes)
    # One node per reader that is left, so that each can be divided by its reader's scale.
    for reader in dict.fromkeys(draft.readers(name)):
        draft.put_between(source, reader, f"{reader}.from.{source}", op, instead=name)
    draft.drop(name)


def _columns(op: og.Conv2d | og.Linear, factor: FloatArray, shape: Shape) -> FloatArray:
    """The weights on inputs that are multiplied by ``factor``; (C, 1, 1) or one element for a convolution."""
    if factor.size == 1:
        return og.constant(op.weight * factor.reshape(()))
    if isinstance(op, og.Linear):
        return og.constant(op.weight * spread(factor, shape)[None, :])
    per_group = np.repeat(factor.reshape(op.groups, -1), len(op.weight) // op.groups, axis=0)
    return og.constant(op.weight * per_group[:, :, None, None])


def _product(a: FloatArray, b: FloatArray) -> FloatArray:
    if a.size == 1 or b.size == 1:
        return og.constant((a.reshape(()) * b) if a.size == 1 else (a * b.reshape(())))
    return og.constant(a * b)


# --- backward ---------------------------------------------------------------------------------------


def _backward(draft: Draft, name: str) -> None:
    """Divide what enters a neuron by its threshold, where nothing else reads it."""
    op = draft.nodes[name]
    assert isinstance(op, og.Neuron)
    threshold = op.threshold
    assert threshold is not None
    if (threshold == 1).all() or not _divisible(draft, name):
        return
    _divide(draft, name, threshold)
    draft.nodes[name] = replace(op, threshold=og.constant(1.0), v0=og.constant(op.v0 / threshold))


def _divisible(draft: Draft, reader: str) -> bool:
    """Whether every path into ``reader`` ends in something that takes a factor: rows of weights, a scale
    of its own, or the edge from spikes or from the input."""
    for source in set(draft.inputs[reader]):
        op = draft.nodes[source]
        if isinstance(op, og.Neuron | og.Input):
            continue
        if len(set(draft.readers(source))) > 1:
            return False
        if isinstance(op, (og.Add, og.Sub, *POOLS)):
            if not _divisible(draft, source):
                return False
        elif not isinstance(op, (*WEIGHTED, og.Scale, og.BatchNorm)):
            return False
    return True


def _divide(draft: Draft, reader: str, by: FloatArray) -> None:
    for source in dict.fromkeys(draft.inputs[reader]):
        op = draft.nodes[source]
        if isinstance(op, og.Neuron | og.Input):
            draft.put_between(source, reader, f"{reader}.from.{source}", og.Scale(1 / by))
        elif isinstance(op, og.Scale):
            draft.nodes[source] = og.Scale(_product(op.factor, 1 / by))
        elif isinstance(op, og.BatchNorm):
            rows = by.reshape(-1)
            draft.nodes[source] = replace(op, gamma=op.gamma / rows, beta=op.beta / rows)
        elif isinstance(op, WEIGHTED):
            rows = by.reshape(-1)
            weight = op.weight / rows.reshape(-1, *[1] * (op.weight.ndim - 1))
            draft.nodes[source] = replace(op, weight=weight, bias=None if op.bias is None else op.bias / rows)
        else:
            _divide(draft, source, by)


# --- neurons of other kinds, ends and shortcuts -----------------------------------------------------


def _or(draft: Draft, name: str) -> None:
    """A max pool of spikes: a memoryless neuron that fires when any spike of its window does.

    It reads the spikes themselves; their scale moves behind it.
    """
    op = draft.nodes[name]
    assert isinstance(op, og.MaxPool)
    (scale,) = draft.inputs[name]
    factor = draft.nodes[scale]
    total = draft.add(f"{name}.sum", og.SumPool(op.kernel, op.stride, op.padding), draft.inputs[scale])
    draft.nodes[name], draft.inputs[name] = og.Neuron(og.constant(1.0), keep_v=og.constant(0.0)), [total]
    draft.put_behind(name, f"{name}.scale", factor)
    if not draft.readers(scale):
        draft.drop(scale)


def _unscaled_output(draft: Draft) -> None:
    """A network that ends in an activation is read by counting spikes; one scale for all changes no class."""
    (sink,) = draft.named(og.Output)
    if len(draft.inputs[sink]) != 1:
        return
    (source,) = draft.inputs[sink]
    op = draft.nodes[source]
    if isinstance(op, og.Scale) and op.factor.size == 1:
        draft.bypass(source)


def _unscaled_shortcuts(draft: Draft, scales: Mapping[str, FloatArray], gates: set[str]) -> None:
    """Let the spikes of identity shortcuts count as much as those of the neuron that they reach, so that
    the shortcut is 1 where Hu's is max_1 / max_3."""
    for name in draft.named(og.Scale):
        if len(draft.inputs[name]) != 1 or draft.inputs[name][0] not in scales.keys() - gates:
            continue
        for reader in dict.fromkeys(draft.readers(name)):
            if len(draft.inputs[reader]) == 1:
                continue
            sum_, target = reader, reader
            while isinstance(draft.nodes[target], og.Add) and len(draft.readers(target)) == 1:
                (target,) = draft.readers(target)
            if target in scales:
                shortcut = og.Scale(scales[target])
                draft.put_between(draft.inputs[name][0], sum_, f"{sum_}.shortcut", shortcut, instead=name)
