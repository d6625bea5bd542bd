"""A network as tensors on a device.

Every number is an integer; each projection gets the first route in which its sums are proven to be exact,
each population 32-bit states where these are proven to suffice, 64 bits elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nmc import neuron as spec
from nmc.backends.sim.layout import BIAS_LIMIT, CURRENT_LIMIT, STATE_LIMIT, geometry, split_weight
from nmc.backends.sim.torch_operators import Arrival, Cell, Operator, Pool, Product, Scale, Windows
from nmc.backends.sim.torch_routes import Route
from nmc.errors import NmcError
from nmc.ir import (
    Conv2d,
    Dense,
    Encoding,
    Fixed,
    FixedNeuron,
    GradedRelay,
    Identity,
    InputNeuron,
    IntArray,
    Network,
    Population,
    Projection,
    Shape,
    SumPool2d,
)
from nmc.quantize import ranges
from nmc.synapse import output_shape

SUM_LIMIT = 1 << 40
"""64-bit arithmetic ends where u could pile up beyond it."""
Range = tuple[int, int]


@dataclass(frozen=True)
class Fused:
    """A convolution that ``triton_layer`` runs together with the neurons behind it, and their parameters."""

    arrival: Arrival
    product: Product
    parameters: Tensor


@dataclass(frozen=True)
class Layer:
    """A population with what arrives at it. cell: None for inputs and relays.

    payload: dtype of its spikes. signed: whether payloads can be negative. constant: it sends the same in
    every step. sums: dtype of its currents. fused: what its convolution needs to run in one kernel with it.
    """

    population: Population
    map: tuple[int, int, int]
    payload: torch.dtype
    signed: bool
    constant: bool
    sums: torch.dtype
    arrivals: tuple[Arrival, ...]
    host: tuple[Arrival, ...]
    cell: Cell | None
    fused: Fused | None


class Planner:
    """Makes the layers of a network for a device and the routes that may be used there.

    fused: whether convolutions and neurons may run in one kernel.
    """

    def __init__(
        self, network: Network, device: torch.device, routes: Collection[Route], fused: bool
    ) -> None:
        self._network, self._device, self._routes, self._fuses = network, device, routes, fused
        self._payloads: dict[str, Range] = {}

    def layers(self) -> dict[str, Layer]:
        """Every population's layer, by name.

        Raises:
            NmcError: NMC-Q01 when a sum could leave every route, a payload 32 bits.
        """
        made: dict[str, Layer] = {}
        for population in self._network.populations:
            made[population.name] = self._layer(population, made)
        return made

    def _layer(self, population: Population, made: dict[str, Layer]) -> Layer:
        incoming = self._network.incoming(population.name)
        chip = tuple(self._arrival(p) for p in incoming if not p.on_host)
        host = tuple(self._arrival(p) for p in incoming if p.on_host)
        low, high = self._payload(population)
        reach = sum(max(map(abs, self._range(p))) for p in incoming if not p.on_host)
        cell, sums = None, torch.int32 if reach < 1 << 31 else torch.int64
        if isinstance(population.neuron, FixedNeuron):
            cell = self._cell(population, population.neuron, reach)
            sums = cell.dtype
        _refuse_beyond(population, "payload", max(-low, high), 1 << 31)
        return Layer(
            population,
            geometry(population.shape),
            _smallest(low, high),
            low < 0,
            self._is_constant(population, incoming, made),
            sums,
            chip,
            host,
            cell,
            self._fused(chip, cell, made) if self._fuses and cell is not None and not host else None,
        )

    def _fused(self, arrivals: tuple[Arrival, ...], cell: Cell, made: dict[str, Layer]) -> Fused | None:
        """The largest convolution that the kernel can take; what else arrives is added to it."""
        from nmc.backends.sim import triton_layer  # needs Triton

        best: Fused | None = None
        for arrival in arrivals:
            projection, product = arrival.projection, arrival.operator
            source = made.get(projection.source)
            if not isinstance(product, Product) or not triton_layer.fits(product, cell) or projection.lag:
                continue
            shape = output_shape(
                projection.synapse, projection.weight_shape, self._network[projection.source].shape, ""
            )
            known = source is not None and not source.constant
            larger = best is None or product.weight.numel() > best.product.weight.numel()
            if known and larger and geometry(shape) == arrival.target:
                best = Fused(arrival, product, triton_layer.channel_parameters(cell, product.outputs))
        return best

    def _is_constant(
        self, population: Population, incoming: tuple[Projection, ...], made: dict[str, Layer]
    ) -> bool:
        if isinstance(population.neuron, InputNeuron):
            return population.neuron.encoding is not Encoding.SPIKES
        relay = isinstance(population.neuron, GradedRelay)
        return relay and all(not p.lag and p.source in made and made[p.source].constant for p in incoming)

    def _payload(self, population: Population) -> Range:
        """Smallest and largest payload, 0 included. No relays feed each other in a loop."""
        name = population.name
        if name not in self._payloads:
            if isinstance(population.neuron, GradedRelay):
                parts = [self._range(projection) for projection in self._network.incoming(name)]
                self._payloads[name] = sum(low for low, _ in parts), sum(high for _, high in parts)
            else:
                self._payloads[name] = ranges.payload_range(self._network, population)
        return self._payloads[name]

    # --- projections --------------------------------------------------------------------------------

    def _rows(self, projection: Projection) -> tuple[IntArray, int]:
        """Mantissas as (rows, fan-in) and their shift."""
        mantissa, shift = split_weight(projection)
        return ranges.fan_in_rows(projection, mantissa), shift

    def _range(self, projection: Projection) -> Range:
        """Bounds of the current, weight units (host units on the host)."""
        rows, shift = self._rows(projection)
        lows, highs = ranges.row_ranges(rows, *self._payload(self._network[projection.source]))
        parts = ranges.parts(self._network, projection)
        return parts * int(lows.min()) << shift, parts * int(highs.max()) << shift

    def _arrival(self, projection: Projection) -> Arrival:
        source, target = self._network[projection.source], self._network[projection.target]
        mantissa, shift = split_weight(projection)
        low, high = self._payload(source)
        # No partial sum can be larger than this.
        reach = int(np.abs(self._rows(projection)[0]).sum(axis=1).max(initial=0)) * max(-low, high)
        reach *= ranges.parts(self._network, projection)
        _refuse_beyond(target, "synaptic sum", reach << shift, SUM_LIMIT)
        operator = self._operator(projection, source.shape, mantissa, reach)
        return Arrival(projection, operator, shift, geometry(target.shape))

    def _operator(self, projection: Projection, source: Shape, mantissa: IntArray, reach: int) -> Operator:
        synapse = projection.synapse
        sums = torch.int32 if reach < 1 << 31 else torch.int64
        if isinstance(synapse, Conv2d):
            kernel = mantissa.shape[2], mantissa.shape[3]
            windows = Windows(kernel, synapse.stride, synapse.padding, synapse.dilation)
            return self._product(projection, windows, mantissa, synapse.groups, reach, sums)
        if isinstance(synapse, Dense):
            channels, height, width = geometry(source)
            kernels = mantissa.reshape(len(mantissa), channels, height, width)
            return self._product(projection, Windows((height, width)), kernels, 1, reach, sums)
        if isinstance(synapse, SumPool2d):
            windows = Windows(synapse.kernel, synapse.stride, synapse.padding)
            return Pool(windows, self._tensor(mantissa.reshape(()), sums))
        assert isinstance(synapse, Identity)
        return Scale(self._tensor(_by_site(mantissa, source), sums))

    def _product(
        self,
        projection: Projection,
        windows: Windows,
        kernels: IntArray,
        groups: int,
        reach: int,
        sums: torch.dtype,
    ) -> Product:
        outputs = len(kernels)
        low, high = self._payload(self._network[projection.source])
        for route in self._routes:
            fits = route.holds(low, high) and route.holds(int(kernels.min()), int(kernels.max()))
            if fits and reach < route.limit and (groups == 1 or route.grouped):
                break
        else:
            names = ", ".join(route.name for route in self._routes)
            raise NmcError(
                "NMC-E01",
                self._network[projection.target].label,
                f"sums up to {reach:,} are exact in none of the torch routes in use ({names})",
                "allow route float64",
                measured=reach,
            )
        split = kernels.reshape(groups, outputs // groups, *kernels.shape[1:])
        matrix = split.transpose(0, 3, 4, 2, 1).reshape(groups, -1, outputs // groups)
        inner, columns = matrix.shape[1:]
        weight = np.zeros((groups, route.padded(inner), route.padded(columns)), np.int64)
        weight[:, :inner, :columns] = matrix
        return Product(windows, route, self._tensor(weight, route.dtype), inner, outputs, sums)

    # --- neurons ------------------------------------------------------------------------------------

    def _cell(self, population: Population, neuron: FixedNeuron, reach: int) -> Cell:
        bias = population.bias
        assert bias is None or isinstance(bias, Fixed)
        narrow = reach < CURRENT_LIMIT and self._states_are_narrow(population, neuron, reach)
        dtype = torch.int32 if narrow else torch.int64
        keep_u = (1 << spec.DECAY_BITS) - spec.U_DECAY_OFFSET - neuron.du.mant
        keep_v = (1 << spec.DECAY_BITS) - neuron.dv.mant

        def tensor(values: npt.NDArray[Any], absent: int | None = None) -> Tensor | None:
            if absent is not None and np.all(values == absent):
                return None
            return self._tensor(_by_site(values, population.shape), dtype)

        v0 = tensor(neuron.v0)
        assert v0 is not None
        return Cell(
            dtype,
            v0,
            # A host writes mantissas, which it adds to the population's own (``torch_run``).
            None if bias is None else tensor(spec.bias_value(bias), 0),
            None if neuron.vth is None else tensor(neuron.vth.mant << spec.WEIGHT_SHIFT),
            None if neuron.drop is None else tensor(neuron.drop),
            tensor(keep_u, 0),
            tensor(keep_v, 1 << spec.DECAY_BITS),
            bool(np.any(keep_u)) or reach << spec.WEIGHT_SHIFT >= spec.U_FOLD,
        )

    def _states_are_narrow(self, population: Population, neuron: FixedNeuron, reach: int) -> bool:
        """Whether bias, v0, drop and u leave 32 bits room; one fold of u takes back 2**24 and no more."""
        bias = population.bias
        most = 0
        if isinstance(bias, Fixed):
            most = int(np.abs(bias.mant).max(initial=0))
            for projection in self._network.incoming(population.name):
                if projection.on_host:
                    most += (max(map(abs, self._range(projection))) >> projection.host_shift) + 1
            most <<= bias.exp
        loss = int(np.min(neuron.du.mant)) + spec.U_DECAY_OFFSET
        u = reach << spec.WEIGHT_SHIFT
        if loss < 1 << spec.DECAY_BITS and u > 2 * spec.U_FOLD:
            u = (u << spec.DECAY_BITS) // loss
        resets = [neuron.v0] if neuron.drop is None else [neuron.v0, neuron.drop]
        small = all(int(np.abs(values).max(initial=0)) < 1 << spec.STATE_BITS for values in resets)
        return most < BIAS_LIMIT and u < STATE_LIMIT and small

    def _tensor(self, values: npt.NDArray[Any], dtype: torch.dtype) -> Tensor:
        return torch.from_numpy(np.array(values, np.int64)).to(self._device, dtype)


def _by_site(values: npt.NDArray[Any], shape: Shape) -> npt.NDArray[Any]:
    """A parameter in torch's order, broadcastable to ``shape``, as one that broadcasts to (H, W, C)."""
    if len(shape) != 3:
        return np.broadcast_to(values, shape).reshape(1, 1, -1)
    return np.reshape(values, (1,) * (3 - np.ndim(values)) + np.shape(values)).transpose(1, 2, 0)


def _smallest(low: int, high: int) -> torch.dtype:
    for dtype in (torch.int8, torch.int16):
        limits = torch.iinfo(dtype)
        if limits.min <= low and high <= limits.max:
            return dtype
    return torch.int32


def _refuse_beyond(population: Population, what: str, measured: int, allowed: int) -> None:
    if measured >= allowed:
        raise NmcError(
            "NMC-Q01",
            population.label,
            f"{what} can reach {measured:,}, the torch engine computes up to {allowed - 1:,}",
            "use --engine reference, or weights that the chip can hold",
            measured=measured,
            allowed=allowed - 1,
        )
