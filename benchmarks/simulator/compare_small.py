"""The small network (small.py) on nmc and on other simulators, time per step.

    .venv-frameworks/bin/python benchmarks/simulator/compare_small.py --rounds 5 \
        --lava .venv/bin/python --brian2 ENV/bin/python --nengo-loihi ENV/bin/python

nmc, SpikingJelly and snnTorch run in this process; the others need packages that exclude these, so each runs
in the interpreter that is named and is asked in turn, with the same weights and input (an .npz file).
Environments: brian2 with numpy < 2.3; nengo-loihi with nengo 3.2, numpy < 1.24, scipy < 1.12, setuptools < 70
on Python 3.10. Spikes of all layers are compared in every step where the simulator has the same semantics.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import small
from interleave import HERE, Seconds, Timing, Worker, load, report, rounds, timed

CONTENDERS = HERE / "contenders"
IN_PROCESS = ("nmc_native", "spikingjelly_small", "snntorch_small")


def difference(name: str, ours: small.Problem, theirs: small.Problem) -> str:
    """How many spikes agree; ends the program where one does not."""
    if not theirs:
        return f"{name}: other semantics, spikes not compared"
    for layer in small.LAYERS:
        if not np.array_equal(ours[layer], theirs[layer]):
            wrong = int((ours[layer] != theirs[layer]).sum())
            raise SystemExit(f"{name}: {wrong:,} of {ours[layer].size:,} values of {layer} differ")
    return f"{name}: {sum(int(ours[layer].sum()) for layer in small.LAYERS):,} spikes of all layers equal"


def measure(pythons: dict[str, str], count: int, folder: Path) -> list[Timing]:
    problem = small.problem()
    file = folder / "problem.npz"
    np.savez(file, **problem)
    runs: dict[str, Callable[[], Seconds]] = {}
    clocks: dict[str, str] = {}
    ours: small.Problem = {}
    for stem in IN_PROCESS:
        module = load(CONTENDERS / f"{stem}.py")
        contender = module.Contender(problem)
        found = contender.spikes()
        ours = ours or found
        print(difference(module.NAME, ours, found), flush=True)
        runs[module.NAME] = lambda contender=contender: timed(contender.run)
        clocks[module.NAME] = module.CLOCK
    workers = []
    try:
        for stem, python in pythons.items():
            worker = Worker(python, CONTENDERS / f"{stem}.py", file, folder / f"{stem}.npz")
            workers.append(worker)
            print(difference(worker.name, ours, small.read(worker.spikes)), flush=True)
            runs[worker.name] = worker.run
            clocks[worker.name] = "wall" if stem == "lava_runtime" else "cpu"
        seconds = rounds(runs, count)
    finally:
        for worker in workers:
            worker.close()
    steps = len(problem["x"])
    timings = [
        Timing("small", 1, 1, name, tuple(one[clocks[name]] / steps for one in found), clocks[name])
        for name, found in seconds.items()
    ]
    nmc = timings[0].contender
    return [*timings, Timing("small", 1, 1, nmc, tuple(one["wall"] / steps for one in seconds[nmc]), "wall")]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lava", metavar="PYTHON", help="interpreter that has nmc and Lava")
    parser.add_argument("--brian2", metavar="PYTHON")
    parser.add_argument("--nengo-loihi", metavar="PYTHON")
    options = parser.parse_args()
    asked = {
        "lava_models": options.lava,
        "lava_runtime": options.lava,
        "brian2_small": options.brian2,
        "nengo_loihi_small": options.nengo_loihi,
    }
    pythons = {stem: python for stem, python in asked.items() if python}
    with tempfile.TemporaryDirectory() as folder:
        timings = measure(pythons, options.rounds, Path(folder))
    report(sorted(timings, key=lambda one: (one.clock, one.contender != "nmc native")), "step")


if __name__ == "__main__":
    main()
