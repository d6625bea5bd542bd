"""A graph under construction: nodes and, per node, its operands in order; the graph it starts from stays."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from nmc.frontend import opgraph as og
from nmc.frontend.opgraph import Op, OpGraph
from nmc.ir import FloatArray


class Draft:
    """Mutable counterpart of an ``OpGraph``.

    nodes: op per name. inputs: operands per name, in edge order, repeated where an edge is repeated.
    """

    def __init__(self, graph: OpGraph) -> None:
        self._origin = graph
        self.nodes: dict[str, Op] = dict(graph.nodes)
        self.inputs: dict[str, list[str]] = {name: list(graph.before(name)) for name in graph.nodes}

    def readers(self, name: str) -> list[str]:
        """Nodes that read ``name``, once per edge."""
        return [target for target, sources in self.inputs.items() for source in sources if source == name]

    def add(self, name: str, op: Op, sources: Iterable[str]) -> str:
        """A new node; returns its name, changed where it was taken."""
        fresh, index = name, 2
        while fresh in self.nodes:
            fresh, index = f"{name}.{index}", index + 1
        self.nodes[fresh] = op
        self.inputs[fresh] = list(sources)
        return fresh

    def put_behind(self, name: str, new: str, op: Op) -> str:
        """Insert a node that reads ``name`` and is read by everything that read ``name``."""
        readers = set(self.readers(name))
        added = self.add(new, op, [name])
        for reader in readers:
            self.redirect(reader, name, added)
        return added

    def put_between(self, source: str, target: str, new: str, op: Op, instead: str | None = None) -> str:
        """``target`` reads ``source`` through a new node where it read ``instead`` (``source`` itself)."""
        added = self.add(new, op, [source])
        self.redirect(target, source if instead is None else instead, added)
        return added

    def redirect(self, target: str, old: str, new: str) -> None:
        """``target`` reads ``new`` where it read ``old``."""
        self.inputs[target] = [new if source == old else source for source in self.inputs[target]]

    def bypass(self, name: str) -> None:
        """Remove a node; its readers read its only operand."""
        (source,) = self.inputs[name]
        for reader in set(self.readers(name)):
            self.redirect(reader, name, source)
        self.drop(name)

    def drop(self, name: str) -> None:
        del self.nodes[name], self.inputs[name]

    def named(self, *kinds: type) -> list[str]:
        return [name for name, op in self.nodes.items() if isinstance(op, kinds)]

    def graph(self) -> OpGraph:
        """The finished graph, nodes in topological order."""
        edges = tuple((source, target) for target, sources in self.inputs.items() for source in sources)
        whole = self._origin.with_(nodes=self.nodes, edges=edges)
        return whole.with_(nodes={name: self.nodes[name] for name in whole.order})


WEIGHTED = (og.Conv2d, og.Linear)
"""Ops whose rows and columns take up scales."""


def bias_home(draft: Draft, reader: str) -> str | None:
    """A layer whose bias reaches ``reader`` and nothing else; None where there is none."""
    for source in draft.inputs[reader]:
        if len(draft.readers(source)) != 1:
            continue
        op = draft.nodes[source]
        if isinstance(op, WEIGHTED):
            return source
        if isinstance(op, og.Add) and (home := bias_home(draft, source)) is not None:
            return home
    return None


def shift_bias(draft: Draft, home: str, shift: FloatArray) -> None:
    """Add (C,) or (1,) to the bias of a weighted layer."""
    layer = draft.nodes[home]
    assert isinstance(layer, WEIGHTED)
    bias = np.broadcast_to(shift, len(layer.weight)) if layer.bias is None else layer.bias + shift
    draft.nodes[home] = replace(layer, bias=bias)
