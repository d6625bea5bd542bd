"""What the native engine costs besides time: import, library, memory; and that time is linear in T and batch.

    .venv-frameworks/bin/python benchmarks/simulator/figures.py --networks BUNDLE.nmc sew224 sew152
    .venv-frameworks/bin/python benchmarks/simulator/figures.py --curve

Memory: the largest resident set of a fresh process that reads a bundle, or one of the models here, and runs
it without torch.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from models import MODELS, folded, images, network, random_integers, sew_resnet152

from nmc import bundle
from nmc.backends.sim.native import NativeEngine
from nmc.backends.sim.native_abi import LIBRARY
from nmc.ir import Network

HERE = Path(__file__).parent
CACHE = HERE / ".cache"
ROUNDS = 7

IMPORT = """
import time
start = time.process_time()
import numpy
numpy_there = time.process_time()
import nmc.backends.sim.native as native
native.NativeEngine(1)
print(numpy_there - start, time.process_time() - numpy_there)
"""
RUN = f"import sys; sys.path.insert(0, {str(HERE)!r}); import figures; figures.run_one(*sys.argv[1:])"


def import_seconds() -> tuple[float, float]:
    """Least CPU time, in fresh processes, of importing NumPy; and then the engine, its library opened."""
    found = []
    for _ in range(ROUNDS):
        done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
        found.append([float(word) for word in done.stdout.split()])
    return min(one[0] for one in found), min(one[1] for one in found)


def resident() -> float:
    """MiB, the most so far."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def read(name: str) -> Network:
    if name in MODELS:
        return network(folded(name, CACHE))
    if name == "sew152":
        return network(random_integers(sew_resnet152()))
    return bundle.read(Path(name)).network


def run_one(name: str, batch: str) -> None:
    """In a process of its own: one run of random images; prints the memory after every part as JSON."""
    import numpy as np

    found = {"imports": resident()}
    net = read(name)
    (source,) = net.inputs
    x = np.random.default_rng(0).integers(0, source.max_payload + 1, (int(batch), *source.shape))
    found["network"] = resident()
    engine = NativeEngine(1)
    spikes = sum(engine.run(net, x, net.steps).counts.spikes.values())
    found["run"] = resident()
    print(json.dumps(found | {"spikes": spikes}))


def memory(name: str, batch: int) -> dict[str, float]:
    command = [sys.executable, "-c", RUN, name, str(batch)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def curve() -> None:
    """CPU time of SEW-ResNet-18 at 32 x 32, least of several rounds: over T, then over batch."""
    net = network(folded("sew32", CACHE))
    x = images(64, 32, seed=7)
    engine = NativeEngine(1)
    points = [(8, steps) for steps in (1, 2, 4, 8, 16, 32, 64, 128)]
    points += [(batch, 32) for batch in (1, 2, 4, 16, 32, 64)]
    print("| batch | T | ms | us per image and step |\n|---|---|---|---|")
    for batch, steps in points:
        seconds = []
        for _ in range(ROUNDS):
            start = time.process_time()
            engine.run(net, x[:batch], steps)
            seconds.append(time.process_time() - start)
        least = min(seconds)
        print(f"| {batch} | {steps} | {least * 1e3:.2f} | {least / batch / steps * 1e6:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--curve", action="store_true")
    parser.add_argument("--networks", nargs="+", default=["sew224", "sew152"])
    parser.add_argument("--batch", type=int, nargs="+", default=[1])
    options = parser.parse_args()
    if options.curve:
        return curve()
    numpy, engine = import_seconds()
    print(f"library {LIBRARY.stat().st_size / 1e6:.2f} MB; import {engine:.3f} s after NumPy's {numpy:.3f} s")
    for name in options.networks:
        for batch in options.batch:
            found = memory(name, batch)
            parts = ", ".join(f"{part} {found[part]:.0f}" for part in ("imports", "network", "run"))
            print(f"{Path(name).name}, batch {batch}: MiB at most after {parts}; {found['spikes']:,} spikes")
    return None


if __name__ == "__main__":
    main()
