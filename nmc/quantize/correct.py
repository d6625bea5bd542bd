"""Recovering firing rates without retraining: each channel's bias is moved until its neurons fire as often
as the float ones did on the calibration data."""

from __future__ import annotations

import numpy as np

from nmc.ir import FixedNeuron, FloatArray
from nmc.quantize.emulate import Emulator
from nmc.quantize.population import CORRECTION, ScaledPopulation

HALVINGS = 7
SIGMAS = 3.0
"""Rates that differ by less than so many standard deviations of a count differ by chance: left alone."""


def match_rates(scaled: ScaledPopulation, emulator: Emulator, wanted: FloatArray) -> None:
    """Move the bias of every output channel whose rate differs from the float one's.

    Args:
        scaled: rounded; its bias is changed.
        emulator: with every source of the population done, but for itself.
        wanted: mean spikes per step of the float population, its shape.
    """
    threshold = scaled.float_neuron.threshold
    if threshold is None:
        return
    channels = wanted.shape[0]
    goal = wanted.reshape(channels, -1).mean(axis=1)
    incoming = [scaled.projection(p) for p in (*scaled.chip, *scaled.host)]
    current = emulator.current(scaled.population(), incoming)
    own = [p for p in incoming if p.source == p.target]

    def rates() -> FloatArray:
        # The host's weights are rounded to the bias exponent, which moves with the bias.
        here = [scaled.projection(p) for p in (*scaled.chip, *scaled.host)]
        population = scaled.population()
        assert isinstance(population.neuron, FixedNeuron)
        spikes = emulator.fire(population, current, emulator.bias(population, here), own)
        return np.asarray(np.moveaxis(spikes, 2, 0).reshape(channels, -1).mean(axis=1, dtype=np.float64))

    events = emulator.observations * wanted[0].size
    noise = SIGMAS * np.sqrt(np.maximum(goal, 1 / events) / events)
    off = np.abs(rates() - goal) > noise
    if not off.any():
        return
    reach = 2 * CORRECTION * float(np.max(threshold))
    low, high = np.where(off, -reach, 0.0), np.where(off, reach, 0.0)
    start = scaled.shifted
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        scaled.shift(start + middle - scaled.shifted)
        too_often = rates() > goal
        low, high = np.where(too_often, low, middle), np.where(too_often, middle, high)
