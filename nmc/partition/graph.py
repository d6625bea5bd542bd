"""The core graph: which core sends how many spikes to which, per inference.

A spike travels once to every core that holds a synapse of it, once per projection (each is an axon of its
own). Spikes of inputs come from the host and have no core. All costs are numbers per inference.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from nmc.ir import (
    Conv2d,
    Dense,
    FloatArray,
    Identity,
    IntArray,
    Network,
    Population,
    Projection,
    SumPool2d,
    Tile,
)
from nmc.partition.cost import reached
from nmc.partition.stored import as_stored

UNIFORM_RATE = 0.15
"""Spikes per neuron and step where none were measured: what SEW-ResNets show on ImageNet."""

Traffic = Mapping[str, float]
"""Spikes per inference of each population."""


@dataclass(frozen=True, eq=False)
class CoreGraph:
    """Directed and weighted, cores as numbers; sorted by (source, target), no pair twice.

    cores: (n,) the cores that hold a tile, ascending. source, target: (e,) core numbers.
    spikes: (e,) spikes per inference. A core that sends to itself has an edge to itself.
    """

    cores: IntArray
    source: IntArray
    target: IntArray
    spikes: FloatArray

    @property
    def total(self) -> float:
        """Messages per inference, those within a core included."""
        return float(self.spikes.sum())

    def moved(self, core: IntArray) -> CoreGraph:
        """The same graph when what lay on ``cores[i]`` lies on ``core[i]``."""
        table = np.zeros(int(self.cores.max(initial=0)) + 1, np.int64)
        table[self.cores] = core
        source, target = table[self.source], table[self.target]
        order = np.lexsort((target, source))
        return replace(
            self,
            cores=np.sort(core),
            source=source[order],
            target=target[order],
            spikes=self.spikes[order],
        )

    def networkx(self, network: Network) -> Any:
        """A networkx DiGraph; nodes carry ``layers`` and ``neurons``, edges ``weight``."""
        import networkx

        graph = networkx.DiGraph()
        for core, tiles in sorted(tiles_by_core(network).items()):
            layers = ", ".join(dict.fromkeys(network[tile.population].label for tile in tiles))
            graph.add_node(core, layers=layers, neurons=sum(tile.size for tile in tiles))
        graph.add_weighted_edges_from(
            zip(self.source.tolist(), self.target.tolist(), self.spikes.tolist(), strict=True)
        )
        return graph


def uniform_traffic(network: Network, rate: float = UNIFORM_RATE) -> dict[str, float]:
    """Spikes per inference when every neuron fires ``rate`` times per step."""
    return {one.name: rate * network.steps * one.size for one in network.populations}


def tiles_by_core(network: Network) -> dict[int, list[Tile]]:
    """Tiles of each core, in the mapping's order."""
    assert network.mapping is not None
    result: dict[int, list[Tile]] = {}
    for tile in network.mapping.tiles:
        result.setdefault(tile.core, []).append(tile)
    return result


def core_graph(network: Network, traffic: Traffic | None = None) -> CoreGraph:
    """The graph of a MAPPED network.

    Args:
        network: MAPPED; the tiles may be any boxes.
        traffic: spikes per inference of each population, spread evenly over its neurons; by default
            ``uniform_traffic``.
    """
    assert network.mapping is not None
    spikes = dict(uniform_traffic(network) if traffic is None else traffic)
    boxes = {name: _Boxes.of(tiles) for name, tiles in _tiles_by_population(network).items()}
    used = np.unique([tile.core for tile in network.mapping.tiles]).astype(np.int64)
    width = int(used.max(initial=0)) + 1
    codes, weights = [np.zeros(0, np.int64)], [np.zeros(0)]
    for one in as_stored(network).projections:
        if one.on_host or network[one.source].is_input:
            continue
        source = network[one.source]
        pairs = _neurons_read(one, source, network[one.target], boxes[one.source], boxes[one.target])
        sender, reader = np.nonzero(pairs)
        codes.append(boxes[one.source].core[sender] * width + boxes[one.target].core[reader])
        weights.append(pairs[sender, reader] * (spikes.get(one.source, 0.0) / source.size))
    code, where = np.unique(np.concatenate(codes), return_inverse=True)
    total = np.bincount(where.reshape(-1), np.concatenate(weights), len(code)).astype(np.float64)
    return CoreGraph(used, code // width, code % width, total)


@dataclass(frozen=True, eq=False)
class _Boxes:
    """The tiles of one population: core and size per tile, and per axis its intervals and who has which."""

    core: IntArray
    size: IntArray
    intervals: tuple[tuple[tuple[int, int], ...], ...]
    index: tuple[IntArray, ...]

    @staticmethod
    def of(tiles: list[Tile]) -> _Boxes:
        intervals, index = [], []
        for axis in range(len(tiles[0].ranges)):
            mine = [tile.ranges[axis] for tile in tiles]
            distinct = sorted(set(mine))
            number = {interval: n for n, interval in enumerate(distinct)}
            intervals.append(tuple(distinct))
            index.append(np.array([number[one] for one in mine], np.int64))
        return _Boxes(
            np.array([tile.core for tile in tiles], np.int64),
            np.array([tile.size for tile in tiles], np.int64),
            tuple(intervals),
            tuple(index),
        )


def _tiles_by_population(network: Network) -> dict[str, list[Tile]]:
    assert network.mapping is not None
    result: dict[str, list[Tile]] = {}
    for tile in network.mapping.tiles:
        result.setdefault(tile.population, []).append(tile)
    return result


def _neurons_read(
    projection: Projection, source: Population, target: Population, senders: _Boxes, readers: _Boxes
) -> IntArray:
    """(tiles of the source, tiles of the target): neurons of the one that the other has synapses of."""
    synapse = projection.synapse
    if isinstance(synapse, Dense):
        return np.repeat(senders.size[:, None], len(readers.core), axis=1)
    if isinstance(synapse, Identity) and source.shape != target.shape:
        return _flat_overlap(source, target, senders, readers)
    factors = []
    for axis, size in enumerate(source.shape):
        read = [_positions(projection, axis, size, interval) for interval in readers.intervals[axis]]
        overlap = np.array(
            [[int(mask[slice(*interval)].sum()) for mask in read] for interval in senders.intervals[axis]],
            np.int64,
        )
        factors.append(overlap[senders.index[axis]][:, readers.index[axis]])
    return np.asarray(reduce(np.multiply, factors))


def _positions(
    projection: Projection, axis: int, size: int, interval: tuple[int, int]
) -> npt.NDArray[np.bool_]:
    """Which positions of the source's axis are read by the target's interval."""
    synapse, (start, stop) = projection.synapse, interval
    mask = np.zeros(size, np.bool_)
    if isinstance(synapse, Identity) or (isinstance(synapse, SumPool2d) and axis == 0):
        mask[start:stop] = True
    elif axis == 0:
        assert isinstance(synapse, Conv2d)
        c_out, c_in = projection.weight_shape[:2]
        per_group = c_out // synapse.groups
        mask[start // per_group * c_in : -(-stop // per_group) * c_in] = True
    else:
        assert isinstance(synapse, (Conv2d, SumPool2d))
        kernel = synapse.kernel if isinstance(synapse, SumPool2d) else projection.weight_shape[2:]
        mask[reached(synapse, axis - 1, kernel[axis - 1], size, start, stop)] = True
    return mask


def _flat_overlap(source: Population, target: Population, senders: _Boxes, readers: _Boxes) -> IntArray:
    """One to one in C order between two shapes, the source's parts one after the other."""
    result = np.zeros((len(senders.core), len(readers.core)), np.int64)
    read = np.tile(_tile_numbers(target, readers), source.size // target.size)
    np.add.at(result, (_tile_numbers(source, senders), read), 1)
    return result


def _tile_numbers(population: Population, boxes: _Boxes) -> IntArray:
    """The tile of every neuron, flat."""
    number = np.zeros(population.shape, np.int64)
    for n in range(len(boxes.core)):
        ranges = (boxes.intervals[axis][index[n]] for axis, index in enumerate(boxes.index))
        number[tuple(slice(*interval) for interval in ranges)] = n
    return number.reshape(-1)


# --- export -----------------------------------------------------------------------------------------


def to_json(graph: CoreGraph, network: Network) -> str:
    """Schema ``nmc.coregraph/1``: cores with their tiles, edges [source, target, spikes per inference]."""
    cores = [
        {
            "core": core,
            "tiles": [
                {"layer": network[one.population].label, "population": one.population, "ranges": one.ranges}
                for one in tiles
            ],
        }
        for core, tiles in sorted(tiles_by_core(network).items())
    ]
    edges = list(
        map(list, zip(graph.source.tolist(), graph.target.tolist(), graph.spikes.tolist(), strict=True))
    )
    document = {"schema": "nmc.coregraph/1", "network": network.name, "chip": network.chip}
    return json.dumps({**document, "cores": cores, "edges": edges}, sort_keys=True)


def to_graphml(graph: CoreGraph, network: Network) -> str:
    """The networkx graph as GraphML."""
    import networkx

    stream = io.BytesIO()
    networkx.write_graphml(graph.networkx(network), stream)
    return stream.getvalue().decode()
