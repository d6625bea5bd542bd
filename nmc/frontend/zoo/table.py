"""Parameters and operations of every network of the zoo beside the published ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from nmc.frontend.zoo import NETWORKS, STEPS_OF_REPORT, Entry
from nmc.frontend.zoo.draft import normalized, operations, parameters

PER_NORMALIZED = 2
"""Operations per normalized value and step that R4's report seems to count; see ``zoo.COUNTED``."""


@dataclass(frozen=True)
class Count:
    """What one network at its published size has. norms: values that batch norms compute in one step."""

    name: str
    entry: Entry
    parameters: int
    operations: int
    norms: int

    @property
    def with_norms(self) -> int:
        """Operations as R4's report seems to count them."""
        return self.operations + PER_NORMALIZED * STEPS_OF_REPORT * self.norms


def count(name: str) -> Count:
    """Build a network at full size and count it."""
    entry = NETWORKS[name]
    graph = entry.build()
    return Count(name, entry, parameters(graph), operations(graph), normalized(graph))


def lines(names: Iterable[str]) -> Iterator[str]:
    """The table as Markdown, line by line, as networks are counted."""
    yield "| network | input | T | parameters | published | operations per step | published | with norms |"
    yield "|---|---|---|---|---|---|---|---|"
    remarks: dict[str, list[str]] = {}
    for name in names:
        one = count(name)
        entry = one.entry
        size = " x ".join(map(str, entry.input_shape))
        numbers = (one.parameters, entry.parameters, one.operations, entry.operations)
        cells = [_millions(number) for number in numbers]
        cells.append(_millions(one.with_norms) if entry.operations else "")
        yield f"| {name} | {size} | {entry.steps} | {' | '.join(cells)} |"
        if entry.remark:
            remarks.setdefault(entry.remark, []).append(name)
    yield ""
    for remark, concerned in remarks.items():
        yield f"- {', '.join(concerned)}: {remark}."


def _millions(number: float | None) -> str:
    return "" if number is None else f"{number / 1e6:,.2f} M"
