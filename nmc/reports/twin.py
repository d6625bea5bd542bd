"""The network's operations priced as the literature does, and the network without spikes beside it.

E = E_MAC x MACs of the first layer + E_AC x sum over layers of synaptic operations, with E_MAC = 4.6 pJ and
E_AC = 0.9 pJ (Horowitz, ISSCC 2014, 45 nm). Papers differ in whether the first layer is computed once per
sample or in every step, so both are said.
"""

from __future__ import annotations

from nmc import synapse
from nmc.backends.base import Counts
from nmc.backends.sim.counts import weight_shape
from nmc.chip import EnergySet
from nmc.ir import Conv2d, Dense, Encoding, Fixed, InputNeuron, Network, Projection
from nmc.reports.model import Twin


def twin_of(network: Network, counts: Counts, constants: EnergySet) -> Twin:
    """Price a run with a set that has ``mac_fp32``, ``add_fp32`` and ``mac_int8``."""
    mac, add, mac8 = (constants.joules(term) or 0.0 for term in ("mac_fp32", "add_fp32", "mac_int8"))
    first = [one for one in network.projections if _reads_frames(network, one)]
    first_macs = sum(_connections(network, one) for one in first)
    names = {one.name for one in first}
    synops = sum(count for name, count in counts.synops.items() if name not in names) / counts.samples
    macs = macs_of(network)
    return Twin(
        constants.name,
        constants.source,
        first_macs,
        synops,
        mac * first_macs + add * synops,
        mac * first_macs * counts.steps + add * synops,
        macs,
        mac * macs,
        mac8 * macs,
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
