"""The two kinds of .npz files that users touch: samples (``x``, ``y``) and traces of runs."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from nmc import atomic, safeio
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
        NmcError: NMC-D01 when it cannot be read or has no ``x``, NMC-D02 when ``y`` does not fit ``x``.
    """
    arrays = safeio.read_npz(path)
    if "x" not in arrays:
        found = ", ".join(sorted(arrays)[:8]) or "nothing"
        raise NmcError(
            "NMC-D01", str(path), f"has no array x, it holds {found}", "save it with np.savez(..., x=x)"
        )
    x, y = arrays["x"], arrays.get("y")
    if y is None:
        return Samples(x, None)
    if y.dtype.kind not in "iu" or y.shape != x.shape[:1]:
        raise NmcError(
            "NMC-D02",
            str(path),
            f"y is {y.dtype} of shape {y.shape}, expected integers of shape {x.shape[:1]}",
            "give one class number per sample",
        )
    return Samples(x, y.astype(np.int64))


def write_trace(path: Path, trace: Trace, names: Mapping[str, str], about: Mapping[str, Any]) -> None:
    """Write a trace, whole or not at all.

    Members: ``spikes/<layer>``, ``u/<layer>``, ``v/<layer>`` (N, T, ...) of the recorded layers;
    ``output`` (N, classes); ``classes`` (N,); ``meta``, a JSON text with the counts.

    Args:
        path: the file.
        trace: of a run.
        names: the user's layer name per population.
        about: what else to keep in ``meta``, such as the engine.

    Raises:
        NmcError: NMC-W01 when it cannot be written.
    """
    meta = {**about, "schema": TRACE_SCHEMA, "counts": dataclasses.asdict(trace.counts)}
    arrays: dict[str, npt.NDArray[Any]] = {
        f"{kind}/{names[population]}": array
        for kind in KINDS
        for population, array in getattr(trace, kind).items()
    }
    arrays["output"] = trace.output
    arrays["classes"] = trace.classes
    arrays["meta"] = np.array(json.dumps(meta, sort_keys=True))

    def write(file: BinaryIO) -> None:
        np.savez(file, **arrays)

    atomic.atomic_write(path, write)


def is_trace(path: Path) -> bool:
    """Whether a file looks like one that ``write_trace`` wrote, so that a run may replace it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {"meta.npy", "output.npy", "classes.npy"} <= set(archive.namelist())
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return False


@dataclass(frozen=True)
class TraceFile:
    """What a report needs of a trace file: the counts and what ``write_trace`` was told."""

    counts: Counts
    about: dict[str, Any]


def read_trace(path: Path) -> TraceFile:
    """The counts of a trace file.

    Raises:
        NmcError: NMC-D01 when it cannot be read or is no trace.
    """
    who = str(path)
    arrays = safeio.read_npz(path)
    if "meta" not in arrays or arrays["meta"].ndim:
        raise NmcError("NMC-D01", who, "is no trace", "write one with nmc run ... -o trace.npz")
    about = safeio.parse_json(str(arrays["meta"]).encode(), who, code="NMC-D01")
    if not isinstance(about, dict) or about.get("schema") != TRACE_SCHEMA:
        raise NmcError("NMC-D01", who, f"is no trace of schema {TRACE_SCHEMA}", "run again with this nmc")
    return TraceFile(_counts(about.pop("counts", None), who), about)


def _counts(data: Any, who: str) -> Counts:
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
