"""The process that runs Lava: ``python -m nmc.backends.loihi.child FOLDER``. Started by ``run.py``.

Reads the program from the folder, runs it through Lava's runtime, and leaves ``out/<index>/*.npy``, one
folder per entry of ``program.neurons``, and an empty file ``done``. Lava has no way out of a failed run:
a worker's exception is logged below the level that is shown, and ``run``, ``stop`` and the exit handlers
wait for workers that are gone. So the whole session ends itself when a worker fails, and also when its
parent is gone (its standard input closes).
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from nmc.backends.loihi.program import Program, read


def run(program: Program, folder: Path) -> None:
    """Build and run all steps in one go of the runtime; recorders write the results."""
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg

    from nmc.backends.loihi import processes
    from nmc.backends.loihi.build import build

    cells = build(program)
    for index, cell in enumerate(program.neurons):
        place = folder / "out" / str(index)
        place.mkdir(parents=True)
        recorder = processes.Recorder(
            shape=cell.shape, steps=program.steps, folder=str(place), states=cell.states
        )
        cells[cell.name].s_out.connect(recorder.s_in)
        if cell.states:
            recorder.u.connect_var(cells[cell.name].u)
            recorder.v.connect_var(cells[cell.name].v)
    host_bias: dict[str, Any] = {cell.name: cell.host_bias for cell in program.neurons}
    first = next(iter(cells.values()))
    writes = program.host_writes()
    stops = [*sorted(step for step in writes if step < program.steps), program.steps]
    try:
        done = 0
        for stop in stops:
            first.run(condition=RunSteps(num_steps=stop - done), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
            done = stop
            for name, sample in writes.get(stop, []):
                cells[name].bias_mant.set(host_bias[name][sample])
    finally:
        first.stop()


def shared_memory_prefix(pid: int) -> str:
    """Start of the names of all shared memory of the child with this process id."""
    return f"nmc{pid:x}_"


def own_shared_memory() -> None:
    """Give Lava's shared memory and semaphores names by which the parent can tell them from others'."""
    from multiprocessing import process, shared_memory

    prefix = "/" + shared_memory_prefix(os.getpid())
    shared_memory._SHM_NAME_PREFIX = prefix  # type: ignore[attr-defined]
    shared_memory._SHM_SAFE_NAME_LENGTH = len(prefix) + 8  # type: ignore[attr-defined]
    process.current_process()._config["semprefix"] = prefix  # type: ignore[attr-defined]


def end_with_any_worker() -> None:
    """Make a worker that fails say why and end the session, instead of keeping it to itself."""
    import multiprocessing

    from lava.magma.runtime.message_infrastructure.multiprocessing import SystemProcess

    def run_or_end(worker: Any) -> None:
        try:
            multiprocessing.Process.run(worker)
            worker._cconn.send(None)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os.killpg(0, signal.SIGTERM)

    SystemProcess.run = run_or_end


def _end_with_parent(folder: Path) -> None:
    """Wait for the end of standard input, then remove what the parent cannot, and end all workers."""
    os.read(0, 1)
    for path in (folder / "program.json", folder / "arrays.npz"):
        path.unlink(missing_ok=True)
    shutil.rmtree(folder / "out", ignore_errors=True)
    with suppress(OSError):
        folder.rmdir()
    os.killpg(0, signal.SIGTERM)


def main(folder: Path) -> int:
    """Run the program of the folder; 0 when all results are written."""
    if os.getpgrp() != os.getpid():
        os.setpgrp()  # started by hand: what ends the group must not end the caller
    threading.Thread(target=_end_with_parent, args=(folder,), daemon=True).start()
    try:
        own_shared_memory()
        end_with_any_worker()
        run(read(folder), folder)
    except BaseException:
        traceback.print_exc()
        return 1
    (folder / "done").touch()
    return 0


if __name__ == "__main__":
    status = main(Path(sys.argv[1]))
    sys.stderr.flush()
    os._exit(status)
