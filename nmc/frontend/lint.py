"""Everything that is wrong or odd about a model file, at once: what ``nmc check`` prints."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from nmc.errors import NmcError
from nmc.frontend import opgraph as og
from nmc.frontend.fold import fold
from nmc.frontend.lower import REFUSED, lower
from nmc.frontend.netfile import is_net
from nmc.frontend.neuron_fold import fold_neuron
from nmc.frontend.nir_read import inspect_nir
from nmc.frontend.opgraph import OpGraph
from nmc.frontend.raw import Finding
from nmc.frontend.slayer import inspect_net
from nmc.ir import Encoding

__all__ = ["Finding", "check_file", "lint"]

OUTLIER = 1000.0
"""A weight this many times larger than 99 of 100 of its layer's takes nearly all of 8 bits for itself."""
SLOW_LEAK = 1e-4
SMALL_GAIN = 1e-2


def check_file(
    path: str | os.PathLike[str], profile: str | None = None, dt: float | None = None
) -> list[Finding]:
    """All findings on a NIR or ``.net`` file, errors first; empty when nothing is wrong.

    Raises:
        NmcError: NMC-U02 or NMC-U03 for a bad ``dt`` or ``profile``; faults of the file are findings.
    """
    try:
        if is_net(path):
            return sorted(inspect_net(path)[1], key=lambda finding: finding.severity != "error")
        graph, findings = inspect_nir(path, profile, dt)
    except NmcError as error:
        if error.code.startswith("NMC-U"):
            raise
        return [Finding.of(error)]
    if graph is not None:
        findings = [*findings, *lint(graph)]
    return sorted(findings, key=lambda finding: finding.severity != "error")


def lint(graph: OpGraph) -> list[Finding]:
    """Findings on a graph that was read: what cannot be lowered (errors), what looks odd (warnings)."""
    findings = [*_not_lowered(graph)]
    for name, op in graph.nodes.items():
        if isinstance(op, og.Conv2d | og.Linear):
            findings += _weights(name, op)
        elif isinstance(op, og.Neuron):
            findings += _neuron(name, op)
    return findings


def _not_lowered(graph: OpGraph) -> Iterator[Finding]:
    found = False
    for name, op in graph.nodes.items():
        if type(op) in REFUSED and not isinstance(op, og.TimeMean):
            problem, remedy = REFUSED[type(op)]
            yield Finding("error", "NMC-G05", name, problem, remedy)
            found = True
        elif isinstance(op, og.Neuron):
            shape = graph.shapes[name]
            try:
                fold_neuron(name, op, None, shape, shape)
            except NmcError as error:
                yield Finding.of(error)
                found = True
    if found:
        return
    try:
        lower(fold(graph), 1, "distribute", Encoding.GRADED)
    except NmcError as error:
        yield Finding.of(error)


def _weights(name: str, op: og.Conv2d | og.Linear) -> Iterator[Finding]:
    size = np.abs(op.weight)
    largest, usual = float(size.max()), float(np.quantile(size, 0.99))
    if largest == 0:
        yield Finding("warning", "NMC-F04", name, "all of its weights are 0", "check the file")
    elif largest > OUTLIER * usual:
        problem = f"its largest weight is {largest:g}, 99 of 100 are at most {usual:g}"
        yield Finding("warning", "NMC-Q02", name, problem, "clip it, or most weights become 0 in 8 bits")


def _neuron(name: str, op: og.Neuron) -> Iterator[Finding]:
    loss = 1 - op.keep_v
    if ((loss > 0) & (loss < SLOW_LEAK)).any():
        problem = f"v loses {float(loss[loss > 0].min()):.2g} of itself per step, which is almost no leak"
        yield Finding("warning", "NMC-G07", name, problem, "check tau and --dt")
    if (op.keep_u == 1).any():
        problem = "its synaptic current never fades (keep_u = 1), chips lose 1/4,096 of it in every step"
        yield Finding(
            "warning", "NMC-Q03", name, problem, "train with a time constant of at most 4,096 steps"
        )
    gain = op.gain * op.w_in
    if float(np.max(gain)) < SMALL_GAIN:
        problem = f"one unit of input moves v by {float(np.max(gain)):.2g}"
        yield Finding("warning", "NMC-G07", name, problem, "check --profile and --dt")
