"""The order of passes, and the runner that names, times, prints and verifies each of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from nmc import timing
from nmc.chip import Chip
from nmc.errors import NmcError
from nmc.ir import FloatArray, Network, Stage
from nmc.partition.check import check_mapping
from nmc.partition.hold import hold
from nmc.partition.parts import sum_in_parts
from nmc.partition.place import place
from nmc.partition.tile import Objective, partition
from nmc.quantize import calibrate, inputs, ranges
from nmc.quantize.network import Quantizer
from nmc.quantize.precision import Precision
from nmc.quantize.reset_loops import reset_loops
from nmc.quantize.support import check_support
from nmc.rules import verify

DEFAULT_PRECISION = Precision()


@dataclass(frozen=True)
class Pass:
    """A function Network -> Network with a name and the stage of its result."""

    name: str
    stage: Stage
    run: Callable[[Network], Network]


@dataclass(frozen=True)
class PassDone:
    """What the observer of ``run_passes`` gets after each pass."""

    name: str
    seconds: float
    network: Network


def pipeline(
    chip: Chip,
    data: FloatArray | None,
    precision: Precision = DEFAULT_PRECISION,
    optimize: Objective = "balanced",
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[Pass, ...]:
    """Every pass from FLOAT to MAPPED, in order.

    Args:
        chip: limits and capabilities.
        data: calibration samples, (N, *shape) frames or (N, T, *shape) trains; None: none.
        precision: bits per weight and what shares a scale.
        optimize: what the tiles are chosen for.
        progress: called with (pass, done, all) within a pass that says so; placement does.
    """

    traffic: dict[str, float] = {}

    def quantize(network: Network) -> Network:
        statistics = None if data is None else calibrate.measure(network, data)
        traffic.update(calibrate.traffic(network, statistics or {}))
        return Quantizer.for_chip(chip, precision, statistics, data)(network)

    def prove(network: Network) -> Network:
        ranges.prove(network)
        return network

    def in_parts(network: Network) -> Network:
        split = sum_in_parts(network, chip)
        if split is not network:
            ranges.prove(split)
        if traffic:  # a sum is hardly ever 0
            relays = (one for one in split.compute if one.name not in network)
            traffic.update({one.name: float(one.size * split.steps) for one in relays})
        return split

    def check(network: Network) -> Network:
        check_mapping(network, chip)
        return network

    moves = None if progress is None else partial(progress, "place")
    host = () if chip.payload_bits else (Pass("host-input", Stage.FLOAT, inputs.host_input),)
    return (
        *host,
        Pass("balance", Stage.TIMED, lambda network: timing.balance(network, chip.max_delay)),
        Pass("quantize", Stage.QUANTIZED, quantize),
        Pass("reset-loops", Stage.QUANTIZED, lambda network: reset_loops(network, chip)),
        Pass("check-support", Stage.QUANTIZED, lambda network: check_support(network, chip)),
        Pass("prove-ranges", Stage.QUANTIZED, prove),
        Pass("sum-in-parts", Stage.QUANTIZED, in_parts),
        Pass("hold", Stage.QUANTIZED, lambda network: hold(network, chip)),
        Pass("partition", Stage.MAPPED, lambda network: partition(network, chip, optimize, traffic or None)),
        Pass("place", Stage.MAPPED, lambda network: place(network, chip, traffic or None, progress=moves)),
        Pass("check-mapping", Stage.MAPPED, check),
    )


def after_quantize(passes: Sequence[Pass]) -> tuple[Pass, ...]:
    """What is left to do for a network that was quantized elsewhere."""
    names = [step.name for step in passes]
    return tuple(passes[names.index("quantize") + 1 :])


def run_passes(
    network: Network,
    passes: Sequence[Pass],
    *,
    stop_after: str | None = None,
    observe: Callable[[PassDone], None] | None = None,
) -> Network:
    """Run the passes in order; verify after each; tell ``observe``; stop after the named one.

    Raises:
        NmcError: NMC-U03 when ``stop_after`` names no pass, and whatever the passes refuse.
        InternalError: a pass broke a rule of ``rules.py``.
    """
    names = [step.name for step in passes]
    if stop_after is not None and stop_after not in names:
        raise NmcError("NMC-U03", stop_after, "is no pass", f"passes are: {', '.join(names)}")
    verify(network, network.stage)
    for step in passes:
        start = time.perf_counter()
        network = step.run(network)
        verify(network, step.stage)
        if observe is not None:
            observe(PassDone(step.name, time.perf_counter() - start, network))
        if step.name == stop_after:
            break
    return network


def describe(network: Network) -> str:
    """The network as text, one line per population and projection: what ``--print-after`` shows."""
    lines = [f"network {network.name} at {network.stage.name}, T = {network.steps}"]
    for population, incoming in network.walk():
        level = "" if population.level is None else f" level {population.level}"
        neuron = type(population.neuron).__name__
        shape = "x".join(map(str, population.shape))
        lines.append(f"{population.name} [{shape}] {neuron}{level} payload {population.max_payload}")
        for projection in incoming:
            where = " on host" if projection.on_host else f" delay {projection.delay}"
            lines.append(
                f"  <- {projection.source} by {projection.name} {type(projection.synapse).__name__}{where}"
            )
    return "\n".join(lines)
