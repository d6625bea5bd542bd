"""Batch norms and scales into the convolution or linear layer in front of them.

Everything else that folds (pools, flattening, sums) waits for ``lower.py``, which sees both sides.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nmc.frontend import opgraph as og
from nmc.frontend.opgraph import Edge, Op, OpGraph
from nmc.ir import FloatArray, Shape


def fold(graph: OpGraph) -> OpGraph:
    """The same function with fewer nodes.

    A BatchNorm or per-channel Scale disappears where a Conv2d or Linear feeds it and nothing else; the
    layer keeps its name. Others stay: ``lower`` turns them into scales of the next weights.
    """
    nodes: dict[str, Op] = dict(graph.nodes)
    moved: dict[str, str] = {}
    for name in graph.order:
        sources = graph.before(name)
        factor = _factor(nodes[name], graph.shapes[name])
        if factor is None or len(sources) != 1 or len(graph.after(sources[0])) != 1:
            continue
        layer = moved.get(sources[0], sources[0])
        before, op = nodes[layer], nodes[name]
        if isinstance(before, og.Conv2d | og.Linear):
            offset = op.offset if isinstance(op, og.BatchNorm) else None
            nodes[layer] = _scaled(before, factor, offset)
            del nodes[name]
            moved[name] = layer
    edges: list[Edge] = [
        (moved.get(source, source), target) for source, target in graph.edges if target not in moved
    ]
    return graph.with_(nodes=nodes, edges=tuple(edges))


def _factor(op: Op, shape: Shape) -> FloatArray | None:
    """(C,) what the op multiplies each channel by; None when it is no such op."""
    if isinstance(op, og.BatchNorm):
        return op.factor
    if isinstance(op, og.Scale) and all(size == 1 for size in op.factor.shape[1:]):
        return np.broadcast_to(op.factor.reshape(-1), shape[:1])
    return None


def _scaled(layer: og.Conv2d | og.Linear, factor: FloatArray, offset: FloatArray | None) -> Op:
    weight = layer.weight * factor.reshape(-1, *[1] * (layer.weight.ndim - 1))
    bias = None if layer.bias is None else layer.bias * factor
    if offset is not None:
        bias = offset if bias is None else bias + offset
    return replace(layer, weight=weight, bias=bias)
