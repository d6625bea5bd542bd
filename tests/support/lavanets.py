"""Random quantized residual networks for the Lava engines, all features mixed, and a command that runs many.

python tests/support/lavanets.py lava-inprocess 1000       against the reference, in process
python tests/support/lavanets.py lava 30                   through Lava's runtime
"""

from __future__ import annotations

import sys
from dataclasses import replace

import gen
import numpy as np

from nmc import timing
from nmc.backends.compare import compare
from nmc.backends.engines import engine
from nmc.backends.loihi.lower import lower
from nmc.ir import Encoding, Fixed, FixedNeuron, InputNeuron, IntArray, Network, Reset, Stage, frozen
from nmc.rules import verify

SAMPLES, STEPS = 3, 5


def network_of(
    seed: int, *, on_host: bool = False, loops: bool = False, **features: bool
) -> tuple[Network, IntArray]:
    """A random quantized residual network, and samples for it."""
    free = gen.float_network(seed, STEPS, **features)
    if loops:
        free = gen.with_loops(free, seed)
    if on_host:
        free = current_input(free)
    network = gen.quantize(timing.balance(free, (62, 62, 1)[seed % 3]))
    if on_host:
        network = with_host_biases(network)
    if seed % 4 == 0:
        network = with_readout(network)
    if seed % 5 == 0:
        network = with_start_values(network, seed)
    verify(network, Stage.QUANTIZED)
    return network, gen.stimulus(network, SAMPLES, STEPS, seed)


def current_input(free: Network) -> Network:
    """The input as one frame whose first projections the host computes."""
    (source,) = free.inputs
    neuron = InputNeuron(Encoding.CURRENT, lowest=-5, highest=5)
    source = replace(source, neuron=neuron, max_payload=5)
    projections = tuple(replace(p, on_host=p.source == source.name) for p in free.projections)
    return free.with_(populations=free.map_populations({source.name: source}), projections=projections)


def with_host_biases(network: Network) -> Network:
    """A bias of exponent 5 where the host writes; the sum of the projections is halved and rounded."""
    fed = {p.target for p in network.projections if p.on_host}
    zero = Fixed(np.zeros((), np.int64), 5, 13, signed=True)
    populations = tuple(
        replace(p, bias=zero) if p.name in fed and p.bias is None else p for p in network.populations
    )
    projections = tuple(replace(p, host_shift=int(p.on_host)) for p in network.projections)
    return network.with_(populations=populations, projections=projections)


def with_readout(network: Network) -> Network:
    """The output population as an integrator that is read by its potential."""
    out = network[network.outputs[0]]
    neuron = replace(out.neuron, vth=None, reset=Reset.ZERO, drop=None)
    return network.with_(
        populations=network.map_populations({out.name: replace(out, neuron=neuron)}), readout="potential"
    )


def with_start_values(network: Network, seed: int) -> Network:
    """v0 on one population, per neuron."""
    cell = next(p for p in network.compute if isinstance(p.neuron, FixedNeuron) and ".delay" not in p.name)
    v0 = frozen(np.random.default_rng(seed).integers(-5000, 5000, cell.shape), np.int64)
    return network.with_(
        populations=network.map_populations({cell.name: replace(cell, neuron=replace(cell.neuron, v0=v0))})
    )


def features_of(network: Network, steps: int, x: IntArray) -> set[str]:
    """What a network uses, so that tests can show that they tested it."""
    lowered = lower(network, x, steps)
    found = {cell.process for cell in lowered.neurons} | {part.process for part in lowered.synapses}
    if any(p.bias is not None for p in network.compute):
        found.add("bias")
    if any(cell.host_bias is not None for cell in lowered.neurons):
        found.add("host")
    return found | {network.readout}


def many(name: str, count: int, start: int = 0) -> int:
    """Compare networks ``start`` to ``start + count`` with the reference; 1 where one differs."""
    values = failed = 0
    for seed in range(start, start + count):
        network, x = network_of(seed, on_host=seed % 3 == 1, loops=seed % 4 == 3)
        result = compare(network, x, STEPS, engine("reference"), engine(name))
        values += result.compared
        if not result.passed:
            failed += 1
            print(f"network {seed}: {result.first}", flush=True)
    print(f"{name}: {count} networks, {values:,} spikes, u and v compared, {failed} networks differ")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(many(sys.argv[1], *map(int, sys.argv[2:])))
