"""Imported ``.net`` files on every engine: the same spikes, u and v, samples back to back."""

from __future__ import annotations

from pathlib import Path

import netfiles
import numpy as np
import pytest

import nmc

KINDS = [*netfiles.VARIANTS, "delayed convolution"]


@pytest.mark.parametrize("name", KINDS)
def test_every_engine_runs_it_the_same(name: str, tmp_path: Path) -> None:
    layers = netfiles.variant("plain" if name == KINDS[-1] else name)
    if name == KINDS[-1]:
        layers[1]["delay"] = [0.0, 1.0, 0.0, 2.0]
    bundle = nmc.compile(netfiles.write(tmp_path / "x.net", layers), "loihi2")
    x = np.random.default_rng(1).integers(0, 2, (3, 8, 2, 5, 6))
    for engine in ("stepwise", "native", "lava-inprocess", "lava-tiles"):
        found = nmc.verify(bundle, engine, 3, x=x[:, 0] if name == "frames" else x)
        assert (found.passed, found.total) == (True, 0), (engine, str(found.first))
        assert found.compared > 1000
