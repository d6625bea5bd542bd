"""Calibration of converted networks: silent layers, gains, corrections, scales of least error."""

from __future__ import annotations

import numpy as np
import pytest
from anns import block, chain, frames, residual, unit, value

from nmc.frontend import opgraph as og
from nmc.frontend.conversion.method import METHODS, Method
from nmc.frontend.conversion.normal import normal_form
from nmc.frontend.conversion.scales import measure
from nmc.frontend.convert import convert
from nmc.frontend.float_engine import run

# --- silent layers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_layer_that_is_never_active_is_kept_and_reported(method: str) -> None:
    ann = block(w1=-9.0)
    data = np.array([[2.0], [1.0]])
    snn = convert(ann, data, 16, method)
    assert "never active on the calibration data: relu1" in snn.notes
    assert all(np.isfinite(v).all() for v in run(snn, data, 16).values.values())
    # -9 * 2 + 6 = -12 is the largest magnitude; no bias of 6 per step reaches that in the first step.
    assert not run(snn, data, 16).values["relu1"].any()


def test_a_silent_channel_has_the_scale_of_its_layer() -> None:
    ann = chain(
        ("in", og.Input((1,))),
        ("first", og.Linear([[2.0], [-1.0]])),
        ("relu", og.ReLU()),
        ("last", og.Linear([[1.0, 1.0]])),
        ("out", og.Output()),
    )
    scales = measure(
        normal_form(ann, "gated"), np.array([[1.0], [3.0]]), 4, Method(percentile=100, per_channel=True)
    )
    assert scales.scales["relu"].tolist() == [6.0, 6.0]
    assert scales.silent == ()


# --- calibration ------------------------------------------------------------------------------------


def error(snn: og.OpGraph, ann: og.OpGraph, x: np.ndarray, steps: int) -> float:
    return float(np.mean((value(snn, x, steps) - value(ann, x)) ** 2))


@pytest.mark.parametrize("reset", ["soft", "hard"])
@pytest.mark.parametrize(
    "change", [{"compensation": "gain"}, {"correction": "bias"}, {"correction": "potential"}, {"refit": True}]
)
def test_calibration_comes_closer_to_the_ann(reset: str, change: dict) -> None:
    errors = {True: 0.0, False: 0.0}
    for seed in range(3):
        ann, x = residual(seed), frames(48, seed)
        for tuned in errors:
            snn = convert(ann, x, 8, "max", reset=reset, **(change if tuned else {}))
            errors[tuned] += error(snn, ann, x, 8)
    assert errors[True] < errors[False] / 2


@pytest.mark.parametrize("correction", ["bias", "potential"])
def test_the_correction_cancels_the_mean_error_of_channels(correction: str) -> None:
    """From v0 = 0 every layer sends too little, the later the less."""
    ann, x = residual(3), frames(64, 3)
    names = ("a.relu1", "a.relu2", "b.relu")
    wanted = run(ann, x, 1, record=names).values
    gaps = []
    for kind in ("none", correction):
        snn = convert(ann, x, 8, "max", correction=kind, place="thresholds")
        got = run(snn, x, 8, record=names).values
        gaps.append(
            sum(
                np.abs(
                    (got[n].mean(axis=1) * snn.nodes[n].threshold - wanted[n][:, 0]).mean(axis=(0, 2, 3))
                ).sum()
                for n in names
            )
        )
    assert gaps[1] < gaps[0] / 4


def test_compensation_takes_the_least_change_with_the_least_error() -> None:
    # T = 4, scale 1: an input of 0.9 gives 3 spikes, an error of 0.15; from a gain of 1.2 on 4 spikes, 0.1.
    # Gains so large that 1.0 fires 4 times too are no better for it.
    data = np.array([[1.0], *[[0.9]] * 40])
    snn = convert(unit(), data, 4, "max", compensation="gain", place="thresholds", v0=0.5)
    plain_ = convert(unit(), data, 4, "max", compensation="none", place="thresholds", v0=0.0)
    tuned = convert(unit(), data, 4, "max", compensation="gain", place="thresholds", v0=0.0)
    assert plain_.nodes["relu"].threshold.item() == 1.0
    assert tuned.nodes["relu"].threshold.item() == pytest.approx(1 / 1.2)
    # From half a threshold 0.9 gives floor(0.5 + 3.6) = 4 spikes with a gain of 1, as with any up to 2.5.
    assert snn.nodes["relu"].threshold.item() == 1.0
    assert snn.nodes["relu"].v0.item() == 0.5


def test_a_hard_reset_is_scaled_for_half_as_many_levels() -> None:
    ann, x = residual(4), frames(32, 4)
    form = normal_form(ann, "gated")
    hard = measure(form, x, 8, Method(scale="least-error", reset="hard")).scales
    soft = measure(form, x, 4, Method(scale="least-error")).scales
    assert {n: s.item() for n, s in hard.items()} == {n: s.item() for n, s in soft.items()}


def test_the_correction_of_the_readout_cancels_the_mean_error_of_every_class() -> None:
    ann, x = residual(7), frames(32, 7)
    snn = convert(ann, x, 4, "max", correction="bias")
    gap = (value(snn, x, 4) - value(ann, x)).mean(axis=0)
    np.testing.assert_allclose(gap, 0, atol=1e-9)


def test_least_error_scales_beat_the_maximum_at_few_steps() -> None:
    ann, x = residual(4), frames(64, 4)
    errors = [
        error(convert(ann, x, 4, "max", v0=0.5, scale=s), ann, x, 4) for s in ("least-error", "percentile")
    ]
    assert errors[0] < errors[1]
