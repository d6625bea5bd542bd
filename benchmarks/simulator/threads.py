"""What a second thread gives: wall time of the native engine with one and with two, interleaved.

    .venv-frameworks/bin/python benchmarks/simulator/threads.py --networks sew224 --batch 1 8 --seconds 40

Wall time needs a machine that does nothing else. So the CPU time that others took is measured in every round;
rounds in which it was less than 3 % of the round are reported apart. ``--realtime`` (for root) needs no
quiet machine: every round is a burst of less than half a second at real-time priority, then the others get
their turn. What the machine allows is measured as well: two processes with one thread each, at the same time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from models import MODELS, folded, images, network

from nmc.backends.sim.native import NativeEngine

HERE = Path(__file__).parent
CACHE = HERE / ".cache"
ROUND_SECONDS = 0.15
QUIET = 0.03
TICK = 1 / os.sysconf("SC_CLK_TCK")


def foreign_seconds() -> float:
    """CPU time of all other processes, and what the hypervisor took, since the machine started."""
    words = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, _idle, _wait, interrupts, soft, stolen = words[:8]
    mine = os.times()
    own = mine.user + mine.system + mine.children_user + mine.children_system
    return (user + nice + system + interrupts + soft + stolen) * TICK - own


def runner(key: str, batch: int, threads: int) -> Callable[[], None]:
    net = network(folded(key, CACHE))
    x = images(batch, MODELS[key].size, seed=7)
    engine = NativeEngine(threads)
    return lambda: engine.run(net, x, net.steps) and None


@contextmanager
def undisturbed(wanted: bool) -> Iterator[None]:
    """Real-time priority, also for threads that start meanwhile; then a second for everybody else."""
    if not wanted:
        yield
        return
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        time.sleep(1)


def repeat(run: Callable[[], None], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        run()
    return (time.perf_counter() - start) / count


def compare(key: str, batch: int, seconds: float, realtime: bool) -> None:
    runs = {threads: runner(key, batch, threads) for threads in (1, 2)}
    for run in runs.values():
        repeat(run, 2)
    count = max(1, round(ROUND_SECONDS / repeat(runs[1], 2)))
    rounds: list[tuple[bool, float, float]] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        start, foreign = time.monotonic(), foreign_seconds()
        with undisturbed(realtime):
            one, two = (repeat(runs[threads], count) for threads in (1, 2))
        share = (foreign_seconds() - foreign) / (time.monotonic() - start)
        rounds.append((share < QUIET, one, two))
    for name, kept in (("quiet", [r for r in rounds if r[0]]), ("all", rounds)):
        if not kept:
            print(f"{key} batch {batch}: no quiet round")
            continue
        one, two = (statistics.median(r[i] for r in kept) / batch * 1e3 for i in (1, 2))
        ratio = statistics.median(r[1] / r[2] for r in kept)
        print(
            f"{key} batch {batch}, {name} {len(kept)} rounds: one thread {one:.2f}, two {two:.2f} ms,"
            f" x {ratio:.2f}; least of each x {min(r[1] for r in kept) / min(r[2] for r in kept):.2f}",
            flush=True,
        )


def alone(key: str, batch: str, cpu: str, start: str, seconds: str, realtime: str) -> None:
    """In a process of its own: prints how many images it ran per second."""
    os.sched_setaffinity(0, {int(cpu)})
    run = runner(key, int(batch), 1)
    repeat(run, 2)
    time.sleep(max(0.0, float(start) - time.time()))
    rates = []
    for _ in range(1 if realtime == "False" else 3):
        with undisturbed(realtime == "True"):
            done, began = 0, time.monotonic()
            while time.monotonic() < began + float(seconds):
                run()
                done += int(batch)
            rates.append(done / (time.monotonic() - began))
    print(statistics.median(rates))


def processes(key: str, batch: int, count: int, realtime: bool) -> float:
    """Images per second that so many pinned processes run together."""
    code = f"import sys; sys.path.insert(0, {str(HERE)!r}); import threads; threads.alone(*sys.argv[1:])"
    start, seconds = time.time() + 4, 0.4 if realtime else 5.0
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, *map(str, (key, batch, cpu, start, seconds, realtime))],
            stdout=subprocess.PIPE,
            text=True,
        )
        for cpu in sorted(os.sched_getaffinity(0))[:count]
    ]
    return sum(float(child.communicate()[0]) for child in children)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=list(MODELS), default=["sew224"])
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--realtime", action="store_true", help="bursts at real-time priority; root only")
    options = parser.parse_args()
    for key in options.networks:
        for batch in options.batch:
            compare(key, batch, options.seconds, options.realtime)
            one, two = (processes(key, batch, count, options.realtime) for count in (1, 2))
            print(f"{key} batch {batch}: two processes run {two / one:.2f} x the images of one", flush=True)


if __name__ == "__main__":
    main()
