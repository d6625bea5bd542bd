"""The published JSON schemas are strict, and what nmc prints keeps to them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

import nmc
from nmc.bundle import Bundle

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
