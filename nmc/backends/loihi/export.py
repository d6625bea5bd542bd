"""A network as a plain Python script for Lava, with its arrays beside it. The script does not need nmc.

The folder holds ``run_lava.py`` (every process spelled out, to be read and edited), ``arrays/*.npy``,
``expected.npz`` (what the outputs must send, by the reference engine) and, where the network has neurons
that Lava lacks, ``lava_processes/`` with their process models.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nmc import __version__, atomic
from nmc.backends.loihi import quirks
from nmc.backends.loihi.export_template import TEMPLATE
from nmc.backends.loihi.lower import lower
from nmc.backends.loihi.program import CPU_ONLY, Neurons, Program, Source, Synapses
from nmc.backends.sim.reference import ReferenceEngine
from nmc.errors import NmcError
from nmc.ir import IntArray, Network

SCRIPT = "run_lava.py"
_PROCESSES = Path(__file__).parent / "processes" / "__init__.py"


def export_lava(network: Network, x: IntArray, steps: int, folder: Path) -> tuple[Path, ...]:
    """Write the script and what it needs; the script is written last.

    Args:
        network: stage QUANTIZED or MAPPED.
        x: encoded samples that the script runs; the user puts others into ``arrays`` later.
        steps: T.
        folder: made where it is missing; files of the same name are replaced.

    Returns:
        The files written.

    Raises:
        NmcError: what ``lower`` refuses, NMC-W01.
    """
    program = lower(network, x, steps)
    text, arrays = script(network, program)
    files = {f"arrays/{name}.npy": _npy(array) for name, array in arrays.items()}
    trace = ReferenceEngine().run(network, x, steps, record=network.outputs)
    kind = trace.v if network.readout == "potential" else trace.spikes
    buffer = io.BytesIO()
    np.savez(buffer, **{name: kind[name] for name in network.outputs})
    files["expected.npz"] = buffer.getvalue()
    if any(cell.process in CPU_ONLY for cell in program.neurons):
        files["lava_processes/__init__.py"] = _PROCESSES.read_bytes()
    files[SCRIPT] = text.encode()
    for name, content in files.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise NmcError(
                "NMC-W01", str(path.parent), atomic.reason(error), "choose another output"
            ) from error
        atomic.atomic_write(path, content)
    return tuple(folder / name for name in files)


def _npy(array: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def script(network: Network, program: Program) -> tuple[str, dict[str, npt.NDArray[Any]]]:
    """The script's text, and the arrays that it loads by name."""
    writer = _Writer(network)
    body: list[str] = []
    synapses: dict[str, list[Synapses]] = {name: [] for name in program.order}
    for synapse in program.synapses:
        synapses[synapse.target].append(synapse)
    parts: dict[str, Source | Neurons] = {source.name: source for source in program.sources}
    parts |= {cell.name: cell for cell in program.neurons}
    for name in program.order:
        part = parts[name]
        body.append("")
        body += writer.source(part) if isinstance(part, Source) else writer.neurons(part)
        for synapse in synapses[name]:
            body += writer.synapse(synapse)
    custom = sorted({cell.process for cell in program.neurons if cell.process in CPU_ONLY})
    imports = [f"from lava_processes import {', '.join(custom)}"] if custom else []
    note = (
        [
            f"{', '.join(custom)}: models of nmc that run on the CPU; a chip needs microcode for them.",
        ]
        if custom
        else []
    )
    levels = {cell.name: cell.level for cell in program.neurons}
    biases = {
        cell.name: writer.array(f"{cell.name}.host_bias", cell.host_bias)
        for cell in program.neurons
        if cell.host_bias is not None
    }
    text = TEMPLATE
    for key, value in {
        "@TITLE@": f"{network.name}, written by nmc {__version__}.",
        "@NOTE@": "\n".join(note),
        "@IMPORTS@": "\n".join(imports),
        "@STEPS@": str(program.steps),
        "@INTERVAL@": str(program.interval),
        "@SAMPLES@": str(program.samples),
        "@LEVELS@": repr(levels),
        "@OUTPUTS@": repr(list(network.outputs)),
        "@READOUT@": repr("v" if network.readout == "potential" else "s_out"),
        "@BUILD@": _indented(body),
        "@BIASES@": "{" + ", ".join(f"{name!r}: {load}" for name, load in biases.items()) + "}",
    }.items():
        text = text.replace(key, value)
    return text, writer.arrays


def _indented(lines: Iterable[str]) -> str:
    return "\n".join(f"    {line}" if line else "" for line in lines)


class _Writer:
    """Lines of the script; keeps the arrays that they load."""

    def __init__(self, network: Network) -> None:
        self.arrays: dict[str, npt.NDArray[Any]] = {}
        self._labels = {population.name: population.label for population in network.populations}
        self._file_names: dict[str, str] = {}

    def array(self, name: str, value: npt.NDArray[Any]) -> str:
        """``array("...")``; two names never share a file."""
        safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in name)
        while self._file_names.setdefault(safe, name) != name:
            safe += "_"
        self.arrays[safe] = np.asarray(value)
        return f"array({safe!r})"

    def _value(self, name: str, value: npt.NDArray[Any]) -> str:
        """A number as it is, an array from its file."""
        return str(int(value)) if value.ndim == 0 else self.array(name, value.astype(np.int32))

    def source(self, source: Source) -> list[str]:
        data = self.array(f"{source.name}.data", source.data)
        return [
            f"# {self._labels[source.name]}: input {_shape(source.shape)}, last axis time",
            f"cells[{source.name!r}] = RingBuffer(data={data})",
        ]

    def neurons(self, cell: Neurons) -> list[str]:
        title = f"# {self._labels[cell.name]}: {_shape(cell.shape)}, sees a sample {cell.level} steps late"
        if cell.process == "GradedVec":
            fields = {"shape": str(cell.shape), "vth": str(int(cell.vth))}
            return [title, f"cells[{cell.name!r}] = GradedVec({_call(fields)})"]
        fields = {"shape": str(cell.shape)}
        for key in ("du", "dv", "vth"):
            fields[key] = self._value(f"{cell.name}.{key}", getattr(cell, key))
        bias = cell.bias_mant
        same = bias.size and (bias == bias.flat[0]).all() and cell.host_bias is None
        fields["bias_mant"] = str(int(bias.flat[0])) if same else self.array(f"{cell.name}.bias_mant", bias)
        fields["bias_exp"] = str(cell.bias_exp)
        fields["reset_interval"] = "INTERVAL"
        fields["reset_offset"] = str(quirks.reset_offset(cell.level))
        if cell.process in CPU_ONLY:
            fields["v_start"] = self._value(f"{cell.name}.v_start", cell.v0)
        if cell.process == "SoftLIF":
            fields["v_drop"] = self._value(f"{cell.name}.v_drop", cell.drop)
        return [title, f"cells[{cell.name!r}] = {cell.process}({_call(fields)})"]

    def synapse(self, synapse: Synapses) -> list[str]:
        name, process = synapse.name, synapse.process
        fields: dict[str, str] = {}
        lines = [f"# {synapse.source} -> {synapse.target}"]
        if process == "Conv":
            width, height, channels = (synapse.source_shape[axis] for axis in quirks.AXES_TO_LAVA)
            fields["weight"] = self.array(f"{name}.weight", synapse.weight)
            fields["input_shape"] = str((width, height, channels))
            for key in ("stride", "padding", "dilation", "groups"):
                fields[key] = str(getattr(synapse, key))
        else:
            fields["weights"] = "weights"
            lines.append(f"weights = {self._matrix(synapse)}")
            if process == "DelayDense":
                fields["delays"] = str(synapse.delay)
            if process == "DelaySparse":
                fields["delays"] = f"every(weights, {synapse.delay})"
            if synapse.delay:
                fields["max_delay"] = str(synapse.delay)
            fields["sign_mode"] = f"SignMode.{synapse.sign_mode}"
            fields["num_weight_bits"] = "8"
        fields["num_message_bits"] = str(synapse.message_bits)
        order, source, target = (
            quirks.AXES_TO_LAVA,
            f"cells[{synapse.source!r}]",
            f"cells[{synapse.target!r}]",
        )
        into, out = (
            (f"transpose({order})", f"transpose({order})")
            if process == "Conv"
            else ("flatten()", f"reshape({synapse.target_shape})")
        )
        return [
            *lines,
            f"synapse = {process}({_call(fields)})",
            f"{source}.s_out.{into}.connect(synapse.s_in)",
            f"synapse.a_out.{out}.connect({target}.a_in)",
        ]

    def _matrix(self, synapse: Synapses) -> str:
        weight = self.array(f"{synapse.name}.weight", synapse.weight)
        if synapse.rows is None or synapse.columns is None:
            return weight
        rows = self.array(f"{synapse.name}.rows", synapse.rows)
        columns = self.array(f"{synapse.name}.columns", synapse.columns)
        shape = tuple(int(np.prod(ends)) for ends in (synapse.target_shape, synapse.source_shape))
        return f"csr_matrix(({weight}, ({rows}, {columns})), {shape})"


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _call(fields: dict[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in fields.items())
