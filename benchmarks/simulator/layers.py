"""Per layer of a benchmark network: its time and the fraction of its bound that the native engine reaches.

    .venv-frameworks/bin/python benchmarks/simulator/layers.py --network sew224 --batch 1

The bound of a convolution is the lesser of two: all its multiply-adds at the measured int8 peak, or its
synaptic operations at the measured peak of adding weight rows that lie in the L1 cache (peaks.py; border taps
and the repetition of a constant input are left out of both). Pools, joins, the input, neurons and lists have
no bound and count as lost: the fraction of the network is that of the sum of the bounds to the whole run.
Layers: the least wall time of all rounds; the whole run: the median CPU time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import peaks
from models import MODELS, folded, images, network
from peaks import Peaks

from nmc import synapse
from nmc.backends.base import Counts
from nmc.backends.sim.native import NativeEngine
from nmc.ir import Conv2d, Dense, Encoding, InputNeuron, Network, Projection

CACHE = Path(__file__).parent / ".cache"


def multiply_adds(net: Network, projection: Projection, steps: int) -> int:
    """Per sample, taps inside the source only; once where the source is constant."""
    if not isinstance(projection.synapse, Conv2d | Dense):
        return 0
    source = net[projection.source]
    fixed = isinstance(source.neuron, InputNeuron) and source.neuron.encoding is not Encoding.SPIKES
    count = synapse.synapse_count(projection.synapse, projection.weight_shape, source.shape)
    return int(count) * (1 if fixed else steps)


def bounds(net: Network, counts: Counts, steps: int, one: Peaks, synops_peak: float) -> dict[str, float]:
    """Seconds per sample and population; 0 without convolutions."""
    found: dict[str, float] = {}
    for population, incoming in net.walk():
        total = 0.0
        for projection in incoming:
            products = multiply_adds(net, projection, steps)
            if not products:
                continue
            dense = products / one.products
            source = net[projection.source]
            events = counts.graded_synops[projection.name] / counts.samples / synops_peak
            total += dense if source.is_input else min(dense, events)
        found[population.name] = total
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", choices=list(MODELS), default="sew224")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=25)
    options = parser.parse_args()
    model = MODELS[options.network]
    net = network(folded(options.network, CACHE))
    x = images(options.batch, model.size, seed=7)
    engine = NativeEngine(1)
    counts = engine.run(net, x, model.steps).counts
    seconds: list[float] = []
    layers: list[dict[str, int]] = []
    for _ in range(options.rounds):
        start = time.process_time()
        engine.run(net, x, model.steps)
        seconds.append((time.process_time() - start) / options.batch)
        layers.append(engine.profile["nanoseconds"])
    one = peaks.measure()
    print(
        f"peaks of one core: {one.products / 1e9:.0f} G multiply-adds/s, {one.synops / 1e9:.0f} G synops/s "
        f"({one.averaged / 1e9:.0f} as nmc adds them), {one.bandwidth / 1e9:.0f} GB/s copied"
    )
    bound, strict = (bounds(net, counts, model.steps, one, peak) for peak in (one.synops, one.averaged))
    events, dense = engine.profile["event_steps"], engine.profile["dense_steps"]
    print(
        "| layer | shape | events per site | path | ms | bound, ms | reached |\n|---|---|---|---|---|---|---|"
    )
    for population, incoming in net.walk():
        name = population.name
        took = min(one_round[name] for one_round in layers) / 1e6 / options.batch
        convolutions = [p for p in incoming if multiply_adds(net, p, 1)]
        rate, path = "", ""
        if convolutions:
            source = net[convolutions[0].source]
            sites = source.size * options.batch * model.steps
            rate = "" if source.is_input else f"{counts.grades[source.name] / sites:.2f}"
            path = (
                "event"
                if sum(events[p.name] for p in convolutions) > sum(dense[p.name] for p in convolutions)
                else "dense"
            )
        reached = f"{bound[name] * 1e3 / took:.0%}" if bound[name] else ""
        limit = f"{bound[name] * 1e3:.2f}" if bound[name] else ""
        shape = " x ".join(map(str, population.shape))
        print(f"| {name} | {shape} | {rate} | {path} | {took:.2f} | {limit} | {reached} |")
    whole = statistics.median(seconds)
    print(
        f"whole run {whole * 1e3:.2f} ms per image, bounds {sum(bound.values()) * 1e3:.2f} ms: "
        f"{sum(bound.values()) / whole:.0%} (least run {sum(bound.values()) / np.min(seconds):.0%}; "
        f"against rows added as nmc adds them {sum(strict.values()) / whole:.0%})"
    )


if __name__ == "__main__":
    main()
