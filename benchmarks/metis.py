"""Placement by METIS, to compare with: recursive bisection of the core graph onto halves of the mesh.

Needs ``pip install pymetis``, which nmc itself never uses.
"""

from __future__ import annotations

import numpy as np

from nmc.chip import Chip
from nmc.ir import IntArray
from nmc.partition.graph import CoreGraph
from nmc.partition.place import available
from nmc.partition.route import positions


def metis_cores(graph: CoreGraph, chip: Chip) -> IntArray:
    """(n,) the new core of each of ``graph.cores``, on the chips that nmc would take."""
    slots = available(chip, len(graph.cores))
    rows, columns = positions(chip, slots)
    result = np.empty(len(graph.cores), np.int64)
    ends = np.searchsorted(graph.cores, np.stack([graph.source, graph.target]))
    weights = np.maximum(1, np.rint(graph.spikes * (1e6 / max(graph.spikes.max(initial=1.0), 1.0))))
    open_parts = [(np.arange(len(graph.cores)), np.arange(len(slots)))]
    while open_parts:
        nodes, places = open_parts.pop()
        if len(places) == 1 or len(nodes) <= 1:
            result[nodes] = slots[places[: len(nodes)]]
            continue
        along = rows if np.ptp(rows[places]) >= np.ptp(columns[places]) else columns
        ordered = places[np.argsort(along[places], kind="stable")]
        half = len(ordered) // 2
        first = min(half, round(len(nodes) * half / len(ordered)))
        first = max(first, len(nodes) - (len(ordered) - half))
        mine = _bisect(nodes, ends, weights, first)
        open_parts += [(nodes[mine], ordered[:half]), (nodes[~mine], ordered[half:])]
    return result


def _bisect(nodes: IntArray, ends: IntArray, weights: np.ndarray, first: int) -> np.ndarray:
    """Which of the nodes are among the ``first``; METIS's parts are only nearly of the size asked for."""
    import pymetis

    if first in (0, len(nodes)):
        return np.full(len(nodes), first > 0)
    number = np.full(int(ends.max()) + 1, -1)
    number[nodes] = np.arange(len(nodes))
    a, b = number[ends]
    inner = (a >= 0) & (b >= 0) & (a != b)
    a, b, w = a[inner], b[inner], weights[inner]
    both = np.concatenate([a * len(nodes) + b, b * len(nodes) + a])
    code, where = np.unique(both, return_inverse=True)
    weight = np.bincount(where, np.concatenate([w, w])).astype(np.int64)
    source, target = np.divmod(code, len(nodes))
    starts = np.searchsorted(source, np.arange(len(nodes) + 1))
    shares = [first / len(nodes), 1 - first / len(nodes)]
    adjacency = pymetis.CSRAdjacency(starts.astype(np.int64), target.astype(np.int64))
    _, part = pymetis.part_graph(2, adjacency, eweights=weight, tpwgts=shares, recursive=True)
    mine = np.array(part) == 0
    # Whoever is tied the least to its side moves until the sizes are right.
    while mine.sum() != first:
        over = bool(mine.sum() > first)
        same = np.where(mine[source] == mine[target], weight, -weight)
        tie = np.bincount(source, same, len(nodes))
        tie[mine != over] = np.inf
        mine[np.argmin(tie)] = not over
    return mine
