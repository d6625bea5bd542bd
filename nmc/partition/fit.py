"""Will it fit, what binds each layer, and which change would make it fit: all computed, nothing guessed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np

from nmc.chip import Chip
from nmc.errors import NmcError
from nmc.ir import Conv2d, Dense, Fixed, Network, Population
from nmc.markup import summary
from nmc.partition.bound import Bound, lower_bound
from nmc.partition.cost import RESOURCES, Cuts, bits_per_weight, cut, kernel_of, list_bits
from nmc.partition.plan import Extreme, Order, Plan, Planner, fewest
from nmc.partition.search import Options
from nmc.partition.share import share

EXTREMES: tuple[Extreme, ...] = get_args(Extreme)


@dataclass(frozen=True)
class Need:
    """What the fullest tile of a layer takes of a core. allowed: None where the chip states no limit."""

    resource: str
    used: int
    allowed: int | None

    @property
    def share(self) -> float | None:
        return None if self.allowed is None else self.used / self.allowed


@dataclass(frozen=True)
class LayerFit:
    """One layer. cores: None when not even one neuron fits a core. bound: ``bound.lower_bound``.

    binding: the limit, or limits, without which it would take fewer cores; "" when one core holds it.
    problem: why it does not fit.
    """

    population: str
    label: str
    cores: int | None
    bound: int | None
    tile: tuple[int, ...]
    binding: str
    needs: tuple[Need, ...]
    problem: NmcError | None = None


@dataclass(frozen=True)
class Remedy:
    """A change that was tried and makes the network fit; ``cores`` then needed of ``available``."""

    change: str
    value: str
    cores: int
    available: int | None
    text: str


@dataclass(frozen=True)
class Tradeoff:
    """One way to cut the whole network, by estimate, before small layers share cores.

    objectives: of ``--optimize``, which choose it; () for a way between them. messages: between cores, per
    inference. step_seconds: of the busiest core. joules: of messages and hops, per inference; None where the
    chip's constants price neither.
    """

    objectives: tuple[str, ...]
    cores: int
    messages: float
    step_seconds: float
    joules: float | None


@dataclass(frozen=True)
class Fit:
    """cores: needed, layers sharing cores where they may; None when a layer fits no core.

    refusal: why there is nothing to cut: the chip has not got what the network needs. tradeoffs: where they
    were asked for, the fewest cores first.
    """

    network: str
    chip: str
    cores: int | None
    available: int | None
    bound: Bound | None
    layers: tuple[LayerFit, ...]
    remedies: tuple[Remedy, ...] = ()
    refusal: NmcError | None = None
    tradeoffs: tuple[Tradeoff, ...] = ()

    @property
    def fits(self) -> bool:
        return self.cores is not None and (self.available is None or self.cores <= self.available)

    @property
    def problems(self) -> tuple[NmcError, ...]:
        return tuple(one.problem for one in self.layers if one.problem is not None)

    def _repr_html_(self) -> str:
        lines = [] if self.cores is None else [("cores", f"{self.cores:,}")]
        refused = () if self.refusal is None else (self.refusal,)
        lines += [("because", str(one)) for one in (*refused, *self.problems)]
        lines += [("would fit", one.text) for one in self.remedies]
        verdict = "fits" if self.fits else "does not fit"
        return summary(f"{self.network} {verdict} {self.chip}", lines)


def analyse(network: Network, chip: Chip) -> Fit:
    """Cut every layer as ``partition`` would; layers that cannot be cut are reported, not refused."""
    planner, cuts, layers = Planner(network, chip), dict[str, Cuts](), list[LayerFit]()
    bound = lower_bound(network, chip)
    least = {one.population: one.cores for one in bound.layers}
    order: Order = fewest
    # What a population of a loop feeds may be cut after it.
    assumed = {one.name: tuple(cut(size, 1) for size in one.shape) for one in network.compute}
    try:
        plan = planner.best("cores")
        order, assumed = plan.order, plan.cuts
    except NmcError:
        pass
    for population in reversed(network.compute):
        one, cuts[population.name] = _layer(
            planner, population, {**assumed, **cuts}, least[population.name], order
        )
        layers.append(one)
    cores = None
    if all(one.problem is None for one in layers):
        total = sum(one.cores or 0 for one in layers)
        mapped = share(planner.mapped(Plan(cuts, total, 0.0, 0.0, None, order)), chip)
        assert mapped.mapping is not None
        cores = mapped.mapping.cores_used
    return Fit(network.name, chip.name, cores, chip.cores, bound, tuple(reversed(layers)))


def tradeoffs(network: Network, chip: Chip) -> tuple[Tradeoff, ...]:
    """Ways to cut a network that fits: what each objective chooses, and all that none beats in cores,
    messages and time."""
    planner = Planner(network, chip)
    chosen: dict[tuple[int, float, float], tuple[Plan, list[str]]] = {
        (one.cores, one.messages, one.step_seconds): (one, []) for one in planner.pareto()
    }
    for objective in EXTREMES:
        plan = planner.best(objective)
        key = (plan.cores, plan.messages, plan.step_seconds)
        chosen.setdefault(key, (plan, []))[1].append(objective)
    return tuple(
        Tradeoff(tuple(names), plan.cores, plan.messages, plan.step_seconds, plan.joules)
        for _, (plan, names) in sorted(chosen.items(), key=lambda one: one[0])
    )


def _layer(
    planner: Planner, population: Population, cuts: dict[str, Cuts], bound: int | None, order: Order
) -> tuple[LayerFit, Cuts]:
    try:
        found = planner.choose(population, cuts, order, None)
    except NmcError as problem:
        single = tuple(cut(size, 1) for size in population.shape)
        tile = (1,) * len(population.shape)
        failed = LayerFit(population.name, population.label, None, bound, tile, "one neuron", (), problem)
        return failed, single
    assert found is not None
    which, options = found
    needs = tuple(
        Need(one.words, int(options.usage[one.usage][which]), getattr(planner.chip, one.limit))
        for one in RESOURCES
    )
    tile = tuple(options.lengths[which].tolist())
    taken = int(options.tiles[which])
    layer = LayerFit(
        population.name,
        population.label,
        taken,
        bound,
        tile,
        "" if taken == 1 else _binding(options, planner.chip, taken),
        needs,
    )
    return layer, options.cuts(which)


def _binding(options: Options, chip: Chip, taken: int) -> str:
    """The fewest limits without which fewer tiles would do; among those, the ones that save the most."""
    broken = {
        one.words: options.usage[one.usage] > getattr(chip, one.limit)
        for one in RESOURCES
        if getattr(chip, one.limit) is not None
    }
    count = np.sum(list(broken.values()), axis=0)
    better = np.flatnonzero(options.tiles < taken)
    which = better[np.lexsort([options.tiles[better], count[better]])[0]]
    return " and ".join(words for words, mask in broken.items() if mask[which])


# --- remedies ---------------------------------------------------------------------------------------


def remedies(network: Network, chip: Chip) -> Iterator[Remedy]:
    """Changes that make a network fit that does not, the smallest first; each was tried.

    Fewer weight bits (the most that fit), then a bigger board of the same chip (the smallest).
    """
    for bits in range(_widest(network) - 1, 1, -1):
        found = analyse(narrowed(network, bits), chip)
        if found.fits:
            text = f"quantize to {bits} bits per weight (--weight-bits {bits})"
            yield Remedy("weight-bits", str(bits), found.cores or 0, found.available, text)
            break
    for board in sorted(chip.boards, key=lambda one: one.chips):
        bigger = chip.on_board(board.name)
        if (bigger.cores or 0) <= (chip.cores or 0):
            continue
        found = analyse(network, bigger)
        if found.fits:
            text = f"use {board.chips} chips: --chip {bigger.name}"
            yield Remedy("chip", bigger.name, found.cores or 0, found.available, text)
            break


def largest_fan_in(network: Network, chip: Chip, population: str) -> int | None:
    """Source channels (neurons, for a dense layer) with which one neuron of the layer would fit a core.

    None where the layer has several projections or where the fan-in is not what stops it.
    """
    incoming = [one for one in network.incoming(population) if not one.on_host]
    if len(incoming) != 1 or not isinstance(incoming[0].synapse, (Conv2d, Dense)):
        return None
    (one,) = incoming
    taps = 1 if isinstance(one.synapse, Dense) else math.prod(kernel_of(one))
    limits = []
    if chip.synapse_bits is not None:
        limits.append(chip.synapse_bits // (taps * int(list_bits(chip, 1, bits_per_weight(chip, one)))))
    if chip.input_axons is not None and isinstance(one.synapse, Dense):
        limits.append(chip.input_axons)
    most = min(limits, default=0)
    return most if 1 <= most < one.weight_shape[1] else None


def _widest(network: Network) -> int:
    widths = [
        one.weight.bits for one in network.projections if isinstance(one.weight, Fixed) and not one.on_host
    ]
    return max(widths, default=1)


def narrowed(network: Network, bits: int) -> Network:
    """The same layers with weights of at most so many bits; for counting only, their values are cut off."""
    done: dict[int, Fixed] = {}

    def narrow(weight: Fixed) -> Fixed:
        if id(weight) not in done:
            drop = max(0, weight.bits - bits)
            done[id(weight)] = (
                Fixed(weight.mant >> drop, weight.exp + drop, bits, weight.signed) if drop else weight
            )
        return done[id(weight)]

    projections = tuple(
        replace(one, weight=narrow(one.weight))
        if isinstance(one.weight, Fixed) and one.weight.mant.ndim and not one.on_host
        else one
        for one in network.projections
    )
    return network.with_(projections=projections)
