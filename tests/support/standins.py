"""Neurons with the class paths, attributes and equations of the frameworks, for tests without them.

The tests in tests/frameworks hold the tracer against the real ones.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import nn


class BaseNode(nn.Module):
    """What SpikingJelly's neurons derive from."""


class IFNode(BaseNode):
    """SpikingJelly's, both step modes."""

    def __init__(self, v_threshold: float = 1.0, v_reset: float | None = 0.0, step_mode: str = "s") -> None:
        super().__init__()
        self.v_threshold, self.v_reset, self.step_mode = v_threshold, v_reset, step_mode
        self.surrogate_function = SimpleNamespace(spiking=True)
        self.reset()

    def reset(self) -> None:
        self.v: Any = self.v_reset or 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.step_mode == "m":
            return torch.stack([self.step(x_t) for x_t in x])
        return self.step(x)

    def step(self, x: torch.Tensor) -> torch.Tensor:
        self.v = self.v + x
        spikes = (self.v >= self.v_threshold).to(x)
        if self.v_reset is None:
            self.v = self.v - spikes * self.v_threshold
        else:
            self.v = torch.where(spikes > 0, torch.as_tensor(self.v_reset).to(x), self.v)
        return spikes


class Leaky(nn.Module):
    """snnTorch's, reset to zero."""

    def __init__(self, beta: float = 0.5, init_hidden: bool = False, reset_mechanism: str = "zero") -> None:
        super().__init__()
        self.register_buffer("beta", torch.tensor(beta))
        self.register_buffer("threshold", torch.tensor(1.0))
        self.init_hidden, self.output, self.reset_mechanism = init_hidden, False, reset_mechanism
        self.inhibition, self.state_quant, self.reset_delay = False, False, True
        self.mem: Any = torch.zeros(0)

    def reset_mem(self) -> torch.Tensor:
        self.mem = torch.zeros(0)
        return self.mem

    def forward(self, input_: torch.Tensor, mem: torch.Tensor | None = None) -> Any:
        if mem is not None:
            self.mem = mem
        if self.mem.shape != input_.shape:
            self.mem = torch.zeros_like(input_)
        keep = 1.0 if self.reset_mechanism == "none" else (self.mem <= self.threshold).to(input_)
        self.mem = self.beta * self.mem * keep + input_
        spikes = (self.mem > self.threshold).to(input_)
        return spikes if self.init_hidden else (spikes, self.mem)


class CellState(NamedTuple):
    v: Any


class LIFBoxCell(nn.Module):
    """Norse's; the caller keeps the state."""

    def __init__(self, v_th: float = 0.25, dt: float = 0.001) -> None:
        super().__init__()
        self.dt = dt
        self.p = SimpleNamespace(
            tau_mem_inv=torch.tensor(500.0),
            v_leak=torch.tensor(0.0),
            v_th=torch.tensor(v_th),
            v_reset=torch.tensor(0.0),
        )

    def forward(self, input_tensor: torch.Tensor, state: CellState | None = None) -> Any:
        v = torch.zeros_like(input_tensor) if state is None else state.v
        v = v + self.dt * self.p.tau_mem_inv * (input_tensor - v)
        spikes = (v > self.p.v_th).to(v)
        return spikes, CellState(v * (1 - spikes))


BaseNode.__module__ = "spikingjelly.activation_based.neuron.base_node"
IFNode.__module__ = "spikingjelly.activation_based.neuron.integrate_and_fire"
Leaky.__module__ = "snntorch._neurons.leaky"
LIFBoxCell.__module__ = "norse.torch.module.lif_box"
