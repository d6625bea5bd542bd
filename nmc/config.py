"""Options from files and the environment. An option on the command line wins over the environment, that over
the file, the file over defaults.

[compile]                    # of nmc compile
chip = "loihi1"
calibration = "train.npz"    # relative to the file
steps = 8

[gates]                      # of nmc diff and of the pytest plugin
energy = "+5%"
accuracy = "-0.5pp"

The file is ``nmc.toml``, or the table ``[tool.nmc]`` of ``pyproject.toml`` (``find``). In the environment an
option of [compile] is called NMC_COMPILE_CHIP, NMC_COMPILE_WEIGHT_BITS and so on.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmc.console import nearest
from nmc.errors import NmcError
from nmc.safeio import Limits, read_bytes

KEYS = (
    "calibration",
    "chip",
    "convert",
    "dt",
    "encoding",
    "granularity",
    "joins",
    "layer_bits",
    "optimize",
    "profile",
    "seed",
    "steps",
    "weight_bits",
)
MAX_BYTES = 1 << 20
TABLES = ("compile", "gates")
NAME, SHARED = "nmc.toml", "pyproject.toml"
PREFIX = "NMC_COMPILE_"


@dataclass(frozen=True)
class Setting:
    """A value for an option of ``nmc compile``, and where it comes from, in words."""

    value: Any
    origin: str


def find(folder: Path, root: Path | None = None) -> Path | None:
    """The file whose options hold in a folder; None where there is none.

    It is the nearest ``nmc.toml``, or ``pyproject.toml`` with a table [tool.nmc], of the folder and its
    parents up to ``root``: by default the repository around the folder, the folder alone outside of one.

    Raises:
        NmcError: as ``read_config``, for a ``pyproject.toml`` on the way.
    """
    folder = folder.resolve()
    if root is None:
        root = next((one for one in (folder, *folder.parents) if (one / ".git").exists()), folder)
    root = root.resolve()
    for one in (folder, *folder.parents):
        if (one / NAME).is_file():
            return one / NAME
        if (one / SHARED).is_file() and _document(one / SHARED):
            return one / SHARED
        if one == root:
            break
    return None


def settings(path: Path | None, environment: Mapping[str, str] = os.environ) -> dict[str, Setting]:
    """What the environment and a file say for options of ``nmc compile``, by the options' Python names.

    Raises:
        NmcError: as ``read_config``; NMC-U01 for a variable NMC_COMPILE_... that belongs to no option.
    """
    found = {}
    if path is not None:
        found = {name: Setting(value, f"{path} [compile]") for name, value in read_config(path).items()}
    for variable in sorted(environment):
        if variable.startswith(PREFIX):
            name = variable[len(PREFIX) :].lower()
            if name not in KEYS:
                raise NmcError("NMC-U01", variable, "belongs to no option", nearest(name, KEYS))
            found[name] = Setting(environment[variable], f"environment {variable}")
    return found


def read_gates(path: Path) -> list[str]:
    """The gates of [gates], each as ``metric=limit``. Raises as ``read_config``."""
    gates = _document(path).get("gates", {})
    for name, limit in gates.items():
        if not isinstance(limit, str):
            raise NmcError("NMC-F04", str(path), f"gate {name} is no text", f'write {name} = "+5%"')
    return [f"{name}={limit}" for name, limit in gates.items()]


def read_config(path: Path) -> dict[str, Any]:
    """Values for options of ``nmc compile``, by their Python names; their types are checked by the parser.

    Raises:
        NmcError: NMC-F01 when the file cannot be read, NMC-F04 when it is no TOML or has another form,
            NMC-U01 for a key that is no option.
    """
    who = str(path)
    options = _document(path).get("compile", {})
    values = {name.replace("-", "_"): value for name, value in options.items()}
    for name, value in values.items():
        if name not in KEYS:
            raise NmcError("NMC-U01", who, f"unknown option {name}", nearest(name, KEYS))
        if isinstance(value, dict | list | bool):
            raise NmcError("NMC-F04", who, f"{name} is no plain value", "write a text or a number")
    if "calibration" in values:
        values["calibration"] = str(path.parent / str(values["calibration"]))
    return values


def _document(path: Path) -> dict[str, Any]:
    """nmc's tables of the file. Raises as ``read_config``."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    who = str(path)
    if path.is_file() and path.stat().st_size == 0:
        return {}
    data = read_bytes(path, Limits(max_file_bytes=MAX_BYTES))
    try:
        document: dict[str, Any] = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise NmcError("NMC-F04", who, f"is no TOML ({error})", "mend the file") from error
    place = ""
    if path.name == SHARED:
        tool = document.get("tool", {})
        document, place = (tool.get("nmc", {}) if isinstance(tool, dict) else {}), "tool.nmc."
        if not isinstance(document, dict):
            raise NmcError("NMC-F04", who, "tool.nmc is no table", "write [tool.nmc.compile]")
    for name, table in document.items():
        if name not in TABLES:
            remedy = f"options stand in [{place}compile] and [{place}gates]"
            raise NmcError("NMC-U01", who, f"unknown table {place}{name}", remedy)
        if not isinstance(table, dict):
            raise NmcError("NMC-F04", who, f"{place}{name} is no table", f"write [{place}{name}]")
    return document
