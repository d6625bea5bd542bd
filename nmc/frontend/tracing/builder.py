"""The op graph under construction: names, constants, and one node for each distinct computation.

The same op on the same operands is the same node. That is what folds a loop over time into one graph: step
t of the loop computes nothing that step 0 has not computed already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from hashlib import blake2b
from typing import Any

import numpy as np

from nmc.errors import NmcError
from nmc.frontend import opgraph as og
from nmc.frontend.opgraph import Op, OpGraph
from nmc.frontend.shapes import output_shape
from nmc.ir import FloatArray, Shape

CONTENT_LIMIT = 1 << 20
"""Arrays of up to this many elements are compared by content, larger ones (only weights) by identity."""


class Builder:
    def __init__(self) -> None:
        self.nodes: dict[str, Op] = {}
        self.edges: list[tuple[str, str]] = []
        self.shapes: dict[str, Shape] = {}
        self._known: dict[tuple[object, ...], str] = {}
        self._contents: dict[int, tuple[Op, tuple[object, ...]]] = {}
        self._constants: dict[tuple[int, int], tuple[Any, FloatArray]] = {}

    def emit(self, op: Op, operands: Sequence[str], name: str) -> str:
        """The node that computes ``op`` on ``operands``: an existing one, or a new one called about ``name``.

        Raises NmcError NMC-G03 or NMC-F04 for shapes that do not fit.
        """
        key = (self._content_of(op), tuple(operands))
        if key not in self._known:
            self._known[key] = self.add(op, operands, name)
        return self._known[key]

    def _content_of(self, op: Op) -> tuple[object, ...]:
        """What makes an op equal to another; a layer's op comes by at every step of a loop."""
        if id(op) not in self._contents:
            self._contents[id(op)] = (op, _content(op))
        return self._contents[id(op)][1]

    def add(self, op: Op, operands: Sequence[str], name: str) -> str:
        """A node of its own."""
        name = self.fresh(name)
        self.shapes[name] = output_shape(name, op, [(source, self.shapes[source]) for source in operands])
        self.nodes[name] = op
        self.edges += [(source, name) for source in operands]
        return name

    def open(self, name: str, shape: Shape) -> str:
        """A Delay of one step whose source comes later (``close``)."""
        name = self.fresh(name)
        self.nodes[name] = og.Delay()
        self.shapes[name] = shape
        return name

    def close(self, delay: str, source: str) -> None:
        """Let an open Delay read ``source``; again with the same source changes nothing.

        Raises NmcError NMC-G03 when the shapes differ, NMC-G05 when it reads something else already.
        """
        if (source, delay) in self.edges:
            return
        if any(target == delay for _, target in self.edges):
            raise NmcError("NMC-G05", delay, "feeds back another tensor in every step", "feed back one")
        if self.shapes[source] != self.shapes[delay]:
            problem = f"feeds {source} of shape {self.shapes[source]} back as {self.shapes[delay]}"
            raise NmcError("NMC-G03", delay, problem, "give both the same shape")
        self.edges.append((source, delay))

    def fresh(self, name: str) -> str:
        """The name, numbered if it is taken."""
        candidate, index = name, 2
        while candidate in self.nodes:
            candidate, index = f"{name}.{index}", index + 1
        return candidate

    def constant(self, tensor: Any, who: str, what: str) -> FloatArray:
        """A tensor or number as float64; the same tensor gives the same array, so shared weights stay shared.

        Raises NmcError NMC-G04 when it holds NaN or infinity, NMC-G05 when its numbers are not real.
        """
        key = (id(tensor), _version(tensor))
        if key not in self._constants:
            # The tensor is kept so that its id is not given to another one.
            self._constants[key] = (tensor, _array(tensor, who, what))
        return self._constants[key][1]

    def behind(self, node: str) -> set[str]:
        """A node and all that it depends on."""
        before: dict[str, list[str]] = {}
        for source, target in self.edges:
            before.setdefault(target, []).append(source)
        found, waiting = {node}, [node]
        while waiting:
            new = set(before.get(waiting.pop(), ())) - found
            found |= new
            waiting += new
        return found

    def finish(self, output: str, name: str, steps: int | None, notes: Sequence[str]) -> OpGraph:
        """The graph that ends in ``output``, without the nodes that do not reach it."""
        useful = self.behind(self.add(og.Output(), [output], "output"))
        computed = [n for n, op in self.nodes.items() if n not in useful and isinstance(op, og.Neuron)]
        unused = [f"{n} is computed but reaches no output; it was left out" for n in computed]
        return OpGraph(
            {n: op for n, op in self.nodes.items() if n in useful},
            tuple(edge for edge in self.edges if edge[1] in useful),
            name,
            steps,
            (*notes, *unused),
        )


def _content(op: Op) -> tuple[object, ...]:
    parts: list[object] = [type(op)]
    for field in fields(op):
        value = getattr(op, field.name)
        if isinstance(value, np.ndarray):
            small = value.size <= CONTENT_LIMIT
            value = (value.shape, blake2b(value.tobytes()).digest()) if small else id(value)
        parts.append(value)
    return tuple(parts)


def _version(tensor: Any) -> int:
    """How often a tensor was changed in place: its numbers are those of that time."""
    counted = hasattr(tensor, "is_inference") and not tensor.is_inference()
    return int(tensor._version) if counted else 0


def _array(tensor: Any, who: str, what: str) -> FloatArray:
    if hasattr(tensor, "detach"):
        if tensor.is_complex() or tensor.is_quantized:
            raise NmcError("NMC-G05", who, f"{what} holds {tensor.dtype} numbers", "use real floats")
        tensor = tensor.detach().cpu().double().numpy()
    array = og.constant(tensor)
    bad = int(array.size - np.isfinite(array).sum())
    if bad:
        remedy = "check the training run or the checkpoint"
        raise NmcError("NMC-G04", who, f"{what} holds {bad} values that are not finite", remedy, measured=bad)
    return array
