"""Engine "lava-inprocess": Lava's process models without Lava's runtime (``models.py``)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from nmc.backends.base import Trace
from nmc.backends.loihi import readback
from nmc.backends.loihi.program import Program
from nmc.backends.loihi.run import unavailable
from nmc.errors import NmcError
from nmc.ir import IntArray, Network


def in_process_models(who: str) -> Callable[[Program], Any]:
    """``models.InProcessLava``, once Lava is found and has been imported.

    Raises:
        NmcError: NMC-E01 when Lava is not there or cannot be imported into this process.
    """
    problem = unavailable()
    if problem is not None:
        raise problem
    try:
        from nmc.backends.loihi.models import InProcessLava
    except RuntimeError as error:
        raise NmcError(
            "NMC-E01", who, f"Lava refuses to be imported here: {error}", "use engine lava"
        ) from error
    return InProcessLava


class InProcessLavaEngine:
    """Lava's arithmetic in this process, much faster to start than "lava"; see ``backends.base.Engine``.

    Importing Lava sets Python's start method for the whole process; where it is set already, only the
    engine "lava", which has a process of its own, can run.
    """

    name = "lava-inprocess"

    def run(self, network: Network, x: IntArray, steps: int, record: Collection[str] = ()) -> Trace:
        """See ``backends.base.Engine.run``.

        Raises:
            NmcError: NMC-E01 when Lava is not there or cannot be imported into this process.
        """
        models = in_process_models(self.name)

        def run(program: Program) -> readback.Recorded:
            kept = models(program).run()
            return lambda name, what: kept[name, what]

        return readback.trace(network, x, steps, record, run)
