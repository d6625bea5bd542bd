"""The torch side of ``aware``: integer semantics (``nmc/neuron.py``) in floating point with gradients.

Weights, payloads and their sums are whole numbers below 2**24 and exact in float32; states and host sums are
kept in float64. ``AwareNetwork.integers`` of a parameter is used by both forward pass and export.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

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
    InputNeuron,
    Network,
    Population,
    Projection,
    Stage,
    frozen,
)
from nmc.quantize import neurons, ranges, weights
from nmc.quantize.network import Quantized
from nmc.quantize.population import HOST_WEIGHT_BITS, is_learned
from nmc.quantize.through import Cell, apply, rounded, through
from nmc.rules import verify

INSIDE = 0.45
"""A trained weight starts where rounding chose it to be, at most this share of a grid step off."""


@dataclass(frozen=True)
class _Weight:
    """How a trained tensor becomes mantissas: ``clamp(round(parameter * factor), lowest, highest)``."""

    parameter: str
    factor: Tensor
    template: Fixed


class AwareNetwork(nn.Module):  # type: ignore[misc]
    """See ``aware.aware``. ``forward`` gives (N, classes) with gradients: spike counts, or the potential of
    a readout in the model's units.

    source: the float network that it was made from, TIMED.
    noise: standard deviation of what training mode adds to the potentials of trained layers in every step, in
    thresholds; with it neurons learn to keep clear of their thresholds. In evaluation mode there is none.
    """

    def __init__(self, timed: Network, quantized: Quantized, profiles: int | None = None) -> None:
        """profiles: where the chip has few thresholds, equal ones of a population stay equal."""
        super().__init__()
        self.noise = 0.0
        self.source = timed
        self._network = quantized.network
        self._scales = quantized.scales
        self._learned = {p.name for p in timed.compute if is_learned(p, timed.incoming(p.name))}
        self._weights: dict[str, _Weight] = {}
        self.tensors = nn.ParameterDict()
        self.biases = nn.ParameterDict()
        self.thresholds = nn.ParameterDict()
        self._few, self._groups = profiles is not None, dict[str, Tensor]()
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
            mant = neuron.vth.mant
            groups = np.unique(mant, return_inverse=True)[1] if self._few else np.arange(mant.size)
            self._groups[key] = torch.from_numpy(groups.reshape(mant.shape))
            self.thresholds[key] = nn.Parameter(torch.ones(int(groups.max()) + 1, dtype=torch.float64))

    def _v_units(self, population: Population) -> FloatArray:
        """v units per float unit, broadcastable to the population."""
        scale = weights.along(self._scales[population.name], len(population.shape))
        return np.asarray(scale * neurons.V_PER_WEIGHT)

    def units(self) -> tuple[dict[str, float], dict[str, float]]:
        """How far apart numbers lie that make a difference, in the model's units: a grid step of each tensor,
        geometric mean over channels, and per bias the threshold (1 where there is none)."""
        steps = {one.parameter: float(torch.exp(-one.factor.log().mean())) for one in self._weights.values()}
        sizes = {}
        for population in self.source.compute:
            if population.name in self._learned:
                threshold = getattr(population.neuron, "threshold", None)
                size = 1.0 if threshold is None else float(np.mean(threshold))
                sizes[self._names[population.name]] = size
        return steps, sizes

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
        key = self._names[population.name]
        return rounded((mant * self.thresholds[key][self._groups[key]]).clamp(0, top))

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
        for segment in network.segments:
            first = segment[0]
            if first.is_input:
                done = {first.name: (self._encode(first, x), None)}
            elif len(segment) == 1 and isinstance(first.neuron, GradedRelay):
                done = {first.name: (self._current(first, network.incoming(first.name), trains), None)}
            else:
                done = self._together(segment, trains, len(x))
            for name, (train, v) in done.items():
                if name in network.outputs:
                    outputs[name] = self._output(network[name], train, v)
                trains[name] = train
                keep(name, train)
        return torch.cat([outputs[name].flatten(1) for name in network.outputs], 1)

    def _output(self, population: Population, train: Tensor, v: Tensor | None) -> Tensor:
        if self._network.readout == "count" or v is None:
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
        """Sum of weights times payloads over the chip's projections, (N, T or 1, *shape), weight units; of
        the sources that have been run."""
        total = torch.zeros((1, 1, *population.shape))
        for projection in incoming:
            if not projection.on_host and projection.source in trains:
                train = trains[projection.source]
                arriving = self._sum(population, projection, self._integers(projection), train)
                total = total + self._late(arriving, projection.lag)
        return total

    def _integers(self, projection: Projection) -> Tensor:
        """Weights in weight units, whole numbers."""
        assert isinstance(projection.weight, Fixed)
        return (self._mantissas(projection) * (1 << projection.weight.exp)).float()

    def _late(self, current: Tensor, lag: int) -> Tensor:
        """The current ``lag`` steps later, 0 before."""
        if not lag:
            return current
        steps = self._network.steps
        whole = current.expand(-1, steps, *current.shape[2:])
        return torch.cat([torch.zeros_like(whole[:, :lag]), whole[:, : max(0, steps - lag)]], 1)

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

    def _together(
        self, segment: tuple[Population, ...], trains: Mapping[str, Tensor], samples: int
    ) -> dict[str, tuple[Tensor, Tensor | None]]:
        """Spikes (N, T, *shape) float32 and v after the last step of populations that feed each other, or
        of one; ``neuron.step`` with gradients, one step of all of them after the other."""
        names = {population.name for population in segment}
        sent: dict[str, list[Tensor]] = {name: [] for name in names}
        cells = [self._cell(population, trains, samples) for population in segment]
        inner = {
            population.name: [
                (p, self._integers(p)) for p in self._network.incoming(population.name) if p.source in names
            ]
            for population in segment
        }
        for t in range(self._network.steps):
            for population, cell in zip(segment, cells, strict=True):
                arriving = cell.current[:, t if cell.current.shape[1] > 1 else 0]
                for p, weight in inner[population.name]:
                    if t >= p.lag:
                        spikes = sent[p.source][t - p.lag][:, None]
                        arriving = arriving + self._sum(population, p, weight, spikes)[:, 0]
                sent[population.name].append(cell.step(arriving))
        return {
            population.name: (torch.stack(sent[population.name], 1), cell.v)
            for population, cell in zip(segment, cells, strict=True)
        }

    def _cell(self, population: Population, trains: Mapping[str, Tensor], samples: int) -> Cell:
        incoming = self._network.incoming(population.name)
        current = self._current(population, incoming, trains)
        neuron = population.neuron
        if isinstance(neuron, GradedRelay):
            return Cell(None, current)
        if not isinstance(neuron, FixedNeuron):
            raise InternalError(f"{population.name} is not quantized")
        threshold = drop = None
        if neuron.vth is not None:
            threshold = self._threshold(population) * (1 << spec.WEIGHT_SHIFT)
            drop = None if neuron.drop is None else self._drop(neuron, threshold)
        v = torch.from_numpy(neuron.v0.astype(np.float64)).expand((samples, *population.shape))
        bias = self._bias_current(population, incoming, trains)
        noise = self.noise if self.training and population.name in self._learned else 0.0
        return Cell(neuron, current, v, bias, threshold, drop, noise)

    @staticmethod
    def _drop(neuron: FixedNeuron, threshold: Tensor) -> Tensor:
        """What a soft reset subtracts moves with the threshold."""
        assert neuron.drop is not None
        assert neuron.vth is not None
        return threshold + torch.from_numpy(np.asarray(neuron.drop - neuron.vth.value, np.float64))

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
