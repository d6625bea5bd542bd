"""The benchmark networks on native (one and two threads) and torch: all spikes, u, v and counts must agree.

.venv-frameworks/bin/python benchmarks/simulator/agree.py              # torch on the CPU
.venv-frameworks/bin/python benchmarks/simulator/agree.py --torch cuda
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from models import MODELS, folded, images, network

from nmc.backends.base import Trace
from nmc.backends.engines import engine
from nmc.backends.sim.native import NativeEngine

CACHE = Path(__file__).parent / ".cache"
BATCH = {"sew224": 1, "sew32": 3, "resnet20": 2}


def compare(one: Trace, other: Trace) -> int:
    """How many values were compared; ends the program at a difference."""
    if one.counts != other.counts:
        raise SystemExit("counts differ")
    pairs = [(one.output, other.output)]
    for name in one.spikes:
        pairs += [(getattr(one, what)[name], getattr(other, what)[name]) for what in ("spikes", "u", "v")]
    if not all(np.array_equal(a, b) for a, b in pairs):
        raise SystemExit("values differ")
    return sum(a.size for a, _ in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--torch", default="cpu", help="device of the torch engine")
    options = parser.parse_args()
    for key in options.networks:
        net = network(folded(key, CACHE))
        x = images(BATCH[key], MODELS[key].size, seed=11)
        record = [population.name for population in net.compute]
        first = NativeEngine(1).run(net, x, net.steps, record)
        for other in (NativeEngine(2), engine(f"torch:{options.torch}")):
            values = compare(first, other.run(net, x, net.steps, record))
            print(f"{key}: native, 1 thread = {other.name}: {values:,} values and all counts", flush=True)


if __name__ == "__main__":
    main()
