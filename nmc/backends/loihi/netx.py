"""A chain of layers as lava-dl's ``.net`` file (HDF5), which ``lava.lib.dl.netx`` loads. No Lava here.

The format holds chains of convolutions and dense layers with hard-reset CUBA neurons, nothing else; what
it cannot say is refused, never approximated. Fields as lava-dl 0.6 reads them (netx/hdf5.py), and as
``frontend/slayer.py`` reads them again.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from nmc import atomic
from nmc.backends.loihi import quirks
from nmc.backends.loihi.lower import as_convolution
from nmc.errors import NmcError
from nmc.frontend.slayer import FRAME_BITS
from nmc.frontend.slayer_fields import BIAS_EXP
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

OFFSET = 1
"""``reset_offset`` to load the file with: netx counts its first layer as step 1, where a spike source and
a synapse come before it."""


@dataclass(frozen=True)
class _Link:
    """One layer: what feeds its population, one projection per delay, and what it feeds back."""

    before: Population
    forward: tuple[Projection, ...]
    population: Population
    back: Projection | None = None


def write_net(network: Network, path: Path) -> None:
    """Write the network as one ``.net`` file.

    To run it as nmc does: ``netx.hdf5.Network(net_config=path, reset_interval=T, reset_offset=1)`` behind a
    ``RingBuffer`` of spikes in Lava's axis order (x, y, channel).

    Raises:
        NmcError: NMC-Q03 naming the layer that the format cannot hold, NMC-W01.
    """
    first, links = _links(network)
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver="earliest", track_order=False) as file:
        group = file.create_group("layer/0")
        _put(group, type=np.array(["input"], "S10"), shape=np.array(first.shape, np.int64))
        if isinstance(first.neuron, FixedNeuron):
            (frames,) = network.incoming(first.name)
            assert isinstance(first.bias, Fixed)
            _put(group, weight=np.array([frames.integer_weight], np.float32).reshape(1))
            _put(group, bias=np.array([first.bias.mant], np.float32).reshape(1))
            _write_neuron(group, first.neuron)
        number, flat = 1, len(first.shape) == 1
        for link in links:
            if isinstance(link.forward[0].synapse, Dense) and not flat:
                size = np.array([link.before.size], np.int64)
                _put(file.create_group(f"layer/{number}"), type=np.array(["flatten"], "S10"), shape=size)
                number, flat = number + 1, True
            _write_layer(file.create_group(f"layer/{number}"), link)
            number += 1
        _put(file.create_group("simulation"), Ts=1, tSample=network.steps)
    atomic.atomic_write(path, buffer.getvalue())


def _refused(who: str, what: str) -> NmcError:
    return NmcError("NMC-Q03", who, f"{what}: not in a .net file", "export it with --to lava")


def _links(network: Network) -> tuple[Population, tuple[_Link, ...]]:
    """The first layer and every one behind it, checked to be what the format holds."""
    (source,) = network.inputs
    assert isinstance(source.neuron, InputNeuron)
    rest = list(network.compute)
    if source.neuron.encoding is Encoding.CURRENT:
        _check_frames(network, source, rest[0])
        source = rest.pop(0)
    elif quirks.message_bits(source):
        raise _refused(source.label, "an input with payloads")
    links, previous = [], source
    for population in rest:
        incoming = network.incoming(population.name)
        forward = tuple(p for p in incoming if p.source != population.name)
        back = tuple(p for p in incoming if p.source == population.name)
        alike = {(p.source, p.synapse, p.weight_shape) for p in forward}
        if len(alike) != 1 or forward[0].source != previous.name or len(back) > 1:
            raise _refused(population.label, "a layer that is no link of a chain")
        _check_delays(forward, population)
        for projection in forward:
            _check(previous, projection, population)
        if back:
            _check_back(back[0], population)
        links.append(_Link(previous, forward, population, back[0] if back else None))
        previous = population
    if network.outputs != (previous.name,):
        raise _refused(", ".join(network.outputs), "an output before the last layer")
    return source, tuple(links)


def _check_frames(network: Network, source: Population, first: Population) -> None:
    """Frames that the host writes: the format has one weight and one bias for all of them."""
    incoming, neuron = network.incoming(first.name), source.neuron
    assert isinstance(neuron, InputNeuron)
    one = (
        len(incoming) == 1
        and isinstance(incoming[0].synapse, Identity)
        and incoming[0].integer_weight.size == 1
        and isinstance(first.bias, Fixed)
        and first.bias.mant.size == 1
        and first.bias.exp == BIAS_EXP
        and (incoming[0].host_shift, neuron.scale) == (FRAME_BITS, 2.0**-FRAME_BITS)
    )
    if not one or not isinstance(first.neuron, FixedNeuron) or not quirks.stock_lif(first.neuron):
        raise _refused(
            source.label, "an input that the host writes as bias current, unless it is a .net file's"
        )


def _check_delays(forward: tuple[Projection, ...], population: Population) -> None:
    """Each neuron has one delay for all that it receives; netx ignores those of convolutions."""
    if not any(projection.lag for projection in forward):
        return
    if not isinstance(forward[0].synapse, Dense):
        raise _refused(population.label, "a delay in front of a convolution, which netx ignores")
    filled = sum((p.integer_weight != 0).any(axis=1).astype(int) for p in forward)
    if np.any(filled > 1):
        raise _refused(population.label, "a neuron whose inputs differ in delay")


def _check_back(back: Projection, population: Population) -> None:
    if not isinstance(back.synapse, Dense) or back.lag != 1:
        raise _refused(population.label, "a loop other than a matrix back to its own layer, one step late")
    quirks.representable(back, most=0)


def _check(source: Population, projection: Projection, population: Population) -> None:
    """Refuse what netx has no field for, or reads wrongly."""
    who, neuron, synapse = population.label, population.neuron, projection.synapse
    if not isinstance(neuron, FixedNeuron):
        raise _refused(who, "a relay of graded spikes")
    if not quirks.stock_lif(neuron):
        raise _refused(who, "a soft reset or a start value")
    if neuron.vth is not None and neuron.vth.mant.size > 1:
        raise _refused(who, "one threshold per neuron")
    if projection.delay and not projection.lag:
        raise _refused(who, f"a delay of {projection.delay} steps")
    if isinstance(population.bias, Fixed) and np.any((population.bias.mant << population.bias.exp) % 64):
        raise _refused(who, "a bias that is not whole weight units")
    weight, _ = quirks.representable(projection, most=0)
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


def _write_layer(group: Any, link: _Link) -> None:
    population, source = link.population, link.before
    shape, first = population.shape, link.forward[0]
    if isinstance(first.synapse, Dense):
        weight = np.sum([p.integer_weight for p in link.forward], axis=0)
        kind = "dense" if link.back is None else "dense_rec"
        _put(group, type=np.array([kind], "S10"), shape=np.array((*shape, 1, 1)[:3], np.int64))
        _put(group, inFeatures=weight.shape[1], outFeatures=weight.shape[0])
        if link.back is not None:
            _put(group, weight_rec=link.back.integer_weight.astype(np.float32))
        if any(p.lag for p in link.forward):
            _put(group, delay=_delays(link.forward).astype(np.float32))
    else:
        conv, weight = _convolution(first, source)
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
    assert isinstance(population.neuron, FixedNeuron)
    _write_neuron(group, population.neuron)


def _delays(forward: tuple[Projection, ...]) -> IntArray:
    """(out,): the delay of every neuron, 0 where it receives nothing."""
    delays = np.zeros(forward[0].weight_shape[0], np.int64)
    for projection in forward:
        delays[(projection.integer_weight != 0).any(axis=1)] = projection.lag
    return delays


def _write_neuron(group: Any, neuron: FixedNeuron) -> None:
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
