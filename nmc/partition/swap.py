"""Improving a placement by swaps, many at once.

The distance on the mesh is a sum over rows and columns, so the cost of a node at any place is the sum of two
numbers that one pass over the edges prepares for all places. Thousands of swaps are then priced by
look-ups; the best that do not touch each other are made together, and taken back when the whole did not
gain by them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from nmc.ir import FloatArray, IntArray
from nmc.partition.graph import CoreGraph
from nmc.partition.route import Links, loads

Progress = Callable[[int, int], None]

SWEEPS = 120
"""At most so many sweeps for spike-hops, each over all nodes."""
PATIENCE, ENOUGH = 8, 0.004
"""No more sweeps once so many of them together gained less than this part."""
OFFERS = 24
"""Places that every node is offered per sweep."""
RELIEF_SWEEPS = 150
"""Sweeps for the busiest link."""
HOP, DEAREST = 64.0, 8.0
"""Price of an idle link, and how many times dearer the busiest one is; between them, the load to the 6th."""


@dataclass(frozen=True, eq=False)
class Layout:
    """Nodes on slots. Nodes beyond the graph's are empty slots.

    source, target: (e,) directed edges between node numbers, none to itself. spikes: (e,) whole numbers in
    proportion to the graph's, so small that every sum here is exact: no result depends on the order of sums.
    rows, columns: (s,) of the slots. slot_of: (n,) slot of each node of the graph. node_at: (s,)
    """

    source: IntArray
    target: IntArray
    spikes: FloatArray
    rows: IntArray
    columns: IntArray
    node_at: IntArray
    nodes: int

    @staticmethod
    def of(graph: CoreGraph, rows: IntArray, columns: IntArray, order: IntArray) -> Layout:
        """The graph's cores, ascending, on the slots in this order."""
        inner = graph.source != graph.target
        spikes = graph.spikes[inner]
        number = np.searchsorted(graph.cores, np.stack([graph.source[inner], graph.target[inner]]))
        node_at = np.empty(len(order), np.int64)
        node_at[order] = np.arange(len(order))
        return Layout(number[0], number[1], _whole(spikes), rows, columns, node_at, len(graph.cores))

    @property
    def shape(self) -> tuple[int, int]:
        return int(self.rows.max()) + 1, int(self.columns.max()) + 1

    @property
    def slots(self) -> IntArray:
        """(s,) slot of each node, empty ones included."""
        result = np.empty_like(self.node_at)
        result[self.node_at] = np.arange(len(self.node_at))
        return result

    @property
    def slot_of(self) -> IntArray:
        return self.slots[: self.nodes]

    def ends(self) -> tuple[tuple[IntArray, IntArray], tuple[IntArray, IntArray]]:
        """Rows and columns of the senders and receivers of every edge."""
        slots = self.slots
        start, stop = slots[self.source], slots[self.target]
        return (self.rows[start], self.rows[stop]), (self.columns[start], self.columns[stop])

    def hops(self) -> float:
        """Spike-hops."""
        (r0, r1), (c0, c1) = self.ends()
        return float(self.spikes @ (np.abs(r0 - r1) + np.abs(c0 - c1)))

    def links(self) -> Links:
        return loads(*self.ends(), self.spikes, self.shape)

    def swapped(self, first: IntArray, second: IntArray) -> Layout:
        """With the nodes of slots ``first[i]`` and ``second[i]`` exchanged."""
        node_at = self.node_at.copy()
        node_at[first], node_at[second] = self.node_at[second], self.node_at[first]
        return replace(self, node_at=node_at)


def _whole(spikes: FloatArray) -> FloatArray:
    """Scaled by a power of two to a total of about 2**32, and rounded."""
    _, exponent = math.frexp(float(spikes.sum()))
    return np.asarray(np.rint(np.ldexp(spikes, 32 - exponent)))


class _Weights:
    """Spikes between two nodes in either direction."""

    def __init__(self, layout: Layout) -> None:
        self._size = len(layout.node_at)
        low = np.minimum(layout.source, layout.target)
        high = np.maximum(layout.source, layout.target)
        self._codes, where = np.unique(low * self._size + high, return_inverse=True)
        self.spikes = np.bincount(where.reshape(-1), layout.spikes, len(self._codes)).astype(np.float64)
        self.low, self.high = np.divmod(self._codes, self._size)

    def between(self, a: IntArray, b: IntArray) -> FloatArray:
        if not len(self._codes):
            return np.zeros(len(a))
        code = np.minimum(a, b) * self._size + np.maximum(a, b)
        at = np.minimum(np.searchsorted(self._codes, code), len(self._codes) - 1)
        return np.where(self._codes[at] == code, self.spikes[at], 0.0)


@dataclass(frozen=True, eq=False)
class _Costs:
    """(nodes, rows) and (nodes, columns): spike-hops of a node, were it in that row or column."""

    row: FloatArray
    column: FloatArray


def _costs(layout: Layout, weights: _Weights) -> _Costs:
    slots = layout.slots
    count = len(slots)

    def along(place: IntArray, size: int) -> FloatArray:
        low, high = place[slots[weights.low]], place[slots[weights.high]]
        spikes = np.bincount(weights.low * size + high, weights.spikes, count * size)
        spikes += np.bincount(weights.high * size + low, weights.spikes, count * size)
        distance = np.abs(np.subtract.outer(np.arange(size), np.arange(size))).astype(np.float64)
        return np.asarray(spikes.reshape(count, size) @ distance)

    rows, columns = layout.shape
    return _Costs(along(layout.rows, rows), along(layout.columns, columns))


def _offers(layout: Layout, costs: _Costs, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
    """Pairs of slots that might be exchanged: every node with its best place and neighbours."""
    grid = _slot_grid(layout)
    slots, count = layout.slots, len(layout.node_at)
    best_row, best_column = costs.row.argmin(axis=1), costs.column.argmin(axis=1)
    here, there = [], []
    for offer in range(OFFERS):
        reach = 1 + offer // 4
        shift = rng.integers(-reach, reach + 1, (2, count))
        layer = rng.integers(0, grid.shape[2], count)
        near = offer % 2 == 0
        row = (layout.rows[slots] if near else best_row) + shift[0]
        column = (layout.columns[slots] if near else best_column) + shift[1]
        inside = (row >= 0) & (row < grid.shape[0]) & (column >= 0) & (column < grid.shape[1])
        found = np.where(inside, grid[row * inside, column * inside, layer], -1)
        here.append(slots[found >= 0])
        there.append(found[found >= 0])
    return np.concatenate(here), np.concatenate(there)


def _slot_grid(layout: Layout) -> IntArray:
    """(rows, columns, cores of a router): the slot there, -1 where there is none."""
    rows, columns = layout.shape
    router = layout.rows * columns + layout.columns
    order = np.argsort(router, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order)) - np.searchsorted(router[order], router[order])
    grid = np.full((rows * columns, int(rank.max()) + 1), -1, np.int64)
    grid[router, rank] = np.arange(len(router))
    return grid.reshape(rows, columns, -1)


def _gains(layout: Layout, costs: _Costs, weights: _Weights, first: IntArray, second: IntArray) -> FloatArray:
    """Spike-hops that each exchange saves, made alone."""
    a, b = layout.node_at[first], layout.node_at[second]
    (r0, r1), (c0, c1) = (place[np.stack([first, second])] for place in (layout.rows, layout.columns))
    gain = costs.row[a, r0] - costs.row[a, r1] + costs.row[b, r1] - costs.row[b, r0]
    gain += costs.column[a, c0] - costs.column[a, c1] + costs.column[b, c1] - costs.column[b, c0]
    # Two that send to each other stay as far apart as they were.
    return np.asarray(gain - 2 * weights.between(a, b) * (np.abs(r0 - r1) + np.abs(c0 - c1)))


def _disjoint(first: IntArray, second: IntArray, slots: int, rounds: int = 3) -> IntArray:
    """Indices of pairs, best first in the input, that share no slot: each the best of both its slots."""
    chosen, rest = [], np.arange(len(first))
    for _ in range(rounds):
        rank = np.full(slots, len(first))
        np.minimum.at(rank, first[rest], rest)
        np.minimum.at(rank, second[rest], rest)
        taken = rest[(rank[first[rest]] == rest) & (rank[second[rest]] == rest)]
        chosen.append(taken)
        used = np.zeros(slots, np.bool_)
        used[first[taken]] = used[second[taken]] = True
        rest = rest[~used[first[rest]] & ~used[second[rest]]]
    return np.sort(np.concatenate(chosen))


def improve(layout: Layout, rng: np.random.Generator, progress: Progress | None = None) -> Layout:
    """Fewer spike-hops first, then less on the busiest link at hardly more hops."""
    if not len(layout.source):
        return layout
    return relieve(shorten(layout, rng, progress=progress), rng, progress=progress)


def shorten(
    layout: Layout, rng: np.random.Generator, sweeps: int = SWEEPS, progress: Progress | None = None
) -> Layout:
    """Fewer spike-hops. Stops after ``sweeps``, or when ``PATIENCE`` of them gained little."""
    weights = _Weights(layout)
    costs = _costs(layout, weights)
    hops, share, history = layout.hops(), 0.5, [layout.hops()]
    for sweep in range(sweeps):
        if progress is not None:
            progress(sweep, sweeps)
        first, second = _offers(layout, costs, rng)
        pairs = _ranked(_gains(layout, costs, weights, first, second), first, second, len(layout.rows))
        while len(pairs):
            pairs = pairs[: max(1, int(len(pairs) * share))]
            moved = layout.swapped(first[pairs], second[pairs])
            after = moved.hops()
            if after < hops:
                layout, hops, share = moved, after, min(share * 1.25, 1.0)
                costs = _costs(layout, weights)
                break
            # Neighbours that moved at once missed each other: fewer of them, the surest.
            share = max(share / 2, 0.02)
            pairs = pairs[:-1]
        history.append(hops)
        if sweep >= PATIENCE and hops > history[-PATIENCE - 1] * (1 - ENOUGH):
            break
    return layout


def _ranked(gains: FloatArray, first: IntArray, second: IntArray, slots: int) -> IntArray:
    """Pairs that gain something and share no slot, best first."""
    order = np.argsort(-gains, kind="stable")[: np.count_nonzero(gains > 0)]
    return order[_disjoint(first[order], second[order], slots)]


# --- the busiest link -------------------------------------------------------------------------------


def relieve(
    layout: Layout, rng: np.random.Generator, sweeps: int = RELIEF_SWEEPS, progress: Progress | None = None
) -> Layout:
    """Less on the busiest link: links get prices that grow with their load, and routes avoid dear ones.

    A change is kept when spike-hops and worst link together, both relative to the start, got smaller.
    """
    hops0, worst0 = max(layout.hops(), 1e-300), max(layout.links().worst, 1e-300)
    score, share = 2.0, 0.25
    for sweep in range(sweeps):
        if progress is not None:
            progress(sweep, sweeps)
        prices = _Prices.of(layout.links())
        first, second = _random_pairs(layout, rng, 1 + sweep % 4)
        gains = _priced_gains(layout, prices, first, second)
        pairs = np.argsort(-gains, kind="stable")[: np.count_nonzero(gains > 0)]
        for _ in range(4):
            pairs = pairs[: int(len(pairs) * share)]
            if not len(pairs):
                break
            moved = layout.swapped(first[pairs], second[pairs])
            after = moved.hops() / hops0 + moved.links().worst / worst0
            if after < score:
                layout, score, share = moved, after, min(share * 1.5, 0.5)
                break
            share = max(share / 2, 0.01)
    return layout


def _random_pairs(layout: Layout, rng: np.random.Generator, reach: int) -> tuple[IntArray, IntArray]:
    """Disjoint pairs of slots that lie close to each other."""
    grid = _slot_grid(layout)
    count = len(layout.rows)
    row = layout.rows + rng.integers(-reach, reach + 1, count)
    column = layout.columns + rng.integers(-reach, reach + 1, count)
    inside = (row >= 0) & (row < grid.shape[0]) & (column >= 0) & (column < grid.shape[1])
    found = np.where(inside, grid[row * inside, column * inside, rng.integers(0, grid.shape[2], count)], -1)
    first = np.flatnonzero((found >= 0) & (found != np.arange(count)))
    first = first[rng.permutation(len(first))]
    chosen = _disjoint(first, found[first], count)
    return first[chosen], found[first[chosen]]


@dataclass(frozen=True, eq=False)
class _Prices:
    """Sums of the link prices from the edge of the mesh on, one per direction."""

    east: FloatArray
    west: FloatArray
    south: FloatArray
    north: FloatArray

    @staticmethod
    def of(links: Links) -> _Prices:
        worst = max(links.worst, 1e-300)

        def price(load: FloatArray) -> FloatArray:
            cube = (load / worst) * (load / worst) * (load / worst)
            return np.asarray(np.rint(HOP * (1.0 + DEAREST * (cube * cube))))

        def before(array: FloatArray, axis: int) -> FloatArray:
            return np.asarray(np.cumsum(array, axis=axis) - array)

        return _Prices(
            before(price(links.east), 1),
            np.cumsum(price(links.west), axis=1),
            before(price(links.south), 0),
            np.cumsum(price(links.north), axis=0),
        )

    def path(self, r0: IntArray, c0: IntArray, r1: IntArray, c1: IntArray) -> FloatArray:
        """Price of the route along row r0, then along column c1."""
        along = np.where(
            c1 > c0, self.east[r0, c1] - self.east[r0, c0], self.west[r0, c0] - self.west[r0, c1]
        )
        down = np.where(
            r1 > r0, self.south[r1, c1] - self.south[r0, c1], self.north[r0, c1] - self.north[r1, c1]
        )
        return np.asarray(along + down)


def _priced_gains(layout: Layout, prices: _Prices, first: IntArray, second: IntArray) -> FloatArray:
    """What each exchange saves, made alone, at these prices."""
    count = len(layout.rows)
    partner, pair = np.arange(count), np.full(count, -1)
    partner[first], partner[second] = second, first
    pair[first] = pair[second] = np.arange(len(first))
    slots = layout.slots
    start, stop = slots[layout.source], slots[layout.target]
    touched = (pair[start] >= 0) | (pair[stop] >= 0)
    start, stop, spikes = start[touched], stop[touched], layout.spikes[touched]

    def price(a: IntArray, b: IntArray) -> FloatArray:
        return prices.path(layout.rows[a], layout.columns[a], layout.rows[b], layout.columns[b])

    now, together = price(start, stop), partner[start] == stop
    sender = (now - price(partner[start], np.where(together, start, stop))) * spikes
    receiver = np.where(together, 0.0, (now - price(start, partner[stop])) * spikes)
    gains = np.bincount(pair[start] + 1, sender, len(first) + 1)
    return np.asarray((gains + np.bincount(pair[stop] + 1, receiver, len(first) + 1))[1:])
