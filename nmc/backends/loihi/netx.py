"""A chain of layers as lava-dl's ``.net`` file (HDF5), which ``lava.lib.dl.netx`` loads. No Lava here.

The format holds chains of convolutions and dense layers with hard-reset CUBA neurons, nothing else; what
it cannot say is refused, never approximated. Fields as lava-dl 0.6 reads them (netx/hdf5.py).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from nmc import atomic
from nmc.backends.loihi import quirks
from nmc.backends.loihi.lower import as_convolution
from nmc.errors import NmcError
from nmc.ir import (
    Conv2d,
    Dense,
    Encoding,
    Fixed,
    FixedNeuron,
    Identity,
    InputNeuron,
    IntArray,
    Network,
    Population,
    Projection,
)

BIAS_EXP = 6
"""netx gives every bias this exponent (get_neuron_params), so a bias is whole weight units."""
OFFSET = 1
"""``reset_offset`` to load the file with: netx counts its first layer as step 1, where a spike source and
a synapse come before it."""
EXTENSION = ".net"


def write_net(network: Network, path: Path) -> None:
    """Write the network as one ``.net`` file.

    To run it as nmc does: ``netx.hdf5.Network(net_config=path, reset_interval=T, reset_offset=1)`` behind a
    ``RingBuffer`` of spikes in Lava's axis order (x, y, channel).

    Raises:
        NmcError: NMC-Q03 naming the layer that the format cannot hold, NMC-W01.
    """
    layers = list(_chain(network))
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver="earliest", track_order=False) as file:
        source = network.inputs[0]
        group = file.create_group("layer/0")
        _put(group, type=np.array(["input"], "S10"), shape=np.array(source.shape, np.int64))
        number, flat = 1, len(source.shape) == 1
        for projection, population in layers:
            before = network[projection.source]
            if isinstance(projection.synapse, Dense) and not flat:
                size = np.array([before.size], np.int64)
                _put(file.create_group(f"layer/{number}"), type=np.array(["flatten"], "S10"), shape=size)
                number, flat = number + 1, True
            _write_layer(file.create_group(f"layer/{number}"), projection, before, population)
            number += 1
    atomic.atomic_write(path, buffer.getvalue())


def _refused(who: str, what: str) -> NmcError:
    return NmcError("NMC-Q03", who, f"{what}: not in a .net file", "export it with --to lava")


def _chain(network: Network) -> Iterator[tuple[Projection, Population]]:
    """Every layer with its one projection, checked to be what the format holds."""
    source = network.inputs[0]
    assert isinstance(source.neuron, InputNeuron)
    if source.neuron.encoding is Encoding.CURRENT:
        raise _refused(source.label, "an input that the host writes as bias current")
    if quirks.message_bits(source):
        raise _refused(source.label, "an input with payloads")
    previous = source.name
    for population in network.compute:
        incoming = network.incoming(population.name)
        if len(incoming) != 1 or incoming[0].source != previous:
            raise _refused(population.label, "a layer that is no link of a chain")
        (projection,) = incoming
        _check(network[previous], projection, population)
        yield projection, population
        previous = population.name
    if network.outputs != (previous,):
        raise _refused(", ".join(network.outputs), "an output before the last layer")


def _check(source: Population, projection: Projection, population: Population) -> None:
    """Refuse what netx has no field for, or reads wrongly."""
    who, neuron, synapse = population.label, population.neuron, projection.synapse
    if not isinstance(neuron, FixedNeuron):
        raise _refused(who, "a relay of graded spikes")
    if not quirks.stock_lif(neuron):
        raise _refused(who, "a soft reset or a start value")
    if neuron.vth is not None and neuron.vth.mant.size > 1:
        raise _refused(who, "one threshold per neuron")
    if projection.delay:
        raise _refused(who, f"a delay of {projection.delay} steps")
    if isinstance(population.bias, Fixed) and np.any((population.bias.mant << population.bias.exp) % 64):
        raise _refused(who, "a bias that is not whole weight units")
    weight = quirks.representable(projection)
    if not isinstance(synapse, Dense):
        if not quirks.convolves(projection, source) and not isinstance(synapse, Identity):
            raise _refused(who, "a convolution beyond the 8-bit fields of Lava's Conv")
        if len(source.shape) != 3 or (source.shape[0] > quirks.INT8_MAX and isinstance(synapse, Identity)):
            raise _refused(who, f"one-to-one synapses on a source of shape {source.shape}")
        return
    # optimize_weight_bits divides by the largest weight, and loses one of -2**k where all are negative.
    lowest = int(-weight.min())
    if not weight.any() or (weight.max() < 0 and lowest & (lowest - 1) == 0):
        raise _refused(who, "a dense matrix that netx reads wrongly (all zero, or all negative)")


def _convolution(projection: Projection, source: Population) -> tuple[Conv2d, IntArray]:
    """Pools and one-to-one synapses are depthwise convolutions."""
    weight = projection.integer_weight
    if isinstance(projection.synapse, Identity):
        channels = source.shape[0]
        return Conv2d(groups=channels), np.broadcast_to(weight.reshape(-1, 1, 1, 1), (channels, 1, 1, 1))
    return as_convolution(projection.synapse, weight, source.shape[0])


def _write_layer(group: Any, projection: Projection, source: Population, population: Population) -> None:
    shape = population.shape
    if isinstance(projection.synapse, Dense):
        weight = projection.integer_weight
        _put(group, type=np.array(["dense"], "S10"), shape=np.array((*shape, 1, 1)[:3], np.int64))
        _put(group, inFeatures=weight.shape[1], outFeatures=weight.shape[0])
    else:
        conv, weight = _convolution(projection, source)
        _put(group, type=np.array(["conv"], "S10"), shape=np.array(shape, np.int64))
        _put(group, inChannels=source.shape[0], outChannels=shape[0], groups=conv.groups)
        _put(group, kernelSize=np.array(weight.shape[2:], np.int64))
        for key in ("stride", "padding", "dilation"):
            _put(group, **{key: np.array(getattr(conv, key), np.int64)})
    _put(group, weight=weight.astype(np.float32))
    if isinstance(population.bias, Fixed):
        whole = (population.bias.mant << population.bias.exp) >> BIAS_EXP
        per_channel = whole.reshape(-1)
        if per_channel.size not in (1, shape[0]):
            raise _refused(population.label, "one bias per neuron")
        quirks.checked_bias(per_channel, population.label)
        _put(group, bias=np.broadcast_to(per_channel, shape[:1]).astype(np.float32))
    neuron = population.neuron
    assert isinstance(neuron, FixedNeuron)
    _put(
        group.create_group("neuron"),
        type="CUBA",
        iDecay=int(neuron.du.mant) + 1,
        vDecay=int(neuron.dv.mant),
        vThMant=quirks.NEVER if neuron.vth is None else int(neuron.vth.mant.reshape(())),
        refDelay=1,
        gradedSpike=False,
    )


def _put(group: Any, **fields: Any) -> None:
    for name, value in fields.items():
        if isinstance(value, str):
            value = np.array(value, f"S{len(value)}")
        group.create_dataset(name, data=value)
