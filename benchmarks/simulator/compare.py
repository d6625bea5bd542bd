"""The native engine and SpikingJelly on identical work: the same integers, the same spikes, interleaved.

    .venv-frameworks/bin/python benchmarks/simulator/compare.py --networks sew32 digits --batch 1 8 --rounds 9

Every round runs every contender once, in turn, in one process with pinned thread counts, so that what else
the machine does hits all of them alike; the median of the rounds' ratios is reported. With one thread the
clock is CPU time, with more it is wall time. Before anything is timed, the spikes of all layers are compared.
Other simulators run a smaller network: compare_small.py.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import frameworks
import numpy as np
import numpy.typing as npt
import torch
import translated
from frameworks import spikingjelly
from interleave import Seconds, Timing, report, rounds, timed
from models import MODELS, folded, images, network
from trained_networks import KEYS, trained

from nmc.backends.sim.native import NativeEngine
from nmc.ir import Network

CACHE = Path(__file__).parent / ".cache"


@dataclass(frozen=True)
class Work:
    """One network on both sides. samples: encoded, at least a batch. neurons: what fires in SpikingJelly."""

    key: str
    mapped: Network
    net: torch.nn.Module
    neurons: list[tuple[str, torch.nn.Module]]
    samples: npt.NDArray[np.int64]

    @property
    def steps(self) -> int:
        return self.mapped.steps


def work(key: str, largest: int) -> Work:
    if key in KEYS:
        mapped, samples = trained(key, CACHE)
        net = translated.Translated(mapped)
        return Work(key, mapped, net, translated.neurons(net), samples[: max(largest, 8)])
    folded_net = folded(key, CACHE)
    net = spikingjelly(folded_net)
    cells = [(name, parts[2]) for name, parts in frameworks.parts(net, folded_net.model)]
    samples = images(largest, folded_net.model.size, seed=7)
    return Work(key, network(folded_net), net, cells, samples)


def spikes_of(task: Work, x: torch.Tensor) -> dict[str, int]:
    """Spikes of every population of neurons in SpikingJelly."""
    counted: dict[str, int] = {}

    def hook(name: str) -> Callable[..., None]:
        def count(_module: object, _inputs: object, output: torch.Tensor) -> None:
            counted[name] = counted.get(name, 0) + int(output.sum().item())

        return count

    handles = [cell.register_forward_hook(hook(name)) for name, cell in task.neurons]
    frameworks.run(task.net, x)
    for handle in handles:
        handle.remove()
    return counted


def check(task: Work) -> str:
    """Compare the spikes of every layer on one image; says how many there were."""
    x = task.samples[:1]
    counts = NativeEngine(1).run(task.mapped, x, task.steps).counts
    theirs = spikes_of(task, frameworks.prepare(x, task.steps))
    unequal = {name: (n, counts.spikes[name]) for name, n in theirs.items() if n != counts.spikes[name]}
    if unequal:
        raise SystemExit(f"{task.key}: spikes differ (SpikingJelly, nmc): {unequal}")
    sites = sum(task.mapped[name].size for name in theirs) * task.steps
    total = sum(theirs.values())
    return f"{task.key}: {total:,} spikes of {len(theirs)} layers equal, {total / sites:.1%} of all sites"


def contenders(task: Work, batch: int, threads: int, compiled: bool) -> dict[str, Callable[[], object]]:
    """What is timed: name -> one run of the batch."""
    x, steps = task.samples[:batch], task.steps
    prepared = frameworks.prepare(x, steps)
    engine = NativeEngine(threads)
    channels_last = copy.deepcopy(task.net).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    found: dict[str, Callable[[], object]] = {
        "nmc native": lambda: engine.run(task.mapped, x, steps),
        "SpikingJelly fp32": lambda: frameworks.run(task.net, prepared),
        "SpikingJelly fp32, channels last": lambda: frameworks.run(channels_last, prepared),
    }
    if compiled:
        faster = torch.compile(copy.deepcopy(task.net))
        found["SpikingJelly fp32, torch.compile"] = lambda: frameworks.run(faster, prepared)
    for name, one in found.items():
        start = time.perf_counter()
        one()
        if name.endswith("compile"):
            print(
                f"torch.compile took {time.perf_counter() - start:.0f} s (not in the times below)", flush=True
            )
    return found


def measure(task: Work, batch: int, threads: int, count: int, compiled: bool) -> list[Timing]:
    """All contenders on one network and batch, interleaved."""
    clock = "cpu" if threads == 1 else "wall"

    def clocked(run: Callable[[], object]) -> Callable[[], Seconds]:
        return lambda: timed(run)

    runs = {name: clocked(run) for name, run in contenders(task, batch, threads, compiled).items()}
    return [
        Timing(task.key, batch, threads, name, tuple(one[clock] / batch for one in found), clock)
        for name, found in rounds(runs, count).items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=[*MODELS, *KEYS], default=[*MODELS, *KEYS])
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--compile", action="store_true", help="torch.compile too; takes minutes")
    parser.add_argument("--json", type=Path, help="write all rounds")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, numpy {np.__version__}")
    torch.set_grad_enabled(False)
    everything: list[Timing] = []
    for key in options.networks:
        task = work(key, max(options.batch))
        print(check(task), flush=True)
        for batch in options.batch:
            for threads in options.threads:
                torch.set_num_threads(threads)
                timings = measure(task, batch, threads, options.rounds, options.compile)
                report(timings, "image")
                everything += timings
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(one) for one in everything], indent=1))


if __name__ == "__main__":
    main()
