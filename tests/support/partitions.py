"""Any partition gives the same spikes: random networks under random tilings, on three engines.

python tests/support/partitions.py                  100 networks x 2 tilings, Lava's models in process
python tests/support/partitions.py --runtime 3      and as many of them in Lava's runtime
"""

from __future__ import annotations

import argparse
import itertools
import random
from collections.abc import Iterable
from dataclasses import replace

import gen

from nmc import timing
from nmc.backends.base import Engine
from nmc.backends.compare import Verification, compare
from nmc.backends.loihi.run import LavaEngine
from nmc.backends.loihi.tiles import TiledLavaEngine
from nmc.backends.sim.native import NativeEngine
from nmc.backends.sim.reference import ReferenceEngine
from nmc.chip import Chip, load_chip
from nmc.ir import IntArray, Mapping, Network, Population, Stage, Tile
from nmc.partition.check import check_mapping
from nmc.partition.cost import RESOURCES

SAMPLES, STEPS = 2, 4
CHIP: Chip = replace(
    load_chip("loihi2"),
    name="none",
    cores=None,
    populations_per_core=None,
    **{one.limit: None for one in RESOURCES},
)
"""Loihi 2 without limits: every cover by boxes is legal."""


def cut(network: Network, seed: int) -> Network:
    """A random mapping: every axis of every population cut at random places."""
    rng = random.Random(seed)
    return _mapped(network, (box for one in network.compute for box in _grid(one, rng)))


def split(network: Network, seed: int) -> Network:
    """A random mapping without a grid: every population is halved again and again, at random places."""
    rng = random.Random(seed)
    return _mapped(network, (box for one in network.compute for box in _halves(one, rng)))


def _mapped(network: Network, boxes: Iterable[tuple[str, tuple[tuple[int, int], ...]]]) -> Network:
    tiles = [Tile(name, ranges, core) for core, (name, ranges) in enumerate(boxes)]
    mapped = network.with_(stage=Stage.MAPPED, chip="none", mapping=Mapping("none", tuple(tiles)))
    check_mapping(mapped, CHIP)
    return mapped


def _grid(population: Population, rng: random.Random):
    axes = []
    for size in population.shape:
        inner = rng.sample(range(1, size), min(size - 1, rng.choice([0, 1, 1, 2])))
        axes.append(list(itertools.pairwise([0, *sorted(inner), size])))
    return [(population.name, ranges) for ranges in itertools.product(*axes)]


def _halves(population: Population, rng: random.Random):
    boxes = [tuple((0, size) for size in population.shape)]
    for _ in range(rng.randint(0, 4)):
        box = boxes.pop(rng.randrange(len(boxes)))
        axis = max(range(len(box)), key=lambda a: (box[a][1] - box[a][0]) * rng.random())
        start, stop = box[axis]
        edge = rng.randint(start + 1, stop - 1) if stop - start > 1 else stop
        parts = [(start, edge), (edge, stop)] if edge < stop else [(start, stop)]
        boxes += [(*box[:axis], part, *box[axis + 1 :]) for part in parts]
    return [(population.name, box) for box in boxes]


def case(seed: int) -> tuple[tuple[Network, Network], IntArray]:
    """A network under two tilings, and its input."""
    network = gen.quantize(timing.balance(gen.float_network(seed, STEPS), 62))
    return (cut(network, seed), split(network, seed)), gen.stimulus(network, SAMPLES, STEPS, seed)


def results(seed: int, *, runtime: bool = False) -> list[Verification]:
    """Reference against native, and against Lava's models, one group per tile."""
    mappings, x = case(seed)
    tiles: Engine = TiledLavaEngine(LavaEngine() if runtime else None)
    return [
        compare(mapped, x, STEPS, ReferenceEngine(), engine)
        for mapped in mappings
        for engine in (NativeEngine(), tiles)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--runtime", type=int, default=0)
    chosen = parser.parse_args()
    runs = tiles = values = wrong = 0
    for seed in range(chosen.count):
        for found in results(seed):
            runs, values, wrong = runs + 1, values + found.compared, wrong + found.total
        tiles += sum(len(mapped.mapping.tiles) for mapped in case(seed)[0] if mapped.mapping is not None)
    print(
        f"{chosen.count} networks, {tiles:,} tiles: {runs} comparisons, {values:,} values, {wrong} mismatches"
    )
    for seed in range(chosen.runtime):
        found = results(seed, runtime=True)[1]
        print(f"network {seed} in Lava's runtime: {found.compared:,} values, {found.total} mismatches")


if __name__ == "__main__":
    main()
