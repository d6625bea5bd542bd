"""Numbers with units, as a reader wants them."""

from __future__ import annotations

_ENERGY = ((1.0, "J"), (1e-3, "mJ"), (1e-6, "uJ"), (1e-9, "nJ"), (1e-12, "pJ"))
_TIME = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))


def energy_unit(joules: float) -> tuple[float, str]:
    """The unit in which a total reads as a number from 1 to 1000: its size in joules and its name."""
    return next((unit for unit in _ENERGY if abs(joules) >= unit[0]), _ENERGY[-1])


def format_energy(joules: float) -> str:
    """Four significant digits with a unit, such as ``12.35 uJ``."""
    size, name = energy_unit(joules)
    return f"{joules / size:.4g} {name}"


def format_time(seconds: float) -> str:
    """Three significant digits with a unit, such as ``12.3 us``."""
    size, name = next((unit for unit in _TIME if abs(seconds) >= unit[0]), _TIME[-1])
    return f"{seconds / size:.3g} {name}"


def format_memory(bits: int) -> str:
    """Bits as KiB, such as ``12.5 KiB``."""
    return f"{bits / 8192:,.1f} KiB"
