"""``nmc.toml``: options in a file. The command line wins over it, it wins over defaults.

[compile]                    # of nmc compile
chip = "loihi1"
calibration = "train.npz"    # relative to the file
steps = 8

[gates]                      # of nmc diff and of the pytest plugin
energy = "+5%"
accuracy = "-0.5pp"
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from nmc.console import nearest
from nmc.errors import NmcError
from nmc.safeio import Limits, read_bytes

KEYS = (
    "calibration",
    "chip",
    "dt",
    "encoding",
    "joins",
    "optimize",
    "profile",
    "seed",
    "steps",
    "weight_bits",
)
MAX_BYTES = 1 << 20
TABLES = ("compile", "gates")


def _document(path: Path) -> dict[str, Any]:
    """The file's tables. Raises as ``read_config``."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    who = str(path)
    data = read_bytes(path, Limits(max_file_bytes=MAX_BYTES))
    try:
        document: dict[str, Any] = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise NmcError("NMC-F04", who, f"is no TOML ({error})", "mend the file") from error
    for name, table in document.items():
        if name not in TABLES:
            raise NmcError("NMC-U01", who, f"unknown table {name}", "options stand in [compile] and [gates]")
        if not isinstance(table, dict):
            raise NmcError("NMC-F04", who, f"{name} is no table", f"write [{name}]")
    return document


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
