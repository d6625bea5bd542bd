"""``nmc fit`` as tables and data."""

from __future__ import annotations

from typing import Any

from nmc.partition.fit import Fit, LayerFit
from nmc.reports.document import Column, Document, Table, table_of
from nmc.reports.units import format_energy, format_time

UNKNOWN = "-"
TITLES = {
    "neurons": "neurons",
    "bits of synapse memory": "memory",
    "input axons": "in axons",
    "output axons": "out axons",
    "delay slots": "delays",
}


def document(fit: Fit) -> Document:
    """Schema ``nmc.fit/1``: the verdict, every layer's cores, bound and binding limit, what would fit."""
    tables = [_layers(fit)] if fit.layers else []
    if fit.tradeoffs:
        tables.append(_tradeoffs(fit))
    if fit.remedies:
        rows = [(one.text, f"{one.cores:,}" if one.cores else UNKNOWN) for one in fit.remedies]
        tables.append(table_of("what would fit", ("change", "cores then"), rows))
    return Document("fit", _data(fit), tuple(tables), tuple(_facts(fit)))


def _tradeoffs(fit: Fit) -> Table:
    """What each objective would choose, and the ways between them."""
    ways = fit.tradeoffs
    energies = tuple(UNKNOWN if one.joules is None else format_energy(one.joules) for one in ways)
    return Table(
        "ways to cut it, by estimate, before small layers share cores; messages between cores per inference",
        (
            Column("--optimize", tuple(", ".join(one.objectives) or UNKNOWN for one in ways)),
            Column("cores", tuple(f"{one.cores:,}" for one in ways), numeric=True),
            Column("messages", tuple(f"{one.messages:,.0f}" for one in ways), numeric=True),
            Column(
                "busiest core, per step", tuple(format_time(one.step_seconds) for one in ways), numeric=True
            ),
            Column("energy of messages", energies, numeric=True),
        ),
    )


def _facts(fit: Fit) -> list[tuple[str, str]]:
    available = "without limit" if fit.available is None else f"{fit.available:,}"
    facts = [("verdict", f"{fit.network} {'fits' if fit.fits else 'does not fit'} {fit.chip}")]
    if fit.cores is not None:
        facts.append(("cores", f"{fit.cores:,} needed, {available} available"))
    if fit.bound is not None:
        layers = f"{fit.bound.cores:,} where layers share none"
        facts.append(("lower bound", f"{fit.bound.shared:,} cores for neurons and weights alone, {layers}"))
    if fit.refusal is not None:
        facts.append(("because", str(fit.refusal)))
    facts += [("because", str(problem)) for problem in fit.problems]
    return facts


def _layers(fit: Fit) -> Table:
    """Per layer; percentages are of the fullest core."""

    def share(one: LayerFit, words: str) -> str:
        for need in one.needs:
            if need.resource == words and need.share is not None:
                return f"{need.share:.0%}"
        return UNKNOWN

    def count(value: int | None) -> str:
        return UNKNOWN if value is None else f"{value:,}"

    layers = fit.layers
    resources = dict.fromkeys(need.resource for one in layers for need in one.needs)
    return Table(
        "",
        (
            Column("layer", tuple(one.label for one in layers)),
            Column("tile", tuple(" x ".join(map(str, one.tile)) for one in layers), rank=2),
            Column("cores", tuple(count(one.cores) for one in layers), numeric=True),
            Column("bound", tuple(count(one.bound) for one in layers), numeric=True),
            Column("binds", tuple(one.binding or UNKNOWN for one in layers)),
            *(
                Column(
                    TITLES.get(words, words), tuple(share(one, words) for one in layers), numeric=True, rank=1
                )
                for words in resources
            ),
        ),
    )


def _data(fit: Fit) -> dict[str, Any]:
    return {
        "network": fit.network,
        "chip": fit.chip,
        "fits": fit.fits,
        "cores": fit.cores,
        "cores_available": fit.available,
        "lower_bound_cores": None if fit.bound is None else fit.bound.shared,
        "lower_bound_cores_unshared": None if fit.bound is None else fit.bound.cores,
        "problems": [
            {"code": one.code, "who": one.who, "problem": one.problem, "remedy": one.remedy}
            for one in ([] if fit.refusal is None else [fit.refusal]) + list(fit.problems)
        ],
        "layers": [
            {
                "layer": one.label,
                "population": one.population,
                "tile": list(one.tile),
                "cores": one.cores,
                "lower_bound_cores": one.bound,
                "binds": one.binding or None,
                "fullest_core": {
                    need.resource: {"used": need.used, "allowed": need.allowed} for need in one.needs
                },
            }
            for one in fit.layers
        ],
        "tradeoffs": [
            {
                "objectives": list(one.objectives),
                "cores": one.cores,
                "messages": one.messages,
                "step_s": one.step_seconds,
                "message_energy_J": one.joules,
            }
            for one in fit.tradeoffs
        ],
        "remedies": [
            {"change": one.change, "value": one.value, "cores": one.cores or None, "text": one.text}
            for one in fit.remedies
        ],
    }
