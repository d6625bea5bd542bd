"""What a notebook shows of every result: markup of nmc's own, in which a layer's name stays text."""

from __future__ import annotations

import html.parser
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nmc
from nmc.frontend import opgraph as og

SAMPLE = Path(__file__).parents[1] / "examples" / "ci"
HOSTILE = "<script>alert(1)</script>&\"'"
VOID = ("br", "meta", "rect", "line")


class Page(html.parser.HTMLParser):
    """Tags and text; fails where a tag is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    """One of each kind, with a layer of a hostile name."""
    graph = nmc.load(SAMPLE / "model.nir")
    old = next(name for name, op in graph.nodes.items() if isinstance(op, og.Neuron))
    swap = {old: HOSTILE}
    nodes = {swap.get(name, name): op for name, op in graph.nodes.items()}
    edges = tuple((swap.get(a, a), swap.get(b, b)) for a, b in graph.edges)
    graph = replace(graph, nodes=nodes, edges=edges, name=HOSTILE)
    x = np.load(SAMPLE / "samples.npz")["x"][:2]
    bundle = nmc.compile(graph, data=x)
    trace = nmc.run(bundle, x, record=[one.name for one in bundle.network.compute])
    labels = np.zeros(len(x), np.int64)
    return {
        "graph": graph,
        "bundle": bundle,
        "trace": trace,
        "report": nmc.report(bundle, trace),
        "diff": nmc.diff(bundle, nmc.compile(graph, weight_bits=4), ["energy=+1%"]),
        "evaluation": nmc.evaluate(bundle, [(x, labels)]),
        "verification": nmc.verify(bundle, "stepwise", 1),
        "fit": nmc.fit(graph, "loihi2"),
        "misfit": nmc.fit(graph, replace(bundle.chip, cores=0)),
        "neurobench": nmc.neurobench(graph, x),
    }


KINDS = (
    "graph",
    "bundle",
    "trace",
    "report",
    "diff",
    "evaluation",
    "verification",
    "fit",
    "misfit",
    "neurobench",
)


@pytest.mark.parametrize("kind", KINDS)
def test_a_notebook_shows_it(kind: str, results: dict[str, Any]) -> None:
    found = Page(results[kind]._repr_html_())
    assert found.tags.isdisjoint({"script", "img", "iframe", "object", "embed", "link", "a"})
    assert len(found.text) > 40


def test_names_stay_text(results: dict[str, Any]) -> None:
    for kind in ("graph", "bundle", "report", "diff", "fit"):
        assert HOSTILE in Page(results[kind]._repr_html_()).text, kind


def test_what_is_shown(results: dict[str, Any]) -> None:
    shown = {kind: Page(one._repr_html_()).text for kind, one in results.items()}
    spikes = sum(results["trace"].counts.spikes.values())
    assert f"{spikes:,}" in shown["trace"]
    assert "recorded" in shown["trace"]
    assert "equal" in shown["verification"]
    assert "does not fit" in shown["misfit"]
    assert f"{results['evaluation'].accuracy:.2%}" in shown["evaluation"]
    assert f"{results['neurobench'].Dense:,.6g}" in shown["neurobench"]
