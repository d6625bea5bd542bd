"""Adaptive rounding: each weight is rounded so that it takes back the error of those rounded before it.

Optimal brain quantization in the blocked, column-by-column form of GPTQ (Frantar et al. 2022,
arXiv:2210.17323, equations 2 and 3): for inputs with covariance H, rounding weight q of every output row
leaves an error e_q = (w_q - round(w_q)) / U_qq, and the rows not yet rounded become w_j - e_q U_qj, with U
the upper Cholesky factor of the inverse of H.
"""

from __future__ import annotations

import numpy as np

from nmc import synapse
from nmc.ir import Conv2d, Dense, FloatArray, IntArray, Projection

BLOCK = 576
"""Inputs whose errors are shared, 64 channels of a 3x3 kernel; bounds memory and time on wide layers."""
DAMPING = 0.01
"""Share of the mean variance added to every input's, as in the paper, so that H can be inverted."""
CHUNK = 48
"""Inputs after which errors are handed on to those beyond, as in the paper's lazy batches; for speed only."""
MAX_ROWS = 4096
"""Observations per covariance, evenly picked; several times the block."""


def round_rows(rows: FloatArray, covariance: FloatArray, lowest: int, highest: int) -> IntArray:
    """Round one block of weights.

    Args:
        rows: (outputs, inputs) in grid steps, not rounded.
        covariance: (inputs, inputs) of what they multiply.
        lowest, highest: the mantissa's range.

    Returns:
        int64 mantissas, (outputs, inputs).
    """
    inputs = rows.shape[1]
    variance = np.diag(covariance)
    if not variance.any():
        return np.asarray(np.clip(np.rint(rows), lowest, highest).astype(np.int64))
    damped = covariance + np.eye(inputs) * (DAMPING * float(variance.mean()))
    # Inputs that vary most are rounded first, while the others can still take their error back.
    order = np.argsort(-variance, kind="stable")
    upper = np.linalg.cholesky(np.linalg.inv(damped[np.ix_(order, order)])).T
    # Inputs along the first axis: what changes together lies together.
    left = np.ascontiguousarray(rows.T[order])
    errors, rounded = np.empty(left.shape), np.empty(left.shape)
    for start in range(0, inputs, CHUNK):
        stop = min(start + CHUNK, inputs)
        for column in range(start, stop):
            np.clip(np.rint(left[column]), lowest, highest, out=rounded[column])
            np.divide(left[column] - rounded[column], upper[column, column], out=errors[column])
            left[column + 1 : stop] -= upper[column, column + 1 : stop, None] * errors[column]
        # What the chunk leaves to all later inputs, in one product.
        left[stop:] -= upper[start:stop, stop:].T @ errors[start:stop]
    mant = np.empty(rows.shape, np.int64)
    mant[:, order] = rounded.T
    return mant


def observations(projection: Projection, frames: FloatArray) -> FloatArray:
    """(groups, rows, inputs): what the fan-in of one target neuron saw, over frames and positions.

    Args:
        projection: with a Conv2d or Dense synapse.
        frames: (F, *source shape), whole payloads.
    """
    if isinstance(projection.synapse, Dense):
        seen = frames.reshape(1, len(frames), -1)
    else:
        assert isinstance(projection.synapse, Conv2d)
        seen = synapse.fan_in_windows(projection.synapse, projection.weight_shape, frames)
    stride = -(-seen.shape[1] // MAX_ROWS)
    return np.asarray(seen[:, ::stride])


def covariance(seen: list[FloatArray], start: int, stop: int) -> FloatArray:
    """Sum over sources of the covariance of inputs start..stop; exact sums of whole numbers, order-free."""
    total = np.zeros((stop - start, stop - start))
    for rows in seen:
        block = rows[:, start:stop]
        mean = block.sum(axis=0) / len(block)
        total += block.T @ block / len(block) - np.outer(mean, mean)
    return total


def adaptive(
    weight: FloatArray, groups: int, sources: list[FloatArray], lowest: int, highest: int
) -> IntArray:
    """Mantissas of one weight tensor.

    Args:
        weight: (C_out, ...) in grid steps.
        groups: of the convolution; 1 for dense layers.
        sources: ``observations`` of every projection that uses the tensor.
        lowest, highest: the mantissa's range.
    """
    per_group = weight.reshape(groups, weight.shape[0] // groups, -1)
    mant = np.zeros(per_group.shape, np.int64)
    for group in range(groups):
        seen = [source[group] for source in sources]
        for start in range(0, per_group.shape[2], BLOCK):
            stop = min(start + BLOCK, per_group.shape[2])
            block = covariance(seen, start, stop)
            mant[group, :, start:stop] = round_rows(per_group[group, :, start:stop], block, lowest, highest)
    return mant.reshape(weight.shape)
