"""Engines by name. Nothing is imported before it is asked for."""

from __future__ import annotations

from nmc.backends.base import Engine
from nmc.errors import NmcError

NAMES = ("reference", "stepwise", "native", "lava", "lava-inprocess", "lava-tiles")


def engine(name: str) -> Engine:
    """The engine of that name; ``auto`` is the fastest one that is there.

    Raises:
        NmcError: NMC-U03 for an unknown name, NMC-E01 where the engine's parts are missing.
    """
    if name == "auto":
        return _fastest()
    if name == "reference":
        from nmc.backends.sim.reference import ReferenceEngine

        return ReferenceEngine()
    if name == "stepwise":
        from nmc.backends.sim.reference import StepwiseEngine

        return StepwiseEngine()
    if name == "native":
        from nmc.backends.sim.native import NativeEngine

        return NativeEngine()
    if name == "lava":
        from nmc.backends.loihi.run import LavaEngine

        return LavaEngine()
    if name == "lava-inprocess":
        from nmc.backends.loihi.inprocess import InProcessLavaEngine

        return InProcessLavaEngine()
    if name == "lava-tiles":
        from nmc.backends.loihi.tiles import TiledLavaEngine

        return TiledLavaEngine()
    raise NmcError("NMC-U03", name, "is no engine", f"engines are: {', '.join(NAMES)}")


def _fastest() -> Engine:
    try:
        return engine("native")
    except NmcError:
        return engine("reference")
