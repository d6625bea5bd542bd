"""The two kinds of .npz files that users touch: samples (``x``, ``y``) and traces of runs."""

from __future__ import annotations

import dataclasses
import json
import re
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from nmc import atomic, safeio
from nmc.arrays import checked_labels, numbers
from nmc.backends.base import Counts, Trace
from nmc.errors import NmcError
from nmc.ir import IntArray

TRACE_SCHEMA = "nmc.trace/1"
KINDS = ("spikes", "u", "v")


@dataclass(frozen=True, eq=False)
class Samples:
    """x: (N, ...) in the model's units. y: (N,) integer labels, where the file has them."""

    x: npt.NDArray[Any]
    y: IntArray | None

    def accuracy(self, classes: IntArray) -> float | None:
        """Share of samples whose class is the label; None without labels."""
        return None if self.y is None else float(np.mean(classes == self.y))


def read_samples(path: Path) -> Samples:
    """Samples from a file with ``x`` and, optionally, ``y``.

    Raises:
        NmcError: NMC-D01 when it cannot be read or has no ``x``, NMC-D02 when ``x`` holds no numbers or
            ``y`` does not fit it.
    """
    arrays = safeio.read_npz(path)
    if "x" not in arrays:
        raise _no_samples(path, arrays)
    x = numbers(str(path), arrays["x"])
    return Samples(x, checked_labels(str(path), arrays.get("y"), x.shape))


def _no_samples(path: Path, found: Collection[str]) -> NmcError:
    names = ", ".join(sorted(found)[:8]) or "nothing"
    return NmcError(
        "NMC-D01", str(path), f"has no array x, it holds {names}", "save it with np.savez(..., x=x)"
    )


STREAM_LIMITS = safeio.Limits(max_total_bytes=1 << 50, ratio_floor_bytes=1 << 50)
"""A stream holds one batch at a time, so what the file declares in all is no danger."""
MAX_SAMPLE_BYTES = 1 << 30


class SampleFile:
    """The samples of a file batch by batch, so that a file larger than memory can be read.

    count: N, the number of samples. labels: (N,), where the file has ``y``.

    Raises:
        NmcError: as ``read_samples``; NMC-D02 for an ``x`` in Fortran order, whose samples lie scattered.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with safeio.open_npz(path, STREAM_LIMITS) as (archive, members):
            found = {member.filename.removesuffix(".npy"): member for member in members}
            if "x" not in found:
                raise _no_samples(path, found)
            self._header = self._read_header(archive, found["x"])
            y = None if "y" not in found else self._read_labels(archive, found["y"])
        self.count = self._header.shape[0]
        self.labels = checked_labels(str(path), y, self._header.shape)

    def _read_labels(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> npt.NDArray[Any]:
        who, allowed = f"{self._path}: y", safeio.Limits().max_total_bytes
        if member.file_size > allowed:
            safeio.too_large(who, "the array", member.file_size, allowed)
        return safeio.parse_npy(safeio.read_member(archive, member), who, "NMC-D01")

    def _read_header(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> safeio.NpyHeader:
        who = f"{self._path}: x"
        with archive.open(member) as file:
            header = safeio.parse_npy_header(file.read(2 * safeio.NPY_HEADER_BYTES), who, "NMC-D01")
        if not header.shape or header.fortran:
            problem = "is a single number" if not header.shape else "is in Fortran order"
            raise NmcError("NMC-D02", who, problem, "save np.ascontiguousarray(x) with one sample per row")
        if header.data_bytes != member.file_size - header.start:
            raise NmcError("NMC-D01", who, f"shape {header.shape} does not match {member.file_size:,} bytes")
        if header.data_bytes > header.shape[0] * MAX_SAMPLE_BYTES:
            safeio.too_large(who, "one sample", header.data_bytes // header.shape[0], MAX_SAMPLE_BYTES)
        return header

    def batches(self, size: int) -> Iterator[Samples]:
        """All samples in order, ``size`` at a time; the last batch may be smaller."""
        header = self._header
        row_bytes = header.data_bytes // self.count if self.count else 0
        with safeio.open_npz(self._path, STREAM_LIMITS) as (archive, _), archive.open("x.npy") as file:
            file.read(header.start)
            for start in range(0, self.count, size):
                rows = min(size, self.count - start)
                data = file.read(rows * row_bytes)
                if len(data) != rows * row_bytes:
                    raise NmcError("NMC-D01", f"{self._path}: x", "is cut off")
                x = np.frombuffer(data, header.dtype).reshape(rows, *header.shape[1:])
                y = None if self.labels is None else self.labels[start : start + rows]
                yield Samples(x, y)


def write_trace(path: Path, trace: Trace, names: Mapping[str, str], about: Mapping[str, Any]) -> None:
    """Write a trace, whole or not at all.

    Members: ``spikes/<layer>``, ``u/<layer>``, ``v/<layer>`` (N, T, ...) of the recorded layers;
    ``output`` (N, classes); ``classes`` (N,); ``meta``, a JSON text with the counts and, under ``layers``,
    the names of layers that no file could be called by (``member_names``).

    Args:
        path: the file.
        trace: of a run.
        names: the user's layer name per population.
        about: what else to keep in ``meta``, such as the engine.

    Raises:
        NmcError: NMC-W01 when it cannot be written.
    """
    called = member_names(names[population] for population in trace.spikes)
    odd = {member: layer for layer, member in called.items() if member != layer}
    counts = dataclasses.asdict(trace.counts)
    meta = {**about, "schema": TRACE_SCHEMA, "counts": counts, **({"layers": odd} if odd else {})}
    arrays: dict[str, npt.NDArray[Any]] = {
        f"{kind}/{called[names[population]]}": array
        for kind in KINDS
        for population, array in getattr(trace, kind).items()
    }
    arrays["output"] = trace.output
    arrays["classes"] = trace.classes
    arrays["meta"] = np.array(json.dumps(meta, sort_keys=True))

    def write(file: BinaryIO) -> None:
        np.savez(file, **arrays)

    atomic.atomic_write(path, write)


def member_names(layers: Iterable[str]) -> dict[str, str]:
    """By layer, what its arrays are called in an archive: as the layer where ``safeio`` reads such a name."""
    found: dict[str, str] = {}
    for layer in layers:
        member = layer if safeio.is_safe_name(f"spikes/{layer}.npy") else UNSAFE.sub("_", layer)[:LONGEST]
        index = 2
        while member in found.values():
            member, index = f"{member}.{index}", index + 1
        found[layer] = member
    return found


UNSAFE, LONGEST = re.compile(r"[^\w.-]"), 100


def is_trace(path: Path) -> bool:
    """Whether a file looks like one that ``write_trace`` wrote, so that a run may replace it."""
    try:
        # A pipe would be waited for, and a device may never end.
        if not path.is_file():
            return False
        with zipfile.ZipFile(path) as archive:
            return {"meta.npy", "output.npy", "classes.npy"} <= set(archive.namelist())
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return False


SPIKES = "spikes/"
"""What the members of a trace file with a layer's spikes start with."""


@dataclass(frozen=True, eq=False)
class TraceFile:
    """What a report needs of a trace file: the counts, what ``write_trace`` was told, and recorded spikes,
    (N, T, ...) by the user's name of the layer."""

    counts: Counts
    about: dict[str, Any]
    spikes: dict[str, npt.NDArray[Any]]


def read_trace(path: Path) -> TraceFile:
    """The counts and the recorded spikes of a trace file.

    Raises:
        NmcError: NMC-D01 when it cannot be read, is no trace, or has spikes of other samples or steps.
    """
    who = str(path)
    arrays = safeio.read_npz(path)
    if "meta" not in arrays or arrays["meta"].ndim:
        raise NmcError("NMC-D01", who, "is no trace", "write one with nmc run ... -o trace.npz")
    about = safeio.parse_json(str(arrays["meta"]).encode(), who, code="NMC-D01")
    if not isinstance(about, dict) or about.get("schema") != TRACE_SCHEMA:
        raise NmcError("NMC-D01", who, f"is no trace of schema {TRACE_SCHEMA}", "run again with this nmc")
    counts = counts_from_json(about.pop("counts", None), who)
    accuracy = about.get("accuracy")
    if accuracy is not None and (isinstance(accuracy, bool) or not isinstance(accuracy, int | float)):
        raise NmcError("NMC-D01", who, "its accuracy is no number", "run again with this nmc")
    layers = about.pop("layers", {})
    if not isinstance(layers, dict) or not all(isinstance(layer, str) for layer in layers.values()):
        raise NmcError("NMC-D01", who, "its names of layers are malformed", "run again with this nmc")
    members = {name[len(SPIKES) :]: array for name, array in arrays.items() if name.startswith(SPIKES)}
    spikes = {layers.get(member, member): array for member, array in members.items()}
    for name, array in spikes.items():
        if array.dtype.kind not in "iu" or array.shape[:2] != (counts.samples, counts.steps):
            problem = f"spikes of {name} are {array.dtype} of shape {array.shape}"
            raise NmcError("NMC-D01", who, problem, "run again with this nmc")
    return TraceFile(counts, about, spikes)


def counts_from_json(data: Any, who: str) -> Counts:
    """Counts from untrusted JSON: two positive numbers and six tables of non-negative integers."""
    fields = {field.name for field in dataclasses.fields(Counts)}
    if not isinstance(data, dict) or set(data) != fields:
        raise NmcError("NMC-D01", who, "holds no complete counts", "run again with this nmc")
    for name, value in data.items():
        table = value if isinstance(value, dict) else {name: value}
        lowest = 1 if name in ("samples", "steps") else 0
        if isinstance(value, dict) == bool(lowest) or not all(
            type(number) is int and number >= lowest for number in table.values()
        ):
            raise NmcError("NMC-D01", who, f"its count of {name} is malformed", "run again with this nmc")
    return Counts(**data)
