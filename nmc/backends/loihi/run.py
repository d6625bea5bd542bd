"""Engine "lava": the network through Lava's runtime, in a child process that can always be killed.

Lava starts one operating-system process per neuron or synapse process, hangs at exit when one of them has
failed, and cannot run twice in one interpreter safely. So it gets an interpreter, a session and a time
limit of its own (``child.py``); whatever happens, none of its processes outlives ``LavaEngine.run``.
"""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nmc import extras
from nmc.backends.base import Trace
from nmc.backends.loihi import program as programs
from nmc.backends.loihi import readback
from nmc.backends.loihi.child import shared_memory_prefix
from nmc.backends.loihi.program import Program
from nmc.errors import NmcError
from nmc.ir import IntArray, Network

CHILD = (sys.executable, "-m", "nmc.backends.loihi.child")
GRACE_S = 10.0
"""How long terminated processes may take to go before they are killed outright."""


def unavailable() -> NmcError | None:
    """Why the Lava engines cannot run here, as NMC-E01 with what to do; None when they can."""
    if os.name != "posix":
        return NmcError("NMC-E01", "lava", "Lava's runtime needs a POSIX system", "run it on Linux or macOS")
    if sys.version_info[:2] != extras.LAVA_PYTHON:
        here = ".".join(map(str, sys.version_info[:2]))
        return NmcError(
            "NMC-E01",
            "lava",
            f"lava-nc 0.10 needs Python 3.10, this is {here}",
            f"install nmc in Python 3.10 and there: {extras.install('lava')}",
        )
    if importlib.util.find_spec("lava") is None or importlib.util.find_spec("lava.magma") is None:
        return NmcError("NMC-E01", "lava", "package lava-nc is not installed", extras.install("lava"))
    return None


def time_limit_s(program: Program) -> float:
    """A generous bound on a run's time, from the size of the program.

    Measured on one core: 2 ms per process and step, 35 us per pair of channels of a ``Conv``, 5 ns per
    synapse and delay slot otherwise; building takes 0.1 s per process. Ten times that, and a minute.
    """
    processes = len(program.sources) + 2 * len(program.neurons) + len(program.synapses)
    step = 2e-3 * processes
    for synapse in program.synapses:
        if synapse.process == "Conv":
            step += 35e-6 * synapse.weight.shape[0] * synapse.weight.shape[3]
        else:
            step += 5e-9 * synapse.weight.size * (synapse.delay + 1)
    return 60.0 + 10.0 * (0.1 * processes + program.steps * step)


class LavaEngine:
    """Runs every sample back to back in one run of Lava's runtime; see ``backends.base.Engine``.

    Args:
        limit_s: seconds after which the run is stopped; estimated from the network when None.
        child: the command that runs a program folder; tests replace it.
    """

    name = "lava"

    def __init__(self, limit_s: float | None = None, child: tuple[str, ...] = CHILD) -> None:
        self._limit_s = limit_s
        self._child = child

    def run(self, network: Network, x: IntArray, steps: int, record: Collection[str] = ()) -> Trace:
        """See ``backends.base.Engine.run``.

        Raises:
            NmcError: NMC-E01 when Lava is not there, NMC-E02 when it failed or took too long.
        """
        problem = unavailable()
        if problem is not None:
            raise problem
        with tempfile.TemporaryDirectory(prefix="nmc-lava-") as name:
            return readback.trace(network, x, steps, record, lambda program: self.session(program, name))

    def session(self, program: Program, parent: str) -> readback.Recorded:
        """Run one program in a child of its own; what it recorded stays in a folder in ``parent``."""
        folder = Path(tempfile.mkdtemp(dir=parent))
        programs.write(program, folder)
        self._run_child(folder, self._limit_s or time_limit_s(program))
        index = {cell.name: number for number, cell in enumerate(program.neurons)}

        def recorded(population: str, what: str) -> npt.NDArray[np.int32]:
            path = folder / "out" / str(index[population]) / f"{what}.npy"
            return np.asarray(np.load(path, allow_pickle=False))

        return recorded

    def _run_child(self, folder: Path, limit_s: float) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        child = subprocess.Popen(
            [*self._child, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        errors = _Drain(child)
        timed_out = False
        try:
            child.wait(timeout=limit_s)
        except subprocess.TimeoutExpired:
            timed_out = True
        finally:
            _end_group(child, errors)
            _remove_shared_memory(child.pid)
        if timed_out:
            raise NmcError(
                "NMC-E02",
                "lava",
                f"no result after {limit_s:g} s ({_cause(errors.text)})",
                "run fewer samples or steps, or raise the limit",
                allowed=limit_s,
            )
        if child.returncode != 0 or not (folder / "done").exists():
            raise NmcError(
                "NMC-E02",
                "lava",
                f"Lava's process ended with status {child.returncode}: {_cause(errors.text)}",
                "verify against another engine (--against reference) and report this",
            )


class _Drain(threading.Thread):
    """Reads the child's standard error to its end, which comes when the last process of the group is gone."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        super().__init__(daemon=True)
        assert child.stderr is not None
        self._stream = child.stderr
        self.text = ""
        self.start()

    def run(self) -> None:
        with self._stream:
            for line in self._stream:
                self.text += line.decode(errors="replace")


def _end_group(child: subprocess.Popen[bytes], errors: _Drain) -> None:
    """End what is left of the child's session, and return when nothing is.

    Terminated, not killed at once: Python's resource tracker ignores SIGTERM, outlives the others and
    then removes their shared memory. All hold standard error open, so its end shows that they are gone.
    """
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal_number)
        errors.join(GRACE_S)
        if not errors.is_alive():
            break
    child.wait()
    if child.stdin is not None:
        child.stdin.close()


def _remove_shared_memory(pid: int) -> None:
    """Remove what the child's processes had no time to: segments are made before they are registered.

    The names are this child's own (``child.own_shared_memory``); only Linux shows them as files.
    """
    for kind in ("", "sem."):
        for path in Path("/dev/shm").glob(f"{kind}{shared_memory_prefix(pid)}*"):
            path.unlink(missing_ok=True)


def _cause(text: str) -> str:
    """The line that tells most: the first exception of a traceback, else the last line.

    Lava's own last line only says that some process failed; the reason stands above it.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip() and "resource_tracker" not in line]
    exceptions = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt|Exit)\b", line)]
    return (exceptions or lines[-1:] or ["no message"])[0]
