"""From a quantized network and its encoded input to Lava processes, as plain data (``program.py``).

| network | Lava process |
|---|---|
| Conv2d, SumPool2d, no delay | ``Conv`` (a pool is a depthwise one), where its geometry fits |
| Conv2d, SumPool2d otherwise | ``Sparse`` / ``DelaySparse`` from the explicit synapse matrix |
| Dense | ``Dense`` / ``DelayDense`` |
| Identity | ``Sparse`` / ``DelaySparse`` with one entry per source neuron |
| FixedNeuron, hard reset | ``LIFReset`` |
| FixedNeuron, soft reset or start value | ``SoftLIF`` / ``HardLIF`` of ``processes.py`` |
| GradedRelay | ``GradedVec`` |
| input sent as spikes | ``RingBuffer`` |
| host projection | bias mantissas, written by the host before each sample |
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nmc import timing
from nmc.backends import encode
from nmc.backends.loihi import quirks
from nmc.backends.loihi.program import Neurons, Program, Source, Synapses
from nmc.errors import InternalError
from nmc.ir import (
    Conv2d,
    Dense,
    Encoding,
    Fixed,
    FixedNeuron,
    GradedRelay,
    InputNeuron,
    IntArray,
    Network,
    Population,
    Projection,
    Reset,
    Shape,
    Stage,
    SumPool2d,
    Synapse,
    frozen,
)


def lower(network: Network, x: IntArray, steps: int) -> Program:
    """The Lava processes that run N samples of ``steps`` steps back to back.

    Args:
        network: stage QUANTIZED or MAPPED; one that remembers only runs one sample (``timing.sessions``).
        x: encoded input, (N, *shape) frames or (N, T, *shape) trains.
        steps: T.

    Raises:
        NmcError: NMC-Q01, Q02 or T01 where a number does not fit what Lava and the chip have.
    """
    if network.stage < Stage.QUANTIZED:
        raise InternalError(f"Lava needs a quantized network, got {network.stage.name}")
    samples = len(x)
    if samples > 1 and network.remembers:
        raise InternalError("a network with loops runs one sample at a time")
    total = timing.total_steps(network, samples, steps)
    chip = [p for p in network.projections if not p.on_host]
    feeding = {p.source for p in chip}
    sources = tuple(_source(network, p, x, steps, total) for p in network.inputs if p.name in feeding)
    neurons = tuple(_neurons(network, population, x) for population in network.compute)
    names = {source.name for source in sources} | {cell.name for cell in neurons}
    order = tuple(population.name for population in network.populations if population.name in names)
    synapses = tuple(synapses_of(network, projection) for projection in chip)
    # A lone sample is cleared once, at its start.
    interval = total if network.remembers else steps
    return Program(total, interval, samples, order, sources, neurons, synapses)


def _source(network: Network, population: Population, x: IntArray, steps: int, total: int) -> Source:
    neuron = population.neuron
    assert isinstance(neuron, InputNeuron)
    if neuron.encoding is Encoding.CURRENT:
        raise InternalError(f"current-encoded input {population.name} feeds a chip projection")
    train = encode.train_of(network, x, steps)
    data = np.zeros((*population.shape, total), np.int32)
    # RingBuffer's time is the last axis and repeats, so the zeros of the drain must be there.
    data[..., : len(x) * steps] = np.moveaxis(train.reshape(-1, *population.shape), 0, -1)
    return Source(population.name, population.shape, frozen(data))


def _neurons(network: Network, population: Population, x: IntArray) -> Neurons:
    neuron, shape = population.neuron, population.shape
    zero = frozen(0, np.int64)
    if isinstance(neuron, GradedRelay):
        vth = frozen(quirks.GRADED_THRESHOLD, np.int64)
        return Neurons(
            population.name, "GradedVec", shape, population.time, zero, zero, vth, zero, zero, zero
        )
    if not isinstance(neuron, FixedNeuron):
        raise InternalError(f"population {population.name} is not quantized")
    host_bias = None
    mant, exp = zero, 0
    if population.bias is not None:
        assert isinstance(population.bias, Fixed)
        mant, exp = population.bias.mant, population.bias.exp
    if encode.has_host_input(network, population):
        host_bias = quirks.checked_bias(encode.host_mantissas(network, population, x), population.label)
        mant = host_bias[0]
    waits = not timing.has_started(network, population, 0) and bool(np.any(mant))
    if waits:
        host_bias = frozen(np.broadcast_to(mant, (1, *shape)), np.int64)
        mant = zero
    custom = "SoftLIF" if neuron.reset is Reset.SUBTRACT else "HardLIF"
    vth = frozen(quirks.NEVER, np.int64) if neuron.vth is None else neuron.vth.mant
    return Neurons(
        population.name,
        "LIFReset" if quirks.stock_lif(neuron) else custom,
        shape,
        population.time,
        du=_scalar_or_full(neuron.du.mant, shape),
        dv=_scalar_or_full(neuron.dv.mant, shape),
        vth=_scalar_or_full(vth, shape),
        v0=_scalar_or_full(neuron.v0, shape),
        drop=_scalar_or_full(zero if neuron.drop is None else neuron.drop, shape),
        bias_mant=quirks.checked_bias(frozen(np.broadcast_to(mant, shape)), population.label),
        bias_exp=exp,
        host_bias=host_bias,
        waits=waits,
    )


def _scalar_or_full(value: IntArray, shape: Shape) -> IntArray:
    """Shape () when all neurons share it, else the population's shape: Lava does not broadcast."""
    return frozen(value.reshape(()) if value.size == 1 else np.broadcast_to(value, shape))


def synapses_of(network: Network, projection: Projection) -> Synapses:
    """The Lava process of one chip projection."""
    source, target = network[projection.source], network[projection.target]
    synapse, (weight, exponent) = projection.synapse, quirks.representable(projection)
    assert isinstance(projection.weight, Fixed)

    def process(name: str, value: IntArray, **more: object) -> Synapses:
        return Synapses(
            projection.name,
            name,
            source.name,
            target.name,
            source.shape,
            target.shape,
            frozen(value),
            quirks.sign_mode(projection.weight.signed),  # type: ignore[union-attr]
            quirks.message_bits(source),
            quirks.checked_delay(projection.delay, projection.name),
            **more,  # type: ignore[arg-type]
        )

    if quirks.convolves(projection, source):
        conv, kernel = as_convolution(synapse, weight << exponent, source.shape[0])
        return process(
            "Conv",
            quirks.conv_kernel(kernel),
            stride=quirks.to_xy(conv.stride),
            padding=quirks.to_xy(conv.padding),
            dilation=quirks.to_xy(conv.dilation),
            groups=conv.groups,
        )
    if isinstance(synapse, Dense):
        return process("DelayDense" if projection.delay else "Dense", weight, weight_exp=exponent)
    rows, columns, values = synapse_matrix(synapse, weight, source.shape, target.size)
    return process(
        "DelaySparse" if projection.delay else "Sparse",
        values,
        rows=frozen(rows),
        columns=frozen(columns),
        weight_exp=exponent,
    )


def as_convolution(synapse: Synapse, weight: IntArray, channels: int) -> tuple[Conv2d, IntArray]:
    """A convolution with as few groups as ``Conv`` takes; a sum pool as the depthwise one that it is."""
    if isinstance(synapse, Conv2d):
        return _merged(synapse, weight)
    assert isinstance(synapse, SumPool2d)
    conv = Conv2d(synapse.stride, synapse.padding, (1, 1), channels)
    return _merged(conv, np.broadcast_to(weight.reshape(-1, 1, 1, 1), (channels, 1, *synapse.kernel)))


def _merged(conv: Conv2d, weight: IntArray) -> tuple[Conv2d, IntArray]:
    """The same convolution with several groups made one, block by block (``quirks.groups_in_one``)."""
    size = quirks.groups_in_one(conv.groups)
    if size == 1:
        return conv, weight
    c_out, per_group, *kernel = weight.shape
    blocks = weight.reshape(conv.groups // size, size, c_out // conv.groups, per_group, *kernel)
    whole = np.zeros((*blocks.shape[:3], size, per_group, *kernel), weight.dtype)
    for group in range(size):
        whole[:, group, :, group] = blocks[:, group]
    return replace(conv, groups=conv.groups // size), whole.reshape(c_out, size * per_group, *kernel)


def synapse_matrix(
    synapse: Synapse, weight: IntArray, source: Shape, targets: int
) -> tuple[IntArray, IntArray, IntArray]:
    """The non-zero synapses of a one-to-one or convolutional operator onto so many targets, written out.

    Returns:
        target neuron, source neuron (both flat in C order) and weight of each, int64.
    """
    if not isinstance(synapse, Conv2d | SumPool2d):
        neurons = np.arange(int(np.prod(source)), dtype=np.int64)
        values = np.broadcast_to(weight, source).reshape(-1)
        kept = values != 0
        return neurons[kept] % targets, neurons[kept], values[kept]
    conv, weight = as_convolution(synapse, weight, source[0])
    c_out, per_group, *kernel = weight.shape
    (height, width), groups = source[1:], conv.groups
    out_h, out_w = (
        (source[1 + axis] + 2 * conv.padding[axis] - conv.dilation[axis] * (kernel[axis] - 1) - 1)
        // conv.stride[axis]
        + 1
        for axis in (0, 1)
    )
    shape = (c_out, per_group, out_h, out_w)
    channel_out, channel_in, y_out, x_out = np.indices(shape, dtype=np.int64, sparse=True)
    channel_in = channel_in + channel_out // (c_out // groups) * per_group
    triplets = []
    for tap_y, tap_x in np.ndindex(*kernel):
        y = y_out * conv.stride[0] + tap_y * conv.dilation[0] - conv.padding[0]
        x = x_out * conv.stride[1] + tap_x * conv.dilation[1] - conv.padding[1]
        values = weight[:, :, tap_y, tap_x, None, None]
        kept = np.broadcast_to((y >= 0) & (y < height) & (x >= 0) & (x < width) & (values != 0), shape)
        rows = np.broadcast_to((channel_out * out_h + y_out) * out_w + x_out, shape)[kept]
        columns = np.broadcast_to((channel_in * height + y) * width + x, shape)[kept]
        triplets.append((rows, columns, np.broadcast_to(values, shape)[kept]))
    rows, columns, values = (np.concatenate(part) for part in zip(*triplets, strict=True))
    return rows, columns, values
