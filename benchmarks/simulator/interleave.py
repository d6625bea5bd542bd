"""Contenders in turn, round after round, so that what else the machine does hits all of them alike."""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parent

Seconds = dict[str, float]
"""cpu and wall of one run."""


@dataclass(frozen=True)
class Timing:
    """Seconds per unit (image or time step) of one contender, one number per round."""

    network: str
    batch: int
    threads: int
    contender: str
    seconds: tuple[float, ...]
    clock: str = "cpu"


def load(path: Path) -> ModuleType:
    """A contender's module. The path is that of a file, because no environment has this folder installed."""
    if str(HERE) not in sys.path:
        sys.path.insert(0, str(HERE))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def timed(run: Callable[[], object]) -> Seconds:
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}


def rounds(runs: dict[str, Callable[[], Seconds]], count: int) -> dict[str, list[Seconds]]:
    """Every run once per round, in turn."""
    found: dict[str, list[Seconds]] = {name: [] for name in runs}
    for _ in range(count):
        for name, run in runs.items():
            found[name].append(run())
    return found


def report(timings: list[Timing], unit: str) -> None:
    """Medians, and the median of the rounds' ratios to the first contender of the same clock."""
    for one in timings:
        first = next(other for other in timings if other.clock == one.clock)
        ratios = [theirs / mine for theirs, mine in zip(one.seconds, first.seconds, strict=True)]
        print(
            f"{one.network:10} batch {one.batch:2} threads {one.threads}  {one.contender:36}"
            f"{statistics.median(one.seconds) * 1e3:10.3f} ms/{unit} {one.clock:4} "
            f"(least {min(one.seconds) * 1e3:9.3f})   x {statistics.median(ratios):7.2f}",
            flush=True,
        )


class Worker:
    """A contender in another interpreter (worker.py)."""

    def __init__(self, python: str, module: Path, problem: Path, spikes: Path) -> None:
        self.spikes = spikes
        limits = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS", "NUMBA")}
        self.process = subprocess.Popen(
            [python, str(HERE / "worker.py"), str(module), str(problem), str(spikes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | limits,
        )
        self.name = self._read()["name"]

    def _read(self) -> dict[str, str]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args}: ended with {self.process.wait()}")
        found: dict[str, str] = json.loads(line)
        return found

    def run(self) -> Seconds:
        assert self.process.stdin is not None
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        return {name: float(value) for name, value in self._read().items()}

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
