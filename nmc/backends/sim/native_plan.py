"""From a Network to the flat tables of the C++ engine (``native/abi.h``), and the ranges it relies on."""

from __future__ import annotations

from collections.abc import Callable
from ctypes import c_void_p
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from nmc import neuron as spec
from nmc import synapse
from nmc.backends.sim import native_abi as abi
from nmc.backends.sim.layout import (
    BIAS_LIMIT,
    CURRENT_LIMIT,
    STATE_LIMIT,
    fixed_weight,
    geometry,
    split_weight,
)
from nmc.errors import InternalError, NmcError
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
    SumPool2d,
)

Int32 = npt.NDArray[np.int32]
Range = tuple[int, int]

BYTE = 255


@dataclass
class Tables:
    """Rows of the C structs and the arrays that they point to."""

    populations: Any
    projections: Any
    arrays: list[npt.NDArray[Any]] = field(default_factory=list)
    index: dict[str, int] = field(default_factory=dict)

    def pointer(self, array: npt.NDArray[Any]) -> c_void_p:
        self.arrays.append(array)
        return c_void_p(array.ctypes.data)


def payload_ranges(network: Network) -> dict[str, Range]:
    """Proven bounds of every population's payloads, 0 included."""
    ranges: dict[str, Range] = {
        population.name: (0, 1)
        for population in network.populations
        if isinstance(population.neuron, FixedNeuron)
    }
    for population, incoming in network.walk():
        if isinstance(population.neuron, InputNeuron):
            ranges[population.name] = min(0, population.neuron.lowest), max(0, population.neuron.highest)
        elif isinstance(population.neuron, GradedRelay):
            ranges[population.name] = current_range(incoming, ranges, network)
    return ranges


def current_range(projections: tuple[Projection, ...], payloads: dict[str, Range], network: Network) -> Range:
    """Bounds of the summed current of projections into one population, 0 included."""
    low = high = 0
    for projection in projections:
        smallest, largest = payloads[projection.source]
        weight = fixed_weight(projection)
        if isinstance(projection.synapse, Conv2d | Dense):
            rows = weight.mant.reshape(len(weight.mant), -1)
            total, size = rows.sum(axis=1), np.abs(rows).sum(axis=1)
        else:
            taps = int(np.prod(getattr(projection.synapse, "kernel", (1,))))
            source, target = network[projection.source], network[projection.target]
            taps *= synapse.parts(projection.synapse, source.size, target.size)
            total, size = weight.mant * taps, np.abs(weight.mant) * taps
        positive, negative = (size + total) // 2, (total - size) // 2
        low += int(min((positive * smallest + negative * largest).min(), 0)) << weight.exp
        high += int(max((positive * largest + negative * smallest).max(), 0)) << weight.exp
    return low, high


def tables(network: Network) -> Tables:
    """All rows of a network.

    Raises:
        NmcError: NMC-Q01 when a sum could leave the registers of the engine.
    """
    made = Tables(
        (abi.PopulationRow * len(network.populations))(), (abi.ProjectionRow * len(network.projections))()
    )
    payloads = payload_ranges(network)
    constant: dict[str, bool] = {}
    for row, (population, incoming) in zip(made.populations, network.walk(), strict=True):
        made.index[population.name] = len(made.index)
        constant[population.name] = _is_constant(population, incoming, constant)
        row.channels, row.height, row.width = geometry(population.shape)
        low, high = payloads[population.name]
        row.wide = low < 0 or high > BYTE
        row.max_payload = max(high, 1)
        row.constant = constant[population.name]
        row.is_output = population.name in network.outputs
        chip = tuple(p for p in incoming if not p.on_host)
        reach = max(map(abs, current_range(chip, payloads, network)))
        if isinstance(population.neuron, FixedNeuron):
            row.kind = abi.NEURON
            row.folds = reach << spec.WEIGHT_SHIFT >= spec.U_FOLD
            host = tuple(p for p in incoming if p.on_host)
            bias = _bias_reach(network, population, host, payloads)
            _check(population, population.neuron, reach, bias)
            kept = _kept_of_v(population.neuron, (reach << spec.WEIGHT_SHIFT) + bias)
            _neuron(made, row, population, population.neuron, kept, bool(host))
        else:
            row.kind = abi.INPUT if population.is_input else abi.RELAY
            _refuse_beyond(population, "payload", reach, (1 << 31) - 1)
    for row, projection in zip(made.projections, network.projections, strict=True):
        _projection(made, row, network, projection)
    return made


def _is_constant(population: Population, incoming: tuple[Projection, ...], constant: dict[str, bool]) -> bool:
    """Whether the population sends the same payloads in every step."""
    if isinstance(population.neuron, InputNeuron):
        return population.neuron.encoding is not Encoding.SPIKES
    relay = isinstance(population.neuron, GradedRelay)
    return relay and all(not p.lag and constant[p.source] for p in incoming)


def _parameter(made: Tables, population: Population, values: npt.NDArray[Any]) -> abi.Parameter:
    """[channel] where all pixels agree by construction, else [channel][pixel]."""
    channels, height, width = geometry(population.shape)
    by_axis = np.asarray(values).reshape((1,) * (len(population.shape) - np.ndim(values)) + np.shape(values))
    per_channel = len(population.shape) != 3 or by_axis.shape[1:] == (1, 1)
    if per_channel and len(population.shape) == 3:
        by_axis = np.broadcast_to(by_axis[:, 0, 0], (channels,))
    else:
        by_axis = np.broadcast_to(by_axis, population.shape).reshape(channels, -1)
    array = np.ascontiguousarray(by_axis, np.int32)
    return abi.Parameter(made.pointer(array), 1 if per_channel else height * width)


def _kept_of_v(neuron: FixedNeuron, reach: int) -> IntArray:
    """4096ths of v that the next step sees; 0 where nothing is left of any v that a step can reach from 0.

    A chip keeps at least one 4096th (quantize/neurons.py): of the small v of a pool or a gate that is
    nothing, and neurons without memory have a faster update.
    """
    kept = (1 << spec.DECAY_BITS) - neuron.dv.mant
    if np.any(neuron.du.mant + spec.U_DECAY_OFFSET < 1 << spec.DECAY_BITS):
        return kept
    reach += sum(
        int(np.abs(values).max(initial=0)) for values in (neuron.v0, neuron.drop) if values is not None
    )
    return np.where((kept * reach) >> spec.DECAY_BITS == 0, 0, kept)


def _neuron(
    made: Tables, row: Any, population: Population, neuron: FixedNeuron, keep_v: IntArray, has_host: bool
) -> None:
    def set_unless(name: str, values: npt.NDArray[Any], absent: int) -> None:
        if np.any(values != absent):
            setattr(row, name, _parameter(made, population, values))

    bias = population.bias
    assert bias is None or isinstance(bias, Fixed)
    if has_host:
        assert bias is not None
        row.host_exp = bias.exp
        set_unless("bias", bias.mant, 0)
    else:
        set_unless("bias", spec.bias_value(bias), 0)
    if neuron.vth is not None:
        row.threshold = _parameter(made, population, neuron.vth.mant << spec.WEIGHT_SHIFT)
    if neuron.drop is not None:
        row.drop = _parameter(made, population, neuron.drop)
    set_unless("keep_u", (1 << spec.DECAY_BITS) - spec.U_DECAY_OFFSET - neuron.du.mant, 0)
    set_unless("keep_v", keep_v, 1 << spec.DECAY_BITS)
    set_unless("v0", neuron.v0, 0)


def _bias_reach(
    network: Network, population: Population, host: tuple[Projection, ...], payloads: dict[str, Range]
) -> int:
    """Largest magnitude of the bias, v units, what the host writes included."""
    bias = population.bias
    if not isinstance(bias, Fixed):
        return 0
    mantissa = int(np.abs(bias.mant).max(initial=0))
    for projection in host:
        reach = max(map(abs, current_range((projection,), payloads, network)))
        _refuse_beyond(population, "host current", reach + (1 << projection.host_shift), STATE_LIMIT)
        mantissa += (reach >> projection.host_shift) + 1
    return mantissa << bias.exp


def _check(population: Population, neuron: FixedNeuron, reach: int, bias: int) -> None:
    """Refuse what 32-bit registers could not hold (``native/fire.h``)."""
    _refuse_beyond(population, "synaptic sum", reach, CURRENT_LIMIT)
    _refuse_beyond(population, "bias", bias, BIAS_LIMIT)
    for what, values in (("v0", neuron.v0), ("soft reset", neuron.drop)):
        _refuse_beyond(
            population, what, int(np.abs(values).max(initial=0)) if values is not None else 0, 1 << 24
        )
    loss = int(np.min(neuron.du.mant)) + spec.U_DECAY_OFFSET
    current = reach << spec.WEIGHT_SHIFT
    # One fold takes back 2**24; larger currents pile up in u to the limit of a geometric series.
    if loss < 1 << spec.DECAY_BITS and current > 2 * spec.U_FOLD:
        _refuse_beyond(population, "u", (current << spec.DECAY_BITS) // loss, STATE_LIMIT)


def _refuse_beyond(population: Population, what: str, measured: int, allowed: int) -> None:
    if measured >= allowed:
        raise NmcError(
            "NMC-Q01",
            population.label,
            f"{what} can reach {measured:,}, the native engine computes up to {allowed - 1:,}",
            "use --engine reference, or weights that the chip can hold",
            measured=measured,
            allowed=allowed - 1,
        )


def _projection(made: Tables, row: Any, network: Network, projection: Projection) -> None:
    source, target = network[projection.source], network[projection.target]
    row.source, row.target = made.index[source.name], made.index[target.name]
    row.on_host, row.host_shift = projection.on_host, projection.host_shift
    row.lag = projection.lag
    row.kernel_h = row.kernel_w = row.stride_h = row.stride_w = 1
    row.dilation_h = row.dilation_w = row.groups = 1
    mantissa, row.shift = split_weight(projection)
    mantissa = _LAY_OUT[type(projection.synapse)](row, projection.synapse, source, target, mantissa)
    small = row.op == abi.CONV and mantissa.size and mantissa.min() >= -128 and mantissa.max() <= 127
    row.weight_bytes = 1 if small else 4
    row.weight = made.pointer(np.ascontiguousarray(mantissa, np.int8 if small else np.int32))


def _conv(row: Any, op: Conv2d, source: Population, target: Population, weight: IntArray) -> IntArray:
    row.op = abi.CONV
    row.kernel_h, row.kernel_w = weight.shape[2:]
    (row.stride_h, row.stride_w), (row.pad_h, row.pad_w) = op.stride, op.padding
    row.dilation_h, row.dilation_w = op.dilation
    row.groups = op.groups
    return weight


def _dense(row: Any, op: Dense, source: Population, target: Population, weight: IntArray) -> IntArray:
    """A convolution whose kernel is the whole source map."""
    if geometry(target.shape)[1:] != (1, 1):
        raise InternalError(f"{target.name}: a dense layer onto a map of shape {target.shape}")
    row.op = abi.CONV
    _, row.kernel_h, row.kernel_w = geometry(source.shape)
    return weight


def _pool(row: Any, op: SumPool2d, source: Population, target: Population, weight: IntArray) -> IntArray:
    row.op = abi.POOL
    row.kernel_h, row.kernel_w = op.kernel
    (row.stride_h, row.stride_w), (row.pad_h, row.pad_w) = op.stride, op.padding
    return np.broadcast_to(weight.reshape(-1), (geometry(target.shape)[0],))


def _identity(row: Any, op: Identity, source: Population, target: Population, weight: IntArray) -> IntArray:
    channels, height, width = geometry(source.shape)
    per_channel = len(source.shape) != 3 or weight.size == 1 or weight.shape[1:] == (1, 1)
    if geometry(target.shape) == geometry(source.shape) and per_channel:
        row.op = abi.IDENTITY
        return np.broadcast_to(weight.reshape(-1), (channels,))
    row.op = abi.RESHAPE
    return np.broadcast_to(weight, source.shape).reshape(channels * height * width)


_LAY_OUT: dict[type, Callable[..., IntArray]] = {
    Conv2d: _conv,
    Dense: _dense,
    SumPool2d: _pool,
    Identity: _identity,
}
