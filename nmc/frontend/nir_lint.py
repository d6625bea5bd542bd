"""What is odd about a NIR file's numbers and about its end, as findings with the likely cause."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nmc.errors import NmcError
from nmc.frontend.nir_neurons import NEURONS
from nmc.frontend.profiles import (
    FILTERED,
    INTEGRATORS,
    LEAKY,
    PROFILES,
    RATIO_TOLERANCE,
    ProfileChoice,
    contradictions,
    infer_dt,
)
from nmc.frontend.raw import LOST_SUM, WEIGHTED, Finding, RawGraph

SHORTEST_STEP = 1e-4
"""Seconds; SpikingJelly's and snnTorch's exporters use it, others ten times as much."""
PASSING = ("Flatten", "SumPool2d", "AvgPool2d", "Scale", "Delay")


def unresolved(raw: RawGraph, error: NmcError, profile: str | None, dt: float | None) -> list[Finding]:
    """Findings for a file whose profile or time step could not be settled, ``error`` among them.

    Where numbers contradict the profile, every neuron that does is named.
    """
    found = list(_contradicting(raw, profile, dt)) if error.code == "NMC-G07" else []
    told = Finding.of(error)
    odd = [*_different_steps(raw), *_short_time_constants(raw), *lost_end(raw, None)]
    return [*(found if told in found else [told, *found]), *odd]


def _contradicting(raw: RawGraph, profile: str | None, dt: float | None) -> Iterator[Finding]:
    told = raw.metadata.get("profile")
    name = profile or (told if isinstance(told, str) else "")
    if name in PROFILES:
        chosen = PROFILES[name]
        for who, problem, remedy in contradictions(raw, chosen, chosen.dt or dt or infer_dt(raw, chosen)):
            yield Finding("error", "NMC-G07", who, f"{problem}, which profile {name} excludes", remedy)


def _different_steps(raw: RawGraph) -> Iterator[Finding]:
    """IF neurons of one network whose r differ: whatever r means, they do not share a time step."""
    rates = [(name, node.array("r")) for name, node in raw.of(*INTEGRATORS)]
    for name, r in rates[1:]:
        first, one = rates[0][0], float(rates[0][1].flat[0])
        if not np.allclose(r, one, rtol=RATIO_TOLERANCE, atol=0):
            problem = f"r = {float(r.flat[0]):g}, {first} has r = {one:g}: they do not share a time step"
            yield Finding("warning", "NMC-G07", name, problem, "export all layers with one dt")


def _short_time_constants(raw: RawGraph) -> Iterator[Finding]:
    """Leaky neurons with r = 1 and time constants below any step that networks are trained with."""
    for name, node in raw.of(*LEAKY):
        tau = node.array("tau_mem" if node.kind in FILTERED else "tau")
        if np.all(node.array("r") == 1) and float(tau.max()) < SHORTEST_STEP:
            problem = f"tau = {float(tau.max()):g} s is shorter than any usual time step"
            yield Finding("warning", "NMC-G07", name, problem, PROFILES["norse"].wrong_tau)


def lost_end(raw: RawGraph, choice: ProfileChoice | None) -> Iterator[Finding]:
    """A spiking network that ends in a weighted layer.

    snnTorch's and Norse's exporters follow tensors, so that what stands behind the last functional '+' is
    not in the file at all; what is left looks complete. From those two such a file is refused.
    """
    if next(raw.of(*NEURONS), None) is None:
        return
    before: dict[str, list[str]] = {name: [] for name in raw.nodes}
    for source, target in raw.edges:
        before[target].append(source)
    ends = [source for name, _ in raw.of("Output") for source in before[name]]
    while len(ends) == 1 and raw.nodes[ends[0]].kind in PASSING:
        ends = before[ends[0]]
    weighted = [name for name in ends if raw.nodes[name].kind in WEIGHTED]
    if not weighted or len(weighted) < len(ends):
        return
    problem = f"the network ends in this {raw.nodes[weighted[0]].kind}, not in a neuron"
    if choice is not None and choice.profile.follows_tensors:
        problem += f"; {choice.profile.name}'s exporter loses all that stands behind its last '+'"
        remedy = "export the module with nmc; if it really ends there, give it a readout that does not fire"
        yield Finding("error", "NMC-G07", weighted[0], problem, remedy)
    else:
        yield Finding(
            "warning", "NMC-G07", weighted[0], problem, f"if there is one in the module, {LOST_SUM}"
        )
