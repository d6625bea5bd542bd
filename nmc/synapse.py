"""What a projection computes: shapes, currents and fan-out of every synapse operator, in NumPy.

Used by the reference engine, the quantizer and the reports, so that each operator is defined once.
Sums run in float64, which is exact for integers below 2**53; ``quantize/ranges.py`` proves 2**23.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nmc.errors import NmcError
from nmc.ir import Conv2d, Dense, FloatArray, Identity, IntArray, Shape, SumPool2d, Synapse

Array = npt.NDArray[Any]


def _windows(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def output_shape(synapse: Synapse, weight_shape: Shape, source: Shape, who: str) -> Shape:
    """Shape of the target population.

    Raises NmcError NMC-G03 when source and weights do not fit each other.
    """
    if isinstance(synapse, Identity):
        return source  # the rules of ``rules.py`` know the target
    if isinstance(synapse, Dense):
        if len(weight_shape) != 2 or weight_shape[1] != int(np.prod(source)):
            raise NmcError(
                "NMC-G03", who, f"weights {weight_shape} on a source of {int(np.prod(source))} neurons"
            )
        return (weight_shape[0],)
    if len(source) != 3:
        raise NmcError("NMC-G03", who, f"a 2-D operator on a source of shape {source}")
    if isinstance(synapse, SumPool2d):
        channels, kernel, dilation = source[0], synapse.kernel, (1, 1)
    else:
        if (
            len(weight_shape) != 4
            or source[0] != weight_shape[1] * synapse.groups
            or weight_shape[0] % synapse.groups
        ):
            raise NmcError(
                "NMC-G03",
                who,
                f"weights {weight_shape} with {synapse.groups} groups on a source of shape {source}",
            )
        channels, kernel, dilation = weight_shape[0], (weight_shape[2], weight_shape[3]), synapse.dilation
    height, width = (
        _windows(source[1 + axis], kernel[axis], synapse.stride[axis], synapse.padding[axis], dilation[axis])
        for axis in (0, 1)
    )
    if height < 1 or width < 1:
        raise NmcError("NMC-G03", who, f"kernel {kernel} is larger than the padded source {source}")
    return (channels, height, width)


def _patches(x: Array, kernel: tuple[int, int], synapse: Conv2d | SumPool2d) -> Array:
    """View (N, C, K_h, K_w, H_out, W_out) of the zero-padded x (N, C, H, W)."""
    (ph, pw), (sh, sw) = synapse.padding, synapse.stride
    dh, dw = synapse.dilation if isinstance(synapse, Conv2d) else (1, 1)
    if ph or pw:
        x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    n, c, height, width = x.shape
    out_h, out_w = _windows(height, kernel[0], sh, 0, dh), _windows(width, kernel[1], sw, 0, dw)
    s0, s1, s2, s3 = x.strides
    return np.lib.stride_tricks.as_strided(
        x, (n, c, *kernel, out_h, out_w), (s0, s1, s2 * dh, s3 * dw, s2 * sh, s3 * sw), writeable=False
    )


def apply(synapse: Synapse, weight: Array, x: Array, dtype: npt.DTypeLike = np.float64) -> Array:
    """The current of a projection; one to one in the source's shape, for ``onto``.

    Args:
        synapse: the operator.
        weight: numbers of any dtype, shape as the operator's docstring in ``ir`` says.
        x: (N, *source shape), payloads of the source's spikes.
        dtype: what is computed in, float64 or float32.

    Returns:
        (N, *target shape), of that dtype.
    """
    x = x.astype(dtype)
    weight = weight.astype(dtype)
    if isinstance(synapse, Identity):
        return np.asarray(x * weight)
    if isinstance(synapse, Dense):
        return np.asarray(x.reshape(len(x), -1) @ weight.T)
    if isinstance(synapse, SumPool2d):
        return np.asarray(_patches(x, synapse.kernel, synapse).sum(axis=(2, 3)) * weight)
    groups, c_out = synapse.groups, weight.shape[0]
    patches = _patches(x, (weight.shape[2], weight.shape[3]), synapse)
    n, _, _, _, out_h, out_w = patches.shape
    fan_in = int(np.prod(weight.shape[1:]))
    columns = patches.reshape(n, groups, fan_in, out_h * out_w)
    kernels = weight.reshape(groups, c_out // groups, fan_in)
    return np.asarray(np.matmul(kernels, columns).reshape(n, c_out, out_h, out_w))


def parts(synapse: Synapse, source: int, target: int) -> int:
    """How many of the source's neurons a one-to-one operator adds up for each of the target's; else 1.

    Args:
        source, target: numbers of neurons.
    """
    return source // target if isinstance(synapse, Identity) else 1


def onto(current: Array, target: Shape) -> Array:
    """(N, *source) of a one-to-one operator as (N, *target): in C order, parts of the target's size added."""
    return np.asarray(current.reshape(len(current), -1, *target).sum(axis=1, dtype=current.dtype))


def apply_integer(synapse: Synapse, weight: IntArray, x: Array) -> IntArray:
    """``apply`` on integers, exact, int64."""
    return np.asarray(np.rint(apply(synapse, weight, x)).astype(np.int64))


def seen(synapse: Synapse, weight_shape: Shape, x: Array) -> FloatArray:
    """What each weight multiplies on average over the target's positions, borders included.

    Args:
        x: one value per source neuron, (*source shape).

    Returns:
        float64, broadcastable to the weight, so that ``(weight * seen).sum`` over all axes but the first is
        the mean current per output channel.
    """
    x = x.astype(np.float64)
    if isinstance(synapse, Dense):
        return x.reshape(1, -1)
    if isinstance(synapse, Identity):
        return np.asarray(
            x.mean(axis=tuple(range(1, x.ndim)), keepdims=True) if len(weight_shape) else x.mean()
        )
    if isinstance(synapse, SumPool2d):
        return np.asarray(_patches(x[None], synapse.kernel, synapse).sum(axis=(2, 3)).mean())
    windows = _patches(x[None], (weight_shape[2], weight_shape[3]), synapse).mean(axis=(0, 4, 5))
    if synapse.groups == 1:
        return np.asarray(windows[None])
    per_group = windows.reshape(synapse.groups, *weight_shape[1:])
    return np.asarray(np.repeat(per_group, weight_shape[0] // synapse.groups, axis=0))


def fan_in_windows(synapse: Conv2d, weight_shape: Shape, x: Array) -> FloatArray:
    """(groups, N * positions, C_in / groups * K_h * K_w): what each target position's fan-in holds."""
    windows = _patches(x.astype(np.float64), (weight_shape[2], weight_shape[3]), synapse)
    n, channels, kh, kw, out_h, out_w = windows.shape
    grouped = windows.reshape(n, synapse.groups, channels // synapse.groups, kh, kw, out_h, out_w)
    rows = grouped.transpose(1, 0, 5, 6, 2, 3, 4)
    return np.asarray(rows.reshape(synapse.groups, n * out_h * out_w, -1))


def fan_out(synapse: Synapse, weight_shape: Shape, source: Shape) -> IntArray:
    """Synapses that leave each source neuron, borders counted exactly (padding has none); source's shape."""
    if isinstance(synapse, Identity):
        return np.ones(source, np.int64)
    if isinstance(synapse, Dense):
        return np.full(source, weight_shape[0], np.int64)
    kernel = synapse.kernel if isinstance(synapse, SumPool2d) else (weight_shape[2], weight_shape[3])
    dilation = synapse.dilation if isinstance(synapse, Conv2d) else (1, 1)
    per_axis = []
    for axis in (0, 1):
        size, stride, padding = source[1 + axis], synapse.stride[axis], synapse.padding[axis]
        targets = _windows(size, kernel[axis], stride, padding, dilation[axis])
        hits = np.zeros(size, np.int64)
        for tap in range(kernel[axis]):
            positions = np.arange(targets) * stride + tap * dilation[axis] - padding
            np.add.at(hits, positions[(positions >= 0) & (positions < size)], 1)
        per_axis.append(hits)
    channels = 1 if isinstance(synapse, SumPool2d) else weight_shape[0] // synapse.groups
    plane = channels * np.outer(per_axis[0], per_axis[1])
    return np.asarray(np.broadcast_to(plane, source))


def synapse_count(synapse: Synapse, weight_shape: Shape, source: Shape) -> int:
    """Number of synapses without sharing, borders counted exactly."""
    return int(fan_out(synapse, weight_shape, source).sum())
