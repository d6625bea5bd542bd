"""How prices look in a report: the range over all constants, the time of a step, what else it would cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nmc.reports.document import Column, Table
from nmc.reports.model import Energy, Estimate, Pace, Range, Report, Twin
from nmc.reports.units import format_energy, format_time


def range_text(ends: Range) -> str:
    """``28.1 uJ to 35.2 uJ``; one number where both ends read the same."""
    low, high = map(format_energy, ends)
    return low if low == high else f"{low} to {high}"


def time_text(ends: Range) -> str:
    """``12 us to 28 us``."""
    low, high = map(format_time, ends)
    return low if low == high else f"{low} to {high}"


def price_table(report: Report) -> Table | None:
    """The same events under every set of constants, the chip's own first; None where nothing was run."""
    if not report.estimates:
        return None
    lines = [
        *(_line(one, report.chip) for one in report.estimates),
        *(_line(one, report.chip) for one in report.others),
        *_twin_lines(report.twin),
    ]
    titles = ("constants", "hardware", "energy/inference", "of it static", "step", "basis", "known error")
    ranks = (0, 1, 0, 3, 2, 4, 5)
    cells = zip(*lines, strict=True)
    columns = (Column(title, one, rank=rank) for title, one, rank in zip(titles, cells, ranks, strict=True))
    return Table("the same events priced otherwise: estimates, not measurements", tuple(columns))


def _line(one: Estimate, chip: str) -> tuple[str, ...]:
    static = None if one.pace is None else one.pace.static
    low, high = one.range
    shown = (low, high) if static is None else (low + static[0], high + static[1])
    device = one.device if one.device == chip.partition(":")[0] else f"{one.device}, not {chip}"
    return (
        one.constants,
        device,
        range_text(shown),
        "-" if static is None else range_text(static),
        "-" if one.pace is None else time_text(one.pace.step),
        one.basis,
        one.known_error,
    )


def _twin_lines(twin: Twin | None) -> list[tuple[str, ...]]:
    if twin is None:
        return []
    prices = [("spikes, the literature's formula", (twin.once, twin.every_step))] if twin.synops else []
    prices += [
        ("the same network without spikes, fp32", (twin.fp32, twin.fp32)),
        ("the same network without spikes, int8", (twin.int8, twin.int8)),
    ]
    error = "arithmetic alone, no memory"
    return [(twin.constants, what, range_text(ends), "-", "-", "estimated", error) for what, ends in prices]


def facts(report: Report) -> list[tuple[str, str]]:
    """The lines about energy and time."""
    lines = []
    if report.energy_range is not None:
        names = ", ".join(one.constants for one in report.estimates)
        devices = " and ".join(dict.fromkeys(one.device for one in report.estimates))
        text = f"{range_text(report.energy_range)} (constants of {devices}: {names}), without static power"
        lines.append(("energy/inference", text))
    for one in report.estimates:
        if one.pace is not None:
            lines.append((f"time ({one.constants})", _pace_text(one.pace)))
    if report.twin is not None:
        lines.append(("literature", _twin_text(report.twin)))
    lines += [(one.constants, one.source) for one in (*report.estimates, *report.others)]
    return lines


def _pace_text(pace: Pace) -> str:
    static = "" if pace.static is None else f"; static {range_text(pace.static)} per inference"
    return (
        f"{time_text(pace.step)} per step, latency {time_text(pace.latency)}, a sample every "
        f"{time_text(pace.interval)}{static}; all wait for the core of {pace.busiest}"
    )


def _twin_text(twin: Twin) -> str:
    first = ""
    if twin.first_macs:
        first = f"first layer {twin.first_macs:,} MACs, once ({format_energy(twin.once)}) or every step "
        first += f"({format_energy(twin.every_step)}); "
    return (
        f"4.6 pJ per MAC, 0.9 pJ per synop: {first}{twin.synops:,.0f} synops; "
        f"without spikes {twin.macs:,} MACs: "
        f"{format_energy(twin.fp32)} in fp32, {format_energy(twin.int8)} in int8"
    )


# --- JSON -------------------------------------------------------------------------------------------


def energy_data(energy: Energy, prefix: str = "energy") -> dict[str, float]:
    """Every term and the total, SI units."""
    return {
        f"{prefix}_synapse_J": energy.synapse,
        f"{prefix}_update_J": energy.update,
        f"{prefix}_spike_J": energy.spike,
        f"{prefix}_hop_J": energy.hop,
        f"{prefix}_J": energy.total,
    }


def estimate_data(estimates: Sequence[Estimate]) -> list[dict[str, Any]]:
    """One object per set of constants."""
    return [
        {
            "constants": one.constants,
            "hardware": one.device,
            "basis": one.basis,
            "source": one.source,
            "known_error": one.known_error,
            **energy_data(one.energy),
            **energy_data(one.low, "energy_low"),
            "pace": None if one.pace is None else _pace_data(one.pace),
        }
        for one in estimates
    ]


def _pace_data(pace: Pace) -> dict[str, Any]:
    return {
        "step_s": list(pace.step),
        "latency_s": list(pace.latency),
        "interval_s": list(pace.interval),
        "static_J": None if pace.static is None else list(pace.static),
        "busiest": pace.busiest,
    }


def twin_data(twin: Twin) -> dict[str, Any]:
    """The literature's formula and the network without spikes."""
    return {
        "constants": twin.constants,
        "source": twin.source,
        "first_layer_macs": twin.first_macs,
        "synops": twin.synops,
        "snn_first_layer_once_J": twin.once,
        "snn_first_layer_every_step_J": twin.every_step,
        "ann_macs": twin.macs,
        "ann_fp32_J": twin.fp32,
        "ann_int8_J": twin.int8,
    }
