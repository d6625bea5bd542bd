"""A quantized nmc network in SpikingJelly: the same integers in float32, so that the same spikes come out.

For IF populations without synaptic filter, as conversion and training of residual networks give. Currents are
kept in v units (64 per weight unit): whole numbers below 2**24, which float32 holds exactly.
"""

from __future__ import annotations

import numpy as np
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

from nmc.ir import Conv2d, Dense, Fixed, FixedNeuron, GradedRelay, Network, Projection, SumPool2d

WEIGHT_UNIT = 64


def _values(fixed: Fixed, unit: int = 1) -> torch.Tensor:
    return torch.from_numpy(np.asarray(fixed.value * unit, np.float32))


class _Scaled(nn.Module):
    """One to one, or windows summed; times a weight."""

    def __init__(self, projection: Projection, unit: int) -> None:
        super().__init__()
        assert isinstance(projection.weight, Fixed)
        self.synapse, self.weight = projection.synapse, _values(projection.weight, unit)
        self.is_one = bool((self.weight == 1).all())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if isinstance(self.synapse, SumPool2d):
            op = self.synapse
            flat = nn.functional.avg_pool2d(
                x.flatten(0, 1), op.kernel, op.stride, op.padding, divisor_override=1
            )
            x = flat.unflatten(0, x.shape[:2])
        return x if self.is_one else x * self.weight


def _operator(projection: Projection, channels: int, unit: int, bias: Fixed | None) -> nn.Module:
    """The projection with the target's bias, if it is one per channel, in it."""
    op, weight = projection.synapse, projection.weight
    assert isinstance(weight, Fixed)
    made: nn.Module
    if isinstance(op, Conv2d):
        out, _, *kernel = weight.mant.shape
        made = layer.Conv2d(
            channels,
            out,
            kernel,
            op.stride,
            op.padding,
            op.dilation,
            op.groups,
            bias is not None,
            step_mode="m",
        )
    elif isinstance(op, Dense):
        made = nn.Sequential(
            nn.Flatten(2), layer.Linear(*weight.mant.shape[::-1], bias is not None, step_mode="m")
        )
    else:
        assert bias is None
        return _Scaled(projection, unit)
    held = made[1] if isinstance(made, nn.Sequential) else made
    with torch.no_grad():
        held.weight.copy_(_values(weight, unit))
        if bias is not None:
            held.bias.copy_(_values(bias).reshape(-1).expand(held.bias.shape))
    return made


class Translated(nn.Module):
    """Multi-step mode, (T, N, C, H, W) float32. Out: spikes summed over the steps, or the last potential."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.operators, self.neurons = nn.ModuleDict(), nn.ModuleDict()
        self.start: dict[str, torch.Tensor] = {}
        for population, incoming in network.walk():
            cell = population.neuron
            if population.is_input:
                continue
            spiking = isinstance(cell, FixedNeuron)
            bias = population.bias if isinstance(population.bias, Fixed) else None
            for projection in incoming:
                assert not projection.on_host
                assert not projection.lag
                unit = WEIGHT_UNIT if spiking else 1
                channels = network[projection.source].shape[0]
                self.operators[_key(projection.name)] = _operator(projection, channels, unit, bias)
                bias = None
            if isinstance(cell, FixedNeuron) and cell.vth is not None:
                self._add_neuron(population.name, cell, population.shape)
            elif not isinstance(cell, GradedRelay):
                assert population.name in network.outputs
        functional.set_step_mode(self, "m")
        self.eval()

    def _add_neuron(self, name: str, cell: FixedNeuron, shape: tuple[int, ...]) -> None:
        assert cell.vth is not None
        assert cell.drop is None
        assert cell.vth.mant.size == 1, "one threshold per layer is what SpikingJelly has"
        assert np.all(cell.du.mant == 4095)
        assert np.all(cell.dv.mant == 0)
        # v > threshold on whole numbers.
        threshold = int(cell.vth.mant.reshape(-1)[0]) * WEIGHT_UNIT + 1
        self.neurons[_key(name)] = neuron.IFNode(v_threshold=float(threshold), v_reset=0.0, step_mode="m")
        if np.any(cell.v0):
            self.start[_key(name)] = torch.from_numpy(np.broadcast_to(cell.v0, shape).astype(np.float32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs = {self.network.inputs[0].name: x}
        for population, incoming in self.network.walk():
            if population.is_input:
                continue
            current = self.operators[_key(incoming[0].name)](outputs[incoming[0].source])
            for projection in incoming[1:]:
                current = current + self.operators[_key(projection.name)](outputs[projection.source])
            key = _key(population.name)
            if key in self.start:
                self.neurons[key].v = self.start[key].expand(current.shape[1:]).clone()
            outputs[population.name] = self.neurons[key](current) if key in self.neurons else current
        return outputs[self.network.outputs[0]].sum(0)


def _key(name: str) -> str:
    return name.replace(".", "_")


def neurons(net: Translated) -> list[tuple[str, nn.Module]]:
    """(population, its neurons)."""
    names = {_key(p.name): p.name for p in net.network.populations}
    return [(names[key], module) for key, module in net.neurons.items()]
