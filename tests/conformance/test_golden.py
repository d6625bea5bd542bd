"""The golden traces of ``hw_tests`` hold what the reference and Lava's models compute today."""

from __future__ import annotations

import sys

import board
import numpy as np
import pytest

from nmc.backends.engines import engine
from nmc.backends.loihi import quirks
from nmc.ir import FixedNeuron


@pytest.mark.parametrize("name", board.CASES)
def test_golden_traces_are_the_references(name: str) -> None:
    stored, computed = board.golden(name), board.expected(name)
    assert stored.keys() == computed.keys()
    for key, array in computed.items():
        assert stored[key].dtype == array.dtype
        assert np.array_equal(stored[key], array), key
    for key in (key for key in stored if key.endswith("/spikes")):
        assert 0.02 < stored[key].mean() < 0.98, f"{key} proves nothing"


@pytest.mark.parametrize("name", board.CASES)
def test_every_case_is_stock_lava(name: str) -> None:
    """No process of nmc's own, for which a chip has no microcode; no payloads."""
    network, _ = board.case(name)
    for population in network.compute:
        assert isinstance(population.neuron, FixedNeuron)
        assert quirks.stock_lif(population.neuron)


@pytest.mark.skipif(sys.version_info[:2] != (3, 10), reason="Lava exists for Python 3.10 only")
@pytest.mark.parametrize("name", board.CASES)
def test_lava_gives_the_golden_trace_but_for_v_at_a_spike(name: str) -> None:
    network, x = board.case(name)
    names = [population.name for population in network.compute]
    trace = engine("lava-inprocess").run(network, x, board.STEPS, names)
    stored = board.golden(name)
    for population in names:
        fired = stored[f"{population}/spikes"] > 0
        assert np.array_equal(trace.spikes[population][0], fired)
        assert np.array_equal(trace.u[population][0], stored[f"{population}/u"])
        chip = np.where(fired, board.V_AT_SPIKE, trace.v[population][0])
        assert np.array_equal(chip, stored[f"{population}/v"])
        assert not trace.v[population][0][fired].any()


@pytest.mark.skipif(sys.version_info[:2] != (3, 10), reason="Lava exists for Python 3.10 only")
def test_a_cpu_in_disguise_is_seen() -> None:
    """Every process of a network that Lava compiled for the CPU is named, synapses too."""
    from lava.magma.core.run_configs import Loihi2SimCfg

    from nmc.backends.loihi.build import build
    from nmc.backends.loihi.lower import lower

    network, x = board.case("residual")
    cells = build(lower(network, x, board.STEPS))
    first = next(iter(cells.values()))
    first.compile(Loihi2SimCfg(select_tag="fixed_pt"))
    models = board.models_of(first)
    assert set(models) == {p.name for p in network.compute} | {
        p.name for p in network.projections if not p.on_host
    }
    assert board.on_the_cpu(models) == sorted(models)
    models["out"] = type("NcModelOfLif", (type("AbstractNcProcessModel", (), {}),), {})
    assert "out" not in board.on_the_cpu(models)
    assert len(board.on_the_cpu(models)) == len(models) - 1


def test_without_a_board_the_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NMC_LOIHI", raising=False)
    assert "NMC_LOIHI=1" in str(board.missing())
    monkeypatch.setenv("NMC_LOIHI", "1")
    reason = board.missing()
    assert reason is None or reason.startswith("no hardware: ")
