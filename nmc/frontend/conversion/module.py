"""From a torch module to the ANN that is converted, and the proof that they are the same function."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from nmc.errors import NmcError
from nmc.frontend import opgraph as og
from nmc.frontend.conversion.activations import ClipFloor, plain
from nmc.frontend.float_engine import run
from nmc.frontend.opgraph import OpGraph
from nmc.frontend.trace import dtype_of, trace
from nmc.frontend.tracing.copying import private_copy, unwrapped
from nmc.ir import FloatArray

CHECKED = 32
"""Samples that the import is checked with."""
TOLERANCE = 1e-3
"""Of the largest output: float32 against float64, summed in another order."""
CLIPS = (("limit", "levels"), ("thresh", "L"))
"""Attributes of a QCFS activation: its learned clip and its number of levels."""


def import_ann(module: Any, data: FloatArray) -> OpGraph:
    """Trace a torch module and check the result against it on some samples.

    ReLU and QCFS activations are known; the latter are modules with one of the pairs of attributes in
    ``CLIPS`` that compute what ``ClipFloor`` says.

    Args:
        module: a torch.nn.Module of one frame; it is not changed.
        data: frames (N, *shape).

    Raises:
        NmcError: as ``trace``; NMC-V02 when the import computes something else; NMC-E01 without torch.
    """
    try:
        import torch
    except ImportError:
        raise NmcError("NMC-E01", "torch", "is not installed", "pip install nmc[torch]") from None
    if not isinstance(module, torch.nn.Module):
        raise NmcError("NMC-U02", "ann", f"a {type(module).__name__}", "give an OpGraph or a torch.nn.Module")
    if data.ndim < 2 or len(data) == 0:
        raise NmcError("NMC-D03", "data", f"an array of shape {data.shape}", "give frames (N, *shape)")
    twin, _ = private_copy(torch, unwrapped(module), type(module).__name__)
    clips = _take_clips(torch, twin)
    graph = _put_clips(trace(twin, data.shape[1:], name=type(module).__name__), clips)
    original, _ = private_copy(torch, unwrapped(module), type(module).__name__)

    def source(x: FloatArray) -> npt.ArrayLike:
        with torch.no_grad():
            result: npt.ArrayLike = (
                original(torch.tensor(x, dtype=dtype_of(torch, original))).double().numpy()
            )
        return result

    check_import(graph, source, data)
    return graph


def check_import(
    graph: OpGraph,
    source: Callable[[FloatArray], npt.ArrayLike],
    data: FloatArray,
    tolerance: float = TOLERANCE,
) -> None:
    """Refuse an ANN that does not compute what its source computes.

    Args:
        graph: the imported ANN.
        source: the original: frames (n, *shape) to outputs (n, *output).
        data: frames; at most ``CHECKED`` are used.
        tolerance: of the largest output.

    Raises:
        NmcError: NMC-V02 naming the difference; NMC-D03 for data that are not finite.
    """
    x = np.asarray(data[:CHECKED], np.float64)
    if not np.isfinite(x).all():
        raise NmcError("NMC-D03", "data", "not finite", "clean the data")
    expected = np.asarray(source(x), np.float64)
    got = run(plain(graph), x, 1, record=()).output
    remedy = "report it, with the module; until then build the OpGraph by hand"
    if got.size != expected.size or len(got) != len(expected):
        problem = f"the import gives shape {got.shape}, its source {expected.shape}"
        raise NmcError("NMC-V02", graph.name, problem, remedy)
    gap = np.abs(got.reshape(expected.shape) - expected).max(initial=0.0)
    allowed = tolerance * np.abs(expected).max(initial=0.0)
    if not gap <= allowed:
        problem = f"outputs of the import differ by {gap:.3g} from its source, allowed {allowed:.3g}"
        raise NmcError("NMC-V02", graph.name, problem, remedy, measured=float(gap), allowed=float(allowed))


# --- QCFS -------------------------------------------------------------------------------------------


def _take_clips(torch: Any, module: Any) -> dict[str, ClipFloor]:
    """Replace QCFS activations by ReLUs, which a tracer knows; their clips by path."""
    clips: dict[str, ClipFloor] = {}
    relus: dict[int, Any] = {}
    for path, part in list(module.named_modules(remove_duplicate=False)):
        clip = _clip(torch, part) if path else None
        if clip is None:
            continue
        clips[path] = clip
        parent, _, name = path.rpartition(".")
        setattr(module.get_submodule(parent), name, relus.setdefault(id(part), torch.nn.ReLU()))
    return clips


def _clip(torch: Any, part: Any) -> ClipFloor | None:
    """The clip of a module that has the attributes of one and computes it."""
    for limit_name, levels_name in CLIPS:
        limit: Any = getattr(part, limit_name, None)
        levels = getattr(part, levels_name, None)
        single = isinstance(limit, torch.Tensor) and limit.numel() == 1
        if not single or not isinstance(levels, int) or levels < 1 or float(limit) <= 0:
            continue
        top = float(limit)
        # Between the levels, where rounding cannot tip over.
        x = torch.linspace(-1.0, 2.0, 1 + 3 * 7 * levels, dtype=limit.dtype)[1::3] * top
        with torch.no_grad():
            got = part(x).double().numpy() / top
        wanted = np.clip(np.floor(x.double().numpy() / top * levels + 0.5) / levels, 0, 1)
        if np.abs(got - wanted).max() < 1e-4:
            return ClipFloor(og.constant([top]), levels)
    return None


def _put_clips(graph: OpGraph, clips: dict[str, ClipFloor]) -> OpGraph:
    nodes = dict(graph.nodes)
    for path, clip in clips.items():
        # A module that is called twice has nodes of its name, numbered from the second on.
        calls = [name for name in nodes if re.fullmatch(rf"{re.escape(path)}(\.\d+)?", name)]
        for name in calls:
            if isinstance(nodes[name], og.ReLU):
                nodes[name] = clip.as_op()
    return graph.with_(nodes=nodes)
