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

from nmc import __version__, atomic, timing
from nmc.backends.loihi import quirks
from nmc.backends.loihi.export_template import TEMPLATE
from nmc.backends.loihi.lower import lower, synapse_matrix
from nmc.backends.loihi.program import CPU_ONLY, Neurons, Program, Source, Synapses
from nmc.backends.sim.reference import ReferenceEngine
from nmc.errors import NmcError
from nmc.ir import Dense, Encoding, Fixed, InputNeuron, IntArray, Network, Projection

SCRIPT = "run_lava.py"
_PROCESSES = Path(__file__).parent / "processes" / "__init__.py"


def export_lava(network: Network, x: IntArray, steps: int, folder: Path) -> tuple[Path, ...]:
    """Write the script and what it needs; the script is written last.

    Args:
        network: stage QUANTIZED or MAPPED.
        x: encoded samples that the script runs and compares; it takes others with --input.
        steps: T.
        folder: made where it is missing; files of the same name are replaced.

    Returns:
        The files written.

    Raises:
        NmcError: what ``lower`` refuses, NMC-W01.
    """
    # All samples are lowered, so that one that does not fit is refused; the processes are the same for each.
    *_, program = (lower(network, x[part], steps) for part in timing.sessions(network, len(x)))
    text, arrays = script(network, program, steps)
    files = {f"arrays/{name}.npy": _npy(array) for name, array in {**arrays, "x": x}.items()}
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


def script(network: Network, program: Program, steps: int) -> tuple[str, dict[str, npt.NDArray[Any]]]:
    """The script's text, and the arrays that it loads by name, less its samples "x".

    Args:
        network: stage QUANTIZED or MAPPED.
        program: its processes, for any samples.
        steps: T.
    """
    writer = _Writer(network)
    cells: dict[str, Source | Neurons] = {source.name: source for source in program.sources}
    cells |= {cell.name: cell for cell in program.neurons}
    place = {name: index for index, name in enumerate(program.order)}
    body: list[str] = []
    for name in program.order:
        part = cells[name]
        body.append("")
        body += writer.source(part) if isinstance(part, Source) else writer.neurons(part)
        for synapse in program.synapses:
            # In a loop the source is the later of the two.
            if max(synapse.source, synapse.target, key=place.__getitem__) == name:
                body += writer.synapse(synapse)
    host = [line for cell in program.neurons if cell.host_bias is not None for line in writer.host(cell)]
    custom = sorted({cell.process for cell in program.neurons if cell.process in CPU_ONLY})
    note = f"{', '.join(custom)}: models of nmc that run on the CPU; a chip needs microcode for them."
    (source,) = network.inputs
    neuron = source.neuron
    assert isinstance(neuron, InputNeuron)
    train = neuron.encoding is Encoding.SPIKES
    shape = ", ".join(map(str, source.shape))
    text = TEMPLATE
    for key, value in {
        "@TITLE@": f"{network.name}, written by nmc {__version__}.",
        "@NOTE@": note if custom else "",
        "@IMPORTS@": f"from lava_processes import {', '.join(custom)}" if custom else "",
        "@KIND@": f"spike trains (samples, steps, {shape})" if train else f"frames (samples, {shape})",
        "@INTERVAL@": str(steps),
        "@CLEARED@": str(program.interval),
        "@ALONE@": str(network.remembers),
        "@WAITS@": repr([cell.name for cell in program.neurons if cell.waits]),
        "@SHAPE@": str(source.shape),
        "@TRAIN@": str(train),
        "@RANGE@": f"{neuron.scale!r}, {neuron.lowest}, {neuron.highest}",
        "@LEVELS@": repr({cell.name: cell.level for cell in program.neurons}),
        "@OUTPUTS@": repr(list(network.outputs)),
        "@READOUT@": repr("v" if network.readout == "potential" else "s_out"),
        "@HOST@": _indented(host),
        "@BUILD@": _indented(body),
    }.items():
        text = text.replace(key, value)
    return text, writer.arrays


def _indented(lines: Iterable[str]) -> str:
    return "\n".join(f"    {line}" if line else "" for line in lines)


class _Writer:
    """Lines of the script; keeps the arrays that they load."""

    def __init__(self, network: Network) -> None:
        self._network = network
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
        return [
            f"# {self._labels[source.name]}: input {_shape(source.shape)}, last axis time",
            f"cells[{source.name!r}] = RingBuffer(data=train_of(x))",
        ]

    def host(self, cell: Neurons) -> list[str]:
        """What the host writes into a population: its own bias and one sum per projection of frames."""
        bias = self._network[cell.name].bias
        assert isinstance(bias, Fixed)
        terms = [self.array(f"{cell.name}.bias", np.broadcast_to(bias.mant, cell.shape).reshape(-1))]
        for projection in self._network.incoming(cell.name):
            if projection.on_host:
                matrix = self._host_matrix(projection)
                terms.append(f"current(x, {matrix}, {projection.host_shift})")
        lines = [f"# {self._labels[cell.name]}: mantissas of exponent {cell.bias_exp}"]
        lines += [f"mantissas = {terms[0]}", *(f"mantissas = mantissas + {term}" for term in terms[1:])]
        return [*lines, f"biases[{cell.name!r}] = mantissas.reshape(len(x), *{cell.shape})"]

    def _host_matrix(self, projection: Projection) -> str:
        weight, name = projection.integer_weight, projection.name
        if isinstance(projection.synapse, Dense):
            return self.array(f"{name}.weight", weight)
        source, target = (self._network[end] for end in (projection.source, projection.target))
        rows, columns, values = synapse_matrix(projection.synapse, weight, source.shape, target.size)
        return self._csr(name, values, rows, columns, (target.size, source.size))

    def neurons(self, cell: Neurons) -> list[str]:
        title = f"# {self._labels[cell.name]}: {_shape(cell.shape)}, sees a sample {cell.level} steps late"
        if cell.process == "GradedVec":
            fields = {"shape": str(cell.shape), "vth": str(int(cell.vth))}
            return [title, f"cells[{cell.name!r}] = GradedVec({_call(fields)})"]
        fields = {"shape": str(cell.shape)}
        for key in ("du", "dv", "vth"):
            fields[key] = self._value(f"{cell.name}.{key}", getattr(cell, key))
        bias = cell.bias_mant
        if cell.host_bias is not None:
            fields["bias_mant"] = f"{'0 * ' if cell.waits else ''}biases[{cell.name!r}][0]"
        elif (bias == bias.flat[0]).all():
            fields["bias_mant"] = str(int(bias.flat[0]))
        else:
            fields["bias_mant"] = self.array(f"{cell.name}.bias_mant", bias)
        fields["bias_exp"] = str(cell.bias_exp)
        fields["reset_interval"] = "CLEARED"
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
            if synapse.weight_exp:
                fields["weight_exp"] = str(synapse.weight_exp)
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
        if synapse.rows is None or synapse.columns is None:
            return self.array(f"{synapse.name}.weight", synapse.weight)
        into, out_of = (int(np.prod(ends)) for ends in (synapse.target_shape, synapse.source_shape))
        return self._csr(synapse.name, synapse.weight, synapse.rows, synapse.columns, (into, out_of))

    def _csr(
        self, name: str, weight: IntArray, rows: IntArray, columns: IntArray, shape: tuple[int, int]
    ) -> str:
        parts = {"weight": weight, "rows": rows, "columns": columns}
        weights, into, out_of = (self.array(f"{name}.{part}", array) for part, array in parts.items())
        return f"csr_matrix(({weights}, ({into}, {out_of})), {shape})"


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _call(fields: dict[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in fields.items())
