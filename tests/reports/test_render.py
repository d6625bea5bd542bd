"""The renderers: strict JSON, Markdown that no name can break, text that fits and says what it left out."""

from __future__ import annotations

import csv
import json
import math
from typing import Any

import pytest

from nmc.errors import NmcError
from nmc.reports import layout, render_csv, render_json, render_markdown, render_text
from nmc.reports.document import Document, table_of
from nmc.reports.model import Accuracy, Activity, Energy, Estimate, Pace, Peak, Report, Row, total_row
from nmc.reports.units import format_energy

HOSTILE = "a|b <script>alert(1)</script> [bold]x[/] `*_~\\\n\x1b[31m"


def activity(spikes: int, energy: Energy) -> Activity:
    return Activity(
        spikes=spikes,
        grades=spikes,
        synops=10 * spikes,
        graded_synops=11 * spikes,
        updates=400,
        host_macs=0,
        firing_rate=spikes / 400,
        energy=energy,
        energy_range=(energy.total / 2, energy.total),
    )


def make_report(name: str = "conv1", samples: int | None = 10) -> Report:
    energies = (Energy.of(1e-9, 2e-9, 3e-10), Energy.of(0.1e-9, 0.7e-9, 1e-10))
    rows = tuple(
        Row(
            name=layer,
            population=f"p{index}",
            kind="LIF",
            shape=(2, 5),
            neurons=10,
            parameters=7,
            synapses=1234567,
            cores=2,
            memory_bits=8192,
            latency_steps=index + 1,
            wait_steps=index,
            activity=None if samples is None else activity(20 + index, energies[index]),
        )
        for index, layer in enumerate((name, "fc"))
    )
    total = total_row(rows, 4, samples)
    priced = ()
    if total.activity is not None:
        energy = total.activity.energy
        pace = Pace((1e-6, 2e-6), name, (4e-6, 8e-6), (4e-6, 8e-6), (1e-9, 2e-9))
        priced = (Estimate("set1", "loihi1", "simulated", "a paper", "9 %", energy, energy, pace),)
    return Report(
        network=name,
        chip="loihi1",
        version="0",
        profile="snntorch",
        steps=4,
        samples=samples,
        rows=rows,
        total=total,
        cores_available=128,
        peaks=(Peak("input axons", name, 3, 1024, 4096),),
        estimates=priced,
        others=(),
        twin=None,
        accuracy=None if samples is None else Accuracy(10, 0.9, 0.95),
        assumptions=("exact counts",),
        unpriced=("static power",),
        notes=("a note",),
    )


def strict(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(text, parse_constant=refuse)


def test_json_columns_add_up() -> None:
    document = strict(make_report().to_json())
    assert document["schema"] == "nmc.report/1"
    total, layers = document["total"], document["layers"]
    for key in ("neurons", "parameters", "synapses", "cores", "memory_bits", "spikes", "synops", "updates"):
        assert total[key] == sum(layer[key] for layer in layers), key
    for key in ("energy_J", "energy_synapse_J", "energy_update_J", "energy_spike_J", "energy_hop_J"):
        assert total[key] == math.fsum(layer[key] for layer in layers), key
    assert total["latency_steps"] == 2 + 4
    assert document["accuracy"] == {"samples": 10, "integer": 0.9, "float": 0.95}


def test_json_without_a_run_claims_no_activity() -> None:
    document = strict(make_report(samples=None).to_json())
    assert document["samples"] is None
    assert document["estimates"] == []
    assert "spikes" not in document["total"]
    assert all("energy_J" not in layer for layer in document["layers"])


def test_json_refuses_nan() -> None:
    with pytest.raises(ValueError, match="JSON"):
        render_json.render(Document("x", {"a": math.nan}))


def test_markdown_rows_have_as_many_cells_as_titles() -> None:
    lines = make_report(HOSTILE).to_markdown().splitlines()
    tables = [line for line in lines if line.startswith("|")]
    widths = {line.replace(r"\|", "").count("|") for line in tables}
    assert widths == {8, 10, 13}
    assert not any("<script>" in line or "\x1b" in line for line in lines)


def test_markdown_escape_leaves_no_markup() -> None:
    assert render_markdown.escape("a|b*c_<&>\\\n") == r"a\|b\*c\_&lt;&amp;&gt;\\" + r"\\n"


def test_html_escapes_names() -> None:
    page = make_report(HOSTILE)._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_text_shows_markup_as_it_is_and_no_controls() -> None:
    text = make_report(HOSTILE).to_text(400)
    assert "[bold]x[/]" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("width", [1, 20, 40, 60, 80, 100, 120, 160])
def test_text_tables_keep_to_the_width(width: int) -> None:
    document = layout.document(make_report())
    for table in document.tables:
        columns, dropped = render_text.fitting(table, width)
        titles = [one.title for one in table.columns]
        assert sorted([*dropped, *(one.title for one in columns)]) == sorted(titles)
        assert columns[0].title in ("layer", "constants")
        if width >= 80:
            rendered = render_text.render(Document("x", {}, (table,)), width).splitlines()
            assert max(map(len, rendered[1:4])) <= width


def test_text_names_the_columns_it_left_out() -> None:
    narrow, wide = make_report().to_text(60), make_report().to_text(200)
    assert "left out for lack of width: " in narrow
    assert "left out" not in wide
    assert "graded synops" in wide
    for needed in ("layer", "spikes", "synops", "energy [nJ]"):
        assert needed in narrow


def test_text_facts_are_never_wrapped() -> None:
    path = "/a" * 200
    assert path in render_text.render(Document("x", {}, (), (("bundle", path),)), 40)


def test_text_says_accuracy_energy_set_and_unpriced_terms() -> None:
    text = make_report().to_text()
    assert "float 95.00%, integer 90.00% (10 samples)" in text
    assert "4.2 nJ (constants of loihi1: set1), without static power" in text
    assert "a paper" in text
    assert "not priced" in text
    assert "static power" in text


@pytest.mark.parametrize(
    ("joules", "text"),
    [
        (0.0, "0 pJ"),
        (1.0, "1 J"),
        (1.2345e-5, "12.35 uJ"),
        (9.9e-10, "990 pJ"),
        (1e-9, "1 nJ"),
        (2e-14, "0.02 pJ"),
    ],
)
def test_energy_reads_with_a_unit(joules: float, text: str) -> None:
    assert format_energy(joules) == text


def test_table_without_rows() -> None:
    table = table_of("t", ("a", "b"), ())
    assert table.rows() == []
    assert "a" in render_text.render(Document("x", {}, (table,)))
    assert "| a | b |" in render_markdown.render(Document("x", {}, (table,)))


def test_csv_has_a_line_per_record_and_no_formulas() -> None:
    records = [
        {"layer": "=1+1", "cores": 3, "shape": [2, 3], "energy_J": None},
        {"layer": 'a "b", c\n\0', "cores": -4, "shape": (), "odd": 0.5},
    ]
    document = Document("report", {"of": {"layers": records}}, (), records=("of", "layers"))
    assert list(csv.reader(render_csv.render(document).splitlines())) == [
        ["layer", "cores", "shape", "energy_J", "odd"],
        ["'=1+1", "3", "2x3", "", ""],
        ['a "b", c\\n\\x00', "-4", "", "", "0.5"],
    ]


@pytest.mark.parametrize("members", [{"layers": []}, {"verdict": "equal"}])
def test_csv_of_what_has_no_records(members: dict[str, object]) -> None:
    document = Document("verify", members, (), records=("layers",) if "layers" in members else ())
    with pytest.raises(NmcError, match="NMC-U02 format: verify has no records for CSV"):
        render_csv.render(document)
