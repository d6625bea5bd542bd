"""What a core stores of a layer whose neurons differ in delay: one list, every weight with its own delay.

The network has such a layer as one projection per delay, each with weights of the neurons that wait so long
and zeros for all others, because a ``Projection`` has one delay. On the chip a delay is a field of the
weight: a source neuron keeps one list per core and is heard on one axon. What prices a mapping looks at
``as_stored``; engines compute with the network itself.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

import numpy as np

from nmc.ir import Conv2d, Dense, Fixed, Network, Projection, Synapse

Key: TypeAlias = tuple[str, str, Synapse, int, int, bool]


def as_stored(network: Network) -> Network:
    """Projections that give each neuron of their target weights once, as one with the longest delay.

    Contract: QUANTIZED or MAPPED in, the same stage out; only for prices, since delays are lost. Populations
    and mapping stay; without such projections it is the same object.
    """
    groups: dict[Key, list[Projection]] = {}
    for one in network.projections:
        if isinstance(one.weight, Fixed) and isinstance(one.synapse, Conv2d | Dense) and not one.on_host:
            weight = one.weight
            key = (one.source, one.target, one.synapse, weight.exp, weight.bits, weight.signed)
            groups.setdefault(key, []).append(one)
    merged: dict[str, Projection | None] = {}
    for members in groups.values():
        if len(members) > 1 and _apart(members):
            merged |= dict.fromkeys((one.name for one in members), None)
            merged[members[0].name] = _together(members)
    if not merged:
        return network
    found = (merged.get(one.name, one) for one in network.projections)
    return network.with_(projections=tuple(one for one in found if one is not None))


def _apart(members: list[Projection]) -> bool:
    """Whether no neuron has weights in two of them."""
    filled = np.zeros(members[0].weight_shape[0], np.int64)
    for one in members:
        if one.weight_shape != members[0].weight_shape:
            return False
        filled += _mantissas(one).any(axis=tuple(range(1, len(one.weight_shape))))
    return bool((filled <= 1).all())


def _together(members: list[Projection]) -> Projection:
    weight = members[0].weight
    assert isinstance(weight, Fixed)
    total = np.sum([_mantissas(one) for one in members], axis=0)
    return replace(
        members[0],
        weight=Fixed(total, weight.exp, weight.bits, weight.signed),
        delay=max(one.delay for one in members),
    )


def _mantissas(one: Projection) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    assert isinstance(one.weight, Fixed)
    return one.weight.mant
