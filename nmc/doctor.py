"""What is here and what is missing: Python, packages, engines; each gap with its remedy."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
import sys
from dataclasses import dataclass

from nmc import __version__, extras
from nmc.errors import NmcError
from nmc.reports.document import Document, table_of

CORE = ("numpy", "networkx", "nir", "h5py", "rich", "typer", "jinja2")
OPTIONAL: dict[str, extras.Extra] = {
    "torch": "torch",
    "lava-nc": "lava",
    "lava-dl": "lava",
    "matplotlib": "plot",
}
"""Distribution -> the extra that brings it."""


@dataclass(frozen=True)
class Check:
    """One line of the diagnosis. Not ``required``: nmc's main job works without it."""

    what: str
    found: str
    ok: bool
    required: bool
    remedy: str = ""


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _package(distribution: str, extra: extras.Extra | None) -> Check:
    version = _version(distribution)
    if version is not None:
        return Check(distribution, version, True, extra is None)
    if extra == "lava" and sys.version_info[:2] != extras.LAVA_PYTHON:
        remedy = (
            f"Lava needs Python 3.10, this is {platform.python_version()}; there, {extras.install(extra)}"
        )
    elif extra is None:
        remedy = f"pip install {distribution}"
    else:
        remedy = extras.install(extra)
    return Check(distribution, "missing", False, extra is None, remedy)


def _engine(name: str) -> Check:
    required = name in {"reference", "stepwise"}
    try:
        _probe(name)
    except NmcError as error:
        return Check(f"engine {name}", error.problem, False, required, error.remedy)
    except ImportError as error:
        return Check(f"engine {name}", f"cannot be imported ({error})", False, required, "reinstall nmc")
    return Check(f"engine {name}", "available", True, required)


def _probe(name: str) -> None:
    """Raise what the engine would raise when it is used."""
    # Lava and torch themselves are not imported here: it takes a second, and Lava changes the process.
    problem: NmcError | None = None
    if name.startswith("lava"):
        from nmc.backends.loihi import run

        problem = run.unavailable()
    elif name == "torch":
        from nmc.backends.sim import torch_engine

        problem = torch_engine.unavailable()
    else:
        from nmc.backends.engines import engine

        engine(name)
    if problem is not None:
        raise problem


def diagnose() -> tuple[Check, ...]:
    """Every check, the required ones first. Imports no optional package: engines only look for theirs."""
    from nmc.backends.engines import NAMES

    supported = sys.version_info >= (3, 10)
    return (
        Check("nmc", __version__, True, True),
        Check("python", platform.python_version(), supported, True, "" if supported else "use Python 3.10"),
        *(_package(name, None) for name in CORE),
        *(_package(name, extra) for name, extra in OPTIONAL.items()),
        *(_engine(name) for name in NAMES),
    )


def document(checks: tuple[Check, ...]) -> Document:
    """The diagnosis for any renderer; schema ``nmc.doctor/1``."""
    rows = [("ok" if one.ok else "missing", one.what, one.found, one.remedy) for one in checks]
    table = table_of("", ("", "what", "found", "remedy"), rows)
    return Document("doctor", {"checks": [dataclasses.asdict(one) for one in checks]}, (table,))
