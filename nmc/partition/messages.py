"""What a placement makes spikes cost on the way, by the population that sends them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nmc.chip import Chip
from nmc.ir import Network
from nmc.partition.graph import core_graph
from nmc.partition.route import positions


@dataclass(frozen=True)
class Messages:
    """Per inference.

    sent: copies of spikes, one for every core that reads them; between: those that leave their router.
    east_west, north_south: links that copies pass along rows and along columns.
    """

    sent: float
    between: float
    east_west: float
    north_south: float

    @property
    def hops(self) -> float:
        return self.east_west + self.north_south


def messages_of(network: Network, chip: Chip, spikes: Mapping[str, float]) -> dict[str, Messages]:
    """The messages of every population that is on the chip and sends to it.

    Args:
        network: MAPPED.
        chip: hops are 0 on one without a mesh.
        spikes: per population, per inference; they are spread evenly over its neurons, so that the result is
            an estimate where its tiles fire differently.
    """
    result = {}
    for population in network.compute:
        outgoing = network.outgoing(population.name)
        if not outgoing:
            continue
        graph = core_graph(network.with_(projections=outgoing), {population.name: spikes[population.name]})
        rows, columns = (
            np.abs(source - target)
            for source, target in zip(
                positions(chip, graph.source), positions(chip, graph.target), strict=True
            )
        )
        result[population.name] = Messages(
            sent=graph.total,
            between=float(graph.spikes[(rows + columns) > 0].sum()),
            east_west=float((graph.spikes * columns).sum()),
            north_south=float((graph.spikes * rows).sum()),
        )
    return result
