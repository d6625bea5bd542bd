"""A NIR file as read, before anything is interpreted, and what can be wrong with its structure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from nmc.errors import NmcError

Value: TypeAlias = "npt.NDArray[Any] | str"
Edge: TypeAlias = tuple[str, str]

MAX_EDGES = 1 << 20
"""Edges of one flat graph; nested subgraphs could multiply few edges into many."""

LOST_SUM = (
    "an exporter that loses a '+' causes this (snnTorch, Norse and Sinabs drop functional additions); "
    "export the module with nmc instead"
)
WEIGHTED = ("Affine", "Linear", "Conv1d", "Conv2d")
FIRING = ("IF", "LIF", "CubaLIF")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a file; severity "error" stops a compilation, "warning" does not."""

    severity: Literal["error", "warning"]
    code: str
    who: str
    problem: str
    remedy: str = ""

    @classmethod
    def of(cls, error: NmcError) -> Finding:
        return cls("error", error.code, error.who, error.problem, error.remedy)

    def error(self) -> NmcError:
        return NmcError(self.code, self.who, self.problem, self.remedy)


def raise_first(findings: Iterable[Finding]) -> None:
    """Raise the first error among the findings, if there is one."""
    for finding in findings:
        if finding.severity == "error":
            raise finding.error()


@dataclass(frozen=True, eq=False)
class RawNode:
    """Type name and fields of one node; numbers as finite arrays, strings as str."""

    kind: str
    fields: Mapping[str, Value] = field(default_factory=dict)

    def array(self, name: str) -> npt.NDArray[Any]:
        """A numeric field that the reader has checked to be there."""
        value = self.fields[name]
        assert isinstance(value, np.ndarray)
        return value


@dataclass(frozen=True, eq=False)
class RawGraph:
    """Nodes by name, subgraphs dissolved (``sub.node``), and edges. metadata: what nmc once wrote into it."""

    name: str
    nodes: Mapping[str, RawNode]
    edges: tuple[Edge, ...]
    metadata: Mapping[str, Value] = field(default_factory=dict)

    def of(self, *kinds: str) -> Iterator[tuple[str, RawNode]]:
        """Nodes of the given types, by name."""
        return ((name, self.nodes[name]) for name in sorted(self.nodes) if self.nodes[name].kind in kinds)


def nearest(name: str, names: Iterable[str]) -> str:
    """ ", did you mean X?" where a similar name exists, else nothing."""
    close = difflib.get_close_matches(name, list(names), n=1)
    return f"did you mean {close[0]}?" if close else ""


# --- subgraphs --------------------------------------------------------------------------------------


def dissolve(
    name: str, nodes: dict[str, RawNode | RawGraph], edges: list[Edge]
) -> tuple[RawGraph, list[Finding]]:
    """One flat graph from nested ones.

    A subgraph's nodes become ``sub.node``; its Input and Output vanish, the edges meet behind them.
    Edges to missing nodes and repeated edges are reported and left out.
    """
    findings = list(_edge_findings(name, nodes, edges))
    edges = [edge for edge in dict.fromkeys(edges) if edge[0] in nodes and edge[1] in nodes]
    flat: dict[str, RawNode] = {}
    entry: dict[str, str] = {}
    leave: dict[str, str] = {}
    for key, node in nodes.items():
        if isinstance(node, RawNode):
            flat[key] = node
            continue
        for kind, table in (("Input", entry), ("Output", leave)):
            ends = [inner for inner, _ in node.of(kind)]
            if len(ends) == 1:
                table[key] = f"{key}.{ends[0]}"
            else:
                findings.append(
                    Finding(
                        "error",
                        "NMC-F04",
                        key,
                        f"a subgraph with {len(ends)} {kind} nodes, expected 1",
                        "give it one of each",
                    )
                )
        for inner, op in node.nodes.items():
            joined = f"{key}.{inner}"
            if joined in flat or joined in nodes:
                findings.append(Finding("error", "NMC-F04", joined, "is the name of two nodes", "rename one"))
            passes = op.kind in ("Input", "Output")
            flat[joined] = RawNode("Pass") if passes else op
        edges += [(f"{key}.{a}", f"{key}.{b}") for a, b in node.edges]
    ends_known = [
        (leave.get(a, a), entry.get(b, b))
        for a, b in edges
        if leave.get(a, a) in flat and entry.get(b, b) in flat
    ]
    return RawGraph(name, *_without_passes(flat, ends_known)), findings


def _without_passes(
    nodes: dict[str, RawNode], edges: list[Edge]
) -> tuple[dict[str, RawNode], tuple[Edge, ...]]:
    """Join the edges before and behind every pass; an edge through k ways counts k times."""
    passes = [name for name, node in nodes.items() if node.kind == "Pass"]
    touching: dict[str, list[Edge]] = {name: [] for name in passes}
    kept: dict[Edge, int] = {}

    def put(edge: Edge, count: int) -> None:
        kept[edge] = kept.get(edge, 0) + count
        if kept[edge] > MAX_EDGES or len(kept) > MAX_EDGES:
            raise NmcError(
                "NMC-F03", edge[0], f"more than {MAX_EDGES:,} edges behind subgraphs", "export a flat graph"
            )
        for end in edge:
            if end in touching:
                touching[end].append(edge)

    for edge in edges:
        put(edge, 1)
    for name in passes:
        around = [edge for edge in dict.fromkeys(touching.pop(name)) if edge in kept]
        counts = {edge: kept.pop(edge) for edge in around}
        for source, one in counts.items():
            for target, other in counts.items():
                if source[1] == name == target[0] and name not in (source[0], target[1]):
                    put((source[0], target[1]), one * other)
        del nodes[name]
    return nodes, tuple(edge for edge, count in kept.items() for _ in range(count))


def _edge_findings(graph: str, nodes: Mapping[str, object], edges: list[Edge]) -> Iterator[Finding]:
    seen: set[Edge] = set()
    missing: set[str] = set()
    for edge in edges:
        arrow = f"edge {edge[0]} -> {edge[1]}"
        for end in edge:
            if end not in nodes and end not in missing:
                missing.add(end)
                problem = f"{arrow} names the node {end}, which is not there"
                yield Finding("error", "NMC-G01", graph, problem, nearest(end, nodes))
        if edge in seen:
            remedy = "NIR has no x + x; write the second one through a Scale node"
            yield Finding("error", "NMC-F04", graph, f"{arrow} appears twice", remedy)
        seen.add(edge)


# --- structure --------------------------------------------------------------------------------------


def structure(raw: RawGraph) -> list[Finding]:
    """Findings about ends, missing inputs and dead ends of a flat graph, most telling first."""
    before: dict[str, list[str]] = {name: [] for name in raw.nodes}
    after: dict[str, list[str]] = {name: [] for name in raw.nodes}
    for source, target in raw.edges:
        before[target].append(source)
        after[source].append(target)
    inputs = [name for name, _ in raw.of("Input")]
    outputs = [name for name, _ in raw.of("Output")]
    return [
        *_inputs(raw, inputs, after),
        *_fed(raw, before),
        *_outputs(raw, outputs, before),
    ]


def _inputs(raw: RawGraph, inputs: list[str], after: dict[str, list[str]]) -> Iterator[Finding]:
    if not inputs:
        yield Finding("error", "NMC-F04", raw.name, "has no Input node", "export it again with one")
    phantoms = [name for name in inputs if name.removeprefix("input_") in after[name]]
    for name in phantoms if len(inputs) > 1 else ():
        problem = f"has an input of its own ({name}), which the nir package adds to a node without one"
        yield Finding("error", "NMC-G02", name.removeprefix("input_"), problem, LOST_SUM)
    if len(inputs) - len(phantoms) > 1:
        problem = f"has {len(inputs)} Input nodes ({', '.join(inputs[:5])}), expected 1"
        yield Finding("error", "NMC-G05", raw.name, problem, "join them before the first layer")


def _fed(raw: RawGraph, before: dict[str, list[str]]) -> Iterator[Finding]:
    for name in sorted(raw.nodes):
        kind = raw.nodes[name].kind
        if kind == "Input" and before[name]:
            yield Finding(
                "error", "NMC-F04", name, f"an Input node fed by {before[name][0]}", "remove that edge"
            )
        if kind != "Input" and not before[name]:
            yield Finding("error", "NMC-G02", name, f"{kind} has no input", LOST_SUM)


def _outputs(raw: RawGraph, outputs: list[str], before: dict[str, list[str]]) -> Iterator[Finding]:
    if not outputs:
        yield Finding("error", "NMC-F04", raw.name, "has no Output node", "export it again with one")
        return
    if len(outputs) > 1:
        problem = f"has {len(outputs)} Output nodes ({', '.join(outputs[:5])}), expected 1"
        yield Finding("error", "NMC-G05", raw.name, problem, "export one output at a time")
    for name in outputs:
        fired = [one for one in before[name] if raw.nodes[one].kind in FIRING]
        bare = [one for one in before[name] if raw.nodes[one].kind in WEIGHTED]
        if fired and bare:
            problem = (
                f"adds {fired[0]}, which fires, and {bare[0]}, a {raw.nodes[bare[0]].kind} without neuron"
            )
            yield Finding("error", "NMC-G05", name, problem, LOST_SUM)
    useful, stack = set(outputs), list(outputs)
    while stack:
        for source in before[stack.pop()]:
            if source not in useful:
                useful.add(source)
                stack.append(source)
    for name in sorted(raw.nodes):
        if name not in useful:
            problem = f"the output of this {raw.nodes[name].kind} reaches no Output node"
            yield Finding(
                "error", "NMC-G08", name, problem, "remove it, or export the '+' behind it as edges"
            )
