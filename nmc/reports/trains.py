"""Statistics of spike trains: what one neuron sent over the steps of one sample is one train.

Definitions as in Dayan and Abbott, Theoretical Neuroscience (2001), chapter 1: the coefficient of variation
of the intervals between spikes, and the Fano factor of spike counts, here over all trains of a layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from nmc.reports.model import TrainStatistics


def statistics_of(layer: str, spikes: npt.NDArray[Any]) -> TrainStatistics:
    """The statistics of a layer.

    Args:
        layer: its name.
        spikes: (N, T, *shape) integers; what is not zero is a spike, whatever its payload.
    """
    steps = spikes.shape[1]
    trains = np.moveaxis(spikes != 0, 1, -1).reshape(-1, steps)
    counts = trains.sum(axis=1)
    firing = counts > 0
    which, when = np.nonzero(trains)
    gaps = np.diff(when)[np.diff(which) == 0]
    mean = float(gaps.mean()) if gaps.size else None
    return TrainStatistics(
        layer=layer,
        trains=len(trains),
        silent=1.0 - float(firing.mean()),
        always=float((counts == steps).mean()),
        rate=float(counts.sum()) / trains.size,
        first_step=float(trains[firing].argmax(axis=1).mean()) if firing.any() else None,
        interval_steps=mean,
        interval_cv=None if mean is None else float(gaps.std()) / mean,
        fano=float(counts.var() / counts.mean()) if firing.any() else None,
    )


def statistics(spikes: Mapping[str, npt.NDArray[Any]]) -> tuple[TrainStatistics, ...]:
    """The statistics of every recorded layer that has neurons, in order."""
    return tuple(statistics_of(layer, array) for layer, array in spikes.items() if array.size)
