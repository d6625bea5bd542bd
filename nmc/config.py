"""``nmc.toml``: options of ``nmc compile`` in a file. The command line wins over it, it wins over defaults.

[compile]
chip = "loihi1"
calibration = "train.npz"    # relative to the file
steps = 8
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


def read_config(path: Path) -> dict[str, Any]:
    """Values for options of ``nmc compile``, by their Python names; their types are checked by the parser.

    Raises:
        NmcError: NMC-F01 when the file cannot be read, NMC-F04 when it is no TOML or has another form,
            NMC-U01 for a key that is no option.
    """
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
    for name in document:
        if name != "compile":
            raise NmcError("NMC-U01", who, f"unknown table {name}", "options stand in [compile]")
    options = document.get("compile", {})
    if not isinstance(options, dict):
        raise NmcError("NMC-F04", who, "compile is no table", "write [compile]")
    values = {name.replace("-", "_"): value for name, value in options.items()}
    for name, value in values.items():
        if name not in KEYS:
            raise NmcError("NMC-U01", who, f"unknown option {name}", nearest(name, KEYS))
        if isinstance(value, dict | list | bool):
            raise NmcError("NMC-F04", who, f"{name} is no plain value", "write a text or a number")
    if "calibration" in values:
        values["calibration"] = str(path.parent / str(values["calibration"]))
    return values
