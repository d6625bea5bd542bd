"""Feature x engine, see ``conformance``: every cell passes, or is refused by design with its reason."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import conformance
import numpy as np
import pytest
from conformance import CHIPS, FAIL, PASS, SLOW, Cell
from features import FEATURES, STEPS, Feature

from nmc.backends.base import Trace
from nmc.backends.engines import NAMES, engine
from nmc.ir import Fixed, IntArray, Network

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"
FAST = tuple(name for name in NAMES if name not in SLOW)
IDS = [f"{one.area}, {one.name}" for one in FEATURES]


def allowed(feature: Feature, name: str) -> str:
    code = dict(feature.refused).get(name)
    return PASS if code is None else f"refused {code}"


@pytest.mark.parametrize("feature", FEATURES, ids=IDS)
def test_every_engine_conforms(feature: Feature) -> None:
    for name in FAST:
        cell = conformance.run_cell(feature, name)
        assert cell.result == allowed(feature, name), f"{name}: {cell.detail}"


@pytest.mark.runtime
@pytest.mark.parametrize("wanted", ["SEW ADD by relay", "current and bias", "by subtraction, leaky"])
def test_lava_runtime_conforms(wanted: str) -> None:
    (feature,) = (one for one in FEATURES if one.name == wanted)
    assert conformance.run_cell(feature, "lava") == Cell(PASS)


def test_features_have_names_of_their_own() -> None:
    assert len(set(IDS)) == len(IDS)


def test_the_page_is_whole() -> None:
    """docs/conformance.md has every feature, engine and chip, and no cell is untested or failed."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    header, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    assert header == ["area", "feature", *NAMES, *CHIPS]
    assert [(row[0], row[1]) for row in rows] == [(one.area, one.name) for one in FEATURES]
    for feature, row in zip(FEATURES, rows, strict=True):
        cells = dict(zip(header[2:], row[2:], strict=True))
        for name in NAMES:
            assert cells[name] == allowed(feature, name), feature
        for name in CHIPS:
            assert cells[name] == conformance.chip_cell(feature, name).result, feature
            assert re.fullmatch(r"yes|as current|as a loop|refused NMC-[A-Z]\d\d", cells[name])


class _Wrong:
    """An engine with one bit wrong: a weight off by its smallest step."""

    name = "wrong"

    def run(self, network: Network, x: IntArray, steps: int, record: Collection[str] = ()) -> Trace:
        first, *rest = network.projections
        assert isinstance(first.weight, Fixed)
        mant = first.weight.mant.copy()
        mant.flat[0] += 1 if mant.flat[0] < 0 else -1
        other = replace(first, weight=replace(first.weight, mant=mant))
        return engine("reference").run(network.with_(projections=(other, *rest)), x, steps, record)


def test_a_wrong_engine_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conformance, "engine", lambda _name: _Wrong())
    failed = [conformance.run_cell(feature, "wrong").result == FAIL for feature in FEATURES[:20]]
    assert np.mean(failed) > 0.9


def test_an_engine_that_runs_what_it_must_refuse_fails() -> None:
    feature = next(one for one in FEATURES if one.name == "64 in one synapse")
    cell = conformance.run_cell(replace(feature, refused=(("reference", "NMC-T01"),)), "reference")
    assert cell.result == FAIL


def test_a_silent_network_fails() -> None:
    feature = next(one for one in FEATURES if one.name == "IF")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Feature, "samples", lambda _self, network: np.zeros((2, STEPS, 1, 3, 3), np.int64))
        cell = conformance.run_cell(feature, "reference")
    assert cell == Cell(FAIL, "nothing ever happens, so nothing is tested")
