"""Measured peaks of one core: int8 multiply-adds, synaptic operations from the L1 cache, memory bandwidth.

    python benchmarks/simulator/peaks.py        # also: two processes at once, what a second core can add

Clock: CPU time, the best of several repetitions, because nothing makes a core faster than it is.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nmc.backends.sim.build_native import compiler

SOURCE = Path(__file__).with_suffix(".cpp")
COPY_BYTES = 64 << 20
"""Each of two arrays: twice the largest cache."""
REPETITIONS = 7
KINDS = ("int8 multiply-adds", "row additions", "averaged row additions", "bytes copied")


@dataclass(frozen=True)
class Peaks:
    """Operations per second of one core; 0 where the CPU lacks AVX-512 VNNI.

    products: int8 multiply-adds. synops: weights of rows in the L1 cache, widened and added in 16 bits.
    averaged: the same as nmc adds them, eight rows at a time. bandwidth: bytes read and written.
    """

    products: float
    synops: float
    averaged: float
    bandwidth: float


def _library(folder: Path) -> ctypes.CDLL:
    target = folder / "peaks.so"
    flags = ["-std=c++17", "-O3", "-march=native", "-shared", "-fPIC"]
    subprocess.run([*compiler(), *flags, str(SOURCE), "-o", str(target)], check=True)
    library = ctypes.CDLL(str(target))
    for name in ("int8_products", "row_additions", "averaged_additions"):
        getattr(library, name).restype, getattr(library, name).argtypes = ctypes.c_int64, [ctypes.c_int64]
    library.copied_bytes.restype = ctypes.c_int64
    library.copied_bytes.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
    return library


def _runs(library: ctypes.CDLL) -> dict[str, Callable[[], int]]:
    source, target = (np.ones(COPY_BYTES, np.uint8) for _ in range(2))
    return dict(
        zip(
            KINDS,
            (
                lambda: library.int8_products(5_000_000),
                lambda: library.row_additions(500_000),
                lambda: library.averaged_additions(500_000),
                lambda: library.copied_bytes(target.ctypes.data, source.ctypes.data, COPY_BYTES, 4),
            ),
            strict=True,
        )
    )


def _best(run: Callable[[], int], clock: Callable[[], float], repetitions: int) -> float:
    rates = []
    for _ in range(repetitions):
        start = clock()
        done = run()
        rates.append(done / (clock() - start))
    return max(rates)


def measure() -> Peaks:
    with tempfile.TemporaryDirectory() as folder:
        runs = _runs(_library(Path(folder)))
        return Peaks(*(_best(run, time.process_time, REPETITIONS) for run in runs.values()))


def together(processes: int) -> dict[str, float]:
    """Rates of so many pinned processes at once, summed; wall time, the best of several repetitions."""
    cpus = sorted(os.sched_getaffinity(0))[:processes]
    with tempfile.TemporaryDirectory() as folder:
        _library(Path(folder))
        code = (
            "import os, sys, time, ctypes; sys.path.insert(0, sys.argv[1]); import peaks\n"
            "from pathlib import Path\n"
            "os.sched_setaffinity(0, {int(sys.argv[2])})\n"
            "made = Path(sys.argv[4]); made.mkdir(exist_ok=True)\n"
            "runs = peaks._runs(peaks._library(made))\n"
            "while time.time() < float(sys.argv[3]): pass\n"
            "print(*(peaks._best(run, time.perf_counter, 5) for run in runs.values()))\n"
        )
        start = time.time() + 5
        children = [
            subprocess.Popen(
                [sys.executable, "-c", code, str(SOURCE.parent), str(cpu), str(start), f"{folder}/{cpu}"],
                stdout=subprocess.PIPE,
                text=True,
            )
            for cpu in cpus
        ]
        rates = [[float(word) for word in child.communicate()[0].split()] for child in children]
    return {kind: sum(rate[index] for rate in rates) for index, kind in enumerate(KINDS)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    one, two = together(1), together(2)
    for kind in KINDS:
        print(f"{kind:22} {one[kind] / 1e9:8.1f} G/s   two processes {two[kind] / one[kind]:.2f} x")


if __name__ == "__main__":
    main()
