"""Reading chip files: every key, what it may hold, and messages that name line and key."""

from __future__ import annotations

import difflib
import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from nmc.chip import (
    BASES,
    ENERGY_TERMS,
    FOLDER,
    MAX_BYTES,
    Board,
    Chip,
    EnergySet,
    EnergyTerm,
    Fact,
    chip_names,
)
from nmc.errors import NmcError
from nmc.ir import Encoding, Reset

SCHEMA = "nmc.chip/1"
ENERGIES_SCHEMA = "nmc.energies/1"
Check = Callable[[Any], bool]


def _integer(lowest: int) -> Check:
    return lambda value: type(value) is int and lowest <= value < 1 << 53


def _widths(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(x) is int and 1 <= x <= 32 for x in value)


def _words(allowed: frozenset[str]) -> Check:
    def check(value: Any) -> bool:
        return (
            isinstance(value, list)
            and bool(value)
            and all(isinstance(x, str) and x in allowed for x in value)
        )

    return check


@dataclass(frozen=True)
class Key:
    """A key of a chip file: its field of Chip, what is allowed, and whether it may be unknown."""

    field: str
    check: Check
    expected: str
    nullable: bool = False


def limit(field: str) -> Key:
    """A key that may be unknown or unlimited."""
    return Key(field, _integer(1), "a whole number of at least 1", nullable=True)


def _number(field: str, lowest: int = 0) -> Key:
    return Key(field, _integer(lowest), f"a whole number of at least {lowest}")


_BOARD = {key: _number(key, 1) for key in ("chips", "rows", "columns")}
_RESETS = frozenset(reset.value for reset in Reset)
_ENCODINGS = frozenset(encoding.value for encoding in Encoding)
_TABLES: dict[str, dict[str, Key]] = {
    "mesh": {
        "cores": limit("cores_per_chip"),
        "rows": limit("mesh_rows"),
        "columns": limit("mesh_columns"),
        "cores_per_tile": limit("cores_per_tile"),
    },
    "core": {
        "populations": limit("populations_per_core"),
        "neurons": limit("neurons_per_core"),
        "synapse_bits": limit("synapse_bits"),
        "input_axons": limit("input_axons"),
        "output_axons": limit("output_axons"),
        "delay_slots": limit("delay_slots"),
    },
    "synapse": {
        "weight_codes": Key("weight_codes", _widths, "a list of widths, 1 to 32"),
        "delay_bits": _number("delay_bits"),
        "max_delay": _number("max_delay"),
        "word_bits": _number("word_bits", 1),
        "run_header_bits": _number("run_header_bits"),
        "run_length": _number("run_length", 1),
        "pad_runs": Key("pad_runs", lambda value: isinstance(value, bool), "true or false"),
        "dense_index_bits": _number("dense_index_bits"),
        "kernel_index_bits": _number("kernel_index_bits"),
    },
    "axon": {
        "population_slots": _number("population_slots", 1),
        "discrete_slots": _number("discrete_slots", 1),
        "payload_bits": _number("payload_bits"),
    },
    "neuron": {
        "state_bits": _number("state_bits", 1),
        "decay_bits": _number("decay_bits", 1),
        "threshold_bits": _number("threshold_bits", 1),
        "bias_mant_bits": _number("bias_mant_bits", 1),
        "bias_exp_max": _number("bias_exp_max"),
        "threshold_profiles": limit("threshold_profiles"),
        "resets": Key("resets", _words(_RESETS), f"a list of {sorted(_RESETS)}"),
        "start_values": Key("start_values", lambda value: isinstance(value, bool), "true or false"),
    },
    "input": {"encodings": Key("encodings", _words(_ENCODINGS), f"a list of {sorted(_ENCODINGS)}")},
}


class Reader:
    """One parse: the text is kept so that a message can name the line of a key."""

    def __init__(self, data: bytes, who: str) -> None:
        if sys.version_info >= (3, 11):
            import tomllib
        else:
            import tomli as tomllib
        self._data, self._who = data, who
        try:
            if len(data) > MAX_BYTES:
                raise ValueError(f"{len(data):,} bytes, allowed are {MAX_BYTES:,}")
            self._text = data.decode()
            self._document: dict[str, Any] = tomllib.loads(self._text)
        except (ValueError, RecursionError) as error:
            raise NmcError("NMC-C02", who, str(error), "mend the chip file") from error

    def chip(self) -> Chip:
        self._only(self._document, {"schema", "name", "title", "board", "boards", "energy", *_TABLES}, "")
        if self._document.get("schema") != SCHEMA:
            self._refuse("schema", f"is {self._document.get('schema')!r}, expected {SCHEMA!r}")
        fields: dict[str, Any] = {}
        facts = []
        for table, keys in _TABLES.items():
            content = self._table(self._document, table)
            self._only(content, set(keys), f"{table}.")
            for key, rule in keys.items():
                fact = self._fact(f"{table}.{key}", content.get(key), rule)
                fields[rule.field] = tuple(fact.value) if isinstance(fact.value, list) else fact.value
                facts.append(fact)
        self._check_mesh(fields)
        name, boards = self._string(self._document, "name"), self._boards(facts)
        board = self._board(boards)
        cores = fields["cores_per_chip"]
        if board is not None:
            name, cores = f"{name}:{board.name}", None if cores is None else cores * board.chips
        return Chip(
            name=name,
            title=self._string(self._document, "title"),
            cores=cores,
            boards=boards,
            board=board,
            energy=self._energy(),
            facts=tuple(facts),
            toml=self._data,
            **fields,
        )

    def energies(self) -> tuple[EnergySet, ...]:
        """The sets of a file that holds nothing else."""
        self._only(self._document, {"schema", "energy"}, "")
        if self._document.get("schema") != ENERGIES_SCHEMA:
            self._refuse("schema", f"is {self._document.get('schema')!r}, expected {ENERGIES_SCHEMA!r}")
        return self._energy()

    def _check_mesh(self, fields: dict[str, Any]) -> None:
        size = [fields[name] for name in ("mesh_rows", "mesh_columns", "cores_per_tile")]
        if None not in size and (fields["cores_per_chip"] or 0) > math.prod(size):
            cores = fields["cores_per_chip"]
            self._refuse("mesh.cores", f"is {cores:,}, the mesh has room for {math.prod(size):,}")

    def _boards(self, facts: list[Fact]) -> tuple[Board, ...]:
        """Every ``[boards.NAME]``; its numbers join the chip's facts."""
        tables = self._table(self._document, "boards") if "boards" in self._document else {}
        boards = []
        for name in tables:
            content = self._table(tables, name)
            self._only(content, set(_BOARD), f"boards.{name}.")
            size = {}
            for key, rule in _BOARD.items():
                fact = self._fact(f"boards.{name}.{key}", content.get(key), rule)
                size[key] = fact.value
                facts.append(fact)
            board = Board(name, **size)
            if board.chips > board.rows * board.columns:
                self._refuse(f"boards.{name}.chips", f"is {board.chips:,}, more than rows x columns")
            boards.append(board)
        return tuple(boards)

    def _board(self, boards: tuple[Board, ...]) -> Board | None:
        """The one that the file chooses with a line ``board = NAME``."""
        if "board" not in self._document:
            return None
        chosen = [board for board in boards if board.name == self._document["board"]]
        if not chosen:
            self._refuse(
                "board", f"is {str(self._document['board'])[:60]!r}, which the file does not describe"
            )
        return chosen[0]

    def _fact(self, key: str, entry: Any, rule: Key) -> Fact:
        if entry is None:
            self._refuse(key, "is missing")
        if not isinstance(entry, dict):
            self._refuse(key, "is a bare value, expected { value = ..., basis = ..., source = ... }")
        absent = next((word for word in ("unknown", "unlimited") if word in entry), None)
        if absent is not None:
            self._only(entry, {absent, "why"}, key)
            if entry[absent] is not True or not rule.nullable:
                self._refuse(key, f"must be {rule.expected}, it cannot be {absent}")
            return Fact(key, None, absent, self._string(entry, "why", key))
        self._only(entry, {"value", "basis", "source"}, key)
        if not rule.check(entry.get("value")):
            self._refuse(key, f"is {str(entry.get('value'))[:60]}, expected {rule.expected}")
        return Fact(key, entry["value"], self._basis(entry, key), self._string(entry, "source", key))

    def _energy(self) -> tuple[EnergySet, ...]:
        entries = self._document.get("energy", [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            self._refuse("energy", "is no array of tables [[energy]]")
        sets = tuple(
            self._borrowed(entry) if "same_as" in entry else self._energy_set(entry) for entry in entries
        )
        if len({one.name for one in sets}) != len(sets):
            self._refuse("energy", "has two sets of one name")
        return sets

    def _borrowed(self, entry: dict[str, Any]) -> EnergySet:
        """The set of another chip that ships with nmc, named ``chip:set``."""
        self._only(entry, {"same_as"}, "energy.")
        chip, _, name = self._string(entry, "same_as", "energy").partition(":")
        if chip in chip_names():
            lender = Reader((FOLDER / f"{chip}.toml").read_bytes(), chip)
            for other in lender._document["energy"]:
                if other.get("name") == name:
                    return lender._energy_set(other)
        self._refuse("energy.same_as", f"is {chip}:{name}, which no chip of nmc has")

    def _energy_set(self, entry: dict[str, Any]) -> EnergySet:
        optional = {"static_W", "tick_s"}
        self._only(entry, {"name", "chip", "basis", "source", "known_error", "terms", *optional}, "energy.")
        name = self._string(entry, "name", "energy")
        who = f"energy.{name}"
        for key in optional & set(entry):
            if type(entry[key]) not in (int, float) or not 0 < entry[key] < 1000:
                self._refuse(f"{who}.{key}", f"is {entry[key]}, expected more than 0, in SI units")
        terms = []
        for term, price in self._table(entry, "terms").items():
            if term not in ENERGY_TERMS or not isinstance(price, dict) or not price:
                self._refuse(f"{who}.{term}", f"is no price; terms are {', '.join(ENERGY_TERMS)}")
            self._only(price, {"J", "s"}, f"{who}.{term}")
            for unit, value in price.items():
                if type(value) not in (int, float) or not 0 <= value < 1:
                    self._refuse(f"{who}.{term}", f"{unit} is {value}, expected 0 to 1 in SI units")
            terms.append(EnergyTerm(term, price.get("J"), price.get("s")))
        return EnergySet(
            name=name,
            chip=self._string(entry, "chip", who),
            basis=self._basis(entry, who),
            source=self._string(entry, "source", who),
            terms=tuple(terms),
            known_error=self._string(entry, "known_error", who) if "known_error" in entry else "not stated",
            static_watts=entry.get("static_W"),
            tick_seconds=entry.get("tick_s"),
        )

    def _basis(self, entry: dict[str, Any], key: str) -> str:
        basis = self._string(entry, "basis", key)
        if basis not in BASES:
            self._refuse(key, f"has the basis {basis!r}, expected one of {', '.join(BASES)}")
        return basis

    def _table(self, entry: dict[str, Any], key: str) -> dict[str, Any]:
        value = entry.get(key)
        if not isinstance(value, dict):
            self._refuse(key, "is missing" if value is None else "is no table")
        return value

    def _string(self, entry: dict[str, Any], key: str, where: str = "") -> str:
        value = entry.get(key)
        if not isinstance(value, str) or not value or len(value) > 1000:
            self._refuse(where or key, f"{key} is missing or no text" if where else "is missing or no text")
        return value

    def _only(self, entry: dict[str, Any], allowed: set[str], where: str) -> None:
        """Refuse other keys; ``where`` ends with a dot for a table and with none for an inline table."""
        for key in entry:
            if key not in allowed:
                near = difflib.get_close_matches(key, allowed, 1)
                hint = f", did you mean {near[0]}?" if near else ""
                if where and not where.endswith("."):
                    self._refuse(where, f"has the unknown key {key}{hint}")
                self._refuse(f"{where}{key}", f"is unknown{hint}")

    def _refuse(self, key: str, problem: str) -> NoReturn:
        raise NmcError("NMC-C02", self._who, f"line {self._line(key)}: {key} {problem}", "mend the chip file")

    def _line(self, key: str) -> int:
        """The line where a dotted key stands, or as much of it as can be found."""
        lines, here = self._text.splitlines(), 0
        for part in map(re.escape, key.split(".")):
            pattern = re.compile(rf'\s*(\[+\s*([\w-]+\.)*{part}\s*\]|"?{part}"?\s*=|name\s*=\s*"{part}")')
            here = next((n for n in range(here, len(lines)) if pattern.match(lines[n])), here)
        return here + 1
