"""Whole runs: what their traces take is asked for before the first batch."""

from __future__ import annotations

from types import SimpleNamespace

import gen
import pytest

from nmc import running, timing
from nmc.backends import memory
from nmc.errors import NmcError


def test_traces_of_all_batches_must_fit_together(monkeypatch: pytest.MonkeyPatch) -> None:
    network = gen.quantize(timing.balance(gen.float_network(2, 6), 62))
    x = gen.stimulus(network, 8, 6, 2)
    bundle = SimpleNamespace(network=network)
    names = [population.name for population in network.compute]
    whole = memory.recorded_bytes(network, 8, 6, names)
    monkeypatch.setattr(memory, "SMALL_BYTES", whole)
    monkeypatch.setattr(memory, "available_bytes", lambda: 2 * whole - 1)
    running.run(bundle, x, "reference", record=["all"], batch=8)  # type: ignore[arg-type]
    monkeypatch.setattr(running, "engine_by_name", lambda _name: None)
    with pytest.raises(NmcError) as caught:
        running.run(bundle, x, "reference", record=["all"], batch=2)  # type: ignore[arg-type]
    assert (caught.value.code, caught.value.measured) == ("NMC-W02", 2 * whole)
