"""The native engine and SpikingJelly on identical work: the same integers, the same spikes, interleaved.

    .venv-frameworks/bin/python benchmarks/simulator/compare.py --networks sew32 --batch 1 8 --rounds 9

Every round runs every contender once, in turn, in one process with pinned thread counts, so that what else
the machine does hits all of them alike; the median of the rounds' ratios is reported. With one thread the
clock is CPU time, with more it is wall time. Before anything is timed, the spikes of all layers are compared.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import frameworks
import models
import numpy as np
import torch
from frameworks import spikingjelly
from models import MODELS, Folded, folded, images, network

from nmc.backends.sim.native import NativeEngine
from nmc.ir import Network

CACHE = Path(__file__).parent / ".cache"


@dataclass(frozen=True)
class Timing:
    """Seconds per image of one contender, one number per round."""

    network: str
    batch: int
    threads: int
    contender: str
    seconds: tuple[float, ...]


def spikes_of(net: torch.nn.Module, folded_net: Folded, x: torch.Tensor) -> dict[str, int]:
    """Spikes of every convolution's neurons in SpikingJelly."""
    counted: dict[str, int] = {}

    def hook(name: str) -> Callable[..., None]:
        def count(_module: object, _inputs: object, output: torch.Tensor) -> None:
            counted[name] = counted.get(name, 0) + int(output.sum().item())

        return count

    handles = [
        parts[2].register_forward_hook(hook(name)) for name, parts in frameworks.parts(net, folded_net.model)
    ]
    frameworks.run(net, x)
    for handle in handles:
        handle.remove()
    return counted


def check(key: str, folded_net: Folded, mapped: Network, net: torch.nn.Module) -> str:
    """Compare the spikes of every layer on one image; says how many there were."""
    x = images(1, folded_net.model.size, seed=5)
    ours = NativeEngine(1).run(mapped, x, folded_net.model.steps).counts
    theirs = spikes_of(net, folded_net, frameworks.prepare(x, folded_net.model.steps))
    unequal = {
        name: (count, ours.spikes[name]) for name, count in theirs.items() if count != ours.spikes[name]
    }
    if unequal:
        raise SystemExit(f"{key}: spikes differ (SpikingJelly, nmc): {unequal}")
    return f"{key}: {sum(theirs.values()):,} spikes of {len(theirs)} layers equal"


def contenders(
    folded_net: Folded, mapped: Network, net: torch.nn.Module, batch: int, threads: int, compiled: bool
) -> dict[str, Callable[[], object]]:
    """What is timed: name -> one run of the batch."""
    steps = folded_net.model.steps
    x = images(batch, folded_net.model.size, seed=7)
    prepared = frameworks.prepare(x, steps)
    engine = NativeEngine(threads)
    found: dict[str, Callable[[], object]] = {
        "nmc native": lambda: engine.run(mapped, x, steps),
        "SpikingJelly fp32": lambda: frameworks.run(net, prepared),
    }
    if compiled:
        faster = torch.compile(net)
        found["SpikingJelly fp32, torch.compile"] = lambda: frameworks.run(faster, prepared)
    for one in found.values():
        one()
    return found


def measure(key: str, batch: int, threads: int, rounds: int, compiled: bool) -> list[Timing]:
    """All contenders on one network and batch, interleaved."""
    torch.set_num_threads(threads)
    folded_net = folded(key, CACHE)
    mapped, net = network(folded_net), spikingjelly(folded_net)
    print(check(key, folded_net, mapped, net), flush=True)
    clock = time.process_time if threads == 1 else time.perf_counter
    runs = contenders(folded_net, mapped, net, batch, threads, compiled)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, one in runs.items():
            start = clock()
            one()
            seconds[name].append((clock() - start) / batch)
    return [Timing(key, batch, threads, name, tuple(found)) for name, found in seconds.items()]


def report(timings: list[Timing]) -> None:
    ours = timings[0]
    for one in timings:
        ratios = [theirs / mine for theirs, mine in zip(one.seconds, ours.seconds, strict=True)]
        print(
            f"{one.network:10} batch {one.batch:2} threads {one.threads}  {one.contender:34}"
            f"{statistics.median(one.seconds) * 1e3:9.2f} ms/image (least {min(one.seconds) * 1e3:8.2f})"
            f"   x {statistics.median(ratios):6.2f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--compile", action="store_true", help="torch.compile too; takes minutes")
    parser.add_argument("--json", type=Path, help="write all rounds")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, numpy {np.__version__}, images {models.IMAGE_TOP + 1} levels")
    everything: list[Timing] = []
    for key in options.networks:
        for batch in options.batch:
            for threads in options.threads:
                timings = measure(key, batch, threads, options.rounds, options.compile)
                report(timings)
                everything += timings
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(one) for one in everything], indent=1))


if __name__ == "__main__":
    main()
