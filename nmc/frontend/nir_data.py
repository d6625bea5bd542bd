"""Test vectors in NIR's own format for data (``NIRGraphData`` of nir 1.0.8), for ``nir.read_data``.

One entry per node of the graph: what enters the input and what each layer sends, per sample and step. The
format has vectors only, so maps are flattened in C order. Written by h5py, because ``nir.write_data`` writes
the file in place: a reader could meet half of it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from nmc import atomic
from nmc.frontend import float_engine
from nmc.frontend import opgraph as og
from nmc.frontend.nir_write import node_names
from nmc.frontend.opgraph import OpGraph

GZIP_LEVEL = 4
Observables = Mapping[str, Mapping[str, npt.NDArray[Any]]]
"""Node -> observable ("input", "spikes", "v") -> (N, T, *shape)."""


def vectors_of(graph: OpGraph, x: npt.ArrayLike, steps: int) -> Observables:
    """What the float network does on ``x``: the input, spikes of every neuron, v of one that never fires.

    Args:
        graph: its nodes are called as ``write_nir`` calls them.
        x: (N, *shape) frames, held for every step, or (N, T, *shape) trains.
        steps: T.
    """
    neurons = graph.named(og.Neuron)
    values = float_engine.run(graph, x, steps, [*graph.named(og.Input), *neurons]).values
    names = node_names(graph)
    return {names[name]: {_observable(graph.nodes[name]): binary(array)} for name, array in values.items()}


def _observable(op: og.Op) -> str:
    if isinstance(op, og.Input):
        return "input"
    return "v" if isinstance(op, og.Neuron) and op.threshold is None else "spikes"


def binary(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """bool where there are only zeros and ones, as the format wants events; else float64."""
    events = array == 1
    return events if bool((events | (array == 0)).all()) else array.astype(np.float64)


def write_vectors(observables: Observables, dt: float, path: str | os.PathLike[str]) -> None:
    """The whole file or nothing.

    Args:
        dt: seconds per step.

    Raises:
        NmcError: NMC-W01 when it cannot be written.
    """
    import h5py

    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        file.attrs["__type__"] = "NIRGraphData"
        nodes = file.create_group("nodes")
        for node, kinds in observables.items():
            group = nodes.create_group(node)
            group.attrs["__type__"] = "NIRNodeData"
            for kind, array in kinds.items():
                entry = group.create_group(f"observables/{kind}")
                entry.attrs["__type__"] = "TimeGriddedData"
                entry.attrs["dt"] = dt
                flat = array.reshape(*array.shape[:2], -1)
                entry.create_dataset("data", data=flat, compression="gzip", compression_opts=GZIP_LEVEL)
    atomic.atomic_write(path, memory.getvalue())
