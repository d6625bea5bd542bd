"""A chip is data: limits, encodings and energies, each number with its source (``chips/*.toml``).

A new chip needs a TOML file and no Python; ``chips/loihi1.toml`` explains the form.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from nmc.errors import NmcError
from nmc.safeio import Limits, read_bytes

BASES = ("published", "code", "inferred", "simulated", "measured", "estimated", "choice", "unsourced")
ENERGY_TERMS = (
    "synop",
    "synop_conv",
    "synop_dense",
    "synop_sparse",
    "update_active",
    "update_idle",
    "spike",
    "message_out",
    "message_in",
    "hop_tile",
    "hop_east_west",
    "hop_north_south",
    "mac_fp32",
    "add_fp32",
    "mac_int8",
    "barrier_min",
    "barrier_max",
)
MAX_BYTES = 1 << 20
FOLDER = Path(__file__).parent / "chips"


@dataclass(frozen=True)
class Fact:
    """One line of a chip file: what is claimed, on what basis, from where.

    value None: basis says whether it is unknown or unlimited, source says why.
    """

    key: str
    value: Any
    basis: str
    source: str


@dataclass(frozen=True)
class EnergyTerm:
    """Price of one event: joules and seconds, None where the set has none. ``ENERGY_TERMS`` names them."""

    name: str
    joules: float | None
    seconds: float | None


@dataclass(frozen=True)
class EnergySet:
    """A named set of constants.

    chip: the hardware they belong to. basis: simulated, measured, estimated ... (``BASES``). known_error: how
    far they are known to be off. static_watts: per chip, drawn whatever happens. tick_seconds: of a time
    step where the hardware has a clock for steps.
    """

    name: str
    chip: str
    basis: str
    source: str
    terms: tuple[EnergyTerm, ...]
    known_error: str = ""
    static_watts: float | None = None
    tick_seconds: float | None = None

    def term(self, name: str) -> EnergyTerm | None:
        """The term of that name; a synaptic operation of any kind falls back to plain ``synop``."""
        table = {term.name: term for term in self.terms}
        return table.get(name, table.get("synop") if name.startswith("synop_") else None)

    def joules(self, name: str) -> float | None:
        term = self.term(name)
        return None if term is None else term.joules

    def seconds(self, name: str) -> float | None:
        term = self.term(name)
        return None if term is None else term.seconds


@dataclass(frozen=True)
class Board:
    """Chips in a grid of rows and columns, numbered row by row; links join neighbours."""

    name: str
    chips: int
    rows: int
    columns: int


@dataclass(frozen=True)
class Chip:
    """What the compiler must know of a chip. A limit of None is unknown or absent and is not enforced.

    cores: of all chips of the board; cores_per_chip and the mesh: of one chip. board: the one chosen by
    ``chip:board``, None for a single chip. Per core: populations_per_core: neuron groups that can share it;
    neurons_per_core; synapse_bits of memory; input_axons and output_axons (table entries); delay_slots:
    neurons x time slots (``partition/cost.py``). Synapse lists: word_bits, run_header_bits, run_length,
    pad_runs (each run is padded to whole words, else the list), index bits stored with each weight of a
    dense list or of a shared kernel. weight_codes: the widths that weights can be stored with.
    population_slots, discrete_slots: output entries that one axon takes. payload_bits: width of a graded
    spike, 0 for binary ones. threshold_profiles: different thresholds on one core. resets, encodings:
    values of ``ir.Reset`` and ``ir.Encoding``, the preferred one first. start_values: whether v can start a
    sample elsewhere than at 0. toml: the file's bytes.
    """

    name: str
    title: str
    cores: int | None
    cores_per_chip: int | None
    mesh_rows: int | None
    mesh_columns: int | None
    cores_per_tile: int | None
    populations_per_core: int | None
    neurons_per_core: int | None
    synapse_bits: int | None
    input_axons: int | None
    output_axons: int | None
    delay_slots: int | None
    weight_codes: tuple[int, ...]
    delay_bits: int
    max_delay: int
    word_bits: int
    run_header_bits: int
    run_length: int
    pad_runs: bool
    dense_index_bits: int
    kernel_index_bits: int
    population_slots: int
    discrete_slots: int
    payload_bits: int
    state_bits: int
    decay_bits: int
    threshold_bits: int
    bias_mant_bits: int
    bias_exp_max: int
    threshold_profiles: int | None
    resets: tuple[str, ...]
    start_values: bool
    encodings: tuple[str, ...]
    boards: tuple[Board, ...]
    board: Board | None
    energy: tuple[EnergySet, ...]
    facts: tuple[Fact, ...]
    toml: bytes

    @property
    def base(self) -> str:
        """The chip's name without the board's."""
        return self.name.partition(":")[0]

    def on_board(self, name: str) -> Chip:
        """This chip on one of its boards. Raises NmcError NMC-C01 for an unknown board."""
        known = [board.name for board in self.boards]
        if name not in known:
            hint = f"boards are: {', '.join(known)}" if known else f"use {self.base} without a board"
            raise NmcError("NMC-C01", f"{self.base}:{name}", "is no board of this chip", hint)
        # The file's first line says which board, so that a stored chip file is read back as it was used.
        return parse_chip(f'board = "{name}"\n'.encode() + self.toml.removeprefix(_chosen(self)), self.base)

    @property
    def loops_resets(self) -> bool:
        """Whether a soft reset must be a synapse of each neuron onto itself (``quantize/reset_loops.py``)."""
        return "subtract" not in self.resets

    @property
    def weight_bits(self) -> int:
        """The widest weight."""
        return max(self.weight_codes)

    def stored_bits(self, weight_bits: int) -> int:
        """The narrowest width of ``weight_codes`` that holds such a weight; the widest where none does."""
        return min((code for code in self.weight_codes if code >= weight_bits), default=self.weight_bits)

    def energy_set(self, name: str | None = None) -> EnergySet:
        """The set of that name, or the first. Raises NmcError NMC-U03 for an unknown name."""
        for one in self.energy:
            if name in (None, one.name):
                return one
        names = ", ".join(one.name for one in self.energy) or "none"
        raise NmcError(
            "NMC-U03", name or self.name, f"{self.name} has no such energy constants", f"there are: {names}"
        )


def _chosen(chip: Chip) -> bytes:
    """The line that ``on_board`` put before the file."""
    return b"" if chip.board is None else f'board = "{chip.board.name}"\n'.encode()


def chip_names() -> tuple[str, ...]:
    """Names of the chips that ship with nmc, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def constraint_names() -> tuple[str, ...]:
    """Names of the chips that nmc can only check models against (``constraints.py``), sorted."""
    return tuple(sorted(path.stem for path in (FOLDER / "constraints").glob("*.toml")))


def load_chip(name_or_path: str | os.PathLike[str]) -> Chip:
    """A chip by name, or from a chip file; ``loihi1:nahuku-32`` is a chip on one of its boards.

    Raises:
        NmcError: NMC-C01 when there is neither such a name nor such a file (with the nearest name), or no
            such board, or only constraints are known of the chip; NMC-C02 for a bad file (with line and key).
    """
    name = os.fspath(name_or_path)
    chip, colon, board = name.rpartition(":")
    if colon and (chip in chip_names() or chip.endswith(".toml")):
        return load_chip(chip).on_board(board)
    if name in chip_names():
        return parse_chip((FOLDER / f"{name}.toml").read_bytes(), name)
    if os.path.lexists(name.replace("\0", "")) or os.sep in name or name.endswith(".toml"):
        if not os.path.exists(name.replace("\0", "")):
            raise NmcError("NMC-C01", name, "no such chip file", f"chips are: {', '.join(chip_names())}")
        return parse_chip(read_bytes(name, Limits(max_file_bytes=MAX_BYTES), "NMC-C02"), name)
    if name in constraint_names():
        raise NmcError(
            "NMC-C01",
            name,
            "is known by its constraints only; nmc compiles for Loihi-class chips",
            f"check the model: nmc fit MODEL --chip {name}",
        )
    near = difflib.get_close_matches(name.lower(), chip_names(), 1, 0.4)
    hint = f"did you mean {near[0]}?" if near else f"chips are: {', '.join(chip_names())}"
    raise NmcError("NMC-C01", name, "is neither a chip of nmc nor a file", hint)


@lru_cache(maxsize=1)
def other_hardware() -> tuple[EnergySet, ...]:
    """Constants of hardware that nmc does not compile for, to compare with: ``data/energies.toml``."""
    from nmc.chipfile import Reader

    path = FOLDER.parent / "data" / "energies.toml"
    return Reader(path.read_bytes(), path.name).energies()


def parse_chip(data: bytes, who: str) -> Chip:
    """A chip from the bytes of a chip file.

    Raises NmcError NMC-C02 naming line and key.
    """
    from nmc.chipfile import Reader

    return Reader(data, who).chip()
