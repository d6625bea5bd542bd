"""How good are mappings: cores against the physical bound, spike-hops and worst link against the naive one.

    python benchmarks/mapping.py                    every network; the table of README's kind, as Markdown
    python benchmarks/mapping.py --only R18 R34     some of them
    python benchmarks/mapping.py --layers R18       the binding limit of every layer

The naive mapping takes, among the tiles with the fewest cores, the one with the fewest channels, and puts the
cores in order, row by row and chip by chip, as Lava's mapper does. Traffic: 0.15 spikes per neuron and step.
Every network is mapped twice: for the fewest cores, and for the least traffic on as many chips.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from networks import cifar_resnet, lava_tables, sew_resnet

from nmc.chip import Chip, load_chip
from nmc.ir import Network
from nmc.partition.bound import lower_bound
from nmc.partition.check import check_mapping
from nmc.partition.fit import analyse
from nmc.partition.graph import core_graph
from nmc.partition.hold import hold
from nmc.partition.place import place
from nmc.partition.plan import Planner
from nmc.partition.route import route
from nmc.partition.search import Options
from nmc.partition.tile import Objective, partition

LOIHI1, LOIHI2 = "loihi1:pohoiki-springs", "loihi2:hala-point"
Build = Callable[[Chip], Network]


def cases() -> dict[str, tuple[str, Build]]:
    """Name -> (chip, network)."""
    result: dict[str, tuple[str, Build]] = {}
    for chip in (LOIHI1, LOIHI2):
        short = chip.partition(":")[0]
        for depth in (20, 44):
            result[f"C{depth}/{short}"] = (chip, lambda c, d=depth: cifar_resnet(d, c))
        for depth in (18, 34, 50, 101, 152):
            result[f"R{depth}/{short}"] = (chip, lambda c, d=depth: sew_resnet(d, c))
    for depth in (18, 34):
        build = partial(sew_resnet, depth, joins="distribute")
        result[f"R{depth}-distribute/loihi1"] = (LOIHI1, lambda c, build=build: hold(build(chip=c), c))
    return result


def naive(one: Options) -> list[np.ndarray]:
    """Fewest tiles, then fewest channels and most pixels."""
    return [*(-one.lengths[:, 1:]).T, one.lengths[:, 0], one.tiles]


def measure(name: str, chip: Chip, network: Network, optimize: Objective) -> dict[str, object]:
    row: dict[str, object] = {"name": name, "optimize": optimize}
    row["neurons"] = sum(one.size for one in network.compute)
    start = time.perf_counter()
    mapped = partition(network, chip, optimize)
    row["partition_s"] = time.perf_counter() - start
    start = time.perf_counter()
    placed = place(mapped, chip)
    row["place_s"] = time.perf_counter() - start
    start = time.perf_counter()
    check_mapping(placed, chip)
    row["check_s"] = time.perf_counter() - start
    bound = lower_bound(network, chip)
    row |= {"cores": placed.mapping.cores_used, "bound": bound.cores, "bound_shared": bound.shared}
    row["ratio"] = placed.mapping.cores_used / bound.cores
    row["chips"] = len({tile.core // chip.cores_per_chip for tile in placed.mapping.tiles})
    planner = Planner(network, dataclasses.replace(chip, cores=None))
    first = planner.mapped(planner.plan(naive))
    row["naive_cores"] = first.mapping.cores_used
    graph = core_graph(mapped)
    shuffled = np.random.default_rng(0).permutation(graph.cores)
    variants = {
        "naive": core_graph(first),
        "in_order": graph,
        "random": graph.moved(shuffled),
        "placed": core_graph(placed),
    }
    for label, one in variants.items():
        result = route(chip, one)
        row[label] = {
            "spike_hops": result.spike_hops,
            "worst_link": result.worst_link,
            "mean_hops": result.mean_hops,
            "messages": result.spikes,
            "crossings": result.crossings,
        }
    row["hops_ratio"] = row["placed"]["spike_hops"] / row["naive"]["spike_hops"]
    row["worst_ratio"] = row["placed"]["worst_link"] / row["naive"]["worst_link"]
    row["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return row


def line(row: dict[str, object]) -> str:
    def hops(label: str) -> str:
        return f"{row[label]['spike_hops'] / 1e6:,.1f} / {row[label]['worst_link'] / 1e3:,.0f}"

    return (
        f"| {row['name']} {row['optimize']} | {row['neurons']:,}"
        f" | {row['cores']:,} ({row['chips']}) | {row['bound']:,} |"
        f" {row['ratio']:.3f} | {hops('naive')} | {hops('in_order')} | {hops('random')} | {hops('placed')} |"
        f" {row['hops_ratio']:.2f} | {row['worst_ratio']:.2f} |"
        f" {row['partition_s']:.1f} + {row['place_s']:.1f} + {row['check_s']:.1f} | {row['peak_gb']:.1f} |"
    )


TITLES = (
    "network",
    "neurons",
    "cores (chips)",
    "bound",
    "ratio",
    "naive: M spike-hops / k worst link",
    "in order",
    "random",
    "placed",
    "hops / naive",
    "worst / naive",
    "partition + place + check, s",
    "peak GB",
)


def layers(name: str) -> None:
    for label, (chip_name, build) in cases().items():
        if label.split("/")[0] != name:
            continue
        chip = load_chip(chip_name)
        fit = analyse(build(chip), chip)
        print(f"\n{label}: {fit.cores:,} cores, bound {fit.bound.cores:,}\n")
        print("| layer | tile | cores | bound | binds | neurons | memory | input axons | output axons |")
        print("|---|---|---|---|---|---|---|---|---|")
        for one in fit.layers:
            shares = " | ".join("-" if need.share is None else f"{need.share:.0%}" for need in one.needs[:4])
            tile = " x ".join(map(str, one.tile))
            print(f"| {one.label} | {tile} | {one.cores} | {one.bound} | {one.binding or '-'} | {shares} |")


def published() -> None:
    """Our count beside those that Lava's tutorials print."""
    chip = dataclasses.replace(load_chip("loihi2"), populations_per_core=1)
    for name, network in lava_tables(chip).items():
        mapped = partition(network, chip)
        print(f"{name}: {mapped.mapping.cores_used} cores, one population per core; Lava prints 5")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=None)
    parser.add_argument("--layers", default=None)
    parser.add_argument("--json", default=None)
    chosen = parser.parse_args()
    if chosen.layers:
        layers(chosen.layers)
        return
    print("|", " | ".join(TITLES), "|")
    print("|---" * len(TITLES) + "|")
    rows = []
    for name, (chip_name, build) in cases().items():
        if chosen.only and not any(name.startswith(f"{one}/") or name == one for one in chosen.only):
            continue
        chip = load_chip(chip_name)
        network = build(chip)
        for optimize in ("cores", "balanced", "traffic"):
            row = measure(name, chip, network, optimize)
            rows.append(row)
            print(line(row), flush=True)
    published()
    if chosen.json:
        with open(chosen.json, "w") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
