"""The CUDA kernel of ``triton_layer``: a convolution and its neurons over a block of steps.

An implicit matrix product: a program owns some sites and some channels, gathers int8 payloads and weights tap
by tap into int32 sums, and keeps u and v in registers from step to step, so that no current reaches memory.
Everything is an integer, so the order of sums cannot matter.
"""

# Triton compiles a kernel's annotations with it: only its own may be there.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,misc,untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _decay(state, keep):
    """``torch_operators.decay``."""
    size = tl.abs(state)
    less = (size >> 12) * keep + (((size & 4095) * keep) >> 12)
    return tl.where(state < 0, -less, less)


@triton.jit
def _currents(
    maps,
    weight,
    sample,
    top,
    left,
    inside,
    channel,
    height,
    width,
    inputs,
    outputs,
    columns,
    taps,
    kernel_w,
    dilation_h,
    dilation_w,
    SITES: tl.constexpr,
    CHANNELS: tl.constexpr,
    FAN_IN: tl.constexpr,
):
    """(SITES, CHANNELS) int32 sums of one step; ``top``, ``left``: where each site's kernel begins."""
    sums = tl.zeros((SITES, CHANNELS), dtype=tl.int32)
    for tap in range(taps):
        y = top + (tap // kernel_w) * dilation_h
        x = left + (tap % kernel_w) * dilation_w
        seen = inside & (y >= 0) & (y < height) & (x >= 0) & (x < width)
        start = ((sample * height + y) * width + x) * inputs
        for first in range(0, inputs, FAN_IN):
            source = first + tl.arange(0, FAN_IN)
            real = source < inputs
            payloads = tl.load(
                maps + start[:, None] + source[None, :], mask=seen[:, None] & real[None, :], other=0
            )
            factors = tl.load(
                weight + (tap * inputs + source)[:, None] * columns + channel[None, :],
                mask=real[:, None] & (channel < outputs)[None, :],
                other=0,
            )
            sums += tl.dot(payloads, factors, out_dtype=tl.int32)
    return sums


@triton.jit
def conv_fire(
    maps,
    weight,
    extra,
    parameters,
    u,
    v,
    spikes,
    kept_u,
    kept_v,
    steps,
    rows,
    height,
    width,
    inputs,
    out_height,
    out_width,
    outputs,
    columns,
    shift,
    map_step,
    out_step,
    extra_step,
    taps,
    kernel_w,
    stride_h,
    stride_w,
    padding_h,
    padding_w,
    dilation_h,
    dilation_w,
    HAS_EXTRA: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    KEEPS_U: tl.constexpr,
    LEAKS: tl.constexpr,
    FIRES: tl.constexpr,
    SOFT: tl.constexpr,
    FOLDS: tl.constexpr,
    RECORDS: tl.constexpr,
    SITES: tl.constexpr,
    CHANNELS: tl.constexpr,
    FAN_IN: tl.constexpr,
):
    """``neuron.step`` behind ``_currents``, step after step; see ``fire``."""
    row = tl.program_id(0) * SITES + tl.arange(0, SITES)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    inside = row < rows
    # One step's maps have fewer than 2**31 payloads (torch_run.sizes); pointers move on from step to step.
    sample = row // (out_height * out_width)
    top = (row // out_width) % out_height * stride_h - padding_h
    left = row % out_width * stride_w - padding_w
    site = row[:, None] * outputs + channel[None, :]
    mask = inside[:, None] & (channel < outputs)[None, :]
    column, real = parameters + channel[None, :], (channel < outputs)[None, :]
    bias = tl.load(column, mask=real, other=0)
    threshold = tl.load(column + outputs, mask=real, other=0)
    drop = tl.load(column + 2 * outputs, mask=real, other=0)
    keep_u = tl.load(column + 3 * outputs, mask=real, other=0)
    keep_v = tl.load(column + 4 * outputs, mask=real, other=0)
    now = tl.load(u + site, mask=mask, other=0)
    state = tl.load(v + site, mask=mask, other=0)
    for _ in range(steps):
        sums = _currents(
            maps, weight, sample, top, left, inside, channel, height, width, inputs, outputs, columns,
            taps, kernel_w, dilation_h, dilation_w, SITES, CHANNELS, FAN_IN,
        )  # fmt: skip
        current = sums << shift
        if HAS_EXTRA:
            current += tl.load(extra + site, mask=mask, other=0)
        current = current << 6
        if KEEPS_U:
            current += _decay(now, keep_u)
        if FOLDS:
            current = tl.where(current > 8388608, current - 16777216, current)
            current = tl.where(current <= -8388608, current + 16777216, current)
        now = current
        if LEAKS:
            state = _decay(state, keep_v)
        state += now
        if HAS_BIAS:
            state += bias
        state = tl.minimum(tl.maximum(state, -8388607), 8388607)
        fired = state > threshold
        if FIRES:
            tl.store(spikes + site, fired.to(tl.int8), mask=mask)
            state = tl.where(fired, state - drop if SOFT else 0, state)
        if RECORDS:
            tl.store(kept_u + site, now, mask=mask)
            tl.store(kept_v + site, state, mask=mask)
            kept_u += out_step
            kept_v += out_step
        maps += map_step
        spikes += out_step
        extra += extra_step
    tl.store(u + site, now, mask=mask)
    tl.store(v + site, state, mask=mask)
