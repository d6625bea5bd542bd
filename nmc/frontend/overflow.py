"""Numbers of a model are finite when they are read; folded into each other they may not be any more."""

from __future__ import annotations

import numpy as np

from nmc.errors import NmcError
from nmc.ir import Fixed, FloatArray, FloatNeuron, Network


def refuse_overflow(network: Network) -> None:
    """Raise NmcError NMC-G04 naming the layer with a number that no float holds."""
    for projection in network.projections:
        _refuse(projection.origin[-1] if projection.origin else projection.name, "weight", projection.weight)
    for population in network.compute:
        _refuse(population.label, "bias", population.bias)
        if isinstance(population.neuron, FloatNeuron):
            for field in ("threshold", "v0", "drop"):
                _refuse(population.label, field, getattr(population.neuron, field))


def _refuse(who: str, what: str, value: FloatArray | Fixed | None) -> None:
    if isinstance(value, np.ndarray) and not np.isfinite(value).all():
        problem = f"its {what} is not finite once scales and layers in front are multiplied in"
        raise NmcError("NMC-G04", who, problem, "train with weights and thresholds of ordinary size")
