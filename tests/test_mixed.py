"""Bits per layer: the budget is kept, sensitive layers keep theirs, and what cannot be kept is refused."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from nmc import api, mixed
from nmc.chip import load_chip
from nmc.errors import NmcError

DATA = Path(str(files("nmc") / "data"))
MODEL = DATA / "digits_sew.nir"


def calibration() -> np.ndarray:
    return np.load(DATA / "digits_calibration.npz")["x"][:6]


def test_the_layer_that_matters_keeps_its_bits_longest() -> None:
    chip = load_chip("loihi2")
    plan = mixed._order({"a": 1000, "b": 1000, "c": 1000}, {"a": 0.5, "b": 0.0, "c": 0.001}, chip)
    assert len(plan) == 3 * 6
    assert [layer for layer, _ in plan[:5]] == ["b"] * 5
    last = {layer: max(i for i, one in enumerate(plan) if one[0] == layer) for layer in "abc"}
    assert last["b"] < last["c"] < last["a"]


def test_of_equally_sensitive_layers_the_large_one_gives_first() -> None:
    plan = mixed._order({"small": 10, "large": 1000}, {"small": 0.1, "large": 0.1}, load_chip("loihi2"))
    assert [layer for layer, _ in plan[:3]] == ["large"] * 3


def test_only_widths_that_the_chip_stores_are_steps() -> None:
    plan = mixed._order({"a": 10}, {"a": 0.1}, load_chip("loihi1"))
    assert [bits for _, bits in plan] == [6, 5, 4, 3, 2]


@pytest.mark.parametrize("needed", [0, 1, 7, 20])
def test_the_shortest_plan_that_fits_is_found(needed: int) -> None:
    def sized(steps: int) -> mixed.MixedBits | None:
        return mixed.MixedBits({"steps": steps}, {}, 0, 0) if steps >= needed else None

    found = mixed._first_that_fits(sized, 20)
    assert found is not None
    assert found.layer_bits == {"steps": needed}
    assert mixed._first_that_fits(lambda steps: None, 20) is None


def test_the_demo_network_in_a_given_memory() -> None:
    x = calibration()
    full = api.report(api.compile(MODEL, "loihi2", x)).total.memory_bits
    least = api.report(api.compile(MODEL, "loihi2", x, weight_bits=2)).total.memory_bits
    budget = (full + least) // 2
    seen: list[tuple[int, int]] = []
    found = mixed.choose_bits(
        MODEL, "loihi2", x, max_memory_bits=budget, progress=lambda *done: seen.append(done)
    )
    assert least <= found.memory_bits <= budget
    assert len(set(found.layer_bits.values())) > 1
    assert seen[-1] == (len(found.layer_bits), len(found.layer_bits))
    bundle = api.compile(MODEL, "loihi2", x, layer_bits=found.layer_bits)
    assert api.report(bundle).total.memory_bits == found.memory_bits
    # One more bit anywhere in the plan's last step would not have fitted: the budget is used.
    assert found.memory_bits > least


def test_a_budget_below_two_bits_is_refused_with_both_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixed, "_measure", lambda *_: {"stem.if": 0.1, "classifier.i": 0.2})
    with pytest.raises(
        NmcError, match=r"NMC-U02 max_memory_bits: is 1,000, the network needs [\d,]+ at 2 bits"
    ):
        mixed.choose_bits(MODEL, "loihi2", calibration(), max_memory_bits=1000)
    with pytest.raises(NmcError, match=r"NMC-P01 .*needs 3 cores at 2 bits, allowed are 1"):
        mixed.choose_bits(MODEL, "loihi2", calibration(), max_cores=1)
