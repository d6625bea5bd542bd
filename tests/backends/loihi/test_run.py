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

IN_LAVA = """
import os, signal, sys
from pathlib import Path
from nmc.backends.loihi import child, processes

def planted(self):
    Path(sys.argv[1]).write_text(f"{os.getpgid(0)} {os.getpid()} {sys.argv[2]}")
    ACTION

processes.PyRecorder.run_spk = planted
os._exit(child.main(Path(sys.argv[2])))
"""
"""Lava's own runtime, with something planted in the model of one worker, which reports when it gets there."""
RAISES, HANGS_THERE = (
    IN_LAVA.replace("ACTION", action) for action in ("raise ValueError('planted')", "signal.pause()")
)


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


def left_of(session: int) -> list[str]:
    """Processes of a session that are not zombies, and shared memory of its first process."""
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, of, *_ = place.read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(of) == session and state != "Z":
            found.append(place.parent.name)
    return found + [name for name in os.listdir("/dev/shm") if shared_memory_prefix(session) in name]


@pytest.mark.runtime
def test_a_model_that_raises_ends_the_run(tmp_path: Path) -> None:
    """Lava itself would wait for ever."""
    engine = LavaEngine(limit_s=250.0, child=child_of(tmp_path, RAISES))
    with pytest.raises(NmcError, match=r"NMC-E02 lava: .*ValueError: planted"):
        engine.run(tinynet.network(), tinynet.X, tinynet.STEPS)
    session = int((tmp_path / "report").read_text().split()[0])
    assert not left_of(session)


@pytest.mark.runtime
def test_a_model_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is over as soon as the worker hangs, however fast the machine."""
    child = child_of(tmp_path, HANGS_THERE)
    os.mkfifo(child[-1])
    session: list[int] = []
    wait = subprocess.Popen.wait

    def limited(self: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        if timeout != 250.0:
            return wait(self, timeout)
        session.append(int(Path(child[-1]).read_text().split()[0]))
        assert len(left_of(session[0])) > 5, "Lava does not run"
        raise subprocess.TimeoutExpired("child", timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", limited)
    with pytest.raises(NmcError, match=r"NMC-E02 lava: no result after 250 s"):
        LavaEngine(limit_s=250.0, child=child).run(tinynet.network(), tinynet.X, tinynet.STEPS)
    assert session
    assert not left_of(session[0])


@pytest.mark.runtime
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "killed"])
def test_lava_does_not_outlive_nmc(tmp_path: Path, end: signal.Signals) -> None:
    """In the middle of a step of Lava's runtime."""
    child = child_of(tmp_path, HANGS_THERE)
    os.mkfifo(child[-1])
    parent = parent_of(child)
    *pids, folder = Path(child[-1]).read_text().split()
    session = int(pids[0])
    watches = [os.pidfd_open(int(entry)) for entry in left_of(session) if entry.isdigit()]
    assert len(watches) > 5, "Lava does not run"
    assert any(shared_memory_prefix(session) in name for name in os.listdir("/dev/shm"))
    parent.send_signal(end)
    parent.communicate()
    for watch in watches:
        assert select.select([watch], [], [], 60.0)[0], "a process outlived nmc"
        os.close(watch)
    assert not left_of(session)
    assert not Path(folder).exists()


def parent_of(child: tuple[str, ...]) -> subprocess.Popen[bytes]:
    """Another interpreter that runs the engine, so that it can be killed; SIGINT means KeyboardInterrupt."""
    program = (
        f"import signal, sys; sys.path.insert(0, {str(Path(tinynet.__file__).parent)!r})\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import tinynet\n"
        "from nmc.backends.loihi.run import LavaEngine\n"
        f"LavaEngine(limit_s=250.0, child={child!r}).run(tinynet.network(), tinynet.X, tinynet.STEPS)"
    )
    return subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "killed"])
def test_nothing_outlives_nmc(tmp_path: Path, end: signal.Signals) -> None:
    child = child_of(tmp_path, WATCHES)
    os.mkfifo(child[-1])
    parent = parent_of(child)
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
