"""Layers whose convolution and neurons run in one CUDA kernel: when they may, how they are launched.

``TRITON_INTERPRET=1`` runs the same code on the CPU.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import triton
from torch import Tensor

from nmc.backends.sim.torch_operators import Cell, Product, Windows
from nmc.backends.sim.torch_routes import FLOAT64, INT8
from nmc.backends.sim.triton_kernel import conv_fire

SITES, CHANNELS, FAN_IN, WARPS = 64, 64, 64, 8
"""What one program owns, how much of a tap it multiplies at once, on how many warps: for compute capabilities
8.0 to 9.0 nothing is spilled then, with half the warps it is."""
OLDEST = 3
"""Triton's interpreter cannot run this before version 3."""


def problem(device: torch.device) -> str:
    """Why the kernel cannot be used on a device; empty when it can and passes its test there."""
    if device.type != "cuda" and int(triton.__version__.split(".")[0]) < OLDEST:
        return f"Triton {triton.__version__} cannot interpret it, {OLDEST}.0 can"
    return _self_test(device)


def fits(product: Product, cell: Cell) -> bool:
    """Whether the kernel can compute a convolution and its neurons: int8 factors, parameters per channel."""
    per_channel = all(one is None or one.shape[:2] == (1, 1) for one in _rows(cell))
    return product.route is INT8 and cell.dtype is torch.int32 and per_channel


def _rows(cell: Cell) -> tuple[Tensor | None, ...]:
    return cell.bias, cell.threshold, cell.drop, cell.keep_u, cell.keep_v


def channel_parameters(cell: Cell, outputs: int) -> Tensor:
    """(5, outputs) int32: bias, threshold, drop, keep_u, keep_v; 0 where the kernel does not read it."""
    rows = _rows(cell)
    zero = torch.zeros(outputs, dtype=torch.int32, device=cell.v0.device)
    return torch.stack([zero if row is None else row.flatten().expand(outputs) for row in rows])


def fire(
    product: Product,
    shift: int,
    cell: Cell,
    parameters: Tensor,
    maps: Tensor,
    extra: Tensor | None,
    u: Tensor,
    v: Tensor,
    spikes: Tensor,
    kept: tuple[Tensor, Tensor] | None = None,
) -> None:
    """Advance a layer by a block of steps.

    Args:
        shift: from mantissas to weight units. parameters: from ``channel_parameters``.
        maps: (T, N, H, W, C) int8. extra: what else arrives, weight units, (T or 1, N, *out) int32, or None.
        u, v: (N, *out) int32, changed in place. spikes: (T, N, *out) int8, written.
        kept: (T, N, *out) int32 each, written with u and v after each step; None where nobody asked.
    """
    steps, samples, height, width, inputs = maps.shape
    _, _, out_height, out_width, outputs = spikes.shape
    rows = samples * out_height * out_width
    windows = product.windows
    grid = (triton.cdiv(rows, SITES), triton.cdiv(outputs, CHANNELS))
    kept_u, kept_v = (v, v) if kept is None else kept
    # Triton launches on the current device.
    with torch.cuda.device_of(maps):
        conv_fire[grid](
            *(maps.contiguous(), product.weight, v if extra is None else extra.contiguous(), parameters),
            *(u, v, spikes, kept_u, kept_v),
            *(steps, rows, height, width, inputs, out_height, out_width, outputs, product.weight.shape[2]),
            *(shift, samples * height * width * inputs, rows * outputs),
            0 if extra is None or len(extra) == 1 else rows * outputs,
            *(windows.kernel[0] * windows.kernel[1], windows.kernel[1]),
            *(*windows.stride, *windows.padding, *windows.dilation),
            HAS_EXTRA=extra is not None,
            HAS_BIAS=cell.bias is not None,
            KEEPS_U=cell.keep_u is not None,
            LEAKS=cell.keep_v is not None,
            FIRES=cell.threshold is not None,
            SOFT=cell.drop is not None,
            FOLDS=cell.folds,
            RECORDS=kept is not None,
            SITES=SITES,
            CHANNELS=CHANNELS,
            FAN_IN=FAN_IN,
            num_warps=WARPS,
        )


def _self_test(device: torch.device) -> str:
    """Extreme weights and payloads, every branch of the neuron, a padded and dilated kernel."""
    draw = torch.Generator().manual_seed(0)

    def integers(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=draw).to(device, torch.int32)

    windows = Windows((2, 3), (2, 1), (1, 1), (1, 2))
    maps = integers(-128, 128, 3, 2, 4, 5, 9).to(torch.int8)
    weight = torch.zeros((1, 56, 72), dtype=torch.int8, device=device)
    weight[:, :54, :70] = integers(-128, 128, 54, 70)
    exact = Product(windows, FLOAT64, weight.to(torch.float64)[:, :54, :70], 54, 70, torch.int32)
    fused = Product(windows, INT8, weight, 54, 70, torch.int32)
    sums = exact(maps.flatten(0, 1)).unflatten(0, (3, 2))
    extra = integers(-(1 << 16), 1 << 16, *sums.shape[1:])[None]
    for column, edge in ((0, -(1 << 17)), (1, 1 << 17)):  # u exactly where it folds, and where not yet
        extra[0, 0, 0, column] = edge - (sums[0, 0, 0, column] << 1)
    keep, drop = integers(0, 4097, 1, 1, 70), integers(0, 1 << 20, 1, 1, 70)
    for keep_u, keep_v, soft in ((None, None, None), (keep, keep, drop)):
        start, bias = integers(-(1 << 20), 1 << 20, 1, 1, 70), integers(-9999, 9999, 1, 1, 70)
        cell = Cell(torch.int32, start, bias, None, soft, keep_u, keep_v, folds=True)
        u = torch.zeros(sums.shape[1:], dtype=torch.int32, device=device)
        v = cell.v0.expand(sums.shape[1:]).clone()
        # Reached exactly at one site, so that > and >= differ.
        reached = cell.advance((sums[0] << 1) + extra[0], u, v, bias)[2]
        cell = replace(cell, threshold=reached[:1, 1, 1].reshape(1, 1, 70))
        found = u.clone(), v.clone()
        spikes = torch.zeros(sums.shape, dtype=torch.int8, device=device)
        try:
            fire(fused, 1, cell, channel_parameters(cell, 70), maps, extra, *found, spikes)
        except Exception as error:  # whatever a compiler or driver raises: the kernel is not used
            return f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
        for t in range(3):
            fired, u, v = cell.advance((sums[t] << 1) + extra[0], u, v, cell.bias)
            if not torch.equal(fired.to(torch.int8), spikes[t]):
                return f"{int((fired != spikes[t]).sum())} of {fired.numel()} spikes are wrong in step {t}"
        if not (torch.equal(u, found[0]) and torch.equal(v, found[1])):
            return "states are wrong"
    return ""
