"""Accuracy and exact counts over a data set of any size: shard by shard, in bounded memory, resumable.

A shard is a run of consecutive samples. Shards do not depend on each other and their results are integers, so
neither the engine nor the batch size nor the number of threads changes what comes out; a shard that a journal
holds already is not run again, whatever engine ran it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from nmc import safeio
from nmc.arrays import checked_labels, numbers, refuse_foreign_labels
from nmc.backends.base import Counts
from nmc.backends.engines import engine as engine_by_name
from nmc.bundle import Bundle, opened
from nmc.errors import NmcError
from nmc.ir import IntArray
from nmc.markup import summary
from nmc.npzfiles import SampleFile, Samples, counts_from_json
from nmc.running import Progress, answers, run, runnable, steps_of

SHARD = 256
JOURNAL_SCHEMA = "nmc.journal/1"

Data: TypeAlias = str | Path | Iterable[tuple[npt.ArrayLike, npt.ArrayLike | None]]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a whole data set gave.

    engine: the engine that ran what no journal held. classes: (N,) the answers, in the data's order.
    labels: (N,), where the data have them. counts: sums over all samples and steps.
    reused: shards that did not run, because equal ones had run before.
    """

    engine: str
    classes: IntArray
    labels: IntArray | None
    counts: Counts
    shards: int
    reused: int

    @property
    def accuracy(self) -> float | None:
        """Share of samples whose class is the label; None without labels."""
        return Samples(self.classes, self.labels).accuracy(self.classes)

    @property
    def confusion(self) -> IntArray | None:
        """(classes, classes): how many samples of class (row) were answered by class (column)."""
        if self.labels is None:
            return None
        size = int(max(self.labels.max(), self.classes.max())) + 1
        table = np.zeros((size, size), np.int64)
        np.add.at(table, (self.labels, self.classes), 1)
        return table

    def _repr_html_(self) -> str:
        lines = [
            ("samples x steps", f"{self.counts.samples:,} x {self.counts.steps}"),
            ("spikes", f"{sum(self.counts.spikes.values()):,}"),
            ("shards", f"{self.shards:,}, of which {self.reused:,} reused"),
        ]
        if self.accuracy is not None:
            lines.insert(0, ("accuracy", f"{self.accuracy:.2%}"))
        return summary(f"nmc evaluation on {self.engine}", lines)


def evaluate(
    bundle: Bundle | str | Path,
    data: Data,
    engine: str = "auto",
    steps: int | None = None,
    *,
    shard: int = SHARD,
    journal: str | Path | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Run a data set through a compiled network; only one shard of it is in memory at any time.

    Args:
        bundle: compiled at least to stage QUANTIZED; or its path.
        data: a ``.npz`` file with ``x`` and, optionally, ``y``; or (x, y) batches of any size, as a torch
            data loader yields them, y None where there are no labels.
        engine: see ``backends.engines.NAMES``; all give the same bits.
        steps: T; by default the network's.
        shard: samples per shard of a file; batches are shards as they come.
        journal: a file that keeps every finished shard. If it exists, its shards are not run again.
        progress: called with (done, all) samples; all is 0 where the data do not say.

    Raises:
        NmcError: NMC-D01, NMC-D02 for data that cannot be read or do not fit, or a journal of another build;
            NMC-U02 for a shard size below 1; NMC-W01 for a journal that cannot be written; NMC-E* for the
            engine.
    """
    bundle = opened(bundle)
    network = runnable(bundle)
    t = steps_of(network, steps)
    if shard < 1:
        raise NmcError("NMC-U02", "shard", f"is {shard}", "use at least 1", measured=shard, allowed=1)
    name = engine_by_name(engine).name
    samples, batches = _batches(data, shard, answers(network))
    book = _Journal(None if journal is None else Path(journal), bundle.build_id, t)
    done: list[_Shard] = []
    labels: list[IntArray | None] = []
    finished = 0
    for batch in batches:
        key = _digest(batch.x)
        known = book.shards.get(key)
        if known is None:
            trace = run(bundle, batch.x, name, t)
            known = _Shard(key, trace.classes.tolist(), trace.counts)
            book.add(known)
        done.append(known)
        labels.append(batch.y)
        finished += len(known.classes)
        if progress is not None:
            progress(finished, samples)
    if not done:
        raise NmcError("NMC-D02", "the data", "hold no sample (N = 0)", "give at least one")
    counts: Counts = sum((one.counts for one in done[1:]), done[0].counts)
    classes = np.concatenate([np.asarray(one.classes, np.int64) for one in done])
    known_labels = [one for one in labels if one is not None]
    complete = np.concatenate(known_labels) if len(known_labels) == len(labels) else None
    return Evaluation(name, classes, complete, counts, len(done), len(done) - book.added)


def _batches(data: Data, shard: int, classes: int) -> tuple[int, Iterator[Samples]]:
    """How many samples there are (0: nobody knows) and the samples."""
    if isinstance(data, str | Path):
        file = SampleFile(Path(data))
        refuse_foreign_labels(str(data), file.labels, classes)
        return file.count, file.batches(shard)
    return 0, (_batch(number, one, classes) for number, one in enumerate(data))


def _batch(number: int, batch: Any, classes: int) -> Samples:
    who = f"batch {number}"
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        problem = f"is a {type(batch).__name__}, expected (x, y)"
        raise NmcError("NMC-D02", who, problem, "give y None where there are no labels")
    x = numbers(who, batch[0])
    y = checked_labels(who, batch[1], x.shape)
    refuse_foreign_labels(who, y, classes)
    return Samples(x, y)


def _digest(x: npt.NDArray[Any]) -> str:
    """A name for the samples of a shard: equal samples have equal names."""
    head = f"{x.dtype.str} {x.shape}\n".encode()
    return hashlib.sha256(head + np.ascontiguousarray(x).tobytes()).hexdigest()


@dataclass(frozen=True)
class _Shard:
    digest: str
    classes: list[int]
    counts: Counts


class _Journal:
    """Finished shards in a file of JSON lines: a head that says whose they are, then a line for each.

    A line is written whole before the next shard starts. A last line that was cut off is dropped.
    """

    def __init__(self, path: Path | None, build_id: str, steps: int) -> None:
        self._path = path
        self._head = {"schema": JOURNAL_SCHEMA, "build_id": build_id, "steps": steps}
        self.shards: dict[str, _Shard] = {}
        self.added = 0
        if path is None:
            return
        if path.exists():
            self.shards = self._read(path)
        # Also where it exists: what a crash left of its last line goes.
        lines = [self._head, *(asdict(one) for one in self.shards.values())]
        safeio.atomic_write(path, "".join(_line(one) for one in lines).encode())

    def _read(self, path: Path) -> dict[str, _Shard]:
        who = str(path)
        whole, _, _ = safeio.read_bytes(path, code="NMC-D01").rpartition(b"\n")
        lines = [safeio.parse_json(line, who, code="NMC-D01") for line in whole.splitlines()]
        head = lines[0] if lines else None
        if not isinstance(head, dict) or head.get("schema") != JOURNAL_SCHEMA:
            raise NmcError("NMC-D01", who, "is no journal of an evaluation", "name another file")
        if head != self._head:
            problem = f"belongs to build {str(head.get('build_id'))[:12]} at T = {head.get('steps')}"
            raise NmcError("NMC-D02", who, problem, "name another file, or delete this one")
        return {one.digest: one for one in (self._shard(line, who) for line in lines[1:])}

    def _shard(self, line: Any, who: str) -> _Shard:
        fields = {"digest": str, "classes": list, "counts": dict}
        sound = isinstance(line, dict) and all(
            isinstance(line.get(name), kind) for name, kind in fields.items()
        )
        if not sound or not all(type(one) is int and one >= 0 for one in line["classes"]):
            raise NmcError("NMC-D01", who, "holds a malformed shard", "delete the file")
        counts = counts_from_json(line["counts"], who)
        if counts.samples != len(line["classes"]) or counts.steps != self._head["steps"]:
            raise NmcError("NMC-D01", who, "holds a shard that contradicts itself", "delete the file")
        return _Shard(line["digest"], line["classes"], counts)

    def add(self, shard: _Shard) -> None:
        self.added += 1
        self.shards[shard.digest] = shard
        if self._path is None:
            return
        try:
            with open(self._path, "ab") as file:
                file.write(_line(asdict(shard)).encode())
        except OSError as error:
            raise NmcError("NMC-W01", str(self._path), error.strerror or str(error)) from error


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":")) + "\n"
