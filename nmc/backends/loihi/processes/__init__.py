# mypy: disable-error-code="misc, untyped-decorator"
"""Lava processes that stock Lava lacks, and their bit-accurate CPU models. Importing this imports Lava.

Lava looks for a model in the module that defines its process, so both stand here; then it executes every
file beside that module (magma/compiler/compiler_graphs.py), so this module has a folder of its own. On
silicon these neurons need microcode that is not public; they run on the CPU only. Nothing here needs nmc:
``export.py`` copies this file beside the scripts that it writes.

A Var becomes an attribute of the model: one called ``start`` or ``run`` would replace the method of that
name, and the run would hang without a word.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort, PyRefPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, RefPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.lif.models import AbstractPyLifModelFixed
from lava.proc.lif.process import LIF


class HardLIF(LIF):
    """LIF that is set to u = 0, v = v_start every reset_interval steps, as LIFReset is set to zero.

    v_start: v units, a number or one per neuron. Other arguments as LIFReset's.
    """

    def __init__(self, *, v_start: Any, reset_interval: int, reset_offset: int, **lif: Any) -> None:
        super().__init__(reset_interval=reset_interval, reset_offset=reset_offset, **lif)
        self.v_start = Var(shape=lif["shape"], init=v_start)


class SoftLIF(HardLIF):
    """HardLIF whose v is lowered by ``v_drop`` (v units, a number or one per neuron) at a spike."""

    def __init__(self, *, v_drop: Any, **lif: Any) -> None:
        super().__init__(**lif)
        self.v_drop = Var(shape=lif["shape"], init=v_drop)


class _PeriodicModel(AbstractPyLifModelFixed):
    """Lava's own fixed-point arithmetic, with the periodic start of the processes above."""

    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)
    vth: int = LavaPyType(int, np.int32, precision=17)
    v_start: np.ndarray[Any, Any] = LavaPyType(np.ndarray, np.int32, precision=24)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.effective_vth: Any = 0
        self.interval = proc_params["reset_interval"]
        self.offset = proc_params["reset_offset"] % self.interval

    def scale_threshold(self) -> None:
        self.effective_vth = np.left_shift(self.vth, self.vth_shift)
        self.isthrscaled = True

    def spiking_activation(self) -> Any:
        return self.v > self.effective_vth

    def run_spk(self) -> None:
        if self.time_step % self.interval == self.offset:
            self.u[:] = 0
            self.v[:] = self.v_start
        super().run_spk()


@implements(proc=HardLIF, protocol=LoihiProtocol)
@requires(CPU)
@tag("bit_accurate_loihi", "fixed_pt")
class PyHardLIF(_PeriodicModel):
    """Bit-accurate CPU model of HardLIF."""


@implements(proc=SoftLIF, protocol=LoihiProtocol)
@requires(CPU)
@tag("bit_accurate_loihi", "fixed_pt")
class PySoftLIF(_PeriodicModel):
    """Bit-accurate CPU model of SoftLIF."""

    v_drop: np.ndarray[Any, Any] = LavaPyType(np.ndarray, np.int32, precision=24)

    def reset_voltage(self, spike_vector: Any) -> None:
        self.v[spike_vector] -= self.v_drop[spike_vector]


class Recorder(AbstractProcess):
    """Keeps every step of one population's spikes and, where connected, u and v; writes them when done.

    Lava hands a Var to the host number by number, at tens of microseconds each, so the recorder writes
    its own file: ``spikes.npy``, ``u.npy``, ``v.npy`` in ``folder``, each (steps, *shape) int32.
    """

    def __init__(self, *, shape: tuple[int, ...], steps: int, folder: str, states: bool) -> None:
        super().__init__(shape=shape, steps=steps, folder=folder, states=states)
        self.s_in = InPort(shape=shape)
        self.u = RefPort(shape=shape)
        self.v = RefPort(shape=shape)


@implements(proc=Recorder, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyRecorder(PyLoihiProcessModel):
    """CPU model of Recorder."""

    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    u: PyRefPort = LavaPyType(PyRefPort.VEC_DENSE, np.int32)
    v: PyRefPort = LavaPyType(PyRefPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.steps: int = proc_params["steps"]
        self.states: bool = proc_params["states"]
        names = ("spikes", "u", "v") if self.states else ("spikes",)
        self.kept = {name: np.zeros((self.steps, *proc_params["shape"]), np.int32) for name in names}

    def run_spk(self) -> None:
        self.kept["spikes"][self.time_step - 1] = self.s_in.recv()
        if not self.states:
            self._write_when_done()

    def post_guard(self) -> bool:
        return self.states

    def run_post_mgmt(self) -> None:
        """After every neuron's update, so u and v are the states at the end of the step."""
        self.kept["u"][self.time_step - 1] = self.u.read()
        self.kept["v"][self.time_step - 1] = self.v.read()
        self._write_when_done()

    def _write_when_done(self) -> None:
        if self.time_step == self.steps:
            for name, array in self.kept.items():
                np.save(Path(self.proc_params["folder"]) / f"{name}.npy", array)
