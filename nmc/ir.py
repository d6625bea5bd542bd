"""The Network: what chips do. Populations, projections between them, and nothing else.

A Network is a value. Passes are functions Network -> Network; arrays are read-only; the stage says
what may be relied on (``rules.py`` holds the rules):

FLOAT      float neurons and weights, no timing
TIMED      + every population has a level, every projection a delay (``timing.py``)
QUANTIZED  + every number is a ``Fixed``; neurons are ``FixedNeuron`` (``quantize/``)
MAPPED     + every neuron lies on a core (``partition/``)

Arrays have torch's order: (C, H, W) or (N,); weights (C_out, C_in / groups, K_h, K_w) or (out, in).
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from nmc.errors import InternalError

IntArray: TypeAlias = npt.NDArray[np.int64]
FloatArray: TypeAlias = npt.NDArray[np.float64]
Shape: TypeAlias = tuple[int, ...]


class Stage(enum.IntEnum):
    FLOAT = 0
    TIMED = 1
    QUANTIZED = 2
    MAPPED = 3


class Reset(str, enum.Enum):
    """What happens to v at a spike. Resets to other values are shifted away by ``frontend/lower.py``."""

    ZERO = "zero"
    SUBTRACT = "subtract"


class Compare(str, enum.Enum):
    GREATER = "gt"
    GREATER_EQUAL = "ge"


class Encoding(str, enum.Enum):
    """How a sample enters the chip.

    SPIKES   a train (T, ...) of integers, one entry per step
    GRADED   one frame, sent as graded spikes in every step
    CURRENT  one frame; the host computes the first layer's current and writes it as per-neuron bias
    """

    SPIKES = "spikes"
    GRADED = "graded"
    CURRENT = "current"


def frozen(array: npt.ArrayLike, dtype: npt.DTypeLike | None = None) -> npt.NDArray[Any]:
    """A read-only, C-contiguous copy; the caller's array is left as it was."""
    copy = np.array(array, dtype=dtype, order="C", copy=True)
    copy.setflags(write=False)
    return copy


def mantissa_range(bits: int, signed: bool) -> tuple[int, int]:
    """The smallest and the largest mantissa of ``bits`` bits, sign included."""
    return -(1 << (bits - 1)) if signed else 0, (1 << (bits - int(signed))) - 1


@dataclass(frozen=True, eq=False)
class Fixed:
    """A fixed-point array: ``value == mant * 2**exp`` with ``bits`` bits of mantissa, sign included.

    Raises InternalError when the mantissa does not fit: a quantizer clips before it builds a Fixed.
    """

    mant: IntArray
    exp: int
    bits: int
    signed: bool

    def __post_init__(self) -> None:
        mant = frozen(self.mant, np.int64)
        object.__setattr__(self, "mant", mant)
        if mant.size and (mant.min() < self.lowest or mant.max() > self.highest):
            raise InternalError(f"mantissa {mant.min()}..{mant.max()} outside {self.lowest}..{self.highest}")

    @property
    def lowest(self) -> int:
        return mantissa_range(self.bits, self.signed)[0]

    @property
    def highest(self) -> int:
        return mantissa_range(self.bits, self.signed)[1]

    @cached_property
    def value(self) -> IntArray:
        """``mant << exp`` as int64; only for exp >= 0."""
        if self.exp < 0:
            raise InternalError("a Fixed with a negative exponent has no integer value")
        return frozen(self.mant << self.exp)


# --- synapses ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Conv2d:
    """Correlation as in torch, zero padding. weight (C_out, C_in / groups, K_h, K_w)."""

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


@dataclass(frozen=True)
class Dense:
    """y = W x on the source flattened in C order. weight (out, in)."""


@dataclass(frozen=True)
class SumPool2d:
    """Sum over windows, one weight for all, shape ()."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Identity:
    """One to one, in C order. weight () or (C, 1, 1), broadcast over the source.

    A source of k times as many neurons is k parts of the target's size, which are added.
    """


Synapse: TypeAlias = Conv2d | Dense | SumPool2d | Identity


@dataclass(frozen=True)
class Projection:
    """Synapses from one population to another. Projections that share weights hold the same array object.

    on_host: the host computes this projection and writes the result as bias current (Encoding.CURRENT);
    it costs no chip step. Its integer result is rounded by ``host_shift`` bits to bias mantissas.
    delay: extra steps beyond the one that every synapse costs.
    lag: steps that lie between sending and arriving in the user's time, where all layers share a step: the
    target reads in step t what the source sent in step t - lag, nothing before. A recurrent projection has 1.
    """

    name: str
    source: str
    target: str
    synapse: Synapse
    weight: FloatArray | Fixed
    delay: int = 0
    on_host: bool = False
    host_shift: int = 0
    origin: tuple[str, ...] = ()
    lag: int = 0

    @property
    def cost(self) -> int:
        """Steps that the synapse itself takes (``lava.md``: every synapse process costs one step)."""
        return 0 if self.on_host else 1

    @property
    def weight_shape(self) -> Shape:
        weight = self.weight
        return tuple(weight.mant.shape if isinstance(weight, Fixed) else weight.shape)

    @property
    def integer_weight(self) -> IntArray:
        if not isinstance(self.weight, Fixed):
            raise InternalError(f"projection {self.name} is not quantized")
        return self.weight.value


# --- neurons ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class InputNeuron:
    """Where samples enter. x_int = clip(rint(x / scale), lowest, highest); scale 1 for spike trains."""

    encoding: Encoding
    scale: float = 1.0
    lowest: int = 0
    highest: int = 1


@dataclass(frozen=True, eq=False)
class FloatNeuron:
    """u[t] = keep_u u[t-1] + a[t];  v[t] = keep_v v[t-1] + u[t] + bias;  fires at v > or >= threshold.

    Gains, leak potentials and reset values of the frameworks are folded away by ``frontend/lower.py``:
    v is measured in units of the weights and from the reset potential. threshold and v0 are
    broadcastable to the population's shape; threshold None is a readout that never fires. drop: what a
    soft reset subtracts where that is not the threshold.
    """

    threshold: FloatArray | None
    keep_v: float = 1.0
    keep_u: float = 0.0
    compare: Compare = Compare.GREATER_EQUAL
    reset: Reset = Reset.ZERO
    v0: FloatArray = field(default_factory=lambda: frozen(0.0, np.float64))
    drop: FloatArray | None = None

    @property
    def subtracted(self) -> FloatArray | None:
        """What v loses at a spike; None for a hard reset and for a readout."""
        return None if self.reset is Reset.ZERO else self.threshold if self.drop is None else self.drop


@dataclass(frozen=True, eq=False)
class FixedNeuron:
    """Loihi's current-based LIF, all integers; the update is ``neuron.step``.

    vth: 17-bit mantissa, exp 6 (v units). du, dv: 12-bit decays, exp -12. v0: v units, broadcastable.
    drop: what a soft reset subtracts, v units; the strict vth of a ``v >= theta`` is one mantissa below
    theta, but theta is subtracted. None for a hard reset.
    """

    vth: Fixed | None
    du: Fixed
    dv: Fixed
    reset: Reset = Reset.ZERO
    v0: IntArray = field(default_factory=lambda: frozen(0, np.int64))
    drop: IntArray | None = None

    def __post_init__(self) -> None:
        if (self.reset is Reset.SUBTRACT) != (self.drop is not None):
            raise InternalError("a soft reset, and only a soft reset, states what it subtracts")


@dataclass(frozen=True)
class GradedRelay:
    """Memoryless: sends the sum that arrived as one graded spike. Needs a chip with payloads."""


Neuron: TypeAlias = InputNeuron | FloatNeuron | FixedNeuron | GradedRelay


@dataclass(frozen=True, eq=False)
class Population:
    """Neurons of one kind and one shape.

    bias: broadcastable to shape; weight units (FLOAT, TIMED) or a Fixed in v units (QUANTIZED).
    max_payload: the largest value that one spike can carry (1 for binary spikes).
    level: steps from the input until the population sees a sample's first data (``timing.py``).
    origin: the user's layer names, for every message, report row and picture.
    """

    name: str
    shape: Shape
    neuron: Neuron
    bias: FloatArray | Fixed | None = None
    max_payload: int = 1
    level: int | None = None
    origin: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def label(self) -> str:
        """The user's name for it."""
        return self.origin[-1] if self.origin else self.name

    @property
    def is_input(self) -> bool:
        return isinstance(self.neuron, InputNeuron)

    @property
    def time(self) -> int:
        """The level, once there is one."""
        if self.level is None:
            raise InternalError(f"population {self.name} has no level yet")
        return self.level


# --- mapping ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tile:
    """A box of one population on one core: half-open ranges (start, stop), one per axis of the shape."""

    population: str
    ranges: tuple[tuple[int, int], ...]
    core: int

    @property
    def size(self) -> int:
        return int(np.prod([stop - start for start, stop in self.ranges], dtype=np.int64))


@dataclass(frozen=True)
class Mapping:
    """Which tile lies on which core. Cores count from 0, row by row over the mesh, chip by chip."""

    chip: str
    tiles: tuple[Tile, ...]

    @property
    def cores_used(self) -> int:
        return len({tile.core for tile in self.tiles})

    def of(self, population: str) -> tuple[Tile, ...]:
        return tuple(tile for tile in self.tiles if tile.population == population)


# --- network ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Network:
    """Populations in an order that all projections without lag follow, projections, outputs.

    steps: T, the number of time steps per sample that the network was trained with.
    readout: how classes are read from the outputs: "count" of spikes or "potential" of a readout.
    notes: what a pass wants the report to say, in order.
    """

    name: str
    stage: Stage
    populations: tuple[Population, ...]
    projections: tuple[Projection, ...]
    outputs: tuple[str, ...]
    steps: int
    readout: str = "count"
    chip: str = ""
    mapping: Mapping | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def _by_name(self) -> dict[str, Population]:
        return {population.name: population for population in self.populations}

    @cached_property
    def _incoming(self) -> dict[str, tuple[Projection, ...]]:
        table: dict[str, list[Projection]] = {population.name: [] for population in self.populations}
        for projection in self.projections:
            table[projection.target].append(projection)
        return {name: tuple(projections) for name, projections in table.items()}

    @cached_property
    def _outgoing(self) -> dict[str, tuple[Projection, ...]]:
        table: dict[str, list[Projection]] = {population.name: [] for population in self.populations}
        for projection in self.projections:
            table[projection.source].append(projection)
        return {name: tuple(projections) for name, projections in table.items()}

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def __getitem__(self, name: str) -> Population:
        return self._by_name[name]

    def incoming(self, name: str) -> tuple[Projection, ...]:
        return self._incoming[name]

    def outgoing(self, name: str) -> tuple[Projection, ...]:
        return self._outgoing[name]

    @property
    def inputs(self) -> tuple[Population, ...]:
        return tuple(population for population in self.populations if population.is_input)

    @property
    def compute(self) -> tuple[Population, ...]:
        """Every population that is not an input."""
        return tuple(population for population in self.populations if not population.is_input)

    @property
    def depth(self) -> int:
        """Steps from the first input step to the first step of the last population."""
        return max(population.time for population in self.populations)

    @cached_property
    def segments(self) -> tuple[tuple[Population, ...], ...]:
        """Neighbours in ``populations`` that must take each step together, because a later one feeds an
        earlier one (or itself); all others alone. Each segment can run over all steps before the next."""
        position = {population.name: index for index, population in enumerate(self.populations)}
        last = list(range(len(self.populations)))
        for projection in self.projections:
            target = position[projection.target]
            last[target] = max(last[target], position[projection.source])
        segments, first = [], 0
        while first < len(last):
            index = end = first
            while index <= end:
                end, index = max(end, last[index]), index + 1
            segments.append(self.populations[first : end + 1])
            first = end + 1
        return tuple(segments)

    @cached_property
    def remembers(self) -> bool:
        """Whether spikes are still under way when a sample ends: they would arrive in the next one, past
        the reset, so that such a network runs one sample at a time."""
        return any(projection.lag for projection in self.projections)

    def with_(self, **changes: Any) -> Network:
        return replace(self, **changes)

    def map_populations(self, changed: dict[str, Population]) -> tuple[Population, ...]:
        """The populations with some replaced by name, order kept."""
        return tuple(changed.get(population.name, population) for population in self.populations)

    def walk(self) -> Iterator[tuple[Population, tuple[Projection, ...]]]:
        """Populations in order, each with its incoming projections."""
        for population in self.populations:
            yield population, self._incoming[population.name]
