"""NeuroBench's metrics of a float model, under its names and by its definitions (neurobench 2.3, metrics/).

They describe the model before any chip; what the chip does is counted in ``Report``. Names are NeuroBench's,
so that numbers can be put beside published ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nmc import ir, synapse
from nmc.frontend import float_engine
from nmc.frontend import opgraph as og
from nmc.frontend.opgraph import OpGraph
from nmc.markup import summary
from nmc.reports.document import Document, table_of

Array = npt.NDArray[Any]
FLOAT_BYTES = 4


@dataclass(frozen=True)
class NeuroBench:
    """Static metrics, and per-sample means of workload metrics (None without samples).

    Footprint: bytes of parameters and buffers. ConnectionSparsity: share of zero weights of convolutions
    and linear layers, rounded to 4 digits. ActivationSparsity: share of zeros in what all neurons sent.
    Effective_MACs, Effective_ACs, Dense: operations of connection layers per sample, all steps. A call of a
    layer (one step of all samples) whose inputs are all -1, 0 or 1 counts as ACs, any other one as MACs;
    zero weights and zero inputs are left out, in Dense they are not; padding never counts.
    MembraneUpdates: potentials that a step changed, and all of the first step, per sample.
    ClassificationAccuracy: where labels are known.
    """

    Footprint: int
    ParameterCount: int
    ConnectionSparsity: float
    ActivationSparsity: float | None = None
    Effective_MACs: float | None = None
    Effective_ACs: float | None = None
    Dense: float | None = None
    MembraneUpdates: float | None = None
    ClassificationAccuracy: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """In NeuroBench's own nesting."""
        flat = asdict(self)
        operations = {name: flat.pop(name) for name in ("Effective_MACs", "Effective_ACs", "Dense")}
        return {**flat, "SynapticOperations": None if self.Dense is None else operations}

    def _repr_html_(self) -> str:
        return summary("NeuroBench 2.3", _texts(self))


def _texts(found: NeuroBench) -> list[tuple[str, str]]:
    """Every known metric as text."""
    numbers = {**found.to_dict(), **(found.to_dict()["SynapticOperations"] or {})}
    return [
        (name, f"{value:,.6g}" if isinstance(value, float) else f"{value:,}")
        for name, value in numbers.items()
        if isinstance(value, int | float)
    ]


def document(found: NeuroBench, model: str) -> Document:
    """For any renderer; schema ``nmc.neurobench/1``."""
    facts = (("model", model), ("definitions", "NeuroBench 2.3; of the float model, before any chip"))
    return Document("neurobench", found.to_dict(), (table_of("", ("metric", "value"), _texts(found)),), facts)


def measure(
    graph: OpGraph,
    x: npt.ArrayLike | None = None,
    y: Sequence[int] | npt.NDArray[np.int64] | None = None,
    steps: int | None = None,
    sizes: tuple[int, int] | None = None,
) -> NeuroBench:
    """All metrics of a graph as it was imported, batch norm not folded.

    Args:
        graph: with one Input and one Output.
        x: (N, *shape) frames or (N, T, *shape) trains, one batch; None: static metrics only.
        y: (N,) class numbers.
        steps: T; by default the graph's.
        sizes: parameters, and bytes of parameters and buffers, of the module that the graph was traced from,
            which NeuroBench counts; without, what the graph itself holds in 32-bit floats.
    """
    parameters, footprint = _sizes(graph) if sizes is None else sizes
    weights = [op.weight for op in graph.nodes.values() if isinstance(op, og.Conv2d | og.Linear)]
    zeros, total = sum(int((w == 0).sum()) for w in weights), sum(w.size for w in weights)
    static = NeuroBench(footprint, parameters, round(zeros / total, 4) if total else 0.0)
    if x is None:
        return static
    t = steps or graph.steps or 1
    run = float_engine.run(graph, x, t)
    sparsity, updates = _activations(graph, run.values, t)
    operations = _operations(graph, run.values)
    samples = len(run.output)
    classes = run.output.reshape(samples, -1).argmax(axis=1)
    return NeuroBench(
        **asdict(static)
        | {
            "ActivationSparsity": sparsity,
            "MembraneUpdates": updates / samples,
            "ClassificationAccuracy": None if y is None else float((classes == np.asarray(y)).mean()),
            **{name: count / samples for name, count in operations.items()},
        }
    )


def _sizes(graph: OpGraph) -> tuple[int, int]:
    """Parameters, and bytes with batch norm's running mean and variance, of a graph."""
    parameters = buffers = 0
    for op in graph.nodes.values():
        if isinstance(op, og.Conv2d | og.Linear):
            parameters += op.weight.size + (0 if op.bias is None else op.bias.size)
        elif isinstance(op, og.BatchNorm):
            parameters += op.gamma.size + op.beta.size
            buffers += op.mean.size + op.var.size
    return parameters, FLOAT_BYTES * (parameters + buffers)


def _input_of(graph: OpGraph, values: dict[str, Array], name: str) -> Array:
    """What a node reads: the sum of what its sources send."""
    first, *rest = (values[source] for source in graph.before(name))
    for one in rest:
        first = first + one
    return first


def _activations(graph: OpGraph, values: dict[str, Array], steps: int) -> tuple[float, int]:
    """ActivationSparsity, and MembraneUpdates summed over samples."""
    active = total = updates = 0
    for name, op in graph.nodes.items():
        if isinstance(op, og.Neuron | og.ReLU):
            active += int(np.count_nonzero(values[name]))
            total += values[name].size
        if isinstance(op, og.Neuron):
            updates += _membrane_updates(op, _input_of(graph, values, name), steps)
    return (total - active) / total if total else 0.0, updates


def _membrane_updates(op: og.Neuron, x: Array, steps: int) -> int:
    cell = float_engine.Cell(op, len(x), x.shape[2:], np.float64)
    updates = 0
    for t in range(steps):
        before = cell.v
        cell.step(x[:, t])
        updates += cell.v.size if t == 0 else int(np.count_nonzero(cell.v != before))
    return updates


def _operations(graph: OpGraph, values: dict[str, Array]) -> dict[str, int]:
    """Operations of all connection layers, summed over samples and steps."""
    counts = {"Effective_MACs": 0, "Effective_ACs": 0, "Dense": 0}
    for name, op in graph.nodes.items():
        if not isinstance(op, og.Conv2d | og.Linear):
            continue
        operator: ir.Synapse = ir.Dense()
        if isinstance(op, og.Conv2d):
            operator = ir.Conv2d(op.stride, op.padding, op.dilation, op.groups)
        x = _input_of(graph, values, name)
        connected = (op.weight != 0).astype(np.float64)
        for t in range(x.shape[1]):
            sent = x[:, t]
            spiking = bool(np.isin(sent, (-1.0, 0.0, 1.0)).all())
            reached = synapse.apply(operator, connected, (sent != 0).astype(np.float64))
            counts["Effective_ACs" if spiking else "Effective_MACs"] += int(reached.sum())
        dense = synapse.synapse_count(operator, op.weight.shape, x.shape[2:])
        counts["Dense"] += dense * len(x) * x.shape[1]
    return counts
