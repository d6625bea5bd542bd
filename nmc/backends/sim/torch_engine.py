"""The engine for torch's devices, CPU and CUDA: the reference's bits where no C++ kernel runs.

torch itself is imported when an engine is made, not with this module.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Collection
from typing import Any

from nmc import extras
from nmc.backends import encode, memory
from nmc.backends.base import Trace
from nmc.errors import NmcError
from nmc.ir import IntArray, Network

REMEDY = f"{extras.install('torch')}, or use --engine reference"


def unavailable() -> NmcError | None:
    """Why torch's devices cannot be used, as NMC-E01 with what to do; None when torch is installed."""
    if importlib.util.find_spec("torch") is None:
        return NmcError("NMC-E01", "torch", "package torch is not installed", REMEDY)
    return None


class TorchEngine:
    """Runs networks with torch.

    torch's settings are read, never changed: where TF32 or bfloat16 products are allowed, float32 products
    are not used. The number of threads is torch's.

    Args:
        device: a torch device such as "cpu" or "cuda:1"; "" for the first CUDA device, else the CPU.
        routes: names of the routes that may be used (``torch_routes``), in order of preference; None for all.
        budget: bytes below which samples are run together; no result depends on it.

    Attributes:
        name: "torch:" and the device. problems: route -> why it is not used here.

    Raises:
        NmcError: NMC-E01 when torch, the device or every route is missing, NMC-U03 for an unknown route.
    """

    def __init__(
        self, device: str = "", routes: Collection[str] | None = None, budget: int | None = None
    ) -> None:
        problem = unavailable()
        if problem is not None:
            raise problem
        from nmc.backends.sim import torch_routes, torch_run

        self._device = _device(device)
        self.name = f"torch:{self._device}"
        self._usable = torch_routes.usable(self._device, routes)
        self.problems = self._usable.problems
        self._budget = torch_run.GROUP_BYTES if budget is None else budget
        self._plan: tuple[Network, tuple[str, ...], Any] | None = None
        self._lock = threading.Lock()

    def run(self, network: Network, x: IntArray, steps: int, record: Collection[str] = ()) -> Trace:
        """See ``backends.base.Engine.run``.

        Raises:
            NmcError: NMC-Q01 when a sum could leave every route, NMC-W02 when memory does not suffice.
        """
        import torch

        from nmc.backends.sim import torch_run

        encode.train_of(network, x, steps)
        # Autocast would multiply in half precision; it is switched off for this thread and block only.
        with self._lock, torch.inference_mode(), torch.autocast(self._device.type, enabled=False):
            layers = self._layers(network)
            cut = torch_run.sizes(network, layers, self._device, len(x), steps, self._budget)
            self._check_memory(network, len(x), steps, record, cut.bytes)
            encode.refuse_foreign(network, x)
            return torch_run.Run(network, layers, self._device, x, steps, record, cut).trace()

    def _layers(self, network: Network) -> Any:
        """The plan of the last network is kept, as long as torch's precision stays what it was."""
        from nmc.backends.sim import torch_routes
        from nmc.backends.sim.torch_plan import Planner

        routes = torch_routes.allowed(self._usable.products)
        names = tuple(route.name for route in routes)
        if self._plan is None or self._plan[0] is not network or self._plan[1] != names:
            self._plan = network, names, Planner(network, self._device, routes, self._usable.fused).layers()
        return self._plan[2]

    def _check_memory(
        self, network: Network, samples: int, steps: int, record: Collection[str], group: int
    ) -> None:
        """Refuse before anything of the run is allocated."""
        import torch

        recorded = memory.recorded_bytes(network, samples, steps, record)
        if self._device.type == "cpu":
            memory.refuse_beyond_free(network, recorded + group)
            return
        memory.refuse_beyond_free(network, recorded)
        memory.refuse_beyond_free(network, group, int(torch.cuda.mem_get_info(self._device)[0]))


def _device(name: str) -> Any:
    """The torch device of that name, once it has been seen to work."""
    import torch

    try:
        if not name:
            name = "cuda" if torch.cuda.is_available() else "cpu"
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise ValueError("the engine runs on CPU and CUDA devices")
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise NmcError(
            "NMC-E01", f"torch:{name}", f"no such device here ({reason})", "use --engine torch:cpu"
        ) from None
    return device
