"""Learned numbers of an op graph by name, so that a trained network is a builder and one file of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from nmc.errors import NmcError
from nmc.frontend import opgraph as og
from nmc.frontend.opgraph import OpGraph
from nmc.ir import FloatArray

LEARNED: dict[type[Any], tuple[str, ...]] = {
    og.Conv2d: ("weight", "bias"),
    og.Linear: ("weight", "bias"),
    og.BatchNorm: ("mean", "var", "gamma", "beta"),
    og.Neuron: ("keep_v", "gain"),
}
"""Fields that training changes; a PLIF neuron learns tau: keep_v = 1 - 1 / tau, gain = 1 / tau."""


def tensors(graph: OpGraph) -> dict[str, FloatArray]:
    """Every learned array under "node/field", shapes as in ``opgraph``, float64."""
    return {
        f"{name}/{field}": values
        for name, op in graph.nodes.items()
        for field in LEARNED.get(type(op), ())
        if (values := getattr(op, field)) is not None
    }


def with_tensors(graph: OpGraph, arrays: Mapping[str, npt.NDArray[Any]]) -> OpGraph:
    """The graph with some of its learned arrays replaced.

    Raises:
        NmcError: NMC-F04 for a name that ``tensors(graph)`` has not got, or another shape.
    """
    known = tensors(graph)
    changes: dict[str, dict[str, npt.NDArray[Any]]] = {}
    for key, values in arrays.items():
        if key not in known:
            raise NmcError(
                "NMC-F04", key, f"is no tensor of {graph.name}", "build the network that was trained"
            )
        if values.shape != known[key].shape:
            problem = f"has shape {values.shape}, {graph.name} has {known[key].shape}"
            raise NmcError("NMC-F04", key, problem, "build the network that was trained")
        name, _, field = key.rpartition("/")
        changes.setdefault(name, {})[field] = np.asarray(values, np.float64)
    nodes: dict[str, Any] = dict(graph.nodes)
    for name, fields in changes.items():
        nodes[name] = replace(nodes[name], **fields)
    return graph.with_(nodes=nodes)
