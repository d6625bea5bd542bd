"""Engine "lava-inprocess": Lava's process models without Lava's runtime (``models.py``)."""

from __future__ import annotations

from collections.abc import Collection

from nmc.backends.base import Trace
from nmc.backends.loihi import readback
from nmc.backends.loihi.lower import lower
from nmc.backends.loihi.run import unavailable
from nmc.errors import NmcError
from nmc.ir import IntArray, Network


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
        problem = unavailable()
        if problem is not None:
            raise problem
        try:
            from nmc.backends.loihi.models import InProcessLava
        except RuntimeError as error:
            raise NmcError(
                "NMC-E01", self.name, f"Lava refuses to be imported here: {error}", "use engine lava"
            ) from error
        program = lower(network, x, steps).keep_states_of(readback.states_needed(network, record))
        kept = InProcessLava(program).run()
        return readback.trace(network, x, steps, record, lambda name, what: kept[name, what])
