"""What synapses and neurons compute, on tensors of integers; maps are (H, W, C), channels innermost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from nmc import neuron as spec
from nmc.backends.sim.torch_routes import Route
from nmc.ir import Projection

COLUMN_BYTES = 8 << 20
"""Gathered windows are made in pieces of this size, or of one map if that is larger."""
GPU_FACTOR = 32
"""A CPU's cache wants small pieces, a GPU enough work for each launch."""


def room(device: torch.device, size: int) -> int:
    """Bytes that a piece of work may take on a device, from what suits a CPU."""
    return size if device.type == "cpu" else size * GPU_FACTOR


class Operator(Protocol):
    """What a synapse computes, in mantissas of its weight."""

    def __call__(self, maps: Tensor) -> Tensor:
        """(M, H, W, C) payloads -> (M, H_out, W_out, C_out) int32 or int64."""
        ...


@dataclass(frozen=True)
class Windows:
    """Kernel, stride, zero padding and dilation, (vertical, horizontal) each."""

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)

    def of(self, maps: Tensor) -> Tensor:
        """(M, H, W, C) -> (M, H_out, W_out, K_h, K_w, C); a view of the padded maps."""
        (ph, pw), (sh, sw), (dh, dw) = self.padding, self.stride, self.dilation
        if ph or pw:
            maps = functional.pad(maps, (0, 0, pw, pw, ph, ph))
        maps = maps.contiguous()
        count, height, width, channels = maps.shape
        out_h = (height - dh * (self.kernel[0] - 1) - 1) // sh + 1
        out_w = (width - dw * (self.kernel[1] - 1) - 1) // sw + 1
        each, row, column, _ = maps.stride()
        return maps.as_strided(
            (count, out_h, out_w, *self.kernel, channels),
            (each, row * sh, column * sw, row * dh, column * dw, 1),
        )


@dataclass(frozen=True)
class Product:
    """A convolution or a dense layer. weight (groups, K, outputs per group), both padded for the route."""

    windows: Windows
    route: Route
    weight: Tensor
    inner: int
    outputs: int
    sums: torch.dtype

    def __call__(self, maps: Tensor) -> Tensor:
        views = self.windows.of(maps.to(self.route.dtype))
        count, height, width = views.shape[:3]
        out = torch.empty((count, height, width, self.outputs), dtype=self.sums, device=maps.device)
        groups, inner, _ = self.weight.shape
        each = height * width * groups * inner * self.weight.element_size()
        piece = max(1, room(maps.device, COLUMN_BYTES) // each)
        for first in range(0, count, piece):
            part = views[first : first + piece]
            rows = len(part) * height * width
            sums = self.route.multiply(self._columns(part, rows), self.weight)[:, :rows]
            sums = sums[..., : self.outputs // groups].transpose(0, 1)
            out[first : first + piece] = sums.reshape(len(part), height, width, self.outputs)
        return out

    def _columns(self, views: Tensor, rows: int) -> Tensor:
        """(groups, rows, K): what each output's kernel sees, rows and K padded for the route."""
        groups, inner, _ = self.weight.shape
        if groups > 1:
            split = views.unflatten(-1, (groups, -1))
            return split.permute(5, 0, 1, 2, 3, 4, 6).reshape(groups, rows, self.inner)
        padded = self.route.rows(rows)
        if (padded, inner) == (rows, self.inner):
            return views.reshape(1, rows, inner)
        columns = views.new_zeros((padded, inner))
        columns[:rows, : self.inner].view(views.shape).copy_(views)
        return columns[None]


@dataclass(frozen=True)
class Pool:
    """Sum over windows, times one weight."""

    windows: Windows
    weight: Tensor

    def __call__(self, maps: Tensor) -> Tensor:
        views = self.windows.of(maps.to(self.weight.dtype))
        return views.sum(dim=(3, 4), dtype=self.weight.dtype) * self.weight


@dataclass(frozen=True)
class Scale:
    """One to one. weight broadcasts to (H, W, C)."""

    weight: Tensor

    def __call__(self, maps: Tensor) -> Tensor:
        return maps.to(self.weight.dtype) * self.weight


@dataclass(frozen=True)
class Arrival:
    """A projection on the device. shift: mantissas to weight units. target: (C, H, W)."""

    projection: Projection
    operator: Operator
    shift: int
    target: tuple[int, int, int]

    def current(self, maps: Tensor, dtype: torch.dtype) -> Tensor:
        """(M, *source map) payloads -> (M, *target map), weight units (host units for a host projection)."""
        result = self.operator(maps)
        channels, height, width = self.target
        if result.shape[1:] != (height, width, channels):
            # As in torch's order: (C, H, W) is flattened, whatever the target's shape, and parts are added.
            parts = result.permute(0, 3, 1, 2).reshape(len(result), -1, channels, height, width)
            result = parts.sum(dim=1, dtype=result.dtype).permute(0, 2, 3, 1)
        return result.to(dtype) << self.shift


def decay(state: Tensor, keep: Tensor) -> Tensor:
    """``trunc(state * keep / 4096)`` for 0 <= keep <= 4096, with no product beyond the state's own range."""
    size, low = state.abs(), (1 << spec.DECAY_BITS) - 1
    return ((size >> spec.DECAY_BITS) * keep + (((size & low) * keep) >> spec.DECAY_BITS)) * state.sign()


@dataclass(frozen=True)
class Cell:
    """A ``FixedNeuron`` on the device; ``advance`` is ``neuron.step``.

    Tensors broadcast to (H, W, C); None: no bias, no threshold, hard reset, no u kept, all of v kept.
    folds: u can leave 24 bits.
    """

    dtype: torch.dtype
    v0: Tensor
    bias: Tensor | None
    threshold: Tensor | None
    drop: Tensor | None
    keep_u: Tensor | None
    keep_v: Tensor | None
    folds: bool

    def advance(
        self, current: Tensor, u: Tensor, v: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Spikes (bool), u and v after one step; all (N, H, W, C)."""
        now = current << spec.WEIGHT_SHIFT
        if self.keep_u is not None:
            now = now + decay(u, self.keep_u)
        if self.folds:
            now = torch.where(now > spec.U_FOLD, now - 2 * spec.U_FOLD, now)
            now = torch.where(now <= -spec.U_FOLD, now + 2 * spec.U_FOLD, now)
        v = now + (v if self.keep_v is None else decay(v, self.keep_v))
        if bias is not None:
            v += bias
        v = v.clamp_(-spec.V_LIMIT, spec.V_LIMIT)
        if self.threshold is None:
            return torch.zeros_like(v, dtype=torch.bool), now, v
        spikes = v > self.threshold
        v = v.masked_fill(spikes, 0) if self.drop is None else v - spikes * self.drop
        return spikes, now, v
