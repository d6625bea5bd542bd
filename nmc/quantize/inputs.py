"""From analog frames to integers: the step of the input's grid, and who computes the first layer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nmc.errors import InternalError, NmcError
from nmc.ir import Encoding, FloatArray, InputNeuron, IntArray, Network, Population, Stage

PAYLOAD_LEVELS = 255
"""Frames are sent with at most eight bits of magnitude, like the images they mostly are."""
COARSER_LEVELS = (127, 63, 31, 15, 7, 3, 1)
PROBED = 4096
"""Numbers of the data that every grid is tried on; all data only for grids that these lie on."""


def host_input(network: Network) -> Network:
    """Let the host compute the first layer of frames and write it as bias current.

    Contract: FLOAT in, FLOAT out; for chips whose spikes carry no payload (architecture section 3).
    The projections that leave a GRADED input become host projections; nothing else changes.

    Raises:
        NmcError: NMC-Q03 for a projection with lag, which the host cannot make wait.
    """
    if network.stage is not Stage.FLOAT:
        raise InternalError("host_input expects a FLOAT network")
    frames = {p.name for p in network.inputs if _encoding(p) is Encoding.GRADED}
    populations = {
        name: replace(network[name], neuron=replace(_neuron(network[name]), encoding=Encoding.CURRENT))
        for name in frames
    }
    for projection in network.projections:
        if projection.source in frames and projection.lag:
            raise NmcError(
                "NMC-Q03",
                network[projection.target].label,
                "reads frames after a delay, and the host writes them as a bias before the first step",
                "feed spike trains, or compile for a chip whose spikes carry payloads",
            )
    projections = tuple(replace(p, on_host=True) if p.source in frames else p for p in network.projections)
    return network.with_(populations=network.map_populations(populations), projections=projections)


def _neuron(population: Population) -> InputNeuron:
    assert isinstance(population.neuron, InputNeuron)
    return population.neuron


def _encoding(population: Population) -> Encoding:
    return _neuron(population).encoding


def grids(population: Population, data: FloatArray | None) -> list[InputNeuron]:
    """The grids on which the input's integers may lie, the finest first: ``x_int = clip(rint(x / scale))``.

    Spike trains keep their integers. Frames get the coarsest grid 1/g, g = 1..255, on which all calibration
    data lie (so that nothing is lost), else 255 levels over their largest magnitude; then coarser ones, for
    layers whose sums have no room for so many levels. Values beyond the calibration data's range are
    clipped. Without data, frames are taken to lie in [0, 1].
    """
    neuron = _neuron(population)
    if neuron.encoding is Encoding.SPIKES:
        return [replace(neuron, scale=1.0, highest=population.max_payload)]
    if data is None:
        finest, largest = 1.0 / PAYLOAD_LEVELS, 1.0
    else:
        largest = float(np.abs(data).max(initial=0.0))
        if largest == 0.0:
            raise NmcError("NMC-D03", population.label, "calibration data are all 0", "give real samples")
        finest = _exact_step(data, largest) or largest / PAYLOAD_LEVELS
    steps = [finest]
    if neuron.encoding is Encoding.GRADED:
        top = round(largest / finest)
        steps += [largest / levels for levels in COARSER_LEVELS if levels < top]
    result = []
    for step in steps:
        low, high = (0.0, 1.0) if data is None else (float(data.min()), float(data.max()))
        lowest, highest = int(min(0, np.rint(low / step))), int(max(1, np.rint(high / step)))
        result.append(replace(neuron, scale=step, lowest=lowest, highest=highest))
    return result


def _exact_step(data: FloatArray, largest: float) -> float | None:
    """The coarsest 1/g on which all data lie; None where there is none within the payload."""
    # A look at a few numbers rules out nearly every grid.
    few = data.reshape(-1)[:: max(1, data.size // PROBED)]
    for grid in range(1, PAYLOAD_LEVELS + 1):
        if largest * grid <= PAYLOAD_LEVELS and _lie_on(few, grid) and _lie_on(data, grid):
            return 1.0 / grid
    return None


def _lie_on(data: FloatArray, grid: int) -> bool:
    return np.array_equal(np.rint(data * grid), data * grid)


def on_grid(neuron: InputNeuron, data: FloatArray) -> IntArray:
    """Samples as the input's integers."""
    return np.asarray(np.clip(np.rint(data / neuron.scale), neuron.lowest, neuron.highest).astype(np.int64))


def grid_error(neuron: InputNeuron, data: FloatArray | None) -> float:
    """Mean square of what the grid rounds away, in payload units; of a uniform error without data."""
    if data is None:
        return 1 / 12
    return float(np.mean((data / neuron.scale - on_grid(neuron, data)) ** 2))
