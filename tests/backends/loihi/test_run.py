"""The engine "lava" around Lava: it ends in time, says why, and leaves nothing behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import pytest
import tinynet

from nmc.backends.loihi import run
from nmc.backends.loihi.child import shared_memory_prefix
from nmc.backends.loihi.run import LavaEngine
from nmc.errors import NmcError

HANGS = """
import os, signal, sys
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open(sys.argv[1], "a") as report:
    report.write(f"{os.getpid()}\\n")
while True:
    signal.pause()
"""
"""A child with a worker that does not even listen to SIGTERM."""

WATCHES = """
import os, signal, sys
from pathlib import Path
from nmc.backends.loihi import child

def run(program, folder):
    worker = os.fork()
    if worker == 0:
        signal.pause()
    Path(sys.argv[1]).write_text(f"{os.getpid()} {worker} {folder}\\n")
    signal.pause()

child.run = run
child.main(Path(sys.argv[2]))
"""
"""The real child's frame around a run that never ends; reports through a fifo that it runs."""

WORKER_FAILS = """
import os, sys
from pathlib import Path
from nmc.backends.loihi import child, processes

def fail(self):
    raise ValueError("planted in a worker")

processes.PyRecorder.run_spk = fail
Path(sys.argv[1]).write_text(str(os.getpid()))
os._exit(child.main(Path(sys.argv[2])))
"""


def child_of(folder: Path, script: str) -> tuple[str, ...]:
    (folder / "child.py").write_text(script)
    return (sys.executable, str(folder / "child.py"), str(folder / "report"))


def runs(pid: int) -> bool:
    """Whether a process is there and not a zombie that nobody has reaped."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_a_child_that_hangs_is_ended_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "GRACE_S", 0.5)
    engine = LavaEngine(limit_s=5.0, child=child_of(tmp_path, HANGS))
    with pytest.raises(NmcError, match="NMC-E02 lava: no result after 5 s") as caught:
        engine.run(tinynet.network(), tinynet.X, tinynet.STEPS)
    assert caught.value.exit_status == 5
    pids = [int(line) for line in (tmp_path / "report").read_text().split()]
    assert len(pids) == 2
    assert not any(runs(pid) for pid in pids)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("import sys\nsys.exit('first line\\nValueError: boom')", "status 1: ValueError: boom"),
        ("import sys\nsys.exit('only words')", "status 1: only words"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", "status -11: no message"),
        ("", "status 0: no message"),
    ],
    ids=["raises", "speaks", "segfaults", "ends without results"],
)
def test_a_child_that_fails_is_named(tmp_path: Path, script: str, reason: str) -> None:
    with pytest.raises(NmcError) as caught:
        LavaEngine(limit_s=60.0, child=child_of(tmp_path, script)).run(
            tinynet.network(), tinynet.X, tinynet.STEPS
        )
    assert caught.value.code == "NMC-E02"
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.runtime
def test_a_worker_that_fails_ends_the_run(tmp_path: Path) -> None:
    """Lava itself would wait for ever."""
    engine = LavaEngine(limit_s=120.0, child=child_of(tmp_path, WORKER_FAILS))
    with pytest.raises(NmcError, match="planted in a worker"):
        engine.run(tinynet.network(), tinynet.X, tinynet.STEPS)
    child = int((tmp_path / "report").read_text())
    assert not runs(child)
    assert not [name for name in os.listdir("/dev/shm") if shared_memory_prefix(child) in name]


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "killed"])
def test_nothing_outlives_nmc(tmp_path: Path, end: signal.Signals) -> None:
    child = child_of(tmp_path, WATCHES)
    os.mkfifo(child[-1])
    program = (
        # A shell's background job starts with SIGINT ignored, and so would this program.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"import sys; sys.path.insert(0, {str(Path(tinynet.__file__).parent)!r})\n"
        "import tinynet\n"
        "from nmc.backends.loihi.run import LavaEngine\n"
        f"LavaEngine(limit_s=250.0, child={child!r}).run(tinynet.network(), tinynet.X, tinynet.STEPS)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE)
    *pids, folder = Path(child[-1]).read_text().split()
    watches = [os.pidfd_open(int(pid)) for pid in pids]
    parent.send_signal(end)
    _, errors = parent.communicate()
    for watch in watches:
        assert select.select([watch], [], [], 60.0)[0], "a process outlived nmc"
        os.close(watch)
    assert not Path(folder).exists()
    assert parent.returncode != 0
    assert (b"KeyboardInterrupt" in errors) == (end is signal.SIGINT)


def test_shared_memory_left_by_a_child_is_removed() -> None:
    mine, other = (
        SharedMemory(f"{shared_memory_prefix(pid)}test", True, 16) for pid in (2**22 + 1, 2**22 + 2)
    )
    run._remove_shared_memory(2**22 + 1)
    with pytest.raises(FileNotFoundError):
        SharedMemory(mine.name)
    SharedMemory(other.name).close()
    other.close()
    other.unlink()
    mine.close()
    SharedMemory(mine.name, True, 16).unlink()  # so that the resource tracker finds what it remembers
