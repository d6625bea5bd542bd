"""Whole runs: what their traces take is asked for before the first batch, what more steps bring is proven."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gen
import numpy as np
import pytest
from smallmodels import soft_resets

from nmc import api, exporting, running, timing
from nmc.backends import memory
from nmc.bundle import Bundle
from nmc.chip import load_chip
from nmc.errors import NmcError
from nmc.frontend import opgraph as og
from nmc.quantize import calibrate


def test_traces_of_all_batches_must_fit_together(monkeypatch: pytest.MonkeyPatch) -> None:
    network = gen.quantize(timing.balance(gen.float_network(2, 6), 62))
    x = gen.stimulus(network, 8, 6, 2)
    bundle = Bundle(network, load_chip("generic"))
    names = [population.name for population in network.compute]
    whole = memory.recorded_bytes(network, 8, 6, names)
    monkeypatch.setattr(memory, "SMALL_BYTES", whole)
    monkeypatch.setattr(memory, "available_bytes", lambda: 2 * whole - 1)
    running.run(bundle, x, "reference", record=["all"], batch=8)
    monkeypatch.setattr(running, "engine_by_name", lambda _name: None)
    with pytest.raises(NmcError) as caught:
        running.run(bundle, x, "reference", record=["all"], batch=2)
    assert (caught.value.code, caught.value.measured) == ("NMC-W02", 2 * whole)


COMPILED, LONG = 8, 4000
SAMPLES = np.random.default_rng(1).random((4, 4))


@pytest.fixture(scope="module")
def soft() -> Bundle:
    """Integrate-and-fire neurons whose soft resets are loops: u adds up all that arrives."""
    return api.compile(soft_resets(COMPILED), "loihi2", SAMPLES)


@pytest.mark.parametrize(
    "use",
    [
        lambda bundle, steps: api.run(bundle, SAMPLES, steps=steps),
        lambda bundle, steps: api.evaluate(bundle, [(SAMPLES, None)], steps=steps),
        lambda bundle, steps: api.verify(bundle, "stepwise", 1, steps=steps),
    ],
    ids=["run", "evaluate", "verify"],
)
def test_steps_for_which_u_has_no_room_are_refused(
    soft: Bundle, use: Callable[[Bundle, int], object]
) -> None:
    """A few more are proven and run; so many that u could wrap are not."""
    assert use(soft, COMPILED + 1)
    expected = rf"NMC-Q01 n1: synaptic current u can reach .* for {COMPILED} steps: .* --steps {LONG}"
    with pytest.raises(NmcError, match=expected):
        use(soft, LONG)


@pytest.mark.parametrize(
    "export",
    [
        lambda path, out: exporting.export_bundle(path, "lava", out, None, 1, LONG, False),
        lambda path, out: exporting.export_vectors(exporting.Source(path, steps=LONG), out, None, 1, False),
    ],
    ids=["lava", "nirdata"],
)
def test_nor_are_they_exported(soft: Bundle, export: Callable[[Path, Path], object], tmp_path: Path) -> None:
    path, out = tmp_path / "soft.nmc", tmp_path / "out"
    soft.save(path)
    with pytest.raises(NmcError, match=f"NMC-Q01 n1: .* --steps {LONG}"):
        export(path, out)
    assert not out.exists()


def test_calibration_must_fit_before_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = {"in": og.Input((64,)), "n": og.Neuron(1.0), "out": og.Output()}
    graph = og.OpGraph(nodes, (("in", "n"), ("n", "out")), steps=1 << 16)
    data = np.random.default_rng(0).random((64, 64))
    monkeypatch.setattr(memory, "available_bytes", lambda: 1 << 30)
    with pytest.raises(NmcError, match=r"NMC-W02 network: calibration needs 4\.0 GiB, 1\.0 GiB are free"):
        api.compile(graph, data=data)
    monkeypatch.setattr(memory, "available_bytes", lambda: 64 << 30)
    monkeypatch.setattr(calibrate, "measure", stopped)
    with pytest.raises(InterruptedError):
        api.compile(graph, data=data)


def stopped(*_: object) -> None:
    raise InterruptedError
