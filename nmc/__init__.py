"""nmc: the neuromorphic deployment compiler.

``nmc.compile(model, chip="loihi2", data=x)`` gives a bundle; ``nmc.run``, ``nmc.verify`` and ``nmc.report``
take it from there. See ``nmc.api`` for every function; nothing heavy is imported until one is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from nmc.api import (
        analyse,
        aware,
        check,
        chips,
        compile,
        convert,
        diff,
        evaluate,
        export,
        fit,
        load,
        neurobench,
        read,
        report,
        run,
        run_float,
        tune,
        verify,
    )
    from nmc.errors import NmcError

__all__ = [
    "NmcError",
    "__version__",
    "analyse",
    "aware",
    "check",
    "chips",
    "compile",
    "convert",
    "diff",
    "evaluate",
    "export",
    "fit",
    "load",
    "neurobench",
    "read",
    "report",
    "run",
    "run_float",
    "tune",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from nmc import api, errors

        return getattr(errors if name == "NmcError" else api, name)
    raise AttributeError(f"module 'nmc' has no attribute {name!r}")
