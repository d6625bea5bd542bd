"""What differs between two builds: totals, layers, numbers inside of layers, and whether the gates hold.

Works on report documents (``layout.data``), so that it compares what was written yesterday with what is
built today; where both networks are at hand, all numbers that an engine reads are compared too.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nmc.ir import Fixed, FixedNeuron, InputNeuron, IntArray, Network, Population, Projection
from nmc.reports import render_junit
from nmc.reports.document import Document, Table, table_of
from nmc.reports.gates import METRICS, Gate, Numbers, Verdict, judge
from nmc.reports.layout import UNKNOWN
from nmc.reports.render_junit import Case
from nmc.reports.units import format_energy

CONTRIBUTORS = 5
SHOWN_CHANGES = 12
STRUCTURE = ("kind", "shape", "neurons", "parameters", "synapses", "cores", "memory_bits", "latency_steps")


@dataclass(frozen=True)
class Side:
    """One of the two builds. name: as the user calls it; report: a report document; network: if at hand."""

    name: str
    report: Numbers
    network: Network | None = None


@dataclass(frozen=True)
class Change:
    """One difference. layer: the user's name, "" for the whole; what: of the layer."""

    layer: str
    what: str
    old: Any
    new: Any


@dataclass(frozen=True)
class Contribution:
    """How much one layer adds to the change of the energy per inference, joules."""

    layer: str
    old: float
    new: float

    @property
    def change(self) -> float:
        return self.new - self.old


@dataclass(frozen=True)
class Diff:
    """old, new: names of the builds. totals: every metric as (old, new). contributors: most first."""

    old: str
    new: str
    totals: dict[str, tuple[float | None, float | None]]
    changes: tuple[Change, ...]
    contributors: tuple[Contribution, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def passed(self) -> bool:
        """Whether every gate holds; a gate on a metric that a build does not say fails."""
        return all(one.passed for one in self.verdicts)

    @property
    def failure(self) -> str:
        """The failed gates in words, with the layer that moved energy most; "" where all hold."""
        return "; ".join(_failure(one, self) for one in self.verdicts if not one.passed)

    def to_markdown(self) -> str:
        """For a pull request."""
        from nmc.reports import render_markdown

        return render_markdown.render(self.document())

    def to_json(self) -> str:
        """One JSON document, schema ``nmc.diff/1``."""
        from nmc.reports import render_json

        return render_json.render(self.document())

    def to_junit(self) -> str:
        """JUnit XML with a case for each gate."""
        cases = [
            Case("nmc.diff", f"{one.gate.metric} {one.gate.limit}", "" if one.passed else _failure(one, self))
            for one in self.verdicts
        ]
        return render_junit.render("nmc diff", cases)

    def _repr_html_(self) -> str:
        from nmc.reports import render_html

        return render_html.render(self.document())

    def document(self) -> Document:
        """For any renderer."""
        tables = (_gate_table(self), _total_table(self), _contributor_table(self), _change_table(self))
        facts = [("old", self.old), ("new", self.new), ("gates", _gate_fact(self))]
        if len(self.changes) > SHOWN_CHANGES:
            facts.append(("left out", f"{len(self.changes) - SHOWN_CHANGES} more changes, see --format json"))
        shown = tuple(one for one in tables if one.columns[0].cells)
        return Document("diff", _data(self), shown, tuple(facts), records=("changes",))


def compare_builds(old: Side, new: Side, gates: Sequence[Gate] = ()) -> Diff:
    """Compare two builds."""
    totals = {name: (read(old.report), read(new.report)) for name, read in METRICS.items()}
    changes = [*_row_changes(old.report, new.report)]
    if old.network is not None and new.network is not None:
        changes += _number_changes(old.network, new.network)
    return Diff(
        old.name,
        new.name,
        totals,
        tuple(changes),
        _contributions(old.report, new.report),
        judge(gates, old.report, new.report),
    )


# --- layers -----------------------------------------------------------------------------------------


def _rows(report: Numbers) -> dict[str, Any]:
    return {row["population"]: row for row in report["layers"]}


def _row_changes(old: Numbers, new: Numbers) -> Iterator[Change]:
    """Layers that came and went, and what is built otherwise; by population, whose names are unique."""
    before, after = _rows(old), _rows(new)
    for what in ("network", "chip", "profile", "steps"):
        if old[what] != new[what]:
            yield Change("", what, old[what], new[what])
    for name in [*before, *(name for name in after if name not in before)]:
        if name not in after:
            yield Change(before[name]["layer"], "layer", "present", "removed")
        elif name not in before:
            yield Change(after[name]["layer"], "layer", "absent", "added")
        else:
            for what in STRUCTURE:
                if before[name][what] != after[name][what]:
                    yield Change(after[name]["layer"], what, before[name][what], after[name][what])


def _number_changes(old: Network, new: Network) -> Iterator[Change]:
    """All that an engine reads of what both networks have: when nothing is said, they compute the same."""
    for field in ("outputs", "readout"):
        yield from _plain_change("", field, getattr(old, field), getattr(new, field))
    before, after = ({one.name: one for one in network.projections} for network in (old, new))
    for name in [*before, *(name for name in after if name not in before)]:
        if name in before and name in after:
            yield from _projection_changes(new[after[name].target].label, before[name], after[name])
            continue
        network, one = (old, before[name]) if name in before else (new, after[name])
        if one.source in old and one.target in old and one.source in new and one.target in new:
            words = ("present", "removed") if name in before else ("absent", "added")
            yield Change(network[one.target].label, f"projection from {one.source}", *words)
    for population in new.populations:
        if population.name in old:
            yield from _population_changes(old[population.name], population)


def _projection_changes(label: str, old: Projection, new: Projection) -> Iterator[Change]:
    for field in ("source", "target", "synapse", "delay", "lag", "host_shift"):
        yield from _plain_change(
            label, f"{field} from {new.source}", getattr(old, field), getattr(new, field)
        )
    yield from _fixed_change(label, f"weights from {new.source}", old.weight, new.weight)


def _population_changes(old: Population, new: Population) -> Iterator[Change]:
    yield from _plain_change(new.label, "max_payload", old.max_payload, new.max_payload)
    yield from _fixed_change(new.label, "bias", old.bias, new.bias)
    if isinstance(old.neuron, InputNeuron) and isinstance(new.neuron, InputNeuron):
        for field in ("encoding", "scale", "lowest", "highest"):
            yield from _plain_change(new.label, field, getattr(old.neuron, field), getattr(new.neuron, field))
    if isinstance(old.neuron, FixedNeuron) and isinstance(new.neuron, FixedNeuron):
        yield from _plain_change(new.label, "reset", old.neuron.reset, new.neuron.reset)
        for field in ("vth", "du", "dv"):
            yield from _fixed_change(new.label, field, getattr(old.neuron, field), getattr(new.neuron, field))
        for field in ("v0", "drop"):
            yield from _array_change(new.label, field, getattr(old.neuron, field), getattr(new.neuron, field))


def _plain_change(label: str, what: str, old: object, new: object) -> Iterator[Change]:
    """Numbers as they are, everything else in words."""
    if old != new:
        words = (
            one.value if isinstance(one, enum.Enum) else one if isinstance(one, int | float) else str(one)
            for one in (old, new)
        )
        yield Change(label, what, *words)


def _array_change(label: str, what: str, old: IntArray | None, new: IntArray | None) -> Iterator[Change]:
    if old is None or new is None or old.shape != new.shape:
        shapes = ["none" if one is None else "x".join(map(str, one.shape)) or "1" for one in (old, new)]
        if shapes[0] != shapes[1]:
            yield Change(label, what, *shapes)
    elif not np.array_equal(old, new):
        yield _unequal(label, what, old, new)


def _unequal(label: str, what: str, old: IntArray, new: IntArray) -> Change:
    values = f"{old.size:,} value{'' if old.size == 1 else 's'}"
    return Change(label, what, values, f"{int((old != new).sum()):,} of them differ")


def _fixed_change(label: str, what: str, old: object, new: object) -> Iterator[Change]:
    """How many values differ, or how the format does."""
    if isinstance(old, Fixed) and isinstance(new, Fixed):
        form = (old.mant.shape, old.exp, old.bits, old.signed)
        if form != (new.mant.shape, new.exp, new.bits, new.signed):
            yield Change(label, what, _form(old), _form(new))
        elif not np.array_equal(old.mant, new.mant):
            yield _unequal(label, what, old.mant, new.mant)
    elif isinstance(old, Fixed) or isinstance(new, Fixed):
        yield Change(label, what, *("none" if one is None else "present" for one in (old, new)))


def _form(one: Fixed) -> str:
    sign = "" if one.signed else ", no sign"
    return f"{'x'.join(map(str, one.mant.shape)) or '1'} of {one.bits} bits{sign}, exponent {one.exp}"


def _contributions(old: Numbers, new: Numbers) -> tuple[Contribution, ...]:
    """The layers that changed the energy most; none where a build was not run."""
    before, after = _rows(old), _rows(new)
    if old["samples"] is None or new["samples"] is None:
        return ()
    layers = {name: (after.get(name) or before[name])["layer"] for name in {**before, **after}}
    found = [
        Contribution(
            layer, before.get(name, {}).get("energy_J", 0.0), after.get(name, {}).get("energy_J", 0.0)
        )
        for name, layer in layers.items()
    ]
    moved = sorted((one for one in found if one.change), key=lambda one: -abs(one.change))
    return tuple(moved[:CONTRIBUTORS])


# --- in words ---------------------------------------------------------------------------------------


def _format(metric: str, value: float | None) -> str:
    if value is None:
        return UNKNOWN
    if metric == "energy":
        return format_energy(value)
    return f"{value:.2%}" if metric == "accuracy" else f"{value:,.1f}" if value % 1 else f"{value:,.0f}"


def _moved(metric: str, old: float | None, new: float | None) -> str:
    if old is None or new is None:
        return UNKNOWN
    if metric == "accuracy":
        return f"{(new - old) * 100:+.2f} pp"
    return "0" if new == old else f"{(new - old) / old:+.2%}" if old else f"{new - old:+,.6g}"


def _failure(verdict: Verdict, diff: Diff) -> str:
    metric = verdict.gate.metric
    if verdict.old is None or verdict.new is None:
        silent = diff.old if verdict.old is None else diff.new
        return f"{metric} is not known of {silent}"
    text = (
        f"{metric} went from {_format(metric, verdict.old)} to {_format(metric, verdict.new)} "
        f"({_moved(metric, verdict.old, verdict.new)}), allowed is {verdict.gate.limit}"
    )
    if metric == "energy" and diff.contributors:
        most = diff.contributors[0]
        text += f"; most by {most.layer}: {format_energy(most.old)} to {format_energy(most.new)}"
    return text


def _gate_fact(diff: Diff) -> str:
    if not diff.verdicts:
        return "none"
    failed = sum(not one.passed for one in diff.verdicts)
    return f"{failed} of {len(diff.verdicts)} failed" if failed else f"all {len(diff.verdicts)} hold"


def _gate_table(diff: Diff) -> Table:
    rows = [
        (
            one.gate.metric,
            _format(one.gate.metric, one.old),
            _format(one.gate.metric, one.new),
            _moved(one.gate.metric, one.old, one.new),
            one.gate.limit,
            "ok" if one.passed else "FAILED",
        )
        for one in diff.verdicts
    ]
    return table_of("gates", ("metric", "old", "new", "change", "limit", "verdict"), rows)


def _total_table(diff: Diff) -> Table:
    rows = [
        (name, _format(name, old), _format(name, new), _moved(name, old, new))
        for name, (old, new) in diff.totals.items()
        if (old, new) != (None, None)
    ]
    return table_of("totals, activity per inference", ("metric", "old", "new", "change"), rows)


def _contributor_table(diff: Diff) -> Table:
    rows = [
        (one.layer, format_energy(one.old), format_energy(one.new), f"{one.change * 1e6:+.4g} uJ")
        for one in diff.contributors
    ]
    return table_of("layers that changed the energy most", ("layer", "old", "new", "change"), rows)


def _change_table(diff: Diff) -> Table:
    rows = [
        (one.layer or "network", one.what, _plain(one.old), _plain(one.new))
        for one in diff.changes[:SHOWN_CHANGES]
    ]
    return table_of("changes", ("layer", "what", "old", "new"), rows)


def _plain(value: Any) -> str:
    if value is None:
        return UNKNOWN
    if isinstance(value, int | float):
        return f"{value:,}"
    return "x".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _data(diff: Diff) -> dict[str, Any]:
    return {
        "old": diff.old,
        "new": diff.new,
        "passed": diff.passed,
        "totals": {name: {"old": old, "new": new} for name, (old, new) in diff.totals.items()},
        "gates": [
            {
                "metric": one.gate.metric,
                "limit": one.gate.limit,
                "old": one.old,
                "new": one.new,
                "passed": one.passed,
            }
            for one in diff.verdicts
        ],
        "energy_contributors": [
            {"layer": one.layer, "old_J": one.old, "new_J": one.new} for one in diff.contributors
        ],
        "changes": [asdict(one) for one in diff.changes],
    }
