"""Sums in parts: a neuron that reads more than a core can list is summed by several.

A core keeps the lists of all synapses of its neurons and an entry for every axon that it hears; a linear
layer on a wide map, or a convolution over thousands of channels, asks for more of them than there are, even
for one neuron. Then the channels that it reads are cut into k equal groups. Memoryless relays, k for every
neuron, compute one group's weighted sum each, exactly, and send it as one graded spike; the neuron adds the k
numbers that arrive. Sums of integers have no order, so nothing changes but the step that the relays take.

A relay's sum is bounded by its weights. k is the smallest number for which lists, axons and payloads fit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from nmc import timing
from nmc.chip import Chip
from nmc.errors import NmcError
from nmc.ir import (
    Conv2d,
    Dense,
    Fixed,
    GradedRelay,
    Identity,
    Network,
    Population,
    Projection,
    frozen,
)
from nmc.partition.cost import one_neuron
from nmc.partition.hold import GRADED_WEIGHT
from nmc.partition.stored import as_stored
from nmc.rules import largest_sum, sends_negative


def sum_in_parts(network: Network, chip: Chip) -> Network:
    """Split the sums of populations of which not one neuron fits a core.

    Contract: QUANTIZED in, QUANTIZED out; every population sends and keeps the same numbers, some of them a
    step later; the relays' payloads fit the chip. What cannot be split (no graded spikes on the chip, a
    grouped convolution or one of one channel, a loop without a step to spare) is left as it is, for
    ``partition`` to refuse. A note says what was added.
    """
    if not chip.payload_bits:
        return network
    split, stored = network, as_stored(network)
    for population in network.compute:
        if not _fits(stored, chip, population):
            split = _split(split, chip, population)
    if split is network:
        return network
    known = {one.name for one in network.populations}
    added = [one for one in split.populations if one.name not in known]
    size = sum(one.size for one in added)
    note = f"{len(added)} relay populations ({size:,} neurons) send sums that no core holds whole, in parts"
    return split.with_(notes=(*split.notes, note))


def _fits(network: Network, chip: Chip, population: Population) -> bool:
    """Whether a core holds one neuron; a delayed copy of a kernel is left to ``hold``."""
    bits, axons = one_neuron(network, chip, population)
    return (chip.synapse_bits is None or bits <= chip.synapse_bits) and (
        chip.input_axons is None or axons <= chip.input_axons
    )


def _split(network: Network, chip: Chip, population: Population) -> Network:
    """With as few of its projections in parts as make it fit: the smallest that does, or the largest ones."""
    weighted = [one for one in network.incoming(population.name) if _can_split(one)]
    weighted.sort(key=lambda one: math.prod(one.weight_shape))
    for one in weighted:
        candidate = _in_parts(network, chip, one)
        if candidate is not None and _fits(candidate, chip, population):
            return candidate
    changed = network
    for one in reversed(weighted):
        candidate = _in_parts(changed, chip, one)
        if candidate is not None:
            changed = candidate
            if _fits(changed, chip, population):
                return changed
    return network


def _can_split(one: Projection) -> bool:
    grouped = isinstance(one.synapse, Conv2d) and one.synapse.groups > 1
    return isinstance(one.synapse, Conv2d | Dense) and not (grouped or one.on_host or one.lag)


def _in_parts(network: Network, chip: Chip, projection: Projection) -> Network | None:
    """The network with one projection computed by relays; None where no number of parts fits."""
    for added, projections in _ways(network, chip, projection):
        at = network.populations.index(network[projection.target])
        populations = (*network.populations[:at], *added, *network.populations[at:])
        others = tuple(one for one in network.projections if one is not projection)
        changed = network.with_(populations=populations, projections=(*others, *projections))
        relays = [changed[one.name] for one in added]
        if not all(_fits(changed, chip, one) and _sends(changed, one, chip) for one in relays):
            continue
        try:
            changed = timing.settle(changed)
        except NmcError:
            return None  # a loop without a step to spare
        late = any(one.delay > chip.max_delay for one in changed.projections)
        return None if late else changed
    return None


def _sends(network: Network, relay: Population, chip: Chip) -> bool:
    """Whether the chip's payloads hold all that the relay can send, with its sign."""
    negative = sends_negative(network, relay.name)
    return relay.max_payload < 1 << (chip.payload_bits - int(negative))


Way = tuple[tuple[Population, ...], tuple[Projection, ...]]
"""Relays in order, and the projections into and out of them."""


def _ways(network: Network, chip: Chip, projection: Projection) -> Iterator[Way]:
    """Ever more parts; for a flat source, or one of few channels, through a relay that makes each neuron a
    channel."""
    source = network[projection.source]
    if len(source.shape) == 3:
        yield from _groupings(network, projection, source)
    if isinstance(projection.synapse, Dense):
        flat = Population(
            f"{projection.name}.channels",
            (source.size, 1, 1),
            GradedRelay(),
            max_payload=source.max_payload,
            level=source.time + 1,
            origin=(*source.origin, f"{source.label} (as channels)"),
        )
        into = Projection(
            f"{flat.name}.in", source.name, flat.name, Identity(), GRADED_WEIGHT, origin=source.origin
        )
        for added, projections in _groupings(network, projection, flat):
            yield (flat, *added), (into, *projections)


def _groupings(network: Network, projection: Projection, source: Population) -> Iterator[Way]:
    target = network[projection.target]
    negative = sends_negative(network, projection.source)
    for parts in range(1, source.shape[0] + 1):
        if source.shape[0] % parts == 0:
            conv = _grouped(projection, source, parts)
            shape = (parts * target.shape[0], *(target.shape[1:] if len(target.shape) == 3 else (1, 1)))
            relay = Population(
                f"{projection.name}.parts",
                shape,
                GradedRelay(),
                max_payload=largest_sum(conv, source, math.prod(shape), negative=negative),
                level=source.time + 1,
                origin=(*target.origin, f"{target.label} (in {parts} parts)"),
            )
            yield (relay,), (conv, _sum(projection, relay, conv))


def _grouped(projection: Projection, source: Population, parts: int) -> Projection:
    """The projection into its relays: a convolution of as many groups as parts, in the smallest weights."""
    weight, dense = projection.weight, isinstance(projection.synapse, Dense)
    assert isinstance(weight, Fixed)
    outputs, (channels, height, width) = len(weight.mant), source.shape
    kernel = (height, width) if dense else projection.weight_shape[2:]
    split = weight.mant.reshape(outputs, parts, channels // parts, *kernel)
    mant = split.swapaxes(0, 1).reshape(parts * outputs, channels // parts, *kernel)
    conv = Conv2d() if dense else projection.synapse
    assert isinstance(conv, Conv2d)
    return replace(
        projection,
        name=f"{projection.name}.parts",
        source=source.name,
        target=f"{projection.name}.parts",
        synapse=replace(conv, groups=parts),
        weight=Fixed(mant, min(weight.exp, int(weight.signed)), weight.bits, weight.signed),
        delay=0,
    )


def _sum(projection: Projection, relay: Population, conv: Projection) -> Projection:
    """The relays' numbers into the neuron, in the unit of its weights."""
    assert isinstance(projection.weight, Fixed)
    assert isinstance(conv.weight, Fixed)
    exp = projection.weight.exp - conv.weight.exp
    one = GRADED_WEIGHT if not exp else Fixed(frozen(1), exp, GRADED_WEIGHT.bits, signed=False)
    return replace(projection, source=relay.name, synapse=Identity(), weight=one, delay=0)
