"""Every network of the zoo at its published size: does it compile for Loihi 2, how long, on how many cores?

    python benchmarks/zoo.py                        # all 47, hours on one core
    python benchmarks/zoo.py resnet-20 7b-net       # some of them
    python benchmarks/zoo.py --limit 600            # give up a network after so many seconds
    python benchmarks/zoo.py --nir                  # narrow variants by way of a NIR file: the same bundle?

Weights and samples are random (seed 0), two samples calibrate. Networks that were converted reset by
subtraction, which Loihi 2 has not got: here they reset to zero. T is the published one, at most ``--steps``.
Each network has a process of its own. Times are CPU seconds (all threads added up), so that other work on the
machine does not count; compiling includes a run of the readable reference engine on the samples that go into
the bundle. Memory is the process's peak. ``bits``: the native engine gives that run's output.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

import nir
import numpy as np

import nmc
from nmc.backends.engines import engine
from nmc.frontend import opgraph as og
from nmc.frontend.opgraph import OpGraph
from nmc.frontend.zoo import NETWORKS, Entry

CHIP = "loihi2:hala-point"
"""1,152 chips; a network takes as few of them as it needs."""
STEPS = 16
NIR_STEPS = 4
LIMIT = 3600.0
COLUMNS = (
    *("network", "T", "neurons", "populations", "cores", "chips", "synapses, Mbit", "build, s", "compile, s"),
    *("run a sample, s", "peak GB", "bits"),
)


def accepts(build: Callable[..., Any], keyword: str) -> bool:
    return keyword in signature(build).parameters


def full_size(entry: Entry) -> OpGraph:
    """The network as published, with the reset that the chip has."""
    hard = {"reset": og.ResetRule.VALUE} if accepts(entry.build, "reset") else {}
    return entry.build(**hard)


def samples(graph: OpGraph, steps: int) -> np.ndarray:
    """Two frames of noise; for event cameras two trains in which one pixel in twenty fires per step."""
    rng, shape = np.random.default_rng(0), graph.input_shapes[0]
    if shape[0] == 2:
        return (rng.random((2, steps, *shape)) < 0.05).astype(np.uint8)
    return rng.random((2, *shape))


def measure(name: str, most: int) -> dict[str, Any]:
    entry = NETWORKS[name]
    steps = min(entry.steps, most)
    start = time.process_time()
    graph = full_size(entry)
    x = samples(graph, steps)
    built = time.process_time() - start
    start = time.process_time()
    bundle = nmc.compile(graph, CHIP, data=x, steps=steps)
    seconds = time.process_time() - start
    network, mapping = bundle.network, bundle.network.mapping
    assert mapping is not None
    golden = bundle.golden["x"].astype(np.int64)
    start = time.process_time()
    trace = engine("native").run(network, golden, steps)
    ran = (time.process_time() - start) / len(golden)
    cores = {tile.core for tile in mapping.tiles}
    return {
        "network": name,
        "T": steps,
        "neurons": sum(p.size for p in network.compute),
        "populations": len(network.compute),
        "cores": len(cores),
        "chips": len({core // (bundle.chip.cores_per_chip or 1) for core in cores}),
        "synapses, Mbit": round((nmc.report(bundle).total.memory_bits or 0) / 1e6, 1),
        "build, s": round(built, 1),
        "compile, s": round(seconds, 1),
        "run a sample, s": round(ran, 2),
        "peak GB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 1),
        "bits": "same" if np.array_equal(trace.output, bundle.golden["output"]) else "DIFFER",
    }


def by_way_of_nir(name: str) -> str:
    """Whether what ``nir`` reads and nmc reads back compiles to the same bytes as the graph itself."""
    entry = NETWORKS[name]
    graph = entry.build(**entry.narrow)
    x = samples(graph, NIR_STEPS)
    with tempfile.TemporaryDirectory() as folder:
        model, bundles = Path(folder) / "model.nir", [Path(folder) / f"{number}.nmc" for number in range(2)]
        nmc.export(graph, model)
        nodes = len(nir.read(model).nodes)
        for one, path in zip((graph, nmc.load(model)), bundles, strict=True):
            nmc.compile(one, CHIP, data=x, steps=NIR_STEPS).save(path)
        same = bundles[0].read_bytes() == bundles[1].read_bytes()
    return f"| {name} | {nodes} | {'same' if same else 'DIFFER'} |"


def in_a_process(name: str, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, name, "--here", "--steps", str(options.steps)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=options.limit, check=False)
    except subprocess.TimeoutExpired:
        return {"network": name, "populations": f"given up after {options.limit:.0f} s"}
    if done.returncode:
        return {"network": name, "populations": (done.stderr.strip().splitlines() or ["killed"])[-1][:300]}
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NETWORK")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds per network")
    parser.add_argument("--json", type=Path, help="append each row to this file as a line of JSON")
    parser.add_argument("--here", action="store_true", help="one network, in this process, as JSON")
    parser.add_argument("--nir", action="store_true", help="narrow variants by way of a NIR file")
    options = parser.parse_args()
    if options.nir:
        print("| network | NIR nodes | bundle |\n|---|---|---|", flush=True)
        for name in options.names or NETWORKS:
            print(by_way_of_nir(name), flush=True)
        return
    if options.here:
        print(json.dumps(measure(options.names[0], options.steps)))
        return
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    for name in options.names or NETWORKS:
        row = in_a_process(name, options)
        print(f"| {' | '.join(str(row.get(column, '')) for column in COLUMNS)} |", flush=True)
        if options.json:
            with options.json.open("a") as file:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
