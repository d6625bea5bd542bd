"""From the user's data to the integers that enter the chip; one rule for all engines."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nmc import neuron as spec
from nmc import synapse
from nmc.arrays import numbers, refuse_infinite
from nmc.errors import NmcError
from nmc.ir import Encoding, Fixed, InputNeuron, IntArray, Network, Population


def encode(network: Network, x: npt.ArrayLike) -> IntArray:
    """Scale, round and clip samples to the input's integers.

    Args:
        network: with one input population.
        x: (N, *shape) for frames, (N, T, *shape) for spike trains; any numeric dtype.

    Returns:
        int64 of the same shape: ``clip(rint(x / scale), lowest, highest)``. Trains are whole numbers as
        they are.

    Raises:
        NmcError: NMC-D02 for a wrong shape or kind, values that are not finite, and trains of other numbers
            than a spike can carry.
    """
    (population,) = network.inputs
    neuron = population.neuron
    assert isinstance(neuron, InputNeuron)
    array = numbers(population.label, x)
    train = neuron.encoding is Encoding.SPIKES
    lead = 2 if train else 1
    if array.ndim != lead + len(population.shape) or array.shape[lead:] != population.shape:
        expected = ("(N, T, " if train else "(N, ") + ", ".join(map(str, population.shape)) + ")"
        raise NmcError("NMC-D02", population.label, f"data of shape {array.shape}, expected {expected}")
    if array.shape[0] == 0:
        raise NmcError("NMC-D02", population.label, "no sample (N = 0)", "give at least one")
    values = array.astype(np.float64)
    refuse_infinite("NMC-D02", population.label, values)
    integers = np.rint(values / neuron.scale)
    if train and not np.array_equal(integers, values):
        raise NmcError(
            "NMC-D02",
            population.label,
            f"{int((integers != values).sum())} values of the trains are no whole numbers",
            "give spikes per step; analog values enter as one frame per sample",
        )
    if train and not np.array_equal(integers, np.clip(integers, neuron.lowest, neuron.highest)):
        found, allowed = f"{integers.min():.0f}..{integers.max():.0f}", f"{neuron.lowest}..{neuron.highest}"
        raise NmcError("NMC-D02", population.label, f"spike payloads {found}, allowed {allowed}")
    return np.asarray(np.clip(integers, neuron.lowest, neuron.highest).astype(np.int64))


MANY_CLIPPED = 0.05
"""Share of the values beyond the range of the calibration data that no test set of the same kind reaches."""
FEW_LEVELS = 1 / 16
"""Share of that range within which no data of the same kind stay."""


def oddities(network: Network, x: npt.ArrayLike) -> tuple[str, ...]:
    """What frames are like that were given in another unit than the calibration data, 0..255 for 0..1 or the
    other way round; () where nothing is odd, and for trains. x: as ``encode`` takes it."""
    (population,) = network.inputs
    neuron = population.neuron
    assert isinstance(neuron, InputNeuron)
    if neuron.encoding is Encoding.SPIKES:
        return ()
    values = np.asarray(x, np.float64) / neuron.scale
    integers = np.rint(values)
    beyond = float(np.mean((integers < neuron.lowest) | (integers > neuron.highest)))
    share = float(np.abs(values).max()) / max(-neuron.lowest, neuron.highest)
    odd = ""
    if beyond > MANY_CLIPPED:
        odd = f"{beyond:.1%} of the values lie beyond the range that it was compiled for and are clipped"
    elif share < FEW_LEVELS:
        odd = f"the values reach {share:.2%} of the range that it was compiled for"
    return (f"{population.label}: {odd}; are they in the unit of the calibration data?",) if odd else ()


def refuse_foreign(network: Network, x: IntArray) -> None:
    """Raise NmcError NMC-D02 unless the payloads lie in the declared range: engines rely on it."""
    (population,) = network.inputs
    neuron = population.neuron
    assert isinstance(neuron, InputNeuron)
    low, high = int(x.min(initial=0)), int(x.max(initial=0))
    if low < min(0, neuron.lowest) or high > max(0, neuron.highest):
        raise NmcError(
            "NMC-D02",
            population.label,
            f"payloads {low}..{high}, allowed {neuron.lowest}..{neuron.highest}",
            "encode samples with backends.encode.encode",
        )


def train_of(network: Network, x: IntArray, steps: int) -> npt.NDArray[Any]:
    """(N, T, *shape): a frame is repeated in every step (a view); a train is cut or refused.

    Raises NmcError NMC-D02 when a train has fewer than ``steps`` steps.
    """
    (population,) = network.inputs
    neuron = population.neuron
    assert isinstance(neuron, InputNeuron)
    if neuron.encoding is Encoding.SPIKES:
        if x.shape[1] < steps:
            raise NmcError("NMC-D02", population.label, f"trains of {x.shape[1]} steps, {steps} asked for")
        return x[:, :steps]
    return np.broadcast_to(x[:, None], (x.shape[0], steps, *x.shape[1:]))


def host_mantissas(network: Network, population: Population, x: IntArray) -> IntArray:
    """Bias mantissas that the host writes before a sample (Encoding.CURRENT); (N, *shape) int64.

    mant = bias.mant + sum over host projections of ``neuron.written_by_host(W x, shift)``
    """
    assert isinstance(population.bias, Fixed)
    total = np.broadcast_to(population.bias.mant, (x.shape[0], *population.shape)).copy()
    for projection in network.incoming(population.name):
        if projection.on_host:
            current = synapse.apply_integer(projection.synapse, projection.integer_weight, x)
            total += spec.written_by_host(current.reshape(total.shape), projection.host_shift)
    return total


def has_host_input(network: Network, population: Population) -> bool:
    return any(projection.on_host for projection in network.incoming(population.name))
