"""Whether a run fits into memory, asked before anything is allocated; one rule for all engines."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from nmc.errors import NmcError
from nmc.ir import Network

SMALL_BYTES = 128 << 20
"""Runs below this are not compared with what is free."""
GROUP = "/sys/fs/cgroup"
"""Where a container finds its own control group."""
RECORDED_BYTES = 3 * 4
"""Spikes, u and v of a recorded neuron and step, int32 each."""


def available_bytes() -> int | None:
    """Memory that can be had without swapping, within this process's control group; None where the system
    does not say."""
    known = [free for free in (_machine_bytes(), _group_bytes()) if free is not None]
    return min(known, default=None)


def _machine_bytes() -> int | None:
    available = _fields(Path("/proc/meminfo")).get("MemAvailable:")
    return None if available is None else available * 1024


def _group_bytes() -> int | None:
    """What is left below the control group's limit (cgroup v2), file caches counted as free."""
    group = Path(GROUP)
    limit, used = (_fields(group / name) for name in ("memory.max", "memory.current"))
    try:
        most, now = int(next(iter(limit))), int(next(iter(used)))
    except (StopIteration, ValueError):
        return None  # no such file, or "max"
    return max(0, most - now + _fields(group / "memory.stat").get("inactive_file", 0))


def _fields(path: Path) -> dict[str, int]:
    """First word of each line -> second, 0 where there is none; empty where the file cannot be read."""
    try:
        lines = [line.split() for line in path.read_text(encoding="ascii").splitlines()]
        return {words[0]: int(words[1]) if len(words) > 1 else 0 for words in lines if words}
    except (OSError, ValueError):
        return {}


def recorded_bytes(network: Network, samples: int, steps: int, record: Collection[str]) -> int:
    """What a trace of these populations takes."""
    return sum(network[name].size for name in record) * samples * steps * RECORDED_BYTES


def refuse_whole(network: Network, samples: int, steps: int, record: Collection[str]) -> None:
    """For engines that keep the int32 spikes of every population and step until the end.

    Raises:
        NmcError: NMC-W02 when these and the recorded states cannot be held.
    """
    sent = sum(population.size for population in network.compute) * samples * steps * 4
    refuse_beyond_free(network, sent + recorded_bytes(network, samples, steps, record))


def refuse_beyond_free(
    network: Network,
    needed: int,
    there: int | None = None,
    *,
    what: str = "the run",
    remedy: str = "record fewer layers, or run fewer samples at a time",
) -> None:
    """Refuse a run that cannot succeed.

    Args:
        needed: bytes that the run will allocate.
        there: bytes that are free, where it is not this machine's main memory that is asked for.
        what: needs them, if not a run; then ``remedy`` says what to do.

    Raises:
        NmcError: NMC-W02 when more is needed than is free.
    """
    if needed < SMALL_BYTES:
        return
    free = available_bytes() if there is None else there
    if free is not None and needed > free:
        raise NmcError(
            "NMC-W02",
            network.name,
            f"{what} needs {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free",
            remedy,
            measured=needed,
            allowed=free,
        )
