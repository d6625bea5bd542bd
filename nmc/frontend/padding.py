"""Padding that differs from side to side, as convolutions that pad both sides alike: some taps are zero."""

from __future__ import annotations

import numpy as np

from nmc.frontend.opgraph import Conv2d, Pair
from nmc.ir import FloatArray


def same(weight: FloatArray, dilation: Pair) -> tuple[FloatArray, Pair] | None:
    """torch's padding "same" at stride 1: a kernel, and what it pads on both sides.

    torch pads an even kernel by one more at the end; a leading row or column of zeros makes that equal.

    Args:
        weight: (C_out, C_in / groups, K_h, K_w).
        dilation: of the kernel.

    Returns:
        None for a dilated even kernel, which no such row moves by one.
    """
    pads = []
    for axis in (0, 1):
        total = dilation[axis] * (weight.shape[2 + axis] - 1)
        if total % 2:
            if dilation[axis] != 1:
                return None
            extra = [(0, 0)] * 4
            extra[2 + axis] = (1, 0)
            weight, total = np.pad(weight, extra), total + 1
        pads.append(total // 2)
    return weight, (pads[0], pads[1])


def zeros_around(channels: int, rows: Pair, columns: Pair) -> Conv2d:
    """``rows`` = (above, below) and ``columns`` = (left, right) of zeros around a map, as a depthwise
    convolution whose one tap per channel that is not zero lies where the map has to move to."""
    kernel = np.zeros((channels, 1, *(1 + abs(before - after) for before, after in (rows, columns))))
    kernel[:, 0, max(rows) - rows[0], max(columns) - columns[0]] = 1.0
    return Conv2d(kernel, padding=(max(rows), max(columns)), groups=channels)
