"""Builds compared: what changed, in which layer, and gates that let nothing through which they forbid."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nirfiles
import numpy as np
import pytest

import nmc
from nmc.bundle import Bundle
from nmc.cli import main
from nmc.errors import NmcError
from nmc.ir import Conv2d, Encoding, Fixed, Network, Population
from nmc.reports.changes import SHOWN_CHANGES
from nmc.reports.gates import METRICS, parse_gate


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    with np.load(nirfiles.CALIBRATION) as data:
        return nmc.compile(nirfiles.DIGITS, data=data["x"][:20], steps=3)


def report_of(bundle: Bundle) -> dict[str, Any]:
    assert bundle.report is not None
    return copy.deepcopy(bundle.report)


def written(folder: Path, name: str, report: dict[str, Any]) -> Path:
    path = folder / name
    path.write_text(json.dumps({"schema": "nmc.report/1", **report}))
    return path


def test_a_build_equals_itself(bundle: Bundle) -> None:
    gates = [f"{name}={'-0pp' if name == 'accuracy' else '+0'}" for name in METRICS if name != "accuracy"]
    found = nmc.diff(bundle, bundle, gates)
    assert found.passed
    assert (found.changes, found.contributors, found.failure) == ((), (), "")
    assert nmc.diff(bundle, bundle, "cores=+0").verdicts[0].gate.metric == "cores"
    assert all(old == new for old, new in found.totals.values())


def test_one_changed_weight_is_found_in_its_layer(bundle: Bundle) -> None:
    network = bundle.network
    projection = next(one for one in network.projections if one.target == "stage2.0.if1")
    assert isinstance(projection.weight, Fixed)
    mant = projection.weight.mant.copy()
    mant.flat[0] += 1 if mant.flat[0] < projection.weight.highest else -1
    changed = replace(projection, weight=replace(projection.weight, mant=mant))
    other = tuple(changed if one is projection else one for one in network.projections)
    found = nmc.diff(bundle, replace(bundle, network=network.with_(projections=other)))
    assert [(one.layer, one.old, one.new) for one in found.changes] == [
        ("stage2.0.if1", f"{mant.size:,} values", "1 of them differ")
    ]


def of_population(name: str, change: Callable[[Population], Population]) -> Callable[[Network], Network]:
    return lambda network: network.with_(populations=network.map_populations({name: change(network[name])}))


def of_projection(target: str, **fields: object) -> Callable[[Network], Network]:
    def changed(network: Network) -> Network:
        first = network.incoming(target)[0]
        return network.with_(
            projections=tuple(
                replace(one, **fields) if one is first else one  # type: ignore[arg-type]
                for one in network.projections
            )
        )

    return changed


def of_neuron(name: str, **fields: object) -> Callable[[Network], Network]:
    return of_population(name, lambda one: replace(one, neuron=replace(one.neuron, **fields)))  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("layer", "what", "change"),
    [
        ("stem.if", "v0", of_neuron("stem.if", v0=np.array(7))),
        ("stem.if", "v0", of_neuron("stem.if", v0=np.full((8, 1, 1), 7))),
        ("stem.if", "bias", of_population("stem.if", lambda one: replace(one, bias=None))),
        ("stem.if", "max_payload", of_population("stem.if", lambda one: replace(one, max_payload=2))),
        ("input", "scale", of_neuron("input", scale=0.5)),
        ("input", "highest", of_neuron("input", highest=3)),
        ("input", "encoding", of_neuron("input", encoding=Encoding.SPIKES)),
        ("stem.if", "delay from input", of_projection("stem.if", delay=2)),
        ("stem.if", "lag from input", of_projection("stem.if", lag=1)),
        ("stem.if", "host_shift from input", of_projection("stem.if", host_shift=1)),
        ("stem.if", "synapse from input", of_projection("stem.if", synapse=Conv2d(dilation=(2, 2)))),
        ("stem.if", "projection from input", lambda one: one.with_(projections=one.projections[1:])),
        ("network", "readout", lambda one: one.with_(readout="count")),
    ],
)
def test_whatever_an_engine_reads_is_compared(
    bundle: Bundle, layer: str, what: str, change: Callable[[Network], Network]
) -> None:
    other = replace(bundle, network=change(bundle.network))
    for one, two in ((bundle, other), (other, bundle)):
        found = nmc.diff(one, two)
        assert [(one.layer or "network", one.what) for one in found.changes] == [(layer, what)]
        json.loads(found.to_json())


@pytest.mark.parametrize(
    ("gate", "old", "new", "passes"),
    [
        ("energy=+5%", 100.0, 105.0, True),
        ("energy=+5%", 100.0, 105.1, False),
        ("energy=+0%", 0.0, 1e-15, False),
        ("energy=+5%", 100.0, 10.0, True),
        ("cores=+0", 3, 3, True),
        ("cores=+0", 3, 4, False),
        ("cores=+1", 3, 4, True),
        ("latency=+2.5", 10, 12, True),
        ("latency=+2.5", 10, 13, False),
        ("accuracy=-0.5pp", 0.99, 0.986, True),
        ("accuracy=-0.5pp", 0.99, 0.984, False),
        ("accuracy=-0.5pp", 0.5, 0.9, True),
        ("accuracy=-1%", 0.9, 0.8912, True),
        ("accuracy=-1%", 0.9, 0.8905, False),
        ("synops=+10%", None, 5, False),
        ("synops=+10%", 5, None, False),
    ],
)
def test_gates(
    bundle: Bundle, gate: str, old: float | None, new: float | None, passes: bool, tmp_path: Path
) -> None:
    sides = []
    for name, value in (("old.json", old), ("new.json", new)):
        report = report_of(bundle)
        report["samples"] = 1
        keys = {"energy": "energy_J", "latency": "latency_steps"}
        metric = gate.partition("=")[0]
        if metric == "accuracy":
            report["accuracy"] = {"samples": 1, "integer": value, "float": None}
        else:
            report["total"][keys.get(metric, metric)] = value
        sides.append(written(tmp_path, name, report))
    found = nmc.diff(*sides, [gate])
    assert found.passed is passes
    assert (found.failure == "") is passes


def test_counts_are_compared_by_sample(bundle: Bundle, tmp_path: Path) -> None:
    one, two = report_of(bundle), report_of(bundle)
    two["samples"] *= 2
    for name in ("spikes", "synops", "updates"):
        two["total"][name] *= 2
    gates = ["spikes=+0", "synops=+0", "updates=+0"]
    assert nmc.diff(written(tmp_path, "1.json", one), written(tmp_path, "2.json", two), gates).passed


def test_layers_that_come_and_go(bundle: Bundle, tmp_path: Path) -> None:
    old, new = report_of(bundle), report_of(bundle)
    gone = old["layers"][3]["layer"]
    del new["layers"][3]
    new["layers"][4]["energy_J"] *= 3
    louder = new["layers"][4]["layer"]
    found = nmc.diff(written(tmp_path, "1.json", old), written(tmp_path, "2.json", new), ["energy=+0%"])
    assert [(one.layer, one.new) for one in found.changes] == [(gone, "removed")]
    assert {one.layer for one in found.contributors} == {gone, louder}
    back = nmc.diff(tmp_path / "2.json", tmp_path / "1.json")
    assert [(one.layer, one.new) for one in back.changes] == [(gone, "added")]


@pytest.mark.parametrize(
    "text",
    [
        *("energy", "energy=", "energy=5%", "energy=-5%", "energy=+5pp", "energy=+%", "energy=+nan%"),
        *("energy=+1e3", "energy=+5 %x", "accuracy=+1pp", "joy=+1%", "", "=+5%"),
    ],
)
def test_malformed_gates(text: str) -> None:
    with pytest.raises(NmcError) as caught:
        parse_gate(text)
    assert caught.value.code == "NMC-U02"


DAMAGE: list[Any] = [
    {"total": None},
    {"total": {"cores": "3"}},
    {"layers": {}},
    {"layers": [3]},
    {"layers": [{"layer": "a", "population": "a"}]},
    {"accuracy": 0.5},
    {"accuracy": {"integer": "1"}},
    {"accuracy": {}},
    {"samples": "2"},
]


@pytest.mark.parametrize("damage", DAMAGE, ids=str)
def test_malformed_reports(bundle: Bundle, damage: dict[str, Any], tmp_path: Path) -> None:
    path = written(tmp_path, "r.json", {**report_of(bundle), **damage})
    with pytest.raises(NmcError) as caught:
        nmc.diff(path, path)
    assert caught.value.code == "NMC-D01"


def test_files_that_are_no_reports(tmp_path: Path) -> None:
    for text in ("[]", "{}", "3", "{", '{"schema": "nmc.sweep/1"}', '{"schema": "nmc.run/1"}'):
        (tmp_path / "r.json").write_text(text)
        with pytest.raises(NmcError) as caught:
            nmc.diff(tmp_path / "r.json", tmp_path / "r.json")
        assert caught.value.code == "NMC-D01"


def test_the_command(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = tmp_path / "old.nmc", tmp_path / "new.json"
    bundle.save(old)
    louder = report_of(bundle)
    layer = max(louder["layers"], key=lambda row: row["energy_J"])
    louder["total"]["energy_J"] += layer["energy_J"]
    layer["energy_J"] *= 2
    written(tmp_path, "new.json", louder)
    assert main(["diff", str(old), str(new)]) == 0
    assert main(["diff", str(old), str(new), "--gate", "cores=+0"]) == 0
    capsys.readouterr()
    (tmp_path / "nmc.toml").write_text('[gates]\nenergy = "+5%"\ncores = "+0"\n')
    arguments = ["diff", str(old), str(new), "--config", str(tmp_path / "nmc.toml")]
    assert main([*arguments, "--format", "json"]) == 1
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["schema"] == "nmc.diff/1"
    assert [one["passed"] for one in document["gates"]] == [False, True]
    assert err.startswith("error: NMC-V03 ")
    assert layer["layer"] in err
    assert "allowed is +5%" in err
    assert main([*arguments, "--format", "md", "-o", str(tmp_path / "diff.md")]) == 1
    markdown = (tmp_path / "diff.md").read_text()
    assert "FAILED" in markdown
    assert len(markdown.splitlines()) <= 60


def test_markdown_fits_a_pull_request_whatever_changed(bundle: Bundle) -> None:
    """Every weight is another, and every metric has a gate."""
    gates = [f"{metric}=+1" for metric in METRICS if metric not in ("accuracy", "energy")]
    other = nmc.compile(nirfiles.DIGITS, weight_bits=4, steps=3)
    found = nmc.diff(bundle, other, [*gates, "energy=+5%", "accuracy=-1pp"])
    assert len(found.changes) > SHOWN_CHANGES
    lines = found.to_markdown().splitlines()
    assert len(lines) <= 60
    assert any("more changes" in line for line in lines)


@pytest.mark.parametrize("text", ["[gates]\nenergy = 5\n", "[gate]\n", "gates = 3\n"])
def test_malformed_gate_files(bundle: Bundle, text: str, tmp_path: Path) -> None:
    bundle.save(tmp_path / "a.nmc")
    (tmp_path / "nmc.toml").write_text(text)
    same = str(tmp_path / "a.nmc")
    assert main(["diff", same, same, "--config", str(tmp_path / "nmc.toml")]) in (2, 3)
