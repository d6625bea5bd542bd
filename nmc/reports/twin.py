"""The network's operations priced as the literature does, and the network without spikes beside it."""

from __future__ import annotations

from nmc import synapse
from nmc.backends.base import Counts
from nmc.backends.sim.counts import weight_shape
from nmc.ir import Conv2d, Dense, Encoding, Fixed, InputNeuron, Network, Projection
from nmc.reports.literature import Work, logic
from nmc.reports.model import Twin


def twin_of(network: Network, counts: Counts) -> Twin:
    """Price a run by the formula of ``literature``, and the same network without spikes."""
    constants = logic()
    first = [one for one in network.projections if _reads_frames(network, one)]
    first_macs, macs = sum(_connections(network, one) for one in first), macs_of(network)
    names = {one.name for one in first}
    synops = sum(count for name, count in counts.synops.items() if name not in names) / counts.samples
    work = Work(first_macs, macs - first_macs, counts.steps)
    return Twin(
        constants.name,
        constants.source,
        first_macs,
        synops,
        work.energy(synops),
        work.energy(synops, every_step=True),
        macs,
        macs * (constants.joules("mac_fp32") or 0.0),
        macs * (constants.joules("mac_int8") or 0.0),
    )


def macs_of(network: Network) -> int:
    """Multiply-accumulates of one pass without spikes, borders exact.

    Projections that share one weight tensor into one population are the addends of a sum, which is weighted
    once. Pools, relays and gates are no weighted layers.
    """
    seen: dict[tuple[str, int], int] = {}
    for one in network.projections:
        if isinstance(one.synapse, Conv2d | Dense):
            tensor = one.weight.mant if isinstance(one.weight, Fixed) else one.weight
            seen[one.target, id(tensor)] = _connections(network, one)
    return sum(seen.values())


def _reads_frames(network: Network, projection: Projection) -> bool:
    neuron = network[projection.source].neuron
    return isinstance(neuron, InputNeuron) and neuron.encoding is not Encoding.SPIKES


def _connections(network: Network, projection: Projection) -> int:
    shape = network[projection.source].shape
    return synapse.synapse_count(projection.synapse, weight_shape(projection.weight), shape)
