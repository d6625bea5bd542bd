"""A network as Lava processes, in plain data: what the parent writes and the child reads. No Lava here.

A folder holds ``program.json`` (names and numbers) and ``arrays.npz`` (no pickle).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from nmc.errors import InternalError
from nmc.ir import IntArray, Shape

CPU_ONLY = ("HardLIF", "SoftLIF")
"""Neuron processes of ``processes``, for start values and soft resets: a chip needs microcode for them, which
is not public, so ``quantize/support.py`` refuses there what they stand for. All others are stock Lava's."""


@dataclass(frozen=True, eq=False)
class Source:
    """A ``RingBuffer``. data: (*shape, chip steps) int32, zeros while the pipeline drains."""

    name: str
    shape: Shape
    data: IntArray


@dataclass(frozen=True, eq=False)
class Neurons:
    """A neuron process in torch's axis order.

    du, dv, vth, v0, drop: one number or one per neuron; drop is what a soft reset subtracts. host_bias:
    (N, *shape) mantissas that the host writes before each sample, or None; ``waits``: before the first one
    too, until when there is no bias (``timing.has_started``). u and v are recorded only where ``states``
    says so.
    """

    name: str
    process: str
    shape: Shape
    level: int
    du: IntArray
    dv: IntArray
    vth: IntArray
    v0: IntArray
    drop: IntArray
    bias_mant: IntArray
    bias_exp: int = 0
    host_bias: IntArray | None = None
    states: bool = False
    waits: bool = False


@dataclass(frozen=True, eq=False)
class Synapses:
    """A synapse process between one source and one target.

    weight: Conv's kernel in Lava's order, Dense's matrix (out, in), or the values of a sparse matrix at
    (rows, columns); times two to the weight_exp, which Conv has not. stride, padding, dilation: Conv's, as
    (x, y). source_shape, target_shape: torch's.
    """

    name: str
    process: str
    source: str
    target: str
    source_shape: Shape
    target_shape: Shape
    weight: IntArray
    sign_mode: str
    message_bits: int
    delay: int = 0
    rows: IntArray | None = None
    columns: IntArray | None = None
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    weight_exp: int = 0


@dataclass(frozen=True, eq=False)
class Program:
    """Processes of one run. steps: chip steps in all; interval: T, the distance of two samples.

    order: names of sources and neurons such that everything comes after what feeds it, but for loops.
    """

    steps: int
    interval: int
    samples: int
    order: tuple[str, ...]
    sources: tuple[Source, ...]
    neurons: tuple[Neurons, ...]
    synapses: tuple[Synapses, ...]

    def host_writes(self) -> dict[int, list[tuple[str, int]]]:
        """{chip steps done: [(population, sample)]}: what the host writes before which step.

        Sample n starts at a population of level L with chip step n * T + L + 1; the biases of sample 0
        are there from the start, unless the population waits.
        """
        writes: dict[int, list[tuple[str, int]]] = {}
        for cell in self.neurons:
            if cell.host_bias is not None:
                for sample in range(0 if cell.waits else 1, self.samples):
                    writes.setdefault(sample * self.interval + cell.level, []).append((cell.name, sample))
        return writes

    def keep_states_of(self, names: set[str]) -> Program:
        """The same program, recording u and v of these populations only."""
        return replace(self, neurons=tuple(replace(n, states=n.name in names) for n in self.neurons))


_PARTS: dict[str, type[Any]] = {"sources": Source, "neurons": Neurons, "synapses": Synapses}


def write(program: Program, folder: Path) -> None:
    """Write program.json and arrays.npz into an existing folder."""
    arrays: dict[str, IntArray] = {}
    document: dict[str, Any] = {
        "steps": program.steps,
        "interval": program.interval,
        "samples": program.samples,
        "order": program.order,
    }
    for section in _PARTS:
        rows = []
        for index, part in enumerate(getattr(program, section)):
            row = {field.name: getattr(part, field.name) for field in fields(part)}
            for key in [key for key, value in row.items() if isinstance(value, np.ndarray)]:
                arrays[f"{section}.{index}.{key}"] = row.pop(key)
            rows.append(row)
        document[section] = rows
    (folder / "program.json").write_text(json.dumps(document), encoding="utf-8")
    np.savez(folder / "arrays.npz", **arrays)


def read(folder: Path) -> Program:
    """The program that ``write`` left in the folder.

    Raises:
        InternalError: the folder was not written by this version.
    """
    document = json.loads((folder / "program.json").read_text(encoding="utf-8"))
    with np.load(folder / "arrays.npz", allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files}

    def part(kind: type[Any], section: str, index: int, row: dict[str, Any]) -> Any:
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
        prefix = f"{section}.{index}."
        values |= {key[len(prefix) :]: array for key, array in arrays.items() if key.startswith(prefix)}
        unknown = set(values) - {field.name for field in fields(kind)}
        if unknown:
            raise InternalError(f"{section} {index} of a Lava program has unknown fields {sorted(unknown)}")
        return kind(**values)

    parts = {
        section: tuple(part(kind, section, i, row) for i, row in enumerate(document[section]))
        for section, kind in _PARTS.items()
    }
    return Program(
        document["steps"], document["interval"], document["samples"], tuple(document["order"]), **parts
    )
