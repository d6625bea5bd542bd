"""All ways to cut a population into equal tiles, priced at once.

Every cost of a tile is a sum of products of one number per axis (``cost.py``), so a table per axis and
tile length prices all combinations. A table holds the largest number of its axis; where several
projections have theirs at different places, the sum is a bound, and ``tile.py`` prices such a cut exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from nmc.chip import Chip, EnergySet
from nmc.ir import (
    Conv2d,
    Dense,
    FloatArray,
    GradedRelay,
    Identity,
    IntArray,
    Network,
    Population,
    Projection,
    Shape,
    SumPool2d,
    frozen,
)
from nmc.partition import cost
from nmc.partition.cost import RESOURCES, Cut, Cuts, cut
from nmc.partition.graph import Traffic
from nmc.synapse import parts

FALLBACK_SECONDS = {"synop": 3.5e-9, "update_active": 8.4e-9, "message_in": 2.1e-9}
"""Davies 2018, Table 2: used to compare tilings where the chip's constants lack a time."""


@dataclass(frozen=True, eq=False)
class Options:
    """Cuts of one population; one entry per cut in every array.

    lengths: (k, axes) of a tile. tiles: how many. usage: by field of ``cost.Usage``, of the fullest tile,
    an upper bound. messages: spikes per inference that arrive at its cores. seconds: of the busiest core per
    step. fits: whether the bound keeps every limit; close: whether an exact price might.
    """

    shape: Shape
    lengths: IntArray
    tiles: IntArray
    usage: dict[str, IntArray]
    messages: FloatArray
    seconds: FloatArray
    fits: npt.NDArray[np.bool_]
    close: npt.NDArray[np.bool_]

    def cuts(self, index: int) -> Cuts:
        return tuple(
            cut(size, int(length)) for size, length in zip(self.shape, self.lengths[index], strict=True)
        )

    def shape_keys(self) -> list[npt.NDArray[np.int64]]:
        """The last word between equals, least important first: widest channels, then the squarest plane."""
        return [*(-self.lengths[:, 1:]).T, self.lengths[:, 1:].sum(1), -self.lengths[:, 0]]


@dataclass(frozen=True)
class Seconds:
    """Time per event on a core."""

    synop: float
    update: float
    message: float

    @staticmethod
    def of(constants: EnergySet | None) -> Seconds:
        def seconds(term: str) -> float:
            found = None if constants is None else constants.seconds(term)
            return FALLBACK_SECONDS[term] if found is None else found

        return Seconds(seconds("synop"), seconds("update_active"), seconds("message_in"))


@lru_cache(maxsize=1024)
def _all_cuts(size: int) -> tuple[Cut, ...]:
    """Every cut of an axis into equal intervals, the shortest first."""
    return tuple(cut(size, length) for length in sorted({-(-size // count) for count in range(1, size + 1)}))


@lru_cache(maxsize=4096)
def _positions_read(
    synapse: Conv2d | SumPool2d, axis: int, kernel: int, source: int, target: int
) -> tuple[FloatArray, FloatArray]:
    """Per cut of a target's rows (columns): most source rows that one interval reads, and the sum of all.

    Deep networks repeat a few geometries over and over, hence the cache.
    """
    sizes = [
        [cost.reached(synapse, axis, kernel, source, *interval).size for interval in one]
        for one in _all_cuts(target)
    ]
    return frozen([max(one) for one in sizes], np.float64), frozen([sum(one) for one in sizes], np.float64)


class _Axes:
    """Tables over the tile lengths of every axis of one population."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.cuts = [_all_cuts(size) for size in shape]
        self.lengths = [np.array([one[0][1] for one in cuts], np.int64) for cuts in self.cuts]

    def table(self, axis: int, price: Callable[[Cut], float]) -> FloatArray:
        """``price`` of every cut of an axis."""
        return np.array([price(intervals) for intervals in self.cuts[axis]], np.float64)

    def ones(self, axis: int) -> FloatArray:
        return np.ones(len(self.lengths[axis]))

    def product(self, tables: list[FloatArray]) -> FloatArray:
        """Over all combinations, flat."""
        result = tables[0]
        for table in tables[1:]:
            result = np.multiply.outer(result, table)
        return np.asarray(result.reshape(-1))


def options(
    network: Network,
    chip: Chip,
    population: Population,
    target_cuts: Mapping[str, Cuts],
    traffic: Traffic,
    seconds: Seconds,
) -> Options:
    """Every cut into equal tiles, the last of an axis shorter.

    Args:
        network: QUANTIZED.
        target_cuts: how its targets are cut, by name.
        traffic: spikes per inference of each population.
        seconds: per event.
    """
    axes = _Axes(population.shape)
    incoming = [one for one in network.incoming(population.name) if not one.on_host]
    neurons = axes.product([lengths.astype(np.float64) for lengths in axes.lengths])
    usage = {name: np.zeros_like(neurons) for name in ("synapse_bits", "input_axons", "output_axons")}
    messages, arriving, synops = np.zeros_like(neurons), np.zeros_like(neurons), 0.0
    stored = set()
    for one in incoming:
        source, read = network[one.source], _read(axes, one, network[one.source], population)
        rate = traffic.get(source.name, 0.0) / source.size
        usage["input_axons"] += read.axons
        arriving += rate * read.most
        synops += rate * _fan_in(one, source, population)
        if not source.is_input:
            messages += rate * read.total
        key = (id(one.weight), one.delay, one.synapse)
        if key not in stored:
            stored.add(key)
            usage["synapse_bits"] += _bits(axes, chip, one, source, population, neurons)
    for one in network.outgoing(population.name):
        usage["output_axons"] += _sent(axes, chip, one, population, target_cuts[one.target], neurons)
    slots = cost.time_slots(max((one.delay for one in incoming), default=0))
    usage |= {"neurons": neurons, "delay_slots": neurons * slots}
    update = 0.0 if isinstance(population.neuron, GradedRelay) else seconds.update
    busy = neurons * (update + synops / network.steps * seconds.synop)
    fits, close = _within(usage, chip, _exact(incoming, network.outgoing(population.name)))
    return Options(
        shape=population.shape,
        lengths=np.stack(np.meshgrid(*axes.lengths, indexing="ij"), -1).reshape(-1, len(axes.lengths)),
        tiles=axes.product([axes.table(axis, len) for axis in range(len(axes.shape))]).astype(np.int64),
        usage={name: np.rint(one).astype(np.int64) for name, one in usage.items()},
        messages=messages,
        seconds=busy + arriving / network.steps * seconds.message,
        fits=fits,
        close=close,
    )


SLACK = 1.25
"""A bound beyond this multiple of a limit is taken for broken: places of maxima differ little."""


def _within(
    usage: Mapping[str, FloatArray], chip: Chip, exact: Collection[str]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """fits and close of ``Options``; the bounds of the resources in ``exact`` are exact."""
    neurons = usage["neurons"]
    fits, close = np.ones(len(neurons), np.bool_), np.ones(len(neurons), np.bool_)
    for resource in RESOURCES:
        limit = getattr(chip, resource.limit)
        if limit is not None:
            fits &= usage[resource.usage] <= limit
            close &= usage[resource.usage] <= limit * (1 if resource.usage in exact else SLACK)
    return fits, close | (neurons == 1)


def _exact(incoming: Sequence[Projection], outgoing: Sequence[Projection]) -> set[str]:
    """Resources whose bound is exact: one projection has all of it, or all have the most at one place."""
    names = {"neurons", "delay_slots"}
    grouped = any(isinstance(one.synapse, Conv2d) and one.synapse.groups > 1 for one in incoming)
    names |= {"synapse_bits"} if not grouped or len(incoming) == 1 else set()
    names |= {"input_axons"} if len(incoming) <= 1 else set()
    return names | ({"output_axons"} if len(outgoing) <= 1 else set())


# --- one projection ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Read:
    """axons: input entries of the fullest tile. most: source neurons that it hears; total: over all tiles."""

    axons: FloatArray
    most: FloatArray
    total: FloatArray


def _read(axes: _Axes, projection: Projection, source: Population, target: Population) -> _Read:
    neurons = axes.product([lengths.astype(np.float64) for lengths in axes.lengths])
    if isinstance(projection.synapse, Identity):
        heard = neurons * parts(projection.synapse, source.size, target.size)
        return _Read(heard, heard, np.full_like(neurons, source.size))
    if isinstance(projection.synapse, Dense):
        heard = np.full_like(neurons, source.size)
        return _Read(heard, heard, axes.product([axes.table(0, len)]) * source.size)
    synapse, kernel = projection.synapse, cost.kernel_of(projection)

    planes = [
        _positions_read(synapse, axis, kernel[axis], source.shape[1 + axis], axes.shape[1 + axis])
        for axis in (0, 1)
    ]

    def channels(how: Callable[[list[int]], float]) -> FloatArray:
        return axes.table(0, lambda intervals: how([b - a for a, b in map(heard_by, intervals)]))

    def heard_by(interval: tuple[int, int]) -> tuple[int, int]:
        return cost.channels_read(projection, *interval)

    largest, most, total = [most for most, _ in planes], channels(max), channels(sum)
    return _Read(
        axes.product([axes.ones(0), *largest]),
        axes.product([most, *largest]),
        axes.product([total, *(total for _, total in planes)]),
    )


def _bits(
    axes: _Axes,
    chip: Chip,
    projection: Projection,
    source: Population,
    target: Population,
    neurons: FloatArray,
) -> FloatArray:
    """As ``cost.synapse_bits``, of the fullest tile."""
    width = cost.bits_per_weight(chip, projection)
    if isinstance(projection.synapse, Dense):
        return source.size * cost.list_bits(chip, neurons.astype(np.int64), width).astype(np.float64)
    if isinstance(projection.synapse, Identity):
        return neurons * float(
            parts(projection.synapse, source.size, target.size) * cost.list_bits(chip, 1, width)
        )
    per_cut = axes.table(0, lambda intervals: float(cost.kernel_bits(chip, projection, intervals).max()))
    return axes.product([per_cut, axes.ones(1), axes.ones(2)])


def _sent(
    axes: _Axes,
    chip: Chip,
    projection: Projection,
    population: Population,
    target_cuts: Cuts,
    neurons: FloatArray,
) -> FloatArray:
    """As ``cost.output_axons``, of the fullest tile."""
    synapse = projection.synapse
    if isinstance(synapse, (Dense, Identity)):
        copies = len(target_cuts[0]) if isinstance(synapse, Dense) else 1
        return neurons * float(copies * chip.discrete_slots)
    readers = cost.readers_per_position(projection, population.shape, target_cuts)
    edges = [np.concatenate([[0], np.cumsum(one)]) for one in readers]
    groups = axes.table(
        0, lambda intervals: float(cost.groups_reached(projection, intervals, target_cuts).max())
    )
    planes = [axes.table(axis, _most_between(edges[axis - 1])) for axis in (1, 2)]
    return axes.product([groups, *planes]) * chip.population_slots


def _most_between(edges: IntArray) -> Callable[[Cut], float]:
    """The largest sum over an interval, from sums up to every position."""
    return lambda intervals: float(max(edges[stop] - edges[start] for start, stop in intervals))


def _fan_in(projection: Projection, source: Population, target: Population) -> float:
    """Synapses of one neuron away from the border."""
    synapse = projection.synapse
    if isinstance(synapse, Identity):
        return float(parts(projection.synapse, source.size, target.size))
    if isinstance(synapse, Dense):
        return float(source.size)
    if isinstance(synapse, SumPool2d):
        return float(np.prod(synapse.kernel))
    assert isinstance(synapse, Conv2d)
    return float(np.prod(projection.weight_shape[1:]))
