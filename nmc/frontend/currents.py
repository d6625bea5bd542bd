"""Currents: what a value of the op graph is before a neuron makes a population of it.

A current is a sum of terms "operator applied to the spikes of one population", plus a constant. ``Algebra``
adds, scales and composes them, and folds the weights of a layer that reads several terms only once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from nmc import ir, synapse
from nmc.errors import NmcError
from nmc.frontend import opgraph as og
from nmc.frontend.compose import Operator, compose
from nmc.ir import FloatArray, Identity, Population, Shape

ONE = og.constant(1.0)


@dataclass(frozen=True, eq=False)
class Term:
    """``weight`` applied by ``synapse`` to the spikes of population ``source``, giving ``shape``.

    path: the user's layers on the way, those that hold numbers. lag: how many steps ago the spikes were sent.
    """

    source: str
    synapse: ir.Synapse
    weight: FloatArray
    shape: Shape
    path: tuple[str, ...] = ()
    lag: int = 0

    @property
    def scalar(self) -> float | None:
        """k when the term is k times the spikes, one to one; else None."""
        identity = isinstance(self.synapse, Identity) and self.weight.size == 1
        return float(self.weight.reshape(())) if identity else None


@dataclass(frozen=True, eq=False)
class Current:
    """A sum of terms and a constant; bias has the node's shape, None for zero."""

    terms: tuple[Term, ...]
    bias: FloatArray | None = None


class Algebra:
    """Populations so far, and memory of folded weights.

    The memory folds the weights of a layer that reads several terms once, so that its projections share
    one array. Keys hold the ids of arrays; values keep those arrays alive.
    """

    def __init__(self) -> None:
        self.populations: dict[str, Population] = {}
        self.folded: dict[tuple[object, ...], tuple[Operator, tuple[object, ...]]] = {}

    def memo(self, key: tuple[object, ...], make: Callable[[], Operator], *alive: object) -> Operator:
        if key not in self.folded:
            self.folded[key] = (make(), alive)
        return self.folded[key][0]

    def after(self, term: Term, operator: Operator, name: str) -> Term:
        """The term with one more operator behind it."""
        source = self.populations[term.source].shape
        first = (term.synapse, term.weight)
        key = (first[0], id(first[1]), source, operator[0], id(operator[1]))
        folded = self.memo(key, lambda: compose(first, operator, source, name), first, operator)
        if isinstance(operator[0], Identity):
            shape = term.shape
        else:
            shape = synapse.output_shape(folded[0], folded[1].shape, source, name)
        return Term(term.source, *folded, shape, (*term.path, name), term.lag)

    def times(self, current: Current, factor: float | FloatArray) -> Current:
        """``factor``: one number, or (C, 1, 1) for currents that are one to one."""
        terms = tuple(self.scaled(term, factor) for term in current.terms)
        return Current(terms, None if current.bias is None else current.bias * factor)

    def scaled(self, term: Term, factor: float | FloatArray) -> Term:
        key = ("times", id(term.weight), np.asarray(factor).tobytes())
        scaled = self.memo(key, lambda: (term.synapse, ir.frozen(term.weight * factor)), term.weight)
        return replace(term, weight=scaled[1])

    def total(self, operands: Iterable[Current]) -> Current:
        """Adds currents; a term that occurs k times becomes one of k times the weight."""
        bias: FloatArray | None = None
        groups: dict[tuple[object, ...], list[Term]] = {}
        for current in operands:
            if current.bias is not None:
                bias = current.bias if bias is None else bias + current.bias
            for term in current.terms:
                kind = "identity" if term.scalar is not None else id(term.weight)
                groups.setdefault((term.source, term.lag, term.synapse, kind), []).append(term)
        terms = []
        for group in groups.values():
            term, count = group[0], float(len(group))
            if term.scalar is not None:
                total = math.fsum(t.scalar or 0.0 for t in group)
                term, count = replace(term, weight=ONE), total
            path = tuple(dict.fromkeys(name for t in group for name in t.path))
            if count:
                terms.append(replace(term if count == 1 else self.scaled(term, count), path=path))
        return Current(tuple(terms), bias)

    def multiple(self, term: Term, unit: FloatArray) -> Term:
        """The term in units of ``gates.unit_of``: whole weights."""
        per_row = unit.reshape(-1, 1, 1, 1) if unit.ndim and term.weight.ndim == 4 else unit
        key = ("multiple", id(term.weight), unit.tobytes())
        whole = self.memo(key, lambda: (term.synapse, ir.frozen(np.rint(term.weight / per_row))), term.weight)
        return replace(term, weight=whole[1])

    def concatenated(
        self, name: str, axis: int, shape: Shape, operands: list[Current], sizes: list[int]
    ) -> Current:
        """Branches of the given sizes joined along the channels: each moved to channels of its own, then
        added. The next layer's weights fall apart into one slice per branch when the two are composed.

        Raises NmcError NMC-G05 for another axis.
        """
        if axis != 0 or len(shape) not in (1, 3):
            problem = f"joins tensors of {len(shape)} axes along axis {axis}"
            raise NmcError("NMC-G05", name, problem, "join along the channels")
        moved, start = [], 0
        for current, size in zip(operands, sizes, strict=True):
            operator = self._part(start, size, shape)
            bias = None
            if current.bias is not None:
                bias = np.zeros(shape)
                bias[start : start + size] = current.bias
            terms = tuple(replace(self.after(t, operator, name), path=t.path) for t in current.terms)
            moved.append(Current(terms, bias))
            start += size
        return self.total(moved)

    def _part(self, start: int, size: int, shape: Shape) -> Operator:
        """What puts ``size`` channels behind the first ``start`` of ``shape``."""

        def make() -> Operator:
            place = np.zeros((shape[0], size))
            place[start : start + size] = np.eye(size)
            if len(shape) == 1:
                return ir.Dense(), og.constant(place)
            return ir.Conv2d(), og.constant(place[:, :, None, None])

        return self.memo(("part", start, size, shape[0], len(shape)), make)
