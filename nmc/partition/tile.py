"""Cut every population into tiles that fit a core: the fewest cores, then the widest channel groups.

At an equal number of cores a wide channel group is the better tile: a spike is sent once per channel
group of the next layer, and the group count is what the tile's shape decides.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from nmc.chip import Chip
from nmc.errors import NmcError
from nmc.ir import IntArray, Network, Population, Shape, Stage
from nmc.ir import Mapping as CoreMapping
from nmc.partition.cost import RESOURCES, Cuts, Usage, cut, grid_usage
from nmc.partition.place import in_order as place


def partition(network: Network, chip: Chip) -> Network:
    """Give every population's neurons cores; inputs and host projections take none.

    Contract: QUANTIZED in, MAPPED out; one tile per core, every limit of the chip kept, deterministic.

    Raises:
        NmcError: NMC-P01 when the chip has too few cores; NMC-P02, P03, P04 when a single neuron takes more
            memory, input or output axons than a core has.
    """
    cuts: dict[str, Cuts] = {}
    # Targets first: what a tile sends depends on how its targets are cut, never the other way round.
    for population in reversed(network.compute):
        cuts[population.name] = choose(network, chip, population, cuts)
    boxes = [(one.name, ranges) for one in network.compute for ranges in itertools.product(*cuts[one.name])]
    _check_cores(network, chip, [name for name, _ in boxes])
    return network.with_(stage=Stage.MAPPED, chip=chip.name, mapping=CoreMapping(chip.name, place(boxes)))


def _check_cores(network: Network, chip: Chip, owners: list[str]) -> None:
    """Refuse (NMC-P01) more cores than there are; ``owners`` has one population per core."""
    if chip.cores is None or len(owners) <= chip.cores:
        return
    largest, cores = Counter(owners).most_common(1)[0]
    raise NmcError(
        "NMC-P01",
        network.name,
        f"needs {len(owners):,} cores, {chip.name} has {chip.cores:,}"
        f" ({network[largest].label} takes the most, {cores:,})",
        "use fewer channels or pixels, or a chip with more cores",
        measured=len(owners),
        allowed=chip.cores,
    )


def choose(network: Network, chip: Chip, population: Population, target_cuts: Mapping[str, Cuts]) -> Cuts:
    """The first grid, best first, whose every tile keeps every limit. Raises NmcError NMC-P02, P03, P04."""
    for lengths in _candidates(population.shape, chip.neurons_per_core):
        cuts = tuple(cut(size, int(length)) for size, length in zip(population.shape, lengths, strict=True))
        if _fits(grid_usage(network, chip, population, cuts, target_cuts), chip):
            return cuts
    raise _refusal(network, chip, population, target_cuts)


def _candidates(shape: Shape, neurons: int | None) -> Iterator[IntArray]:
    """Tile lengths per axis: fewest tiles, then widest channels, then the squarest plane."""
    per_axis = [np.unique([-(-size // count) for count in range(1, size + 1)]) for size in shape]
    lengths = np.stack(np.meshgrid(*per_axis, indexing="ij"), -1).reshape(-1, len(shape))
    if neurons is not None:
        lengths = lengths[lengths.prod(1) <= neurons]
    tiles = (-(-np.array(shape) // lengths)).prod(1)
    keys = [*(-lengths[:, 1:]).T, lengths[:, 1:].sum(1), -lengths[:, 0], tiles]
    return iter(lengths[np.lexsort(keys)])


def _limit(chip: Chip, field: str) -> int | None:
    limit: int | None = getattr(chip, field)
    return limit


def _fits(usage: Usage, chip: Chip) -> bool:
    for resource in RESOURCES:
        limit = _limit(chip, resource.limit)
        if limit is not None and getattr(usage, resource.usage).max() > limit:
            return False
    return True


def _refusal(
    network: Network, chip: Chip, population: Population, target_cuts: Mapping[str, Cuts]
) -> NmcError:
    """Why not even one neuron per core fits."""
    cuts = tuple(cut(size, 1) for size in population.shape)
    usage = grid_usage(network, chip, population, cuts, target_cuts)
    for resource in RESOURCES:
        limit, used = _limit(chip, resource.limit), int(getattr(usage, resource.usage).max())
        if limit is not None and used > limit:
            return NmcError(
                resource.code,
                population.label,
                f"one neuron needs {used:,} {resource.words}, a {chip.name} core has {limit:,}",
                _REMEDIES[resource.usage],
                measured=used,
                allowed=limit,
            )
    raise AssertionError("one neuron per core fits, so a candidate was skipped")


_REMEDIES = {
    "neurons": "use another chip",
    "synapse_bits": "give the layer a smaller fan-in (pool before it) or fewer weight bits",
    "input_axons": "give the layer a smaller fan-in: pool or stride before it",
    "output_axons": "give the layers behind it fewer neurons, so that they take fewer cores",
    "delay_slots": "shorten the skip connection, or use relays",
}
