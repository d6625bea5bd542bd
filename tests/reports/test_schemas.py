"""The published JSON schemas are strict, and what nmc prints keeps to them."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

import nmc
from nmc import cli
from nmc.backends.compare import Divergence, NeuronState
from nmc.bundle import Bundle
from nmc.cli import main
from nmc.reports import render_json
from nmc.verifying import verification_document

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "examples" / "ci"
CHIPS = ("loihi1", "loihi2", "lava-cpu")


def schema(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "docs" / "schemas" / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=CHIPS)
def bundle(request: pytest.FixtureRequest) -> Bundle:
    return nmc.compile(SAMPLE / "model.nir", request.param, np.load(SAMPLE / "samples.npz")["x"])


def test_reports_keep_to_their_schema(bundle: Bundle) -> None:
    published = schema("nmc.report-1")
    trace = nmc.run(bundle, np.load(SAMPLE / "samples.npz")["x"][:4])
    verified = bundle.with_verification(nmc.verify(bundle, "stepwise", 1))
    for text in (nmc.report(bundle).to_json(), nmc.report(verified, trace).to_json()):
        jsonschema.validate(json.loads(text), published)
    assert bundle.report is not None
    jsonschema.validate({"schema": "nmc.report/1", **bundle.report}, published)


def test_diffs_keep_to_their_schema(bundle: Bundle) -> None:
    other = nmc.compile(SAMPLE / "model.nir", bundle.chip, weight_bits=4)
    text = nmc.diff(bundle, other, ["energy=+1%", "cores=+0"]).to_json()
    jsonschema.validate(json.loads(text), schema("nmc.diff-1"))


def test_the_schema_refuses_what_is_not_said_in_it(bundle: Bundle) -> None:
    published = schema("nmc.report-1")
    sound = json.loads(nmc.report(bundle).to_json())
    for damage in (
        lambda one: one.pop("layers"),
        lambda one: one.update(extra=1),
        lambda one: one["layers"][0].update(neurons="3"),
        lambda one: one["total"].pop("synapses"),
        lambda one: one.update(schema="nmc.report/2"),
    ):
        broken = copy.deepcopy(sound)
        damage(broken)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, published)


MODEL, DATA = str(SAMPLE / "model.nir"), str(SAMPLE / "samples.npz")
OPTIONS = ["-o", "a.nmc", "--calibration", DATA]
COMMANDS = (
    ("compile", ["compile", MODEL, *OPTIONS, "--time-passes"]),
    ("compile", ["compile", MODEL, "--stop-after", "quantize"]),
    ("run", ["run", "a.nmc", "-i", DATA, "-o", "t.npz"]),
    ("run", ["run", MODEL, "-i", DATA, "--engine", "float"]),
    ("evaluate", ["evaluate", "a.nmc", "-i", DATA]),
    ("verify", ["verify", "a.nmc", "--against", "stepwise", "--samples", "1"]),
    ("replay", ["verify", "a.nmc", "--against", "golden"]),
    ("report", ["report", "a.nmc", "--trace", "t.npz"]),
    ("check", ["check", MODEL, "bad.nir"]),
    ("fit", ["fit", MODEL, "--tradeoffs"]),
    ("fit", ["fit", MODEL, "--chip", "xylo-a2"]),
    ("sweep", ["sweep", MODEL, "-i", DATA, "--weight-bits", "1,4", "--steps", "2"]),
    ("config", ["config", "show"]),
    ("neurobench", ["neurobench", MODEL]),
    ("neurobench", ["neurobench", MODEL, "-i", DATA]),
)
WITHOUT = {"analyse", "chips", "demo", "doctor", "explain", "export"}
"""Commands for people: their JSON documents may change."""


def test_documents_of_commands_keep_to_their_schemas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.nir").write_text("no model")
    for kind, command in COMMANDS:
        assert main([*command, "--format", "json"]) in (0, 3, 4), command
        document = json.loads(capsys.readouterr().out)
        jsonschema.validate(document, schema(f"nmc.{kind}-1"))
        if "report" in document:
            embedded = {"schema": "nmc.report/1", **document["report"]}
            jsonschema.validate(embedded, schema("nmc.report-1"))


def test_a_divergence_keeps_to_its_schema(bundle: Bundle) -> None:
    result = nmc.verify(bundle, "stepwise", 1)
    state = NeuronState(0, None, None)
    wrong = Divergence("a", "v", 0, 1, (2, 3), 4, 5, 6, (("b", 6),), 0, state, NeuronState(1, 2, 3), state)
    document = verification_document(bundle, replace(result, first=wrong))
    printed = json.loads(render_json.render(document))
    jsonschema.validate(printed, schema("nmc.verify-1"))
    assert printed["first_divergence"]["neuron"] == [2, 3]


def test_every_command_has_a_schema_or_is_for_people() -> None:
    commands = {name for _, name, _ in cli.COMMANDS}
    published = {path.name.split(".")[1].partition("-")[0] for path in (ROOT / "docs" / "schemas").iterdir()}
    assert commands - WITHOUT <= published
    assert not WITHOUT & published


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "schemas").iterdir()), ids=lambda path: path.stem)
def test_schemas_are_sound_and_say_what_they_are(path: Path) -> None:
    published = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(published)
    assert path.name == published["title"].replace("/", "-") + ".json"
