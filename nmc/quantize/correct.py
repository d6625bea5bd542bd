"""Recovering firing rates without retraining: each channel's bias is moved until its neurons fire as often
as the float ones did on the calibration data, and its start value until they fire as early."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nmc.ir import FixedNeuron, FloatArray
from nmc.quantize import weights
from nmc.quantize.emulate import Emulator
from nmc.quantize.population import CORRECTION, START, ScaledPopulation

HALVINGS = 7
SIGMAS = 3.0
"""Rates that differ by less than so many standard deviations of a count differ by chance: left alone."""
START_STEPS = 4
START_STEP = START / START_STEPS
"""Start values that are tried, up and down, in thresholds."""
START_GAIN = 0.5
"""A start value must leave less than this share of the error."""


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
    fire = _courses(scaled, emulator)

    def rates() -> FloatArray:
        return np.asarray(fire().mean(axis=0))

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


def match_course(scaled: ScaledPopulation, emulator: Emulator, wanted: FloatArray) -> None:
    """Choose the start value of every output channel with which it fires when the float one does.

    Args:
        scaled: rounded and its rates matched; its start value is changed.
        emulator: with every source of the population done, but for itself.
        wanted: mean spikes per step of the float population, (T, C_out).
    """
    threshold = scaled.float_neuron.threshold
    if threshold is None:
        return
    fire = _courses(scaled, emulator)
    step = weights.per_output(np.asarray(threshold), np.max) * START_STEP

    def missed() -> FloatArray:
        return np.asarray(np.square(fire() - wanted).sum(axis=0))

    events = emulator.observations / len(wanted) * scaled.neurons_per_channel
    chance = SIGMAS**2 * np.maximum(wanted, 1 / events).sum(axis=0) / events
    without = missed()
    if (without <= chance).all():
        return
    starts = np.arange(-START_STEPS, START_STEPS + 1)
    errors = []
    for number in starts:
        scaled.start(number * np.broadcast_to(step, without.shape))
        errors.append(missed())
    best = np.argmin(errors, axis=0)
    clear = (without > chance) & (np.min(errors, axis=0) < START_GAIN * without)
    scaled.start(np.where(clear, starts[best], 0) * step)


def _courses(scaled: ScaledPopulation, emulator: Emulator) -> Callable[[], FloatArray]:
    """A function that runs the population as it then is: mean spikes per step and channel, (T, C_out)."""
    incoming = [scaled.projection(p) for p in (*scaled.chip, *scaled.host)]
    current = emulator.current(scaled.population(), incoming)
    own = [p for p in incoming if p.source == p.target]

    def fire() -> FloatArray:
        # The host's weights are rounded to the bias exponent, which moves with the bias.
        here = [scaled.projection(p) for p in (*scaled.chip, *scaled.host)]
        population = scaled.population()
        assert isinstance(population.neuron, FixedNeuron)
        spikes = emulator.fire(population, current, emulator.bias(population, here), own)
        return np.asarray(spikes.reshape(*spikes.shape[:3], -1).mean(axis=(0, 3), dtype=np.float64))

    return fire
