"""How good are mappings: cores against the physical bound, spike-hops and worst link against other mappings.

    python benchmarks/mapping.py                    every network; the tables of docs/mapping.md
    python benchmarks/mapping.py --only R18 R34     some of them
    python benchmarks/mapping.py --layers R18       the binding limit of every layer
    python benchmarks/mapping.py --published        our counts beside those that Lava's tutorials print
    python benchmarks/mapping.py --measured 18 34   with spike rates measured on the zoo's networks

Placed is what nmc does. The naive mapping takes, among the tiles with the fewest cores, the one with the
fewest channels, and puts the cores in order, row by row and chip by chip, as Lava's mapper does. In order and
random: nmc's tiles placed so. METIS: nmc's tiles placed by recursive bisection, where pymetis is installed.
Traffic: 0.15 spikes per neuron and step, unless measured. Every network has a process of its own, for its
peak memory.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import re
import resource
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from metis import metis_cores
from networks import cifar_resnet, lava_tables, sew_resnet

from nmc import timing
from nmc.chip import Chip, load_chip
from nmc.frontend.fold import fold
from nmc.frontend.lower import lower
from nmc.frontend.zoo import NETWORKS
from nmc.ir import Encoding, Network
from nmc.partition.bound import lower_bound
from nmc.partition.check import check_mapping
from nmc.partition.fit import analyse
from nmc.partition.graph import CoreGraph, Traffic, core_graph
from nmc.partition.hold import hold
from nmc.partition.place import place
from nmc.partition.plan import Planner
from nmc.partition.route import route
from nmc.partition.search import Options
from nmc.partition.tile import Objective, partition
from nmc.quantize import calibrate

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


def measure(
    name: str, chip: Chip, network: Network, optimize: Objective, traffic: Traffic | None = None
) -> dict[str, object]:
    row: dict[str, object] = {"name": name, "optimize": optimize}
    row["neurons"] = sum(one.size for one in network.compute)
    start = time.process_time()
    mapped = partition(network, chip, optimize, traffic)
    row["partition_s"] = time.process_time() - start
    start = time.process_time()
    placed = place(mapped, chip, traffic)
    row["place_s"] = time.process_time() - start
    start = time.process_time()
    check_mapping(placed, chip)
    row["check_s"] = time.process_time() - start
    row["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    bound = lower_bound(network, chip)
    row |= {"cores": placed.mapping.cores_used, "bound": bound.cores, "bound_shared": bound.shared}
    row["ratio"] = placed.mapping.cores_used / bound.cores
    row["chips"] = len({tile.core // chip.cores_per_chip for tile in placed.mapping.tiles})
    planner = Planner(network, dataclasses.replace(chip, cores=None), traffic)
    first = planner.mapped(planner.plan(naive))
    row["naive_cores"] = first.mapping.cores_used
    for label, one in variants(chip, mapped, placed, first, traffic).items():
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
    return row


def variants(
    chip: Chip, mapped: Network, placed: Network, first: Network, traffic: Traffic | None
) -> dict[str, CoreGraph]:
    graph = core_graph(mapped, traffic)
    found = {
        "naive": core_graph(first, traffic),
        "in_order": graph,
        "random": graph.moved(np.random.default_rng(0).permutation(graph.cores)),
        "placed": core_graph(placed, traffic),
    }
    if find_spec("pymetis") is not None:
        found["metis"] = graph.moved(metis_cores(graph, chip))
    return found


def line(row: dict[str, object]) -> str:
    def hops(label: str) -> str:
        if label not in row:
            return "-"
        return f"{row[label]['spike_hops'] / 1e6:,.1f} / {row[label]['worst_link'] / 1e3:,.0f}"

    routes = " | ".join(map(hops, ("naive", "in_order", "random", "metis", "placed")))
    return (
        f"| {row['name']} {row['optimize']} | {row['neurons']:,}"
        f" | {row['cores']:,} ({row['chips']}) | {row['bound']:,} | {row['ratio']:.3f} | {routes} |"
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
    "METIS",
    "placed",
    "hops / naive",
    "worst / naive",
    "partition + place + check, s of one core",
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
    """Our count beside those that Lava's tutorials print, layer by layer."""
    chip = dataclasses.replace(load_chip("loihi2"), populations_per_core=1, cores=None)
    print("| network | layer | Lava's compiler | nmc |\n|---|---|---|---|")
    for name, (network, counts) in lava_tables(chip).items():
        mapped = partition(network, chip, "cores")
        for one, theirs in zip(mapped.compute, counts, strict=True):
            shape = " x ".join(map(str, one.shape))
            print(f"| {name} | {one.label}: {shape} | {theirs} | {len(mapped.mapping.of(one.name))} |")
        print(f"| **{name}** | **all** | **{sum(counts)}** | **{mapped.mapping.cores_used}** |")


ZOO = {
    r"stem\.sn": "conv1",
    r"stem\.pool": "maxpool",
    r"(layer\d\.\d+)\.1\.sn": r"\1.conv1",
    r"(layer\d\.\d+)\.sn": r"\1.conv2",
    r"(layer\d\.\d+)\.down\.sn": r"\1.downsample",
    r"(layer\d\.\d+)\.add": r"\1.join",
}
"""The zoo's names of populations, and the benchmark's."""


def zoo_rates(depth: int, network: Network, max_delay: int) -> Traffic:
    """Spikes per inference of the zoo's SEW-ResNet, whose weights keep spikes alive; one random image."""
    graph = fold(NETWORKS[f"sew-resnet-{depth}"].build())
    timed = timing.balance(lower(graph, network.steps, "relay", Encoding.GRADED), max_delay)
    image = np.random.default_rng(0).uniform(0, 1, (1, 3, 224, 224))
    found = calibrate.traffic(timed, calibrate.measure(timed, image))
    rates = {"avgpool": float(network["avgpool"].size * network.steps), "fc": 0.0}
    for name, spikes in found.items():
        for pattern, ours in ZOO.items():
            if re.fullmatch(pattern, name):
                rates[re.sub(pattern, ours, name)] = spikes
    assert set(rates) == {one.name for one in network.compute}
    return rates


def measured_rows(depth: int) -> list[dict[str, object]]:
    """The default mapping for measured rates."""
    chip = load_chip(LOIHI2)
    network = sew_resnet(depth, chip)
    rates = zoo_rates(depth, network, chip.max_delay)
    return [measure(f"R{depth}/loihi2 measured", chip, network, "balanced", rates)]


def rows_of(name: str) -> list[dict[str, object]]:
    """Both objectives of a case."""
    chip_name, build = cases()[name]
    chip = load_chip(chip_name)
    network = build(chip)
    return [measure(name, chip, network, optimize) for optimize in ("cores", "balanced")]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", default=None)
    parser.add_argument("--measured", nargs="*", type=int, default=None)
    parser.add_argument("--layers", default=None)
    parser.add_argument("--published", action="store_true")
    parser.add_argument("--json", default=None)
    chosen = parser.parse_args()
    if chosen.layers:
        layers(chosen.layers)
    if chosen.published:
        published()
    if chosen.layers or chosen.published:
        return
    only = None if chosen.only is None else set(chosen.only)
    names = [name for name in cases() if only is None or {name, name.split("/")[0]} & only]
    depths = chosen.measured or ([18, 34] if only is None else [])
    work: list[tuple[Callable[..., list[dict[str, object]]], object]] = []
    work += [(rows_of, name) for name in names if chosen.measured is None]
    work += [(measured_rows, depth) for depth in depths]
    print("|", " | ".join(TITLES), "|")
    print("|---" * len(TITLES) + "|", flush=True)
    rows = []
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for function, argument in work:
            for row in pool.apply(function, (argument,)):
                rows.append(row)
                print(line(row), flush=True)
    if chosen.json:
        Path(chosen.json).write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
