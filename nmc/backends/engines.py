"""Engines by name. Nothing is imported before it is asked for."""

from __future__ import annotations

from nmc.backends.base import Engine
from nmc.errors import NmcError

NAMES = ("reference", "stepwise", "native", "torch", "lava", "lava-inprocess", "lava-tiles")


def engine(name: str) -> Engine:
    """The engine of that name; ``auto`` is the fastest one that is there.

    ``torch`` runs on a CUDA device where there is one, else on the CPU; ``torch:cpu`` and ``torch:cuda:1``
    say which.

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
    if name == "torch" or name.startswith("torch:"):
        from nmc.backends.sim.torch_engine import TorchEngine

        return TorchEngine(name[len("torch:") :])
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


def described(asked: str, name: str) -> str:
    """The engine that ran, and what to do where ``auto`` had to take a slower one."""
    slower = asked == "auto" and name != "native"
    return f"{name}; the faster C++ engine is not there, see nmc doctor" if slower else name


def _fastest() -> Engine:
    for name in ("native", "torch"):
        try:
            return engine(name)
        except NmcError as error:
            if error.code != "NMC-E01":  # not there is one thing, asked for wrongly another
                raise
    return engine("reference")
