"""Options and arguments that several commands share."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from nmc.console import Format
from nmc.errors import NmcError


def chip_names(incomplete: str) -> list[str]:
    """Chips, and boards as ``chip:board``, that start like that: for the shell."""
    from nmc.chip import chip_names as known
    from nmc.chip import load_chip

    chips = [load_chip(name) for name in known()]
    boards = [f"{chip.name}:{board.name}" for chip in chips for board in chip.boards]
    return [name for name in (*known(), *boards) if name.startswith(incomplete)]


def engine_names(incomplete: str) -> list[str]:
    """Engines that start like that: for the shell."""
    from nmc.backends.engines import NAMES

    return [name for name in ("auto", *NAMES) if name.startswith(incomplete)]


def refuse_reading(by: str, **options: object) -> None:
    """Raise NmcError NMC-U02 for options about reading a model, given where it is a bundle that is read.

    Args:
        by: the option that says so.
        options: by name, None where they are not given.
    """
    for name, value in options.items():
        if value is not None:
            raise NmcError("NMC-U02", name, f"given with {by}, which takes a bundle", "leave it out")


FormatOption = Annotated[Format, typer.Option("--format", "-f", help="How the result is printed.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace an existing file of another kind.")]
ChipOption = Annotated[
    str,
    typer.Option(help="A chip's name (nmc chips), with :board, or a chip file.", autocompletion=chip_names),
]
StepsOption = Annotated[int | None, typer.Option(metavar="T", help="Time steps per sample.")]
JunitOption = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the checks as JUnit XML too.")]
BundleArgument = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle that nmc compile wrote.")]


class Samples(str, enum.Enum):
    """What a sample is: one frame, repeated as a constant input, or a train with an entry per step."""

    FRAMES = "frames"
    SPIKES = "spikes"


class Objective(str, enum.Enum):
    """What tiles and cores are chosen for."""

    BALANCED = "balanced"
    CORES = "cores"
    TRAFFIC = "traffic"
    SPEED = "speed"
    ENERGY = "energy"


class Granularity(str, enum.Enum):
    """What shares one scale: a layer, or each of its output channels."""

    LAYER = "layer"
    CHANNEL = "channel"


class Joins(str, enum.Enum):
    """How SEW additions are lowered."""

    AUTO = "auto"
    DISTRIBUTE = "distribute"
    RELAY = "relay"


class ExportKind(str, enum.Enum):
    """What is written: a folder with a Python script for Lava, a file for lava-dl's netx, a NIR file, test
    vectors for one, or the graph of cores."""

    LAVA = "lava"
    NET = "net"
    NIR = "nir"
    NIRDATA = "nirdata"
    CORES = "cores"


ModelArgument = Annotated[
    Path, typer.Argument(metavar="MODEL", help="A .nir file, or file.py:function that builds a module.")
]
ProfileOption = Annotated[
    str | None,
    typer.Option(
        help="Framework the weights were trained with, where a NIR file does not say: nir, snntorch, "
        "snntorch-zero, norse, sinabs or spikingjelly."
    ),
]
DtOption = Annotated[float | None, typer.Option(metavar="S", help="Seconds per time step.")]
WeightsOption = Annotated[
    Path | None, typer.Option(metavar="SAFETENSORS", help="Weights of the module that a function builds.")
]
GranularityOption = Annotated[
    Granularity, typer.Option(help="One scale per layer, or per channel as far as the chip has thresholds.")
]
