"""Chips that nmc knows by their constraints alone: a model can be checked against them, not compiled.

Files ``chips/constraints/*.toml`` state every limit with its source, as chip files do. Two families:

layer-per-core  every core holds one convolution layer whole; cores differ in memory (DYNAP-CNN)
dense           one core of dense layers (Xylo)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nmc.chip import FOLDER, MAX_BYTES, Fact, constraint_names
from nmc.chipfile import Key, Reader, limit
from nmc.safeio import Limits, read_bytes

SCHEMA = "nmc.constraints/1"
HERE = FOLDER / "constraints"


def _list(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(x) is int and x >= 1 for x in value)


def _lists(field: str) -> Key:
    return Key(field, _list, "a list of whole numbers of at least 1")


FAMILIES: dict[str, dict[str, Key]] = {
    "layer-per-core": {
        **{name: _lists(name) for name in ("kernel_entries", "neuron_entries", "strides", "pools")},
        **{
            name: limit(name)
            for name in (
                *("biases", "input_side", "output_side", "channels", "kernel_side", "padding"),
                *("fan_out", "weight_bits", "state_bits", "synops_per_second"),
            )
        },
        "leak": Key("leak", lambda value: isinstance(value, bool), "true or false"),
        "errata": Key("errata", lambda value: isinstance(value, str), "a text"),
    },
    "dense": {
        **{
            name: limit(name)
            for name in (
                *("inputs", "hidden", "outputs", "synapses_per_neuron", "weight_bits", "threshold_bits"),
            )
        },
        "decay": Key("decay", lambda value: isinstance(value, str), "a text"),
    },
}
"""The limits that a file of each family states."""


@dataclass(frozen=True)
class Constraints:
    """limits: by key; None where the file says that a number is unknown."""

    name: str
    title: str
    family: str
    limits: Mapping[str, Any]
    facts: tuple[Fact, ...]


def load_constraints(name_or_path: str | os.PathLike[str]) -> Constraints | None:
    """Constraints by name, or from a file with their schema; None for anything else.

    Raises:
        NmcError: NMC-C02 for a bad file, with line and key.
    """
    name = os.fspath(name_or_path)
    if name in constraint_names():
        return parse_constraints((HERE / f"{name}.toml").read_bytes(), name)
    if not name.endswith(".toml") or not os.path.isfile(name):
        return None
    data = read_bytes(name, Limits(max_file_bytes=MAX_BYTES), "NMC-C02")
    return parse_constraints(data, name) if SCHEMA.encode() in data else None


def parse_constraints(data: bytes, who: str) -> Constraints:
    """Constraints from the bytes of their file. Raises NmcError NMC-C02 naming line and key."""
    return _ConstraintReader(data, who).constraints()


class _ConstraintReader(Reader):
    def constraints(self) -> Constraints:
        self._only(self._document, {"schema", "name", "title", "family", "limits"}, "")
        if self._document.get("schema") != SCHEMA:
            self._refuse("schema", f"is {self._document.get('schema')!r}, expected {SCHEMA!r}")
        family = self._string(self._document, "family")
        if family not in FAMILIES:
            self._refuse("family", f"is {family!r}, expected one of {', '.join(FAMILIES)}")
        keys, table = FAMILIES[family], self._table(self._document, "limits")
        self._only(table, set(keys), "limits.")
        facts = tuple(self._fact(f"limits.{key}", table.get(key), rule) for key, rule in keys.items())
        limits = {fact.key.removeprefix("limits."): fact.value for fact in facts}
        if family == "layer-per-core" and len(limits["kernel_entries"]) != len(limits["neuron_entries"]):
            cores = [len(limits[key]) for key in ("kernel_entries", "neuron_entries")]
            self._refuse("limits.neuron_entries", f"lists {cores[1]} cores, kernel_entries {cores[0]}")
        return Constraints(
            self._string(self._document, "name"), self._string(self._document, "title"), family, limits, facts
        )
