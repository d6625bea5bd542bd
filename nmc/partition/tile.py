"""Cut every population into tiles that fit a core, for few cores and few messages or for another objective.

The tile decides how often a spike is sent: once to every core that reads it. The last few cores are dear:
the fewest often need twice the messages of one or two per cent more. So the default, "balanced", takes the
fewest messages at hardly more cores and no more chips; "cores" is strict.
"""

from __future__ import annotations

from collections import Counter
from typing import Literal, TypeAlias

from nmc.chip import Chip
from nmc.errors import NmcError
from nmc.ir import Network
from nmc.partition.graph import Traffic
from nmc.partition.plan import Plan, Planner
from nmc.partition.share import share

Objective: TypeAlias = Literal["balanced", "cores", "traffic", "speed", "energy"]
OBJECTIVES: tuple[Objective, ...] = ("balanced", "cores", "traffic", "speed", "energy")
EXTRA = 32
""""balanced" may take one core more for so many of the fewest."""


def partition(
    network: Network,
    chip: Chip,
    optimize: Objective = "balanced",
    traffic: Traffic | None = None,
) -> Network:
    """Give every population's neurons cores; inputs and host projections take none.

    Contract: QUANTIZED in, MAPPED out; every limit of the chip kept, deterministic. Small tiles share a core
    where the chip allows it and few cores are asked for.

    Args:
        optimize: balanced (few messages at one core in ``EXTRA`` more than the fewest, on as few chips),
            cores (the fewest), traffic (the fewest messages that fit the chip), speed (the busiest core does
            the least), energy (of messages and hops, by estimate).
        traffic: spikes per inference of each population; by default a uniform rate.

    Raises:
        NmcError: NMC-P01 when the chip has too few cores; NMC-P02, P03, P04 when a single neuron takes more
            memory, input or output axons than a core has.
    """
    planner = Planner(network, chip, traffic)
    if optimize == "balanced":
        mapped = _balanced(planner)
    elif optimize == "cores":
        mapped = share(planner.mapped(planner.best("cores")), chip)
    else:
        mapped = planner.mapped(planner.best(optimize))
    _check_cores(mapped, chip)
    return mapped


def _balanced(planner: Planner) -> Network:
    """Few messages on hardly more than the fewest cores and on no more chips."""
    chip = planner.chip

    def cores(plan: Plan) -> int:
        mapping = share(planner.mapped(plan), chip).mapping
        assert mapping is not None
        return mapping.cores_used

    least = planner.best("cores")
    fewest = cores(least)
    most = fewest + fewest // EXTRA
    if chip.cores_per_chip is not None:
        most = min(most, -(-fewest // chip.cores_per_chip) * chip.cores_per_chip)
    return share(planner.mapped(planner.quietest(least, most, cores)), chip)


def _check_cores(network: Network, chip: Chip) -> None:
    """Refuse (NMC-P01) more cores than there are."""
    assert network.mapping is not None
    needed = network.mapping.cores_used
    if chip.cores is None or needed <= chip.cores:
        return
    largest, cores = Counter(tile.population for tile in network.mapping.tiles).most_common(1)[0]
    raise NmcError(
        "NMC-P01",
        network.name,
        f"needs {needed:,} cores, {chip.name} has {chip.cores:,}"
        f" ({network[largest].label} takes the most, {cores:,})",
        _more_cores(chip, needed),
        measured=needed,
        allowed=chip.cores,
    )


def _more_cores(chip: Chip, needed: int) -> str:
    """The remedy: the smallest board of the chip that has so many cores, where there is one."""
    boards = [chip.on_board(board.name) for board in chip.boards]
    enough = [one for one in boards if (one.cores or 0) >= needed]
    if not enough:
        return "use fewer channels or pixels, or a chip with more cores"
    smallest = min(enough, key=lambda one: one.cores or 0)
    return f"use a board with more chips: --chip {smallest.name} has {smallest.cores:,}"
