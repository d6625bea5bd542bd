"""From analog frames to integers: the step of the input's grid, and who computes the first layer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nmc.errors import InternalError, NmcError
from nmc.ir import Encoding, FloatArray, InputNeuron, Network, Population, Stage

PAYLOAD_LEVELS = 255
"""Frames are sent with at most eight bits of magnitude, like the images they mostly are."""


def host_input(network: Network) -> Network:
    """Let the host compute the first layer of frames and write it as bias current.

    Contract: FLOAT in, FLOAT out; for chips whose spikes carry no payload (architecture section 3).
    The projections that leave a GRADED input become host projections; nothing else changes.
    """
    if network.stage is not Stage.FLOAT:
        raise InternalError("host_input expects a FLOAT network")
    frames = {p.name for p in network.inputs if _encoding(p) is Encoding.GRADED}
    populations = {
        name: replace(network[name], neuron=replace(_neuron(network[name]), encoding=Encoding.CURRENT))
        for name in frames
    }
    projections = tuple(replace(p, on_host=True) if p.source in frames else p for p in network.projections)
    return network.with_(populations=network.map_populations(populations), projections=projections)


def _neuron(population: Population) -> InputNeuron:
    assert isinstance(population.neuron, InputNeuron)
    return population.neuron


def _encoding(population: Population) -> Encoding:
    return _neuron(population).encoding


def input_grid(population: Population, data: FloatArray | None) -> InputNeuron:
    """The input's integers: ``x_int = clip(rint(x / scale))``.

    Spike trains keep their integers. Frames get the coarsest grid 1/g, g = 1..255, on which all calibration
    data lie (so that nothing is lost), else 255 levels over their largest magnitude; values beyond the
    calibration data's range are clipped. Without data, frames are taken to lie in [0, 1].
    """
    neuron = _neuron(population)
    if neuron.encoding is Encoding.SPIKES:
        return replace(neuron, scale=1.0, highest=population.max_payload)
    if data is None:
        return replace(neuron, scale=1.0 / PAYLOAD_LEVELS, lowest=0, highest=PAYLOAD_LEVELS)
    largest = float(np.abs(data).max(initial=0.0))
    if largest == 0.0:
        raise NmcError("NMC-D03", population.label, "calibration data are all 0", "give real samples")
    for grid in range(1, PAYLOAD_LEVELS + 1):
        if largest * grid <= PAYLOAD_LEVELS and np.array_equal(np.rint(data * grid), data * grid):
            scale = 1.0 / grid
            break
    else:
        scale = largest / PAYLOAD_LEVELS
    integers = np.rint(data / scale)
    return replace(
        neuron, scale=scale, lowest=int(min(0, integers.min())), highest=int(max(1, integers.max()))
    )
