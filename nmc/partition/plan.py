"""Plans: how every population is cut into tiles, and the search for the plan that is best by an objective."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from nmc.chip import Chip, EnergySet
from nmc.errors import NmcError
from nmc.ir import FloatArray, IntArray, Network, Population, Stage
from nmc.ir import Mapping as CoreMapping
from nmc.partition.cost import RESOURCES, Cuts, Usage, cut, grid_usage
from nmc.partition.graph import Traffic, uniform_traffic
from nmc.partition.place import in_order
from nmc.partition.search import Options, Seconds, options
from nmc.partition.stored import as_stored

Extreme: TypeAlias = Literal["cores", "traffic", "speed", "energy"]
Order: TypeAlias = Callable[[Options], list[FloatArray | IntArray]]
"""Sort keys of cuts, least important first."""

WEIGHTS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Worth of a message in cores, relative to the mean messages of a core."""
FEW = 3
"""How many of the weights are tried where cores alone count."""
FINE_WEIGHTS = tuple(0.01 * 2.0**n for n in range(11))
"""As ``WEIGHTS``, for ``Planner.quietest``."""
HALVINGS = 8
LOOP_ROUNDS = 6
"""How often the cuts of a loop are corrected by what they turned out to be."""
SPREAD = 2
"""On a chip without a number of cores, other objectives may take so many times the fewest; else all cores of
as many chips as the fewest need."""


@dataclass(frozen=True, eq=False)
class Plan:
    """How every population is cut, and what that costs by estimate.

    cores: before tiles share cores. messages: between cores, per inference. step_seconds: of the busiest
    core. joules: of messages and hops, per inference; None where the chip's constants price neither.
    order: what the options of every layer were ranked by.
    """

    cuts: dict[str, Cuts]
    cores: int
    messages: float
    step_seconds: float
    joules: float | None
    order: Order


def fewest(one: Options) -> list[FloatArray | IntArray]:
    """Fewest tiles, then fewest messages."""
    return [*one.shape_keys(), one.messages, one.tiles]


def weighted(worth: float) -> Order:
    """Fewest tiles where a message is worth so many of them."""
    return lambda one: [*one.shape_keys(), one.tiles + worth * one.messages]


def _last(count: int, holds: Callable[[int], bool]) -> int:
    """The last of 0..count - 1 for which it holds, when it holds up to there and no further; -1 for none."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if holds(middle) else (low, middle)
    return low - 1


class Planner:
    """Plans for one network on one chip."""

    def __init__(self, network: Network, chip: Chip, traffic: Traffic | None = None) -> None:
        self._whole = network
        self.network, self.chip = as_stored(network), chip
        self.traffic = uniform_traffic(network) if traffic is None else traffic
        self._constants: EnergySet | None = chip.energy[0] if chip.energy else None
        self._seconds = Seconds.of(self._constants)

    def plan(
        self, order: Order = fewest, limit: float | None = None, rest: tuple[int, Order] | None = None
    ) -> Plan | None:
        """Every population cut by its first fitting option in this order; None where ``limit`` allows none.

        Args:
            limit: seconds that no core may take for a step.
            rest: (n, another order) for the populations beyond the n last ones of the network.

        Raises:
            NmcError: NMC-P02, P03, P04 for a population of which no neuron fits a core.
        """
        cuts: dict[str, Cuts] = {}
        cores, messages, slowest = 0, 0.0, 0.0
        # Targets first: what a tile sends depends on how its targets are cut, never the other way round.
        number = 0
        for segment in reversed(self.network.segments):
            members: list[tuple[Population, Order]] = []
            for population in reversed([one for one in segment if not one.is_input]):
                if rest is not None and number == rest[0]:
                    order = rest[1]
                members.append((population, order))
                number += 1
            found = self._together(members, cuts, limit)
            if found is None:
                return None
            for name, (which, all_options) in found.items():
                cuts[name] = all_options.cuts(which)
                cores += int(all_options.tiles[which])
                messages += float(all_options.messages[which])
                slowest = max(slowest, float(all_options.seconds[which]))
        return Plan(cuts, cores, messages, slowest, self._joules(cores, messages), order)

    def _together(
        self, members: Sequence[tuple[Population, Order]], cuts: Mapping[str, Cuts], limit: float | None
    ) -> dict[str, tuple[int, Options]] | None:
        """Options of populations of which some feed others that are cut later, or themselves.

        Their own cuts are first taken to be one tile, then what came out of that, until all fits; in the end
        one neuron per tile, beside which every cut sends less.
        """
        own = {one.name for one, _ in members}
        loop = len(own) > 1 or any(p.target in own for name in own for p in self.network.outgoing(name))
        sizes = [None, *[0] * (LOOP_ROUNDS - 1), 1] if loop else [None]
        assumed: dict[str, Cuts] = {}
        found: dict[str, tuple[int, Options]] = {}
        for size in sizes:
            if size != 0:
                assumed = {one.name: tuple(cut(n, size or n) for n in one.shape) for one, _ in members}
            chosen: dict[str, Cuts] = {}
            for population, order in members:
                pick = self.choose(population, {**cuts, **assumed, **chosen}, order, limit)
                if pick is None:
                    return None
                found[population.name] = pick
                chosen[population.name] = pick[1].cuts(pick[0])
            if not loop or all(self._fits(one, chosen[one.name], {**cuts, **chosen}) for one, _ in members):
                break
            assumed = chosen
        return found

    def choose(
        self, population: Population, target_cuts: Mapping[str, Cuts], order: Order, limit: float | None
    ) -> tuple[int, Options] | None:
        """The first option that keeps every limit; None where none is fast enough."""
        found = options(self.network, self.chip, population, target_cuts, self.traffic, self._seconds)
        keys = order(found)
        allowed = found.close if limit is None else found.close & (found.seconds <= limit)
        candidates = np.flatnonzero(allowed)
        for index in candidates[np.lexsort([key[candidates] for key in keys])].tolist():
            if found.fits[index] or self._fits(population, found.cuts(index), target_cuts):
                return index, found
        if limit is not None:
            return None
        raise _refusal(self.network, self.chip, population, target_cuts)

    def best(self, objective: Extreme) -> Plan:
        """The plan that is best by the objective among those that fit the chip."""
        least = self.plan()
        assert least is not None
        if objective == "cores":
            # Wide tiles read by few cores can save their sources more cores than they cost.
            return min(
                (least, *self._weighted(least, WEIGHTS[:FEW])), key=lambda one: (one.cores, one.messages)
            )
        budget = self._budget(least)
        if least.cores > budget:
            return least
        if objective == "speed":
            return self._fastest(least, budget)
        plans = [one for one in (least, *self._weighted(least)) if one.cores <= budget]
        if objective == "traffic":
            return min(plans, key=lambda one: (one.messages, one.cores))
        return min(plans, key=lambda one: (one.joules or one.messages * one.cores**0.5, one.cores))

    def quietest(self, least: Plan, most: int, cores_of: Callable[[Plan], int]) -> Plan:
        """The fewest messages on at most so many cores; ``least`` where nothing has fewer.

        Messages fall and cores grow with the worth of a message, so ``FINE_WEIGHTS`` are searched by halving.
        Layers of one shape all change their tiles at one weight; so then, how many layers take the next one.

        Args:
            cores_of: what is held against ``most``.
        """
        best, unit = least, least.cores / least.messages if least.messages else 0.0
        orders = [weighted(weight * unit) for weight in FINE_WEIGHTS] if unit else []

        def allowed(order: Order, rest: tuple[int, Order] | None = None) -> bool:
            nonlocal best
            plan = self.plan(order, rest=rest)
            assert plan is not None
            fits_in = cores_of(plan) <= most
            if fits_in and plan.messages < best.messages:
                best = plan
            return fits_in

        low = _last(len(orders), lambda index: allowed(orders[index]))
        if low + 1 < len(orders):
            before = orders[low] if low >= 0 else fewest
            _last(len(self.network.compute), lambda count: allowed(orders[low + 1], (count, before)))
        return best

    def pareto(self) -> tuple[Plan, ...]:
        """Plans of which none is as good as another in cores, messages and time; fewest cores first.

        They may take more chips than the fewest cores need; see ``SPREAD``.
        """
        least = self.plan()
        assert least is not None
        budget = max(self._budget(least), SPREAD * least.cores)
        plans = [least, *self._weighted(least)]
        for part in (0.75, 0.5, 0.25):
            faster = self.plan(limit=part * least.step_seconds)
            plans += [] if faster is None else [faster]
        points = {(one.cores, one.messages, one.step_seconds): one for one in plans if one.cores <= budget}
        keep = [
            point
            for point in points
            if not any(
                other != point and all(a <= b for a, b in zip(other, point, strict=True)) for other in points
            )
        ]
        return tuple(points[point] for point in sorted(keep))

    def _budget(self, least: Plan) -> int:
        """Cores that objectives other than the fewest may take."""
        per_chip = self.chip.cores_per_chip
        if per_chip is None or self.chip.cores is None:
            return SPREAD * least.cores
        return min(self.chip.cores, -(-least.cores // per_chip) * per_chip)

    def mapped(self, plan: Plan) -> Network:
        """The network with one tile per core, in order."""
        boxes = [
            (one.name, ranges)
            for one in self.network.compute
            for ranges in itertools.product(*plan.cuts[one.name])
        ]
        mapping = CoreMapping(self.chip.name, in_order(boxes))
        return self._whole.with_(stage=Stage.MAPPED, chip=self.chip.name, mapping=mapping)

    def _weighted(self, least: Plan, weights: Sequence[float] = WEIGHTS) -> list[Plan]:
        """Plans that give more and more cores for fewer messages."""
        unit = least.cores / least.messages if least.messages else 0.0
        plans = [self.plan(weighted(weight * unit)) for weight in weights if unit]
        return [plan for plan in plans if plan is not None]

    def _fastest(self, least: Plan, budget: int) -> Plan:
        """Halve the interval between what is too slow and what takes too many cores."""
        best, slow, fast = least, least.step_seconds, 0.0
        for _ in range(HALVINGS):
            middle = (slow + fast) / 2
            plan = self.plan(limit=middle)
            if plan is None or plan.cores > budget:
                fast = middle
            else:
                best, slow = plan, min(middle, plan.step_seconds)
        return best

    def _joules(self, cores: int, messages: float) -> float | None:
        """Messages at their price plus hops, of which there are about a third of the mesh's side."""
        if self._constants is None:
            return None
        price: dict[str, float | None] = {
            term: self._constants.joules(term)
            for term in ("message_out", "message_in", "hop_east_west", "hop_north_south")
        }
        if all(one is None for one in price.values()):
            return None
        hops = (cores / (self.chip.cores_per_tile or 1)) ** 0.5 / 3
        per_hop = ((price["hop_east_west"] or 0.0) + (price["hop_north_south"] or 0.0)) / 2
        joules = messages * ((price["message_out"] or 0.0) + (price["message_in"] or 0.0) + hops * per_hop)
        return float(joules)

    def _fits(self, population: Population, cuts: Cuts, target_cuts: Mapping[str, Cuts]) -> bool:
        return fits(grid_usage(self.network, self.chip, population, cuts, target_cuts), self.chip)


def fits(usage: Usage, chip: Chip) -> bool:
    """Whether every tile keeps every limit of a core."""
    for resource in RESOURCES:
        limit: int | None = getattr(chip, resource.limit)
        if limit is not None and getattr(usage, resource.usage).max() > limit:
            return False
    return True


def _refusal(
    network: Network, chip: Chip, population: Population, target_cuts: Mapping[str, Cuts]
) -> NmcError:
    """Why not even one neuron per core fits."""
    cuts = tuple(cut(size, 1) for size in population.shape)
    usage = grid_usage(network, chip, population, cuts, target_cuts)
    for resource in RESOURCES:
        limit: int | None = getattr(chip, resource.limit)
        used = int(getattr(usage, resource.usage).max())
        if limit is not None and used > limit:
            remedy = _REMEDIES[resource.usage]
            if resource.usage in ("synapse_bits", "input_axons") and not chip.payload_bits:
                remedy += f" (several cores could add it up by graded spikes, which {chip.name} has not got)"
            return NmcError(
                resource.code,
                population.label,
                f"one neuron needs {used:,} {resource.words}, a {chip.name} core has {limit:,}",
                remedy,
                measured=used,
                allowed=limit,
            )
    raise AssertionError("one neuron per core fits, so a candidate was skipped")


_REMEDIES = {
    "neurons": "use another chip",
    "synapse_bits": "give the layer a smaller fan-in (pool before it) or fewer weight bits",
    "input_axons": "give the layer a smaller fan-in: pool or stride before it",
    "output_axons": "give the layers behind it fewer neurons, so that they take fewer cores",
    "delay_slots": "shorten the skip connection, or use relays",
}
