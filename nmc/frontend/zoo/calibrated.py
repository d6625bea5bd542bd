"""Batch norms with the statistics of samples: what random weights need to behave like trained ones."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from nmc.errors import NmcError
from nmc.frontend import opgraph as og
from nmc.frontend.float_engine import as_trains, run
from nmc.frontend.opgraph import OpGraph

Array = npt.NDArray[Any]


def calibrated(graph: OpGraph, x: npt.ArrayLike, steps: int) -> OpGraph:
    """The graph with every batch norm set to the mean and variance of what reaches it, gamma 1 and beta 0,
    one after the other as in the first pass of training.

    Args:
        x: (N, *shape) frames or (N, T, *shape) trains.

    Raises:
        NmcError: NMC-G05 for joins other than sums and products, NMC-D02 for data that do not fit.
    """
    nodes: dict[str, og.Op] = dict(graph.nodes)
    left = {name: len(graph.after(name)) for name in graph.order}
    values: dict[str, Array] = {}
    for name in graph.order:
        op, befores = nodes[name], graph.before(name)
        if isinstance(op, og.Input):
            values[name] = as_trains(x, op.shape, steps, name)
            continue
        if isinstance(op, og.ORDERED) and not isinstance(op, og.Mul):
            raise NmcError("NMC-G05", name, f"a {type(op).__name__} cannot be calibrated", "leave it out")
        join = np.multiply if isinstance(op, og.Mul) else np.add
        value = reduce(join, [values[before] for before in befores])
        if isinstance(op, og.BatchNorm) and op.eps:
            op = nodes[name] = _measured(op, value)
        joins = isinstance(op, og.Mul | og.Add | og.Output)
        values[name] = value if joins else _alone(op, value, steps)
        for before in befores:
            left[before] -= 1
            if not left[before]:
                del values[before]
    return graph.with_(nodes=nodes)


def _measured(op: og.BatchNorm, value: Array) -> og.BatchNorm:
    axes = tuple(axis for axis in range(value.ndim) if axis != 2)
    size = value.shape[2]
    return replace(op, mean=value.mean(axes), var=value.var(axes), gamma=np.ones(size), beta=np.zeros(size))


def _alone(op: og.Op, value: Array, steps: int) -> Array:
    """Output (N, T or 1, ...) of one op on its input (N, T or 1, ...)."""
    nodes = {"input": og.Input(value.shape[2:]), "op": op, "output": og.Output()}
    graph = OpGraph(nodes, (("input", "op"), ("op", "output")))
    if value.shape[1] == 1:
        one = 1 if not isinstance(op, og.Neuron) else steps
        return run(graph, value[:, 0], one, ("op",)).values["op"]
    return run(graph, value, steps, ("op",)).values["op"]
