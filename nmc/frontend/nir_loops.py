"""Recurrent edges of a NIR graph: where the one-step delay of a loop sits.

NIR draws a loop and says nothing about time. Frameworks evaluate the nodes of a step one after the other,
starting where data enter, and feed back the spikes of the step before: the delay sits on the output of the
neuron in front of the edge that closes the loop, and is zero in the first step (so a recurrent layer's bias
acts from the first step on). Checked against snnTorch's RLeaky and RSynaptic (snntorch 1.0,
``snntorch/_neurons``: ``self.recurrent(spk)`` of the last call is added to the input).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from nmc.frontend.nir_neurons import NEURONS
from nmc.frontend.raw import Edge, Finding, RawGraph, RawNode

PREVIOUS = "Previous"
"""Kind of the nodes that are put in: what the source sent in the step before. No NIR type has that name."""


def with_delays(raw: RawGraph) -> RawGraph:
    """The graph with a ``Previous`` node in every loop; unchanged where there is none.

    A loop without a neuron is left as it is (``loop_findings`` reports it).
    """
    nodes, edges = dict(raw.nodes), list(raw.edges)
    while True:
        loop = _first_loop(nodes, edges)
        cut = _cut(nodes, edges, loop) if loop else ()
        if not cut:
            return replace(raw, nodes=nodes, edges=tuple(edges))
        for source in dict.fromkeys(source for source, _ in cut):
            name = _fresh(nodes, f"{source}.previous")
            nodes[name] = RawNode(PREVIOUS)
            mine = {edge for edge in cut if edge[0] == source}
            edges = [(name, target) if (one, target) in mine else (one, target) for one, target in edges]
            edges.append((source, name))


def loop_findings(raw: RawGraph) -> Iterator[Finding]:
    """A loop that no neuron delays has no order in which to compute it."""
    delayed = with_delays(raw)
    loop = _first_loop(delayed.nodes, list(delayed.edges))
    if loop:
        before = _sources(delayed.nodes, [e for e in delayed.edges if e[0] in loop and e[1] in loop])
        walk = [min(loop)]
        while (step := min(before[walk[-1]])) not in walk:
            walk.append(step)
        text = " -> ".join([step, *reversed(walk[walk.index(step) :])])
        remedy = "let the loop pass a spiking neuron"
        yield Finding("error", "NMC-G09", step, f"feeds itself in one step: {text}", remedy)


def _fresh(nodes: Mapping[str, RawNode], name: str) -> str:
    candidate, index = name, 2
    while candidate in nodes:
        candidate, index = f"{name}{index}", index + 1
    return candidate


def _sources(nodes: Mapping[str, RawNode], edges: list[Edge]) -> dict[str, list[str]]:
    before: dict[str, list[str]] = {name: [] for name in nodes}
    for source, target in edges:
        before[target].append(source)
    return before


def _first_loop(nodes: Mapping[str, RawNode], edges: list[Edge]) -> set[str]:
    """The nodes of the first strongly connected component that data reach; empty when there is no loop.

    A ``Previous`` node breaks the loop that it stands in, and so does a Delay of the file.
    """
    now = [edge for edge in edges if nodes[edge[1]].kind not in (PREVIOUS, "Delay")]
    before, after = _sources(nodes, now), _sources(nodes, [(b, a) for a, b in now])
    stuck = set(nodes)
    for table in (before, after):  # what is behind no loop, then what is in front of none
        other = after if table is before else before
        waiting = {name: sum(source in stuck for source in table[name]) for name in stuck}
        ready = [name for name, count in waiting.items() if count == 0]
        while ready:
            name = ready.pop()
            stuck.discard(name)
            for target in other[name]:
                if target in waiting:
                    waiting[target] -= 1
                    if waiting[target] == 0:
                        ready.append(target)
    best: set[str] = set()
    left = set(stuck)
    while left:
        name = min(left)
        behind, front = (_reach(name, table, stuck) for table in (before, after))
        loop = behind & front
        left -= loop or {name}
        if loop and not (behind - loop):
            return loop
        best = best or loop
    return best


def _reach(name: str, table: Mapping[str, list[str]], within: set[str]) -> set[str]:
    """Everything that can be reached in one step or more."""
    found: set[str] = set()
    stack = [name]
    while stack:
        for one in table[stack.pop()]:
            if one in within and one not in found:
                found.add(one)
                stack.append(one)
    return found


def _cut(nodes: Mapping[str, RawNode], edges: list[Edge], loop: set[str]) -> tuple[Edge, ...]:
    """The edges behind neurons that must be delayed so that the loop can start where data enter it."""
    inside = [edge for edge in edges if edge[0] in loop and edge[1] in loop]
    entries = sorted({target for source, target in edges if target in loop and source not in loop})
    if not entries:
        return ()
    cut: dict[Edge, None] = {}
    back = [edge for edge in inside if edge[1] == entries[0]]
    seen = set(back)
    while back:
        edge = back.pop()
        if nodes[edge[0]].kind in NEURONS:
            cut[edge] = None
            continue
        for one in inside:
            if one[1] == edge[0] and one not in seen:
                seen.add(one)
                back.append(one)
    return tuple(cut)
