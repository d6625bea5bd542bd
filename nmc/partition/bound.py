"""The fewest cores that any mapping needs: neurons and bare weights, nothing else.

A core holds g channels x m pixels of one layer and one copy of their weights:

    g m <= neurons of a core,    g k + g m i <= synapse memory,
    cores of the layer = min over g of ceil(channels / g) ceil(pixels / m)

k: bits of the weights of one output channel (every kernel once per delay that it is read with, the delay
field included), i: bits of one-to-one weights per neuron. Left out: headers, indices and padding of lists,
axons, borders, delay slots, uneven tiles. ``shared`` also lets layers share cores, and so counts parts of
cores: sum over layers of neurons x max(1 / neurons of a core, bits per neuron / memory).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nmc.chip import Chip
from nmc.ir import Dense, Fixed, Identity, Network, Population
from nmc.partition.stored import as_stored
from nmc.synapse import parts


@dataclass(frozen=True)
class LayerBound:
    """cores: None where no core holds even one channel's weights. part: cores' parts, see the module."""

    population: str
    cores: int | None
    part: float


@dataclass(frozen=True)
class Bound:
    """cores: sum over the layers; shared: with layers sharing cores, never more than ``cores``."""

    layers: tuple[LayerBound, ...]
    cores: int
    shared: int


def lower_bound(network: Network, chip: Chip) -> Bound:
    """See the module. The network is QUANTIZED; a layer that fits no core counts nothing."""
    network = as_stored(network)
    layers = tuple(_layer(network, chip, one) for one in network.compute)
    total = math.fsum(one.part for one in layers)
    return Bound(layers, sum(one.cores or 0 for one in layers), math.ceil(total - 1e-9))


def _layer(network: Network, chip: Chip, population: Population) -> LayerBound:
    per_channel, per_neuron = _bits(network, chip, population)
    channels = population.shape[0]
    pixels = population.size // channels
    neurons = population.size if chip.neurons_per_core is None else chip.neurons_per_core
    memory = chip.synapse_bits
    g = np.arange(1, min(channels, neurons) + 1)
    m = np.minimum(neurons // g, pixels)
    if memory is not None:
        room = memory - g * per_channel
        if per_neuron:
            m = np.minimum(m, room // (g * per_neuron))
        m = np.where(room >= 0, m, 0)
    g, m = g[m > 0], m[m > 0]
    if not len(g):
        return LayerBound(population.name, None, 0.0)
    cores = int((-(-channels // g) * -(-pixels // m)).min())
    part = population.size / neurons
    if memory is not None:
        each = per_channel / min(pixels, neurons) + per_neuron
        part = max(part, population.size * each / memory)
    return LayerBound(population.name, cores, part)


def _bits(network: Network, chip: Chip, population: Population) -> tuple[int, int]:
    """Bits of the weights of one output channel, and of the one-to-one weights of one neuron."""
    per_channel = per_neuron = 0
    seen = set()
    for one in network.incoming(population.name):
        key = (id(one.weight), one.delay, one.synapse)
        if one.on_host or key in seen:
            continue
        seen.add(key)
        assert isinstance(one.weight, Fixed)
        width = chip.stored_bits(one.weight.bits) + (chip.delay_bits if one.delay else 0)
        if isinstance(one.synapse, Identity):
            per_neuron += width * parts(one.synapse, network[one.source].size, population.size)
        elif isinstance(one.synapse, Dense) or len(one.weight_shape) == 4:
            per_channel += width * math.prod(one.weight_shape[1:])
        else:
            per_channel += width
    return per_channel, per_neuron
