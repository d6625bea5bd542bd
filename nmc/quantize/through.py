"""Straight-through arithmetic: integers forward, gradients of the numbers before rounding backward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from nmc import neuron as spec
from nmc.ir import Conv2d, Dense, FixedNeuron, Identity, Synapse


def through(x: Tensor, exact: Tensor) -> Tensor:
    """``exact`` forward, to the last bit; the gradient of ``x`` backward."""
    return exact.detach() + (x - x.detach())


def rounded(x: Tensor) -> Tensor:
    """The nearest whole number; the gradient of ``x``."""
    return through(x, torch.round(x))


class _Fire(torch.autograd.Function):  # type: ignore[misc]
    """Strict comparison with 0; backward the derivative of arctan(pi x) / pi."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad / (1 + (torch.pi * x) ** 2)


def fire(distance: Tensor) -> Tensor:
    """1 where the distance to the threshold is above 0, with the gradient of a smooth step."""
    spikes: Tensor = _Fire.apply(distance)
    return spikes


def apply(synapse: Synapse, weight: Tensor, x: Tensor) -> Tensor:
    """``nmc.synapse.apply`` in torch: x (rows, *source shape)."""
    if isinstance(synapse, Conv2d):
        return functional.conv2d(
            x, weight, None, synapse.stride, synapse.padding, synapse.dilation, synapse.groups
        )
    if isinstance(synapse, Dense):
        return functional.linear(x.flatten(1), weight)
    if isinstance(synapse, Identity):
        return x * weight
    return weight * functional.avg_pool2d(
        x, synapse.kernel, synapse.stride, synapse.padding, divisor_override=1
    )


class Cell:
    """A population on its way through the steps. current: of the sources that have been run, (N or 1, T or 1,
    *shape), weight units. neuron None: a relay. noise: on v before the comparison, in thresholds."""

    def __init__(
        self,
        neuron: FixedNeuron | None,
        current: Tensor,
        v: Tensor | None = None,
        bias: Tensor | None = None,
        threshold: Tensor | None = None,
        drop: Tensor | None = None,
        noise: float = 0.0,
    ) -> None:
        self._keep_u = 0 if neuron is None else kept_parts(int(neuron.du.mant) + spec.U_DECAY_OFFSET)
        self._keep_v = 0 if neuron is None else kept_parts(int(neuron.dv.mant))
        fades = self._keep_u or self._keep_v != 1 << spec.DECAY_BITS
        # Products with a decay need 36 bits. Sums stay below 2**24, or are clamped: exact in float32.
        kind = torch.float64 if fades else torch.float32
        self.current, self.v = current, None if v is None else v.to(kind)
        self._bias, self._threshold, self._drop = (
            None if one is None else one.to(kind) for one in (bias, threshold, drop)
        )
        self._u = None if self.v is None else torch.zeros(self.v.shape, dtype=kind)
        self._noise = noise

    def step(self, arriving: Tensor) -> Tensor:
        """Spikes of the next step, float32."""
        if self._u is None or self.v is None:
            return arriving
        self._u = decayed(self._u, self._keep_u) + arriving.to(self.v.dtype) * (1 << spec.WEIGHT_SHIFT)
        v = (decayed(self.v, self._keep_v) + self._u + self._bias).clamp(-spec.V_LIMIT, spec.V_LIMIT)
        if self._threshold is None:
            self.v = v
            return torch.zeros(v.shape)
        if self._noise:
            v = v + self._noise * self._threshold.detach() * torch.randn_like(v)
        # The distance as a share of the threshold keeps the derivative's width that of the float network.
        spike = fire((v - self._threshold) / self._threshold.detach().clamp(min=1.0))
        fired = spike.detach()
        self.v = v * (1 - fired) if self._drop is None else v - fired * self._drop
        return spike.float()


def kept_parts(loss: int) -> int:
    """What a decay leaves of 4096 parts."""
    return (1 << spec.DECAY_BITS) - loss


def decayed(state: Tensor, keep: int) -> Tensor:
    """``neuron.decay``: truncated towards zero; the gradient of the exact decay."""
    if keep == 1 << spec.DECAY_BITS:
        return state
    if keep == 0:
        return torch.zeros_like(state)
    exact = state * (keep / (1 << spec.DECAY_BITS))
    return through(exact, torch.trunc(exact))
