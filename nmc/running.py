"""Running a bundle's network on samples, batch by batch."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nmc.arrays import numbers
from nmc.backends import encode, memory
from nmc.backends.base import Counts, Trace
from nmc.backends.engines import engine as engine_by_name
from nmc.bundle import Bundle, opened
from nmc.errors import NmcError
from nmc.ir import Network, Stage
from nmc.quantize import ranges

Progress = Callable[[int, int], None]
"""Called with (done, all) samples."""

BATCH = 32
MAX_STEPS = 1 << 20


def run(
    bundle: Bundle | str | Path,
    x: npt.ArrayLike,
    engine: str = "auto",
    steps: int | None = None,
    record: Collection[str] = (),
    *,
    batch: int = BATCH,
    progress: Progress | None = None,
) -> Trace:
    """Run samples through a compiled network.

    Args:
        bundle: compiled at least to stage QUANTIZED; or its path.
        x: (N, *shape) frames or (N, T, *shape) trains, in the units the model was trained with.
        engine: see ``backends.engines.NAMES``; all give the same bits.
        steps: T; by default the network's.
        record: layers (the user's names or populations) whose spikes, u and v are kept, or ("all",).
        batch: samples per call of the engine; no result depends on it.
        progress: called after each batch.

    Raises:
        NmcError: NMC-D02 for data that do not fit, NMC-U03 for an unknown layer, NMC-U02 for steps or a batch
            that are none, NMC-E* for the engine, NMC-W02 when memory does not suffice, NMC-Q01 for more steps
            than states have room for.
    """
    network = runnable(bundle)
    t = steps_of(network, steps)
    names = resolve_layers(network, record)
    runner = engine_by_name(engine)
    samples = numbers(network.inputs[0].label, x)
    if batch < 1:
        raise NmcError("NMC-U02", "batch", f"is {batch}", "use at least 1", measured=batch, allowed=1)
    # The traces of all batches are kept, and joined at the end.
    copies = 1 if _count(samples) <= batch else 2
    memory.refuse_beyond_free(network, copies * memory.recorded_bytes(network, _count(samples), t, names))
    traces = []
    # Encoded in batches, because the integers take up to eight times the memory of the samples. The first
    # batch may be empty: what is wrong with such samples is said by the encoder.
    for start in range(0, max(_count(samples), 1), batch):
        part = encode.encode(network, samples[start : start + batch] if samples.ndim else samples)
        traces.append(runner.run(network, part, t, names))
        if progress is not None:
            progress(start + len(part), len(samples))
    return join(traces)


def steps_of(network: Network, steps: int | None) -> int:
    """T of a run of integers; by default that of the compile.

    What adds up over time, a readout's potential or u of a looped soft reset, was proven for the compile's T,
    so that a longer run is proven anew.

    Raises:
        NmcError: NMC-U02 for what is no T, NMC-Q01 where the states have no room for so many steps.
    """
    t = check_steps(network.steps if steps is None else steps)
    if t > network.steps:
        try:
            ranges.prove(network.with_(steps=t))
        except NmcError as error:
            remedy = f"it was compiled for {network.steps:,} steps: compile it with --steps {t}"
            raise NmcError(
                error.code, error.who, error.problem, remedy, measured=error.measured, allowed=error.allowed
            ) from error
    return t


def _count(samples: npt.NDArray[Any]) -> int:
    return len(samples) if samples.ndim else 0


def runnable(bundle: Bundle | str | Path) -> Network:
    """The network of a bundle (``bundle.opened``); NmcError NMC-U02 where it was not compiled to integers."""
    network = opened(bundle).network
    if network.stage < Stage.QUANTIZED:
        raise NmcError(
            "NMC-U02", network.name, f"is only compiled to {network.stage.name}", "compile it fully"
        )
    return network


def answers(network: Network) -> int:
    """How many values the output has; a class is the place of the largest."""
    return sum(network[name].size for name in network.outputs)


def resolve_layers(network: Network, record: Collection[str]) -> tuple[str, ...]:
    """Population names for the user's layer names."""
    compute = network.compute
    record = (record,) if isinstance(record, str) else record
    if "all" in record:
        return tuple(population.name for population in compute)
    names = []
    for wanted in record:
        found = [p.name for p in network.populations if wanted in (p.name, p.label)]
        if not found:
            layers = ", ".join(p.label for p in compute[:12])
            raise NmcError("NMC-U03", wanted, "is no layer of this network", f"layers are: {layers}")
        names += found
    return tuple(dict.fromkeys(names))


def join(traces: Sequence[Trace]) -> Trace:
    """One trace of several batches of one network with the same steps and records."""
    if len(traces) == 1:
        return traces[0]
    counts: Counts = sum((trace.counts for trace in traces[1:]), traces[0].counts)
    spikes, u, v = (
        {
            name: np.concatenate([getattr(trace, kind)[name] for trace in traces])
            for name in getattr(traces[0], kind)
        }
        for kind in ("spikes", "u", "v")
    )
    output = np.concatenate([trace.output for trace in traces])
    return Trace(counts.samples, counts.steps, output, counts, spikes, u, v)


def check_steps(steps: int | None) -> int:
    """T; NmcError NMC-U02 where nobody says it, it is no whole number or out of range."""
    if steps is None:
        raise NmcError("NMC-U02", "steps", "the model does not say how many steps it runs", "give --steps T")
    try:
        steps = operator.index(steps)
    except TypeError:
        raise NmcError("NMC-U02", "steps", f"is {steps!r:.40}", "give a whole number") from None
    if not 1 <= steps <= MAX_STEPS:
        raise NmcError(
            "NMC-U02", "steps", f"T = {steps}", f"use 1 to {MAX_STEPS:,}", measured=steps, allowed=MAX_STEPS
        )
    return steps
