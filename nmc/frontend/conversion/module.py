"""From a torch module to the ANN that is converted, and the proof that they are the same function."""

from __future__ import annotations

import contextlib
import itertools
import math
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from nmc import extras
from nmc.errors import NmcError
from nmc.frontend import opgraph as og
from nmc.frontend.conversion.activations import ClipFloor, plain
from nmc.frontend.float_engine import run
from nmc.frontend.opgraph import OpGraph
from nmc.frontend.trace import dtype_of, trace
from nmc.frontend.tracing.copying import private_copy, unwrapped
from nmc.frontend.tracing.functions import SOFTMAX_NOTE
from nmc.ir import FloatArray

CHECKED, CHECKED_VALUES = 32, 1 << 24
"""Samples that a function is checked with; fewer where one layer of all of them has more values than that."""
TOLERANCE = 1e-3
"""Of a layer's largest output: float32 against float64, summed in another order."""
CLIPS = (("limit", "levels"), ("thresh", "L"))
"""Attributes of a QCFS activation: its learned clip and its number of levels."""

Layers: TypeAlias = Mapping[str, FloatArray]
"""Outputs (n, *shape) by the name that a layer's node has in an op graph."""


def import_ann(module: Any, data: FloatArray) -> OpGraph:
    """Trace a torch module and check the result against it on some samples.

    ReLU, ReLU6, Hardtanh from 0 and QCFS activations are known; the last are modules with one of the pairs
    of attributes in ``CLIPS`` that compute what ``ClipFloor`` says.

    Args:
        module: a torch.nn.Module of one frame; it is not changed.
        data: frames (N, *shape).

    Raises:
        NmcError: as ``trace``; NMC-V02 when the import computes something else; NMC-E01 without torch.
    """
    try:
        import torch
    except ImportError:
        raise NmcError("NMC-E01", "torch", "is not installed", extras.install("torch")) from None
    if not isinstance(module, torch.nn.Module):
        raise NmcError("NMC-U02", "ann", f"a {type(module).__name__}", "give an OpGraph or a torch.nn.Module")
    if data.ndim < 2 or len(data) == 0:
        raise NmcError("NMC-D03", "data", f"an array of shape {data.shape}", "give frames (N, *shape)")
    twin, _ = private_copy(torch, unwrapped(module), type(module).__name__)
    clips = _take_clips(torch, twin)
    graph = _put_clips(trace(twin, data.shape[1:], name=type(module).__name__), clips)
    original, _ = private_copy(torch, unwrapped(module), type(module).__name__)
    check_import(graph, lambda x: layers_of(torch, original, graph, x), data)
    return graph


def check_import(
    graph: OpGraph, source: Callable[[FloatArray], Layers], data: FloatArray, tolerance: float = TOLERANCE
) -> None:
    """Refuse an ANN that does not compute what its source computes.

    Only the output decides; the other layers tell where a difference starts.

    Args:
        graph: the ANN as nmc has it.
        source: the original: frames (n, *shape) to the outputs of layers, that of the whole network under
            the name of the graph's Output.
        data: frames; at most ``CHECKED`` are used.
        tolerance: of a layer's largest output.

    Raises:
        NmcError: NMC-V02 naming the first layer that differs, and by how much; NMC-D03 for data that are
            not finite.
    """
    largest = max(math.prod(shape) for shape in graph.shapes.values())
    x = np.asarray(data[: max(1, min(CHECKED, CHECKED_VALUES // largest))], np.float64)
    if not np.isfinite(x).all():
        raise NmcError("NMC-D03", "data", "not finite", "clean the data")
    (sink,) = graph.named(og.Output)
    expected = source(x)
    executable = plain(graph)
    got, wanted = run(executable, x, 1, record=()).output, expected[sink]
    if SOFTMAX_NOTE in graph.notes and got.shape == wanted.shape:
        got, wanted = _as_logits(got), _as_logits(wanted)
    wrong = _difference(got, wanted, tolerance)
    if wrong is None:
        return
    who = graph.name
    compared = [name for name in graph.order if name in expected and name != sink]
    values = run(executable, x, 1, record=compared).values
    for name in compared:
        found = _difference(values[name][:, 0], expected[name], tolerance)
        if found is not None:
            who, wrong = name, found
            break
    remedy = "report it, with the module; until then build the OpGraph by hand"
    raise NmcError("NMC-V02", who, wrong[0], remedy, measured=wrong[1], allowed=wrong[2])


def _difference(
    got: FloatArray, expected: FloatArray, tolerance: float
) -> tuple[str, float | None, float | None] | None:
    """What is wrong with an output, the gap and the allowed gap; None where nothing is."""
    if got.size != expected.size or len(got) != len(expected):
        return f"the import gives shape {got.shape}, its source {expected.shape}", None, None
    gap = float(np.abs(got.reshape(expected.shape) - expected).max(initial=0.0))
    allowed = tolerance * float(np.abs(expected).max(initial=0.0))
    if gap <= allowed:
        return None
    return f"outputs of the import differ by {gap:.3g} from its source, allowed {allowed:.3g}", gap, allowed


def layers_of(torch: Any, module: Any, graph: OpGraph, x: FloatArray) -> Layers:
    """What the parts of a module return, and the module itself."""
    found: dict[str, FloatArray] = {}
    (sink,) = graph.named(og.Output)

    def keep(path: str) -> Callable[[Any, Any, Any], None]:
        def hook(part: Any, given: Any, result: Any) -> None:
            # As the tracer names them: the second call of a part has the number 2.
            calls = (path if call == 1 else f"{path}.{call}" for call in itertools.count(1))
            if isinstance(result, torch.Tensor):
                found[next(name for name in calls if name not in found)] = result.double().numpy().copy()

        return hook

    for path, part in module.named_modules():
        if path:
            part.register_forward_hook(keep(path))
    with torch.no_grad(), contextlib.redirect_stdout(sys.stderr):
        result = module(torch.tensor(x, dtype=dtype_of(torch, module)))
    found[sink] = result.double().numpy()
    return found


def _as_logits(values: FloatArray) -> FloatArray:
    """(n, classes) logits, probabilities or their logarithms as log-probabilities, cut off at e^-20."""
    total, logs = values.sum(axis=1), np.exp(np.minimum(values, 0)).sum(axis=1)
    if values.min() >= 0 and np.allclose(total, 1, atol=1e-4):
        values = np.log(np.maximum(values, 1e-30))
    elif not (values.max() <= 0 and np.allclose(logs, 1, atol=1e-4)):
        top = values.max(axis=1, keepdims=True)
        values = values - top - np.log(np.exp(values - top).sum(axis=1, keepdims=True))
    return np.asarray(np.maximum(values, -20.0))


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
    """The clip of a module that is one of torch's, or that has the attributes of one and computes it."""
    if isinstance(part, torch.nn.Hardtanh) and part.min_val == 0:  # ReLU6 is a Hardtanh
        return ClipFloor(og.constant([float(part.max_val)]))
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
