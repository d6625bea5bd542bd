"""A Network as JSON and arrays, and back: exact, canonical, for every stage.

Arrays lie beside the JSON, named by the SHA-256 of their bytes, each once. Which projections hold the
same weight object survives the round trip: the weights are a list that projections point into.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt

from nmc.errors import NmcError
from nmc.ir import (
    Compare,
    Conv2d,
    Dense,
    Encoding,
    Fixed,
    FixedNeuron,
    FloatNeuron,
    GradedRelay,
    Identity,
    InputNeuron,
    Network,
    Neuron,
    Population,
    Projection,
    Reset,
    Stage,
    SumPool2d,
    Synapse,
    Tile,
    frozen,
)
from nmc.ir import Mapping as CoreMapping
from nmc.records import Array, ArrayReader, ArrayStore, Record

_OPERATORS: tuple[type, ...] = (Conv2d, Dense, SumPool2d, Identity)
_NEURONS: tuple[type, ...] = (InputNeuron, FloatNeuron, FixedNeuron, GradedRelay)


# --- writing ----------------------------------------------------------------------------------------


def network_to_json(network: Network, store: ArrayStore) -> dict[str, Any]:
    """Everything but the mapping; arrays go to the store."""
    weights = list({id(one.weight): one.weight for one in network.projections}.values())
    index = {id(weight): number for number, weight in enumerate(weights)}
    return {
        "name": network.name,
        "stage": int(network.stage),
        "steps": int(network.steps),
        "readout": network.readout,
        "chip": network.chip,
        "outputs": list(network.outputs),
        "notes": list(network.notes),
        "weights": [_plain(weight, store) for weight in weights],
        "populations": [_record(one, store) for one in network.populations],
        "projections": [
            {**_record(one, store, ("weight",)), "weight": index[id(one.weight)]}
            for one in network.projections
        ],
    }


def mapping_to_json(network: Network) -> dict[str, Any] | None:
    if network.mapping is None:
        return None
    tiles = [
        [tile.population, [[int(start), int(stop)] for start, stop in tile.ranges], int(tile.core)]
        for tile in network.mapping.tiles
    ]
    return {"chip": network.mapping.chip, "tiles": tiles}


def _record(value: Any, store: ArrayStore, leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    names = [one.name for one in fields(value) if one.name not in leave_out]
    return {name: _plain(getattr(value, name), store) for name in names}


def _plain(value: Any, store: ArrayStore) -> Any:
    """A field as JSON; dataclasses of the IR carry their kind."""
    if isinstance(value, enum.Enum):
        return value.value
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value)
    if isinstance(value, tuple):
        return [_plain(one, store) for one in value]
    if isinstance(value, np.ndarray):
        return store.put(value)
    if isinstance(value, (Fixed, *_OPERATORS, *_NEURONS)):
        return {"kind": type(value).__name__, **_record(value, store)}
    raise TypeError(f"{type(value).__name__} is no part of a Network")


# --- reading ----------------------------------------------------------------------------------------


class _Decoder:
    """Turns the records of one network into IR."""

    def __init__(self, arrays: ArrayReader, who: str) -> None:
        self._arrays, self._who = arrays, who

    def array(self, value: Any, who: str) -> Array:
        return self._arrays.get(Record(value, {"array", "dtype"}, who))

    def integers(self, value: Any, who: str) -> npt.NDArray[np.int64]:
        array = self.array(value, who)
        if array.dtype.kind not in "iu":
            raise NmcError("NMC-F06", who, f"holds {array.dtype}, expected whole numbers")
        return frozen(array, np.int64)

    def floats(self, value: Any, who: str) -> npt.NDArray[np.float64]:
        array = self.array(value, who)
        if array.dtype.kind != "f":
            raise NmcError("NMC-F06", who, f"holds {array.dtype}, expected floats")
        return frozen(array)

    def fixed(self, value: Any, who: str) -> Fixed:
        record = Record(value, {"kind", "mant", "exp", "bits", "signed"}, who)
        bits, exp = record.integer("bits", 1), record.integer("exp", -64)
        if record.text("kind") != "Fixed" or bits > 62 or exp > 62:
            record.refuse("bits", "is no fixed-point format")
        mant = self.integers(record.raw("mant"), who)
        return Fixed(mant, exp, bits, record.flag("signed"))

    def number(self, value: Any, who: str) -> Array | Fixed:
        is_fixed = isinstance(value, dict) and value.get("kind") == "Fixed"
        return self.fixed(value, who) if is_fixed else self.floats(value, who)

    def optional(self, value: Any, decode: Callable[[Any, str], Any], who: str) -> Any:
        return None if value is None else decode(value, who)

    def kind(self, value: Any, allowed: tuple[type, ...], who: str) -> tuple[type, Record]:
        name = value.get("kind") if isinstance(value, dict) else None
        for kind in allowed:
            if kind.__name__ == name:
                return kind, Record(value, {"kind", *(one.name for one in fields(kind))}, who)
        raise NmcError("NMC-F06", who, f"is of the unknown kind {str(name)[:40]}")

    def synapse(self, value: Any, who: str) -> Synapse:
        kind, record = self.kind(value, _OPERATORS, who)
        if kind is Conv2d:
            return Conv2d(
                record.pair("stride", 1),
                record.pair("padding", 0),
                record.pair("dilation", 1),
                record.integer("groups", 1),
            )
        if kind is SumPool2d:
            return SumPool2d(record.pair("kernel", 1), record.pair("stride", 1), record.pair("padding", 0))
        return Dense() if kind is Dense else Identity()

    def neuron(self, value: Any, who: str) -> Neuron:
        kind, record = self.kind(value, _NEURONS, who)
        if kind is InputNeuron:
            low, high = record.integer("lowest", -(1 << 53)), record.integer("highest", -(1 << 53))
            return InputNeuron(record.choice("encoding", Encoding), record.number("scale"), low, high)
        if kind is FloatNeuron:
            return FloatNeuron(
                self.optional(record.raw("threshold"), self.floats, who),
                record.number("keep_v"),
                record.number("keep_u"),
                record.choice("compare", Compare),
                record.choice("reset", Reset),
                self.floats(record.raw("v0"), who),
                self.optional(record.raw("drop"), self.floats, who),
            )
        if kind is FixedNeuron:
            return FixedNeuron(
                self.optional(record.raw("vth"), self.fixed, who),
                self.fixed(record.raw("du"), who),
                self.fixed(record.raw("dv"), who),
                record.choice("reset", Reset),
                self.integers(record.raw("v0"), who),
                self.optional(record.raw("drop"), self.integers, who),
            )
        return GradedRelay()

    def population(self, value: Any, number: int) -> Population:
        record = Record(value, {one.name for one in fields(Population)}, f"{self._who}: population {number}")
        who = f"{self._who}: {record.text('name')[:80]}"
        return Population(
            name=record.text("name"),
            shape=record.integers("shape", 1),
            neuron=self.neuron(record.raw("neuron"), who),
            bias=self.optional(record.raw("bias"), self.number, who),
            max_payload=record.integer("max_payload", 1),
            level=None if record.raw("level") is None else record.integer("level"),
            origin=record.texts("origin"),
        )

    def projection(self, value: Any, number: int, weights: list[Array | Fixed]) -> Projection:
        record = Record(value, {one.name for one in fields(Projection)}, f"{self._who}: projection {number}")
        weight = record.integer("weight")
        if weight >= len(weights):
            record.refuse("weight", "points behind the list of weights")
        return Projection(
            name=record.text("name"),
            source=record.text("source"),
            target=record.text("target"),
            synapse=self.synapse(record.raw("synapse"), f"{self._who}: {record.text('name')[:80]}"),
            weight=weights[weight],
            delay=record.integer("delay"),
            on_host=record.flag("on_host"),
            host_shift=record.integer("host_shift"),
            origin=record.texts("origin"),
            lag=record.integer("lag"),
        )


def network_from_json(value: Any, mapping: Any, arrays: ArrayReader, who: str) -> Network:
    """The network that ``network_to_json`` and ``mapping_to_json`` wrote.

    Raises NmcError NMC-F06 for anything of another form. The rules of ``rules.py`` are not looked at.
    """
    keys = {
        "name",
        "stage",
        "steps",
        "readout",
        "chip",
        "outputs",
        "notes",
        "weights",
        "populations",
        "projections",
    }
    record = Record(value, keys, who)
    decoder = _Decoder(arrays, who)
    weights = [decoder.number(one, f"{who}: weight {n}") for n, one in enumerate(record.items("weights"))]
    network = Network(
        name=record.text("name"),
        stage=record.choice("stage", Stage),
        populations=tuple(decoder.population(one, n) for n, one in enumerate(record.items("populations"))),
        projections=tuple(
            decoder.projection(one, n, weights) for n, one in enumerate(record.items("projections"))
        ),
        outputs=record.texts("outputs"),
        steps=record.integer("steps", 1),
        readout=record.text("readout"),
        chip=record.text("chip"),
        notes=record.texts("notes"),
    )
    return network.with_(mapping=_mapping(mapping, f"{who}: mapping"))


def _mapping(value: Any, who: str) -> CoreMapping | None:
    if value is None:
        return None
    record = Record(value, {"chip", "tiles"}, who)
    tiles = []
    for entry in record.items("tiles"):
        if not isinstance(entry, list) or len(entry) != 3:
            record.refuse("tiles", "holds something that is no tile")
        tile = Record(
            dict(zip(("population", "ranges", "core"), entry, strict=True)),
            {"population", "ranges", "core"},
            who,
        )
        ranges = [Record({"range": one}, {"range"}, who).pair("range", 0) for one in tile.items("ranges")]
        tiles.append(Tile(tile.text("population"), tuple(ranges), tile.integer("core")))
    return CoreMapping(record.text("chip"), tuple(tiles))
