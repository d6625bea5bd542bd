"""Runs on a Loihi board, where there is one. Without one every test here is skipped, never passed.

Needs Intel's lava-loihi package and NMC_LOIHI=1; see docs/architecture.md. On the chip v reads 128 at the
step of a spike (a refractory count is kept in it) where Lava's CPU models read 0.
"""

from __future__ import annotations

import importlib.util
import os

import pytest

V_AT_SPIKE = 128


def missing() -> str | None:
    """Why there is no board here; None when there may be one."""
    if os.environ.get("NMC_LOIHI") != "1":
        return "no hardware: set NMC_LOIHI=1 on a machine with a Loihi board"
    if importlib.util.find_spec("lava") is None:
        return "no hardware: lava-nc is not installed"
    from lava.utils import loihi

    # slurm.is_available() raises without sinfo, so only the package is asked for here.
    return None if loihi.is_installed() else "no hardware: the lava-loihi package is not installed"


pytestmark = [pytest.mark.hardware, pytest.mark.skipif(missing() is not None, reason=str(missing()))]


def test_a_chip_model_is_chosen_and_fires_like_the_specification() -> None:
    """One integrating population on the board, stepped by ``neuron.step``; no CPU model in disguise."""
    import numpy as np
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
        models = [type(model).__name__ for model in lif.runtime.executable.node_configs]
        measured = np.asarray(voltage.time_series).reshape(steps, 4)
    finally:
        lif.stop()
    assert any("Nc" in name for name in models), f"a CPU model ran instead of the chip: {models}"
    spec = FixedNeuron(
        Fixed(np.asarray(vth), 6, 17, False),
        Fixed(np.asarray(4095), -12, 12, False),
        Fixed(np.asarray(0), -12, 12, False),
    )
    u = v = np.zeros(4, np.int64)
    for t in range(steps):
        spikes, u, v = neuron.step(spec, u, v, np.zeros(4, np.int64), np.asarray(bias))
        assert np.array_equal(measured[t], np.where(spikes, V_AT_SPIKE, v))
