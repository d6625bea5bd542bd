"""What is odd about a NIR file's numbers and about its end, as findings with the likely cause."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nmc.errors import NmcError
from nmc.frontend.nir_neurons import NEURONS
from nmc.frontend.profiles import (
    INTEGRATORS,
    PROFILES,
    RATIO_TOLERANCE,
    ProfileChoice,
    contradictions,
    infer_dt,
)
from nmc.frontend.raw import LOST_SUM, WEIGHTED, Finding, RawGraph

PASSING = ("Flatten", "SumPool2d", "AvgPool2d", "Scale", "Delay")


def unresolved(raw: RawGraph, error: NmcError, profile: str | None, dt: float | None) -> list[Finding]:
    """Findings for a file whose profile or time step could not be settled, ``error`` among them.

    Where numbers contradict the profile, every neuron that does is named.
    """
    found = list(_contradicting(raw, profile, dt)) if error.code == "NMC-G07" else []
    told = Finding.of(error)
    return [*(found if told in found else [told, *found]), *_different_steps(raw), *lost_end(raw, None)]


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
