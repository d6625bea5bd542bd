"""Rates of A and O per block: equal to counts by hand, drawn to scale, with names as text only."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest

import nmc
from nmc.frontend.zoo.draft import Draft, if_neuron
from nmc.frontend.zoo.residual import block
from nmc.reports.rates import BlockRates, block_rates, rate_chart

STEPS = 5


@pytest.fixture(scope="module")
def compiled():
    draft = Draft((2, 6, 6), if_neuron(), drive=2.0)
    x = draft.conv_fire("stem", "input", 6, 3)
    x = block(draft, "first", x, 6, 1, "add")
    x = block(draft, "second", x, 8, 2, "add")
    x = block(draft, "third", x, 8, 1, "add")
    trains = np.random.default_rng(0).integers(0, 2, (3, STEPS, 2, 6, 6))
    graph = draft.finish("three", draft.linear("fc", x, 3), STEPS)
    return nmc.compile(graph, "loihi2", data=trains, steps=STEPS), trains


def test_rates_are_means_of_the_recorded_spikes(compiled):
    bundle, trains = compiled
    trace = nmc.run(bundle, trains, record=("all",))
    blocks = block_rates(bundle.network, trace.counts)
    assert [one.block for one in blocks] == ["first", "second", "third"]
    for one in blocks:
        branch, output = trace.spikes[f"{one.block}.sn"], trace.spikes[f"{one.block}.add"]
        assert one.branch == branch.mean()
        assert one.output == (output != 0).mean()
        assert one.payload == output.mean()
        assert one.branch <= one.output <= one.payload


def test_a_report_shows_branch_and_sum_apart(compiled):
    bundle, trains = compiled
    trace = nmc.run(bundle, trains)
    report = nmc.report(bundle, trace)
    assert report.blocks == block_rates(bundle.network, trace.counts)
    assert [one["block"] for one in json.loads(report.to_json())["residual_blocks"]] == [
        *("first", "second", "third")
    ]
    assert "A: branch" in report.to_markdown()
    page = report._repr_html_()
    for one in report.blocks:
        assert f"{one.block} A" in page
        assert f"{one.block} O" in page


def test_outputs_grow_along_identity_blocks(compiled):
    """What Fang et al. 2021 report of SEW ADD: O = A + S holds all spikes of S."""
    bundle, trains = compiled
    _, down, identity = block_rates(bundle.network, nmc.run(bundle, trains).counts)
    assert identity.output > down.output
    assert np.isclose(identity.payload, down.payload + identity.branch)


def test_binary_chips_have_no_output_population(compiled):
    _, trains = compiled
    draft = Draft((2, 6, 6), if_neuron(), drive=2.0)
    x = block(draft, "only", draft.conv_fire("stem", "input", 6, 3), 6, 1, "add")
    graph = draft.finish("one", draft.linear("fc", x, 3), STEPS)
    bundle = nmc.compile(graph, "loihi1", data=trains, steps=STEPS)
    assert block_rates(bundle.network, nmc.run(bundle, trains).counts) == ()


def test_the_chart_is_to_scale():
    blocks = [BlockRates("one", 0.0, 0.25, 0.5), BlockRates("two", 0.125, 0.25, 0.375)]
    root = ElementTree.fromstring(rate_chart("rates", blocks))
    dots = root.findall("{http://www.w3.org/2000/svg}circle")
    heights = np.array([float(dot.attrib["cy"]) for dot in dots]).reshape(3, 2)
    values = np.array([[0.0, 0.125], [0.25, 0.25], [0.5, 0.375]])
    zero, half = heights[0, 0], heights[2, 0]
    np.testing.assert_allclose(heights, zero + (half - zero) * values / 0.5, atol=0.06)
    assert zero > half


def test_names_stay_text_and_nothing_is_fetched():
    picture = rate_chart("<script>alert(1)</script>", [BlockRates("<b>&\n", 0.1, 0.2, 3.0)])
    assert "<script" not in picture
    assert "<b>" not in picture
    assert re.findall(r"https?://[^\"]+", picture) == ["http://www.w3.org/2000/svg"]
    ElementTree.fromstring(picture)
    ElementTree.fromstring(rate_chart("no block at all", []))
