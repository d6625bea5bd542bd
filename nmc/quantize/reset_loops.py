"""Soft resets on chips whose neurons reset to 0 only: a neuron of two states, and a synapse onto itself.

The stock neuron (``nmc/neuron.py``) has a current ``u[t] = k u[t-1] + a[t]`` and a potential
``v[t] = keep_v v[t-1] + u[t] + bias``; a spike clears v, but not u. So let u be the membrane: k is the
membrane's decay, ``keep_v`` the smallest there is, and v only says when to fire. A soft reset then changes u,
which a spike can do itself: over a synapse it arrives one step later, with the next input. In real numbers

    V[t] = k (V[t-1] - drop s[t-1]) + a[t] + b          the soft reset; b the bias current, V[-1] = v0
    U[t] = k U[t-1] + a[t] - k drop s[t-1] + b - (1 - k) v0

gives U = V - v0 in every step, by induction, and ``v = U + v0`` fires when V does. So

- every neuron gets a synapse onto itself of weight ``-k drop`` (Identity, lag 1);
- v0 becomes the bias: start values cost nothing;
- u must add up the constant current ``b - (1 - k) v0``, but the chip adds its bias to v: a *clock*, a
  population whose own bias lets it fire in every step, sends the current over one synapse per neuron.

Against the soft reset of ``neuron.step`` the integers lose, in every engine alike:

- u keeps at most 4095 parts of 4096 (``neuron.U_DECAY_OFFSET``), and v keeps up to one of them after a step
  without a spike. Where nothing should decay, the bias makes up for it (``_start``); a membrane that has
  lost more or less than that when it comes near the threshold may fire a step earlier or later;
- ``drop`` and the current are weights, 8 bits and an exponent. The quantizer scales a population so that its
  drop is one (``ScaledPopulation``). In networks quantized elsewhere threshold and drop both move to the
  nearest one where there is no decay, so that nothing drifts;
- spikes that come back reach past a sample's end: samples run one at a time (``Network.remembers``).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nmc import neuron as spec
from nmc import timing
from nmc.chip import Chip
from nmc.errors import NmcError
from nmc.ir import (
    Conv2d,
    Dense,
    Fixed,
    FixedNeuron,
    FloatArray,
    FloatNeuron,
    Identity,
    IntArray,
    Network,
    Population,
    Projection,
    Synapse,
    frozen,
)
from nmc.quantize import neurons, ranges, weights

CLOCK = FixedNeuron(
    vth=Fixed(np.array(0), spec.WEIGHT_SHIFT, spec.THRESHOLD_BITS, signed=False),
    du=neurons.decay_field(0.0, spec.U_DECAY_OFFSET),
    dv=neurons.decay_field(0.0, 0),
)
"""Fires whenever it has a bias."""
NAMED = 3
"""Layers that the note names; a ResNet has dozens."""
ROUNDED = 1 / 128
"""What rounding to 8-bit weights of one exponent may change, as a share of the largest."""
CLOCK_BIAS = Fixed(np.array(1), spec.WEIGHT_SHIFT, spec.BIAS_MANT_BITS, signed=True)


def can_loop(neuron: FloatNeuron | FixedNeuron) -> bool:
    """Whether u is free to be the membrane: it has no synaptic filter of its own to compute."""
    if isinstance(neuron, FloatNeuron):
        return neuron.subtracted is not None and neuron.keep_u == 0.0
    return neuron.drop is not None and int(neuron.du.mant) == neurons.ONE - 1


def is_looped(network: Network, population: Population) -> bool:
    """Whether a population's membrane is in u, its soft reset a synapse onto itself (``reset_loops``)."""
    neuron = population.neuron
    fades = isinstance(neuron, FixedNeuron) and int(neuron.dv.mant.min()) == int(CLOCK.dv.mant)
    return fades and ranges.own_inhibition(network, population) is not None


def is_clock(network: Network, population: Population) -> bool:
    """Whether a population lives on its bias alone (``reset_loops``)."""
    return not population.is_input and not network.incoming(population.name)


def reset_loops(network: Network, chip: Chip) -> Network:
    """Replace soft resets by synapses of each neuron onto itself, where the chip has none.

    Contract: QUANTIZED in, QUANTIZED out. Levels stay; populations fire as before but for what this module's
    docstring lists. Clocks are new populations, one step before those that they drive. A note says so.

    Raises:
        NmcError: NMC-Q03 for a soft reset that cannot be looped: a synaptic filter (CUBA) needs u itself, and
            what the host writes as bias would not be added up. NMC-Q02 for what no weight or bias holds.
    """
    if not chip.loops_resets:
        return network
    looped = [p for p in network.compute if isinstance(p.neuron, FixedNeuron) and p.neuron.drop is not None]
    if not looped:
        return network
    clocks: dict[str, Population] = {}
    populations: list[Population] = []
    projections = list(network.projections)
    for population in network.populations:
        if population not in looped:
            populations.append(population)
            continue
        _check(network, population, chip)
        cell, own, current = _loop(population, network.steps)
        if current.any():
            clocks[population.name] = clock = _clock(population, current)
            populations.append(clock)
            projections.append(_ticks(clock, population, current))
        populations.append(cell)
        projections.append(own)
    made = network.with_(populations=tuple(populations), projections=tuple(projections))
    notes = list(network.notes)
    if not network.remembers:
        notes.append(timing.alone(made))
    return made.with_(notes=(*notes, _note(looped, list(clocks.values()))))


def planned(
    neuron: FloatNeuron,
    arriving: tuple[FloatArray, FloatArray],
    current: tuple[FloatArray, FloatArray],
    moved: float,
    scale: FloatArray,
    steps: int,
) -> tuple[FloatArray, FloatArray]:
    """What u will reach when a population's soft reset is a loop: ``ranges.membrane``, before any rounding.

    Args:
        neuron: of the float network.
        arriving: lowest and highest sum of its projections in a step, weight units, (C,) or (1,) each.
        current: lowest and highest constant current, float units.
        moved: how far start values may be moved either way, in thresholds.
        scale: weight units per float unit, (C,) or (1,).
        steps: T.

    Returns:
        Lowest and highest u, weight units, (C,) or (1,) each; but for the rounding of thresholds and start
        values, which time does not multiply.
    """
    assert neuron.threshold is not None
    assert neuron.subtracted is not None
    lost = int(neurons.decay_field(neuron.keep_v, 0).mant)
    keep = (neurons.ONE - max(lost, spec.U_DECAY_OFFSET)) / neurons.ONE
    subtracted = neuron.keep_v * neuron.subtracted
    threshold, drop, v0 = (
        (low * scale, high * scale)
        for low, high in map(ranges.by_channel, (neuron.threshold, subtracted, neuron.v0))
    )
    late = drop[1] * (steps / (2 * neurons.ONE))  # of ``_start``
    start = v0[0] - moved * threshold[1], v0[1] + moved * threshold[1] + late
    fades = lost / neurons.ONE
    constant = current[0] * scale - fades * start[1], current[1] * scale - fades * start[0]
    # Both become weights of 8 bits that share an exponent.
    off = ROUNDED * max(float(np.abs(one).max()) for one in constant)
    low, high = arriving[0] + constant[0] - off, arriving[1] + constant[1] + off
    off = ROUNDED * float(drop[1].max())
    taken = np.maximum(drop[0] - off, 0.0), drop[1] + off
    return ranges.membrane((low, high), taken, threshold[1] - start[0], threshold[0] - start[1], keep, steps)


def _note(looped: list[Population], clocks: list[Population]) -> str:
    names = ", ".join(population.label for population in looped[:NAMED])
    if len(looped) > NAMED:
        names += f" and {len(looped) - NAMED} more layers"
    synapses = sum(population.size for population in looped)
    ticking = sum(clock.size for clock in clocks)
    extra = f", constant currents by {ticking:,} neurons that fire in every step" if clocks else ""
    return f"soft reset of {names} by {synapses:,} synapses of neurons onto themselves{extra}"


def _check(network: Network, population: Population, chip: Chip) -> None:
    assert isinstance(population.neuron, FixedNeuron)
    remedy, problem = "train with a hard reset, or compile for lava-cpu", ""
    if not can_loop(population.neuron):
        problem = f"reset by subtract behind a synaptic filter, {chip.name} has one state for both"
    elif any(one.on_host for one in network.incoming(population.name)):
        problem = f"reset by subtract where the host writes the input as bias: {chip.name} cannot add it up"
        remedy = "give spike trains, compile for loihi2, or train with a hard reset"
    if problem:
        raise NmcError("NMC-Q03", population.label, problem, remedy)


def _loop(population: Population, steps: int) -> tuple[Population, Projection, FloatArray]:
    """The population with its membrane in u, its synapse onto itself, and the constant current that u needs,
    weight units."""
    neuron, label = population.neuron, population.label
    assert isinstance(neuron, FixedNeuron)
    assert neuron.drop is not None
    assert neuron.vth is not None
    lost = int(neuron.dv.mant)
    keep = (neurons.ONE - lost) / neurons.ONE
    own = weights.with_exponent(-keep * neuron.drop / neurons.V_PER_WEIGHT, label)
    vth = neuron.vth
    if not lost:
        moved = -own.value - neuron.drop // neurons.V_PER_WEIGHT
        vth = replace(vth, mant=np.maximum(vth.mant + moved, 0))
    bias = spec.bias_value(population.bias if isinstance(population.bias, Fixed) else None)
    current = (bias - (1 - keep) * neuron.v0) / neurons.V_PER_WEIGHT
    start = neuron.v0 if lost else _start(neuron.v0, neuron.drop, steps)
    cell = replace(
        population,
        neuron=FixedNeuron(
            vth,
            du=replace(neuron.du, mant=np.array(max(lost - spec.U_DECAY_OFFSET, 0))),
            dv=CLOCK.dv,
        ),
        bias=neurons.bias_field(start, label) if np.any(start) else None,
    )
    loop = Projection(
        f"{population.name}.reset",
        population.name,
        population.name,
        Identity(),
        own,
        origin=(*population.origin, f"{label} (reset)"),
        lag=1,
    )
    return cell, loop, np.asarray(current)


def _start(v0: IntArray, drop: IntArray, steps: int) -> IntArray:
    """The start value of a membrane that should keep all and loses 1/4096 a step, v units.

    It only takes values one weight unit apart and thresholds are strict, so v0 goes to the middle of its
    unit, where half a unit may be lost without a difference; and up by what a membrane at the threshold loses
    in half of the steps.
    """
    unit = neurons.V_PER_WEIGHT
    return np.asarray((v0 - 1) // unit * unit + unit // 2 + drop * steps // (2 * neurons.ONE))


def _clock(population: Population, current: FloatArray) -> Population:
    """One neuron per position of the map, for all channels; one per neuron where currents differ there."""
    shape = population.shape
    if len(shape) == 1:
        shape = (1,)
    elif _per_channel(current):
        shape = (1, *shape[1:])
    return Population(
        f"{population.name}.clock",
        shape,
        CLOCK,
        CLOCK_BIAS,
        level=population.time - 1,
        origin=(*population.origin, f"{population.label} (clock)"),
    )


def _per_channel(current: FloatArray) -> bool:
    return current.ndim < 2 or current.shape[1:] == (1,) * (current.ndim - 1)


def _ticks(clock: Population, population: Population, current: FloatArray) -> Projection:
    """The synapses by which a clock brings the current in every step."""
    fixed = weights.with_exponent(current, population.label)
    synapse: Synapse
    if len(population.shape) == 1:
        synapse, mant = Dense(), _spread(fixed.mant, population.shape).reshape(-1, 1)
    elif clock.shape == population.shape:
        synapse, mant = Identity(), _spread(fixed.mant, population.shape)
    else:
        channels = population.shape[0]
        synapse, mant = Conv2d(), _spread(fixed.mant, (channels, 1, 1)).reshape(channels, 1, 1, 1)
    return Projection(
        f"{clock.name}.out",
        clock.name,
        population.name,
        synapse,
        replace(fixed, mant=frozen(mant)),
        origin=clock.origin,
    )


def _spread(mant: IntArray, shape: tuple[int, ...]) -> IntArray:
    return np.broadcast_to(mant, shape)
