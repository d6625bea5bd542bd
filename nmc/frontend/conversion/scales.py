"""What "one spike in every step" stands for: the scale of every activation, measured on calibration data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from nmc.errors import NmcError
from nmc.frontend import opgraph as og
from nmc.frontend.conversion.activations import ACTIVATIONS, ClipFloor, plain
from nmc.frontend.conversion.method import Method
from nmc.frontend.conversion.normal import NormalForm
from nmc.frontend.float_engine import run
from nmc.frontend.opgraph import OpGraph
from nmc.ir import FloatArray

MAX_SAMPLES = 512
MAX_VALUES = 1 << 27
"""Activations that are kept at once; samples are left out to stay below."""
MAX_BATCH_VALUES = 1 << 22
CANDIDATES = np.linspace(0.2, 1.0, 41)
"""Fractions of the maximum that ``scale="least-error"`` tries."""


def check_data(ann: OpGraph, data: FloatArray) -> FloatArray:
    """At most ``MAX_SAMPLES`` of the calibration frames, evenly spread; (N, *shape) float64.

    Raises NmcError NMC-D03 for data that are empty, of a wrong shape, not finite or constant.
    """
    (source,) = ann.named(og.Input)
    shape = ann.shapes[source]
    if data.ndim < 1 or len(data) == 0:
        raise NmcError("NMC-D03", source, "no calibration sample", "give at least one")
    if data.shape[1:] != shape:
        expected = f"(N, {', '.join(map(str, shape))})"
        raise NmcError(
            "NMC-D03", source, f"data of shape {data.shape}, expected frames {expected}", "give frames"
        )
    broken = int((~np.isfinite(data)).sum())
    if broken:
        raise NmcError("NMC-D03", source, f"{broken} of {data.size} values are not finite", "clean the data")
    if data.max() == data.min():
        raise NmcError("NMC-D03", source, f"every value is {data.flat[0]:g}", "give real samples")
    every = sum(math.prod(ann.shapes[name]) for name in ann.named(og.ReLU))
    step = -(-len(data) // max(1, min(MAX_SAMPLES, MAX_VALUES // max(1, every))))
    return np.asarray(data[::step], np.float64)


def activations(ann: OpGraph, data: FloatArray, names: list[str]) -> Iterator[dict[str, FloatArray]]:
    """The values of some nodes, batch by batch: (n, *shape) per name.

    Raises NmcError NMC-G04 for a value that is not finite.
    """
    executable = plain(ann)
    batch = max(1, MAX_BATCH_VALUES // max(math.prod(shape) for shape in ann.shapes.values()))
    for start in range(0, len(data), batch):
        values = run(executable, data[start : start + batch], 1, record=names).values
        for name in names:
            if not np.isfinite(values[name]).all():
                raise NmcError("NMC-G04", name, "not finite on the calibration data", "check the weights")
        yield {name: np.asarray(values[name][:, 0]) for name in names}


@dataclass(frozen=True, eq=False)
class Scales:
    """scales: per activation one element, or (C, 1, ...) per channel; positive. silent: layers that were
    never active on the data. A silent channel has its layer's scale."""

    scales: Mapping[str, FloatArray]
    silent: tuple[str, ...]


def measure(form: NormalForm, data: FloatArray, steps: int, method: Method) -> Scales:
    """The scale of every activation."""
    nodes = form.graph.nodes
    names = [name for name, op in nodes.items() if isinstance(op, ACTIVATIONS)]
    free = [name for name in names if isinstance(nodes[name], og.ReLU) and form.gates.get(name) is None]
    seen: dict[str, list[FloatArray]] = {name: [] for name in free}
    for batch in activations(form.graph, data, free):
        for name in free:
            # Channels first; every other axis only adds samples.
            values = np.moveaxis(batch[name], 1, 0).reshape(batch[name].shape[1], -1)
            seen[name].append(values.astype(np.float32))
    scales: dict[str, FloatArray] = {}
    silent = []
    for name in names:
        op = nodes[name]
        if isinstance(op, ClipFloor):
            scales[name] = op.limit
        elif name in free:
            values = np.concatenate(seen.pop(name), axis=1)
            if not values.any():
                silent.append(name)
            axes = (1,) * (len(form.graph.shapes[name]) - 1)
            scales[name] = og.constant(_scale(values, steps, method).reshape(-1, *axes))
    for name in silent:
        scales[name] = _reach(form.graph, data, name)
    for name, compared in form.gates.items():
        if compared is not None:
            scales[name] = scales[compared]
    return Scales(scales, tuple(silent))


def _reach(ann: OpGraph, data: FloatArray, name: str) -> FloatArray:
    """The largest magnitude of what a silent layer reads, so that transients stay below its threshold."""
    sources = list(dict.fromkeys(ann.before(name)))
    largest = 0.0
    for batch in activations(ann, data, sources):
        total = sum((batch[source] for source in ann.before(name)), np.zeros(()))
        largest = max(largest, float(np.abs(total).max(initial=0.0)))
    return og.constant(np.full((1,) * len(ann.shapes[name]), largest or 1.0))


def _scale(values: FloatArray, steps: int, method: Method) -> FloatArray:
    """(1,) or (C,) scales of (C, samples)."""
    choose = _percentile if method.scale == "percentile" else _least_error
    whole = choose(values.reshape(-1), steps, method)
    if not method.per_channel:
        return np.array([whole or 1.0])
    return np.array([choose(row, steps, method) or whole or 1.0 for row in values])


def _percentile(values: FloatArray, steps: int, method: Method) -> float:
    positive = values[values > 0]
    return float(np.percentile(positive, method.percentile)) if positive.size else 0.0


def _least_error(values: FloatArray, steps: int, method: Method) -> float:
    """The scale whose rates come closest to the values.

    A soft reset from v0 = threshold / 2 fires clip(floor(T a / scale + 1/2), 0, T) times when its input is
    steady. A hard reset fires every ceil(threshold / input) steps and tells about half as many rates apart.
    """
    top = float(values.max(initial=0.0))
    if top == 0.0:
        return 0.0
    levels = steps if method.reset == "soft" else max(1, steps // 2)
    errors = []
    for scale in CANDIDATES * top:
        counts = np.clip(np.floor(values * (levels / scale) + 0.5), 0, levels)
        errors.append(float(np.mean((counts * (scale / levels) - values) ** 2)))
    return float(CANDIDATES[int(np.argmin(errors))] * top)
