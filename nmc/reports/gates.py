"""Gates: how much worse a metric may get from one build to the next.

``energy=+5%``   energy may rise by at most 5 %          ``cores=+0``        not one core more
``accuracy=-0.5pp``  accuracy may fall by at most half a percentage point
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nmc.errors import NmcError

Unit = Literal["%", "pp", ""]
Numbers = Mapping[str, Any]
"""The totals of a report document, as ``layout.data`` writes them, with its "samples" and "accuracy"."""


def _total(name: str) -> Callable[[Numbers], float | None]:
    return lambda report: report["total"].get(name)


def _per_sample(name: str) -> Callable[[Numbers], float | None]:
    """Reports of different numbers of samples are compared by sample."""

    def value(report: Numbers) -> float | None:
        counted = report["total"].get(name)
        return None if counted is None or not report["samples"] else counted / report["samples"]

    return value


def _accuracy(report: Numbers) -> float | None:
    return None if report["accuracy"] is None else report["accuracy"]["integer"]


METRICS: Mapping[str, Callable[[Numbers], float | None]] = {
    "accuracy": _accuracy,
    "cores": _total("cores"),
    "energy": _total("energy_J"),
    "latency": _total("latency_steps"),
    "memory": _total("memory_bits"),
    "neurons": _total("neurons"),
    "parameters": _total("parameters"),
    "spikes": _per_sample("spikes"),
    "synops": _per_sample("synops"),
    "updates": _per_sample("updates"),
}
"""What a gate can watch, and how it is read from a report. Of accuracy more is better, of all else less."""

_GATE = re.compile(r"(?P<sign>[+-])(?P<size>\d+(?:\.\d+)?)(?P<unit>%|pp|)")


@dataclass(frozen=True)
class Gate:
    """How far a metric may move in the direction that is worse; size in per cent, points or its own unit."""

    metric: str
    size: float
    unit: Unit

    @property
    def higher_is_better(self) -> bool:
        return self.metric == "accuracy"

    @property
    def limit(self) -> str:
        return f"{'-' if self.higher_is_better else '+'}{self.size:g}{self.unit}"

    def allowed(self, old: float) -> float:
        """The worst value that passes."""
        reach = {"%": abs(old) * self.size / 100, "pp": self.size / 100, "": self.size}[self.unit]
        return old - reach if self.higher_is_better else old + reach


@dataclass(frozen=True)
class Verdict:
    """A gate with what it saw. old, new: None where a report does not say it; then the gate fails."""

    gate: Gate
    old: float | None
    new: float | None

    @property
    def passed(self) -> bool:
        if self.old is None or self.new is None:
            return False
        allowed = self.gate.allowed(self.old)
        return self.new >= allowed if self.gate.higher_is_better else self.new <= allowed


def parse_gate(text: str) -> Gate:
    """A gate from ``metric=+SIZE[%|pp]``; accuracy takes a minus, everything else a plus.

    Raises:
        NmcError: NMC-U02 for anything else.
    """
    metric, equals, limit = (part.strip() for part in text.partition("="))
    found = _GATE.fullmatch(limit)
    if metric not in METRICS:
        raise NmcError(
            "NMC-U02", f"gate {text}", "watches nothing that is known", f"one of {', '.join(METRICS)}"
        )
    wanted = "-" if metric == "accuracy" else "+"
    if (
        not equals
        or found is None
        or found["sign"] != wanted
        or (found["unit"] == "pp") > (metric == "accuracy")
    ):
        example = "accuracy=-0.5pp" if metric == "accuracy" else f"{metric}=+5% or {metric}=+0"
        raise NmcError("NMC-U02", f"gate {text}", "says no limit", f"write {example}")
    return Gate(metric, float(found["size"]), found["unit"])  # type: ignore[arg-type]


def judge(gates: Sequence[Gate], old: Numbers, new: Numbers) -> tuple[Verdict, ...]:
    """Every gate on two report documents."""
    return tuple(Verdict(one, METRICS[one.metric](old), METRICS[one.metric](new)) for one in gates)
