"""A layer's weights once more: fitted to the rates that arrive, instead of the activations they stand for.

Rates are coarse, so that a weight sees its input with an error that depends on the input. The least squares
fit of the layer's own output takes that into account (weight calibration, Li et al. 2021, there by gradient
descent); a ridge holds it near the weights of the ANN.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from nmc import ir, synapse
from nmc.frontend import opgraph as og
from nmc.ir import FloatArray, frozen

RIDGE = 1.0
"""Strength of the pull to the ANN's weights, in mean variances of an input."""
MAX_FAN_IN = 1024
"""The work grows with its square; wider layers keep their weights, and only their bias is fitted."""
MAX_ROWS = 1 << 14
"""Observations of a fan-in that are used."""


def can_refit(op: og.Op) -> bool:
    """Whether an op has weights to fit; what only picks or weighs channels one by one has not."""
    if isinstance(op, og.Conv2d):
        return op.groups < len(op.weight)
    return isinstance(op, og.Linear)


def refit(op: og.Conv2d | og.Linear, rates: FloatArray, wanted: FloatArray) -> og.Conv2d | og.Linear:
    """The op with the weights and the bias that come closest to its output in the ANN.

    Minimizes, over the observations, ``|W r + b - y|^2 + lambda |W - W0|^2`` per output channel; b takes the
    mean. Without two observations per input the weights stay as they are.

    Args:
        op: with the ANN's weights W0.
        rates: (n, *input shape) what arrives on average over the steps, in units of the ANN.
        wanted: (n, *output shape) y.
    """
    if isinstance(op, og.Linear):
        rows, targets = rates[None], wanted[None]
    else:
        operator = ir.Conv2d(op.stride, op.padding, op.dilation, op.groups)
        few = max(1, MAX_ROWS // math.prod(wanted.shape[2:]))
        rows = synapse.fan_in_windows(operator, op.weight.shape, rates[:few])
        grouped = wanted[:few].reshape(len(rates[:few]), op.groups, len(op.weight) // op.groups, -1)
        targets = grouped.transpose(1, 0, 3, 2).reshape(op.groups, rows.shape[1], -1)
    weights = op.weight.reshape(len(rows), -1, rows.shape[2])
    fits = [_fit(w, r, y) for w, r, y in zip(weights, rows, targets, strict=True)]
    weight = np.concatenate([w for w, _ in fits]).reshape(op.weight.shape)
    return replace(op, weight=frozen(weight, np.float64), bias=np.concatenate([b for _, b in fits]))


def _fit(weight: FloatArray, rows: FloatArray, targets: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Weights (C_out, fan-in) and bias (C_out,) of one group of channels."""
    centre, goal = rows.mean(axis=0), targets.mean(axis=0)
    count, fan_in = rows.shape
    if fan_in <= MAX_FAN_IN and count >= 2 * fan_in:
        spread = rows - centre
        missing = targets - goal - spread @ weight.T
        gram = spread.T @ spread
        pull = RIDGE * np.trace(gram) / fan_in
        if pull > 0:
            weight = weight + np.linalg.solve(gram + pull * np.eye(fan_in), spread.T @ missing).T
    return weight, np.asarray(goal - weight @ centre)
