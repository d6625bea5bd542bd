"""What calibration data say about a float network: mean and variance of every source's payload."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nmc import synapse
from nmc.arrays import refuse_infinite
from nmc.errors import NmcError
from nmc.frontend.float_network import run_network
from nmc.ir import Encoding, FloatArray, InputNeuron, Network, Projection

MAX_SAMPLES = 256
MIN_SAMPLES = 4
MAX_MACS = 1 << 35
"""Multiplications that a float run over the calibration samples may take: seconds on two cores."""
BATCH = 32
LARGEST = 1e100
"""Beyond, squares leave the range of floats."""
FRAME_ELEMENTS = 1 << 21
"""Elements kept per source for adaptive rounding (16 MB)."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """A population's payload over samples and steps, float units.

    mean, variance: population's shape. course: (T, C), mean of each step, C the first axis of the shape.
    frames: (F, *shape), a few steps as they were, evenly picked.
    """

    mean: FloatArray
    variance: FloatArray
    course: FloatArray
    frames: FloatArray

    def per_weight(self, projection: Projection) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of what each of the projection's weights multiplies; broadcastable to them."""
        shape = projection.weight_shape
        return (
            synapse.seen(projection.synapse, shape, self.mean),
            synapse.seen(projection.synapse, shape, self.variance),
        )


def check(network: Network, data: FloatArray) -> None:
    """Raise NmcError NMC-D03 unless the calibration data fit the network's input and carry information."""
    (population,) = network.inputs
    assert isinstance(population.neuron, InputNeuron)
    lead = 2 if population.neuron.encoding is Encoding.SPIKES else 1
    if data.ndim < 1 or len(data) == 0:
        raise NmcError("NMC-D03", population.label, "no calibration sample", "give at least one")
    if data.shape[lead:] != population.shape:
        expected = f"({'N, T' if lead == 2 else 'N'}, {', '.join(map(str, population.shape))})"
        raise NmcError("NMC-D03", population.label, f"data of shape {data.shape}, expected {expected}")
    refuse_infinite("NMC-D03", population.label, data)
    if np.abs(data).max() > LARGEST:
        problem = f"values of up to {np.abs(data).max():.3g}, whose squares no float holds"
        raise NmcError("NMC-D03", population.label, problem, "give data of ordinary size")
    if lead == 2 and (data % 1).any():
        raise NmcError(
            "NMC-D03",
            population.label,
            "trains hold values that are no whole numbers",
            "give spikes per step; analog values enter as one frame per sample",
        )
    if data.min() == data.max():
        raise NmcError("NMC-D03", population.label, f"every value is {data.min():g}", "give real samples")


def canonical(data: FloatArray) -> FloatArray:
    """The samples ordered by their content, so that no result depends on the order they came in."""
    if data.ndim < 1 or len(data) < 2:
        return data
    # Adding 0 makes -0 and 0 one content.
    keys = [hashlib.sha256((np.asarray(x, np.float64) + 0.0).tobytes()).digest() for x in data]
    return data[sorted(range(len(keys)), key=keys.__getitem__)]


def choose(network: Network, data: FloatArray) -> FloatArray:
    """The calibration samples that are used: at most 256, and fewer where a network is large.

    They are picked by content, not by place.
    """
    return canonical(data)[: _affordable(network)]


def _affordable(network: Network) -> int:
    macs = sum(
        synapse.synapse_count(p.synapse, p.weight_shape, network[p.source].shape) for p in network.projections
    )
    affordable = MAX_MACS // max(1, macs * network.steps)
    return max(MIN_SAMPLES, min(MAX_SAMPLES, affordable))


def batch_bytes(network: Network, samples: int) -> int:
    """What ``measure`` keeps of a batch: the float trains of all populations, and of the widest its state."""
    sizes = [population.size for population in network.populations]
    return min(samples, _affordable(network), BATCH) * network.steps * 8 * (sum(sizes) + 2 * max(sizes))


def measure(network: Network, data: FloatArray) -> dict[str, Statistics]:
    """Run the float network on at most 256 samples, in batches, and collect payload statistics.

    Args:
        network: FLOAT or TIMED.
        data: (N, *shape) frames or (N, T, *shape) trains.

    Raises:
        NmcError: NMC-D03 when the data do not fit or no population but the input ever spikes.
    """
    check(network, data)
    data = choose(network, data)
    names = [population.name for population in network.populations]
    sums = {name: np.zeros(network[name].shape) for name in names}
    squares = {name: np.zeros(network[name].shape) for name in names}
    courses = {name: np.zeros((network.steps, network[name].shape[0])) for name in names}
    frames: dict[str, list[FloatArray]] = {name: [] for name in names}
    count = len(data) * network.steps
    for start in range(0, len(data), BATCH):
        trains = run_network(network, data[start : start + BATCH], network.steps, record=names)
        for name in names:
            sums[name] += trains[name].sum(axis=(0, 1))
            squares[name] += np.square(trains[name]).sum(axis=(0, 1))
            courses[name] += trains[name].sum(axis=0).reshape(*courses[name].shape, -1).sum(axis=2)
            flat = trains[name].reshape(-1, *network[name].shape)
            frames[name].append(flat[_picked(start * network.steps, len(flat), network[name].size, count)])
    spiking = [p.name for p in network.compute if getattr(p.neuron, "threshold", 0) is not None]
    if spiking and not any(sums[name].any() for name in spiking):
        raise NmcError(
            "NMC-D03", network.name, "no neuron fires on the calibration data", "check its scale and T"
        )
    result = {}
    for name in names:
        # Nine digits: free of the order of float sums.
        mean = np.round(sums[name] / count, 9)
        variance = np.maximum(np.round(squares[name] / count, 9) - mean**2, 0.0)
        course = np.round(courses[name] / (len(data) * (mean.size // len(mean))), 9)
        result[name] = Statistics(mean, variance, course, np.concatenate(frames[name]))
    return result


def traffic(network: Network, statistics: Mapping[str, Statistics]) -> dict[str, float]:
    """Spikes per inference of every population that was measured; a payload of any size is one spike."""
    return {
        name: network.steps * float(np.minimum(np.abs(one.mean), 1.0).sum())
        for name, one in statistics.items()
    }


def _picked(first: int, length: int, size: int, count: int) -> slice:
    """Which of the frames first..first+length are kept: every n-th of all, so that they fit the memory."""
    every = max(1, -(-count * size // FRAME_ELEMENTS))
    return slice((-first) % every, length, every)
