"""The torch side of ``aware``: integer semantics (``nmc/neuron.py``) in floating point with gradients.

Weights, payloads and their sums are whole numbers below 2**24 and exact in float32; states and host sums are
kept in float64. ``AwareNetwork.integers`` of a parameter is used by both forward pass and export.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nmc import neuron as spec
from nmc.errors import InternalError
from nmc.ir import (
    Conv2d,
    Dense,
    Encoding,
    Fixed,
    FixedNeuron,
    FloatArray,
    GradedRelay,
    Identity,
    InputNeuron,
    Network,
    Population,
    Projection,
    Stage,
    Synapse,
    frozen,
)
from nmc.quantize import neurons, ranges, weights
from nmc.quantize.network import Quantized
from nmc.quantize.population import HOST_WEIGHT_BITS, is_learned
from nmc.rules import verify

INSIDE = 0.45
"""A trained weight starts where rounding chose it to be, at most this share of a grid step off."""


def through(x: Tensor, exact: Tensor) -> Tensor:
    """``exact`` forward, to the last bit; the gradient of ``x`` backward."""
    return exact.detach() + (x - x.detach())


def rounded(x: Tensor) -> Tensor:
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


@dataclass(frozen=True)
class _Weight:
    """How a trained tensor becomes mantissas: ``clamp(round(parameter * factor), lowest, highest)``."""

    parameter: str
    factor: Tensor
    template: Fixed


class AwareNetwork(nn.Module):  # type: ignore[misc]
    """See ``aware.aware``. ``forward`` gives (N, classes) with gradients: spike counts, or the potential of
    a readout in the model's units."""

    def __init__(self, timed: Network, quantized: Quantized) -> None:
        super().__init__()
        self._network = quantized.network
        self._scales = quantized.scales
        self._learned = {p.name for p in timed.compute if is_learned(p, timed.incoming(p.name))}
        self._weights: dict[str, _Weight] = {}
        self.tensors = nn.ParameterDict()
        self.biases = nn.ParameterDict()
        self.thresholds = nn.ParameterDict()
        made: dict[int, _Weight] = {}
        floats = {projection.name: projection.weight for projection in timed.projections}
        for projection in self._network.projections:
            if projection.target in self._learned and isinstance(projection.synapse, Conv2d | Dense):
                key = id(projection.weight)
                if key not in made:
                    made[key] = self._tensor(projection, floats[projection.name], len(made))
                self._weights[projection.name] = made[key]
        for index, population in enumerate(self._network.populations):
            if population.name in self._learned:
                self._state_parameters(population, f"p{index}")
        self._names = {p.name: f"p{index}" for index, p in enumerate(self._network.populations)}

    # --- parameters -------------------------------------------------------------------------------------

    def _tensor(self, projection: Projection, weight: FloatArray | Fixed, index: int) -> _Weight:
        fixed = projection.weight
        assert isinstance(fixed, Fixed)
        assert not isinstance(weight, Fixed)
        source = self._network[projection.source].neuron
        unit = source.scale if isinstance(source, InputNeuron) else 1.0
        scale = weights.along(self._scales[projection.target], weight.ndim) * unit
        if projection.on_host:
            bias = self._network[projection.target].bias
            assert isinstance(bias, Fixed)
            factor = scale * (neurons.V_PER_WEIGHT * 2.0 ** (projection.host_shift - bias.exp))
        else:
            factor = scale / (1 << fixed.exp)
        steps = np.clip(weight * factor, fixed.mant - INSIDE, fixed.mant + INSIDE)
        name = f"w{index}"
        self.tensors[name] = nn.Parameter(torch.from_numpy(steps / factor).float())
        return _Weight(name, torch.from_numpy(np.array(factor)), fixed)

    def _state_parameters(self, population: Population, key: str) -> None:
        neuron, bias = population.neuron, population.bias
        assert isinstance(neuron, FixedNeuron)
        assert bias is None or isinstance(bias, Fixed)
        shape = (population.shape[0],) + (1,) * (len(population.shape) - 1)
        value = np.broadcast_to(spec.bias_value(bias), shape if bias is None else bias.mant.shape)
        self.biases[key] = nn.Parameter(torch.from_numpy(value / self._v_units(population)).double())
        if neuron.vth is not None:
            self.thresholds[key] = nn.Parameter(torch.ones(neuron.vth.mant.shape, dtype=torch.float64))

    def _v_units(self, population: Population) -> FloatArray:
        """v units per float unit, broadcastable to the population."""
        scale = weights.along(self._scales[population.name], len(population.shape))
        return np.asarray(scale * neurons.V_PER_WEIGHT)

    # --- integers ---------------------------------------------------------------------------------------

    def _mantissas(self, projection: Projection) -> Tensor:
        """Mantissas of a projection's weights, float64, with gradients where they are trained."""
        trained = self._weights.get(projection.name)
        if trained is None:
            assert isinstance(projection.weight, Fixed)
            return torch.from_numpy(projection.weight.mant.astype(np.float64))
        fixed = trained.template
        lowest, highest = fixed.lowest, fixed.highest
        if projection.on_host:
            highest = (1 << (HOST_WEIGHT_BITS - 1)) - 1
            lowest = -highest
        steps = self.tensors[trained.parameter].double() * trained.factor
        return rounded(steps.clamp(lowest, highest))

    def _bias(self, population: Population, hosted: bool) -> tuple[Tensor, int]:
        """Mantissas of the bias and their exponent."""
        fixed = population.bias
        assert fixed is None or isinstance(fixed, Fixed)
        if population.name not in self._learned:
            mant = np.zeros(()) if fixed is None else fixed.mant.astype(np.float64)
            return torch.from_numpy(np.asarray(mant)), 0 if fixed is None else fixed.exp
        value = self.biases[self._names[population.name]] * torch.from_numpy(self._v_units(population))
        if hosted:
            assert fixed is not None
            exp: int | None = fixed.exp
        else:
            exp = neurons.smallest_exponent(float(value.detach().abs().max()))
        if exp is None:
            exp = spec.BIAS_EXP_MAX
        top = neurons.MAX_BIAS_MANT
        return rounded((value / (1 << exp)).clamp(-top, top)), exp

    def _threshold(self, population: Population) -> Tensor:
        """Mantissas of the threshold."""
        neuron = population.neuron
        assert isinstance(neuron, FixedNeuron)
        assert neuron.vth is not None
        mant = torch.from_numpy(neuron.vth.mant.astype(np.float64))
        if population.name not in self._learned:
            return mant
        top = (1 << spec.THRESHOLD_BITS) - 1
        return rounded((mant * self.thresholds[self._names[population.name]]).clamp(0, top))

    # --- forward ----------------------------------------------------------------------------------------

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, *shape) frames or (N, T, *shape) trains, in the model's units."""
        return self._run(x, lambda name, train: None)

    def trace(self, x: Tensor) -> dict[str, Tensor]:
        """Payloads of every population, (N, T, *shape) int64, as an engine would record them."""
        kept: dict[str, Tensor] = {}

        def keep(name: str, train: Tensor) -> None:
            kept[name] = train.expand(-1, self._network.steps, *train.shape[2:]).to(torch.int64)

        with torch.no_grad():
            self._run(x, keep)
        return kept

    def _run(self, x: Tensor, keep: Callable[[str, Tensor], None]) -> Tensor:
        network = self._network
        trains: dict[str, Tensor] = {}
        outputs: dict[str, Tensor] = {}
        for population, incoming in network.walk():
            if population.is_input:
                train = self._encode(population, x)
            elif isinstance(population.neuron, GradedRelay):
                train = self._current(population, incoming, trains)
            else:
                train, v = self._fire(population, incoming, trains)
                if population.name in network.outputs:
                    outputs[population.name] = self._output(population, train, v)
            trains[population.name] = train
            keep(population.name, train)
        return torch.cat([outputs[name].flatten(1) for name in network.outputs], 1)

    def _output(self, population: Population, train: Tensor, v: Tensor) -> Tensor:
        if self._network.readout == "count":
            return train.sum(1)
        return v / torch.from_numpy(self._v_units(population))

    def _encode(self, population: Population, x: Tensor) -> Tensor:
        neuron = population.neuron
        assert isinstance(neuron, InputNeuron)
        whole = torch.round(x.double() / neuron.scale).clamp(neuron.lowest, neuron.highest).float()
        return whole[:, : self._network.steps] if neuron.encoding is Encoding.SPIKES else whole[:, None]

    def _current(
        self, population: Population, incoming: tuple[Projection, ...], trains: Mapping[str, Tensor]
    ) -> Tensor:
        """Sum of weights times payloads over the chip's projections, (N, T or 1, *shape), weight units."""
        total = torch.zeros((1, 1, *population.shape))
        for projection in incoming:
            if not projection.on_host:
                assert isinstance(projection.weight, Fixed)
                weight = (self._mantissas(projection) * (1 << projection.weight.exp)).float()
                total = total + self._sum(population, projection, weight, trains[projection.source])
        return total

    @staticmethod
    def _sum(population: Population, projection: Projection, weight: Tensor, train: Tensor) -> Tensor:
        rows = apply(projection.synapse, weight, train.flatten(0, 1))
        # Some convolution kernels are exact only up to a rounding.
        return rounded(rows).reshape(*train.shape[:2], *population.shape)

    def _bias_current(
        self, population: Population, incoming: tuple[Projection, ...], trains: Mapping[str, Tensor]
    ) -> Tensor:
        """Bias in v units, what the host adds included; broadcastable to (N, *shape)."""
        host = [projection for projection in incoming if projection.on_host]
        mant, exp = self._bias(population, bool(host))
        for projection in host:
            train = trains[projection.source].double()
            written = self._sum(population, projection, self._mantissas(projection), train)[:, 0]
            half = (1 << projection.host_shift) >> 1
            shifted = (written + half) / (1 << projection.host_shift)
            mant = mant + through(shifted, torch.floor(shifted))
        return mant * (1 << exp)

    def _fire(
        self, population: Population, incoming: tuple[Projection, ...], trains: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Spikes (N, T, *shape) float32 and v after the last step; ``neuron.step`` with gradients."""
        neuron = population.neuron
        if not isinstance(neuron, FixedNeuron):
            raise InternalError(f"{population.name} is not quantized")
        current = self._current(population, incoming, trains).double() * (1 << spec.WEIGHT_SHIFT)
        bias = self._bias_current(population, incoming, trains)
        samples = max(train.shape[0] for train in (trains[p.source] for p in incoming))
        u = torch.zeros((samples, *population.shape), dtype=torch.float64)
        v = torch.from_numpy(neuron.v0.astype(np.float64)).expand(u.shape)
        threshold = None if neuron.vth is None else self._threshold(population) * (1 << spec.WEIGHT_SHIFT)
        keep_u = kept_parts(int(neuron.du.mant) + spec.U_DECAY_OFFSET)
        keep_v = kept_parts(int(neuron.dv.mant))
        spikes = []
        for t in range(self._network.steps):
            u = decayed(u, keep_u) + current[:, t if current.shape[1] > 1 else 0]
            v = (decayed(v, keep_v) + u + bias).clamp(-spec.V_LIMIT, spec.V_LIMIT)
            if threshold is None:
                continue
            # The distance as a share of the threshold keeps the derivative's width that of the float network.
            spike = fire((v - threshold) / threshold.detach().clamp(min=1.0))
            fired = spike.detach()
            v = v * (1 - fired) if neuron.drop is None else v - fired * self._drop(neuron, threshold)
            spikes.append(spike.float())
        train = (
            torch.stack(spikes, 1)
            if spikes
            else torch.zeros((samples, self._network.steps, *population.shape))
        )
        return train, v

    @staticmethod
    def _drop(neuron: FixedNeuron, threshold: Tensor) -> Tensor:
        """What a soft reset subtracts moves with the threshold."""
        assert neuron.drop is not None
        assert neuron.vth is not None
        return threshold + torch.from_numpy((neuron.drop - neuron.vth.value).astype(np.float64))

    # --- export -----------------------------------------------------------------------------------------

    def export(self) -> Network:
        """The network that ``forward`` computes, QUANTIZED: no quantization follows, so nothing is lost.

        Raises:
            NmcError: NMC-Q01 when training has led out of the ranges that the chip holds.
        """
        with torch.no_grad():
            shared: dict[int, Fixed] = {}
            projections = tuple(
                self._exported(projection, shared) for projection in self._network.projections
            )
            changed = {name: self._exported_population(self._network[name]) for name in self._learned}
        result = self._network.with_(
            populations=self._network.map_populations(changed), projections=projections
        )
        verify(result, Stage.QUANTIZED)
        ranges.prove(result)
        return result

    def _exported(self, projection: Projection, shared: dict[int, Fixed]) -> Projection:
        if projection.name not in self._weights:
            return projection
        fixed = self._weights[projection.name].template
        if id(fixed) not in shared:
            mant = self._mantissas(projection).numpy().astype(np.int64)
            shared[id(fixed)] = Fixed(mant, fixed.exp, fixed.bits, fixed.signed)
        return replace(projection, weight=shared[id(fixed)])

    def _exported_population(self, population: Population) -> Population:
        neuron = population.neuron
        assert isinstance(neuron, FixedNeuron)
        hosted = any(projection.on_host for projection in self._network.incoming(population.name))
        mant, exp = self._bias(population, hosted)
        bias = Fixed(mant.numpy().astype(np.int64), exp, spec.BIAS_MANT_BITS, signed=True)
        if neuron.vth is not None:
            vth = Fixed(
                self._threshold(population).numpy().astype(np.int64),
                spec.WEIGHT_SHIFT,
                spec.THRESHOLD_BITS,
                signed=False,
            )
            drop = (
                None if neuron.drop is None else frozen(neuron.drop - neuron.vth.value + vth.value, np.int64)
            )
            neuron = replace(neuron, vth=vth, drop=drop)
        none = population.bias is None and not bias.mant.any()
        return replace(population, neuron=neuron, bias=None if none else bias)


def kept_parts(loss: int) -> int:
    """What a decay leaves of 4096 parts."""
    return (1 << spec.DECAY_BITS) - loss


def decayed(state: Tensor, keep: int) -> Tensor:
    """``neuron.decay``: truncated towards zero; the gradient of the exact decay."""
    if keep == 1 << spec.DECAY_BITS:
        return state
    exact = state * (keep / (1 << spec.DECAY_BITS))
    return through(exact, torch.trunc(exact))
