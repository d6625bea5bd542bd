"""Runs on a Loihi board, where there is one. Without one every test here is skipped, never passed.

See docs/hardware.md. None of this has run on a board yet: nobody here has had one. What the tests compare
with, ``golden/``, is what the reference engine says; it is checked without a board in tests/conformance.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import board
import numpy as np
import pytest

pytestmark = [
    pytest.mark.hardware,
    pytest.mark.skipif(board.missing() is not None, reason=str(board.missing())),
]


def run_on_board(name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Build, run and read one case; {"population/kind": (T, *shape)} and what the board says about itself."""
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2HwCfg
    from lava.utils.loihi2_state_probes import StateProbe

    from nmc.backends.loihi.build import build
    from nmc.backends.loihi.lower import lower

    network, x = board.case(name)
    program = lower(network, x, board.STEPS)
    cells = build(program)
    probes = {
        (cell.name, kind): StateProbe(getattr(cells[cell.name], kind))
        for cell in program.neurons
        for kind in ("u", "v")
    }
    configuration = Loihi2HwCfg(callback_fxs=list(probes.values()))
    profiler = profiler_of(configuration, program.steps)
    first = next(iter(cells.values()))
    try:
        first.run(RunSteps(num_steps=program.steps), configuration)
        models = board.models_of(first)
        found = {}
        for cell in program.neurons:
            for kind in ("u", "v"):
                series = np.asarray(probes[cell.name, kind].time_series)
                states = series.reshape(program.steps, *cell.shape)[cell.level : cell.level + board.STEPS]
                found[f"{cell.name}/{kind}"] = states.astype(np.int32)
    finally:
        first.stop()
    about = {
        "models": {name: model.__name__ for name, model in models.items()},
        "on_the_cpu": board.on_the_cpu(models),
        "environment": {key: os.environ.get(key) for key in ("LOIHI_GEN", "BOARD", "PARTITION")},
        **{
            key: None if profiler is None else np.asarray(getattr(profiler, name)).tolist()
            for key, name in (("execution_time_s", "execution_time"), ("energy_J", "energy"))
        },
    }
    return found, about


def profiler_of(configuration: Any, steps: int) -> Any:
    """Lava's profiler of time and energy; None where the installation has none for boards."""
    from lava.utils.profiler import Profiler

    try:
        profiler = Profiler.init(configuration)
    except NotImplementedError:
        return None
    profiler.execution_time_probe(num_steps=steps)
    profiler.energy_probe(num_steps=steps)
    return profiler


def record(name: str, found: dict[str, np.ndarray], about: dict[str, Any]) -> None:
    """Keep what was measured, where NMC_HW_TRACES names a folder."""
    if folder := os.environ.get("NMC_HW_TRACES"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        np.savez_compressed(Path(folder) / f"{name}.npz", **found)
        (Path(folder) / f"{name}.json").write_text(json.dumps(about, indent=2))


@pytest.mark.parametrize("name", board.CASES)
def test_the_board_equals_the_golden_trace(name: str) -> None:
    found, about = run_on_board(name)
    record(name, found, about)
    assert not about["on_the_cpu"], f"CPU models ran instead of the chip: {about['models']}"
    golden = board.golden(name)
    wrong = {key: int((found[key] != golden[key]).sum()) for key in found}
    assert wrong == dict.fromkeys(found, 0)


def test_a_single_population_fires_like_the_specification() -> None:
    """The smallest case, for a first look at a new board: one integrating population, constant bias."""
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2HwCfg
    from lava.proc.lif.process import LIF
    from lava.utils.loihi2_state_probes import StateProbe

    from nmc import neuron
    from nmc.ir import Fixed, FixedNeuron

    steps, vth, bias = 20, 10, 150
    lif = LIF(shape=(4,), du=4095, dv=0, vth=vth, bias_mant=bias, bias_exp=0)
    voltage = StateProbe(lif.v)
    try:
        lif.run(RunSteps(num_steps=steps), Loihi2HwCfg(callback_fxs=[voltage]))
        models = board.models_of(lif)
        measured = np.asarray(voltage.time_series).reshape(steps, 4)
    finally:
        lif.stop()
    assert not board.on_the_cpu(models), f"a CPU model ran instead of the chip: {models}"
    spec = FixedNeuron(
        Fixed(np.asarray(vth), 6, 17, False),
        Fixed(np.asarray(4095), -12, 12, False),
        Fixed(np.asarray(0), -12, 12, False),
    )
    u = v = np.zeros(4, np.int64)
    for t in range(steps):
        spikes, u, v = neuron.step(spec, u, v, np.zeros(4, np.int64), np.asarray(bias))
        assert np.array_equal(measured[t], np.where(spikes, board.V_AT_SPIKE, v))
