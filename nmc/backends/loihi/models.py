"""Lava's own process models without Lava's runtime: same arithmetic, no operating-system processes.

Models are picked by Lava's run configuration and built by Lava's builder; only the channels are
replaced by wires that hold one message. ``InProcessLava`` steps a whole program in the order in which the
runtime's messages force it: a synapse sends what it summed up last step, then takes this step's spikes.

Importing this imports Lava, which sets Python's start method to "fork" for the whole process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from lava.magma.compiler.builders.py_builder import PyProcessBuilder
from lava.magma.compiler.compiler_graphs import ProcGroupDiGraphs
from lava.magma.compiler.utils import PortInitializer, VarInitializer
from lava.magma.core.run_configs import Loihi2SimCfg

from nmc.backends.loihi import build, quirks
from nmc.backends.loihi.program import Program, Synapses

Array = npt.NDArray[Any]


class Wire:
    """Stands for one channel; holds the last message. Casts to the sending port's type, as a channel does."""

    def __init__(self, name: str, reorder: Callable[[Array], Array] = np.asarray) -> None:
        self.name = name
        self.d_type: Any = np.int32
        self.message: Array = np.zeros(0, np.int32)
        self._reorder = reorder

    def send(self, data: Array) -> None:
        self.message = np.array(data).astype(self.d_type)

    def recv(self) -> Array:
        return self._reorder(self.message)


_MODEL_CLASSES: dict[type, Any] = {}
"""Memo of ``_model_class``: Lava's search executes source files and takes milliseconds."""


def _model_class(process: Any) -> Any:
    """The fixed-point CPU model that Lava's runtime would run for a process."""
    kind = type(process)
    if kind not in _MODEL_CLASSES:
        models = ProcGroupDiGraphs._find_proc_models(process)
        _MODEL_CLASSES[kind] = Loihi2SimCfg(select_tag="fixed_pt").select(process, models)
    return _MODEL_CLASSES[kind]


def model_of(process: Any, wires: dict[str, list[Wire]]) -> Any:
    """Lava's model of a process, built by Lava's builder, its ports joined to wires.

    Args:
        process: a Lava process; its Vars give shapes and initial values.
        wires: per port name, the wires on it.
    """
    model_class = _model_class(process)
    builder = PyProcessBuilder(model_class, process.id, process.proc_params)
    builder.set_variables([VarInitializer(v.name, v.shape, v.init, v.id) for v in process.vars])
    ports = [*process.in_ports, *process.out_ports]
    builder.set_py_ports(
        [
            PortInitializer(p.name, p.shape, getattr(model_class, p.name).d_type, type(p).__name__, 1)
            for p in ports
        ]
    )
    for port in ports:
        for wire in wires.get(port.name, []):
            builder.csp_ports.setdefault(port.name, []).append(wire)
    for port in process.out_ports:
        for wire in wires.get(port.name, []):
            wire.d_type = getattr(model_class, port.name).d_type
    return builder.build()


def step(model: Any) -> None:
    """One time step of a model, as the runtime's spiking phase does it."""
    model.time_step += 1
    model.run_spk()


def _next_sums(synapse: Any) -> Array:
    """What a synapse's model sends in its next step, in the shape of its port; see the ``run_spk`` of
    lava-nc 0.10, ``proc/dense``, ``proc/sparse`` and ``proc/conv`` ``/models.py``."""
    held = getattr(synapse, "a_buf", None)
    if held is None:
        held = synapse.a_buff
    return np.asarray(held if held.shape == synapse.a_out.shape else held[:, 0])


class InProcessLava:
    """All models of a program, stepped together."""

    def __init__(self, program: Program) -> None:
        self.program = program
        outputs: dict[str, list[Wire]] = {name: [Wire("s_out")] for name in program.order}
        inputs: dict[str, list[Wire]] = {name: [] for name in program.order}
        self._feeding: dict[str, list[Any]] = {name: [] for name in program.order}
        self._read = {name: wires[0] for name, wires in outputs.items()}
        self._closing: list[tuple[Any, Wire]] = []
        place = {name: index for index, name in enumerate(program.order)}
        for synapse in program.synapses:
            spikes, sums = Wire("s_in", to_synapse(synapse)), Wire("a_out", to_target(synapse))
            outputs[synapse.source].append(spikes)
            inputs[synapse.target].append(sums)
            model = model_of(build.synapse_process(synapse), {"s_in": [spikes], "a_out": [sums]})
            if place[synapse.source] < place[synapse.target]:
                self._feeding[synapse.target].append(model)
            else:
                self._closing.append((model, sums))
                sums.send(_next_sums(model))
        self.models: dict[str, Any] = {}
        for source in program.sources:
            process = build.source_process(source)
            self.models[source.name] = model_of(process, {"s_out": outputs[source.name]})
        for cell in program.neurons:
            process = build.neuron_process(cell, program.interval)
            wires = {"s_out": outputs[cell.name], "a_in": inputs[cell.name]}
            self.models[cell.name] = model_of(process, wires)
        self._writes = program.host_writes()
        self._host_bias = {cell.name: cell.host_bias for cell in program.neurons}
        self._done = 0

    def step(self) -> None:
        """One chip step of the whole network, after what the host writes before it."""
        for name, sample in self._writes.get(self._done, []):
            biases = self._host_bias[name]
            assert biases is not None
            self.models[name].bias_mant[:] = biases[sample]
        for name in self.program.order:
            for synapse in self._feeding[name]:
                step(synapse)
            step(self.models[name])
        for synapse, sums in self._closing:
            # A loop's synapse hears its source after its target has taken the step; what it then holds is
            # what it would send first of all in the next one.
            step(synapse)
            sums.send(_next_sums(synapse))
        self._done += 1

    def spikes(self, name: str) -> Array:
        """What a source or population sent in the last step, its shape."""
        return self._read[name].message

    def run(self) -> dict[tuple[str, str], Array]:
        """All steps. {(population, "spikes" | "u" | "v"): (chip steps, *shape) int32}."""
        kept = {
            (cell.name, what): np.zeros((self.program.steps, *cell.shape), np.int32)
            for cell in self.program.neurons
            for what in (("spikes", "u", "v") if cell.states else ("spikes",))
        }
        for t in range(self.program.steps):
            self.step()
            for (name, what), array in kept.items():
                array[t] = self.spikes(name) if what == "spikes" else getattr(self.models[name], what)
        return kept


def to_synapse(synapse: Synapses) -> Callable[[Array], Array]:
    """The port view between a population and a synapse process (``build.connect``)."""
    if synapse.process == "Conv":
        return lambda spikes: spikes.transpose(quirks.AXES_TO_LAVA)
    return lambda spikes: spikes.reshape(-1)


def to_target(synapse: Synapses) -> Callable[[Array], Array]:
    if synapse.process == "Conv":
        return lambda sums: sums.transpose(quirks.AXES_TO_LAVA)
    return lambda sums: sums.reshape(synapse.target_shape)
