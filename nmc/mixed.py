"""Bits per layer under a budget of memory or cores: the layers that hurt least give up theirs first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nmc import api
from nmc.backends import encode
from nmc.backends.engines import engine as engine_by_name
from nmc.chip import Chip, load_chip
from nmc.errors import NmcError
from nmc.frontend.opgraph import OpGraph
from nmc.ir import Conv2d, Dense, FloatArray, Network
from nmc.quantize import calibrate
from nmc.quantize.precision import HIGHEST_BITS

SAMPLES = 64
FEWEST_BITS = 2
"""One bit has no sign, and what a layer loses by it says nothing about two."""
POWER_PER_BIT = 4.0
"""A rounding error's power falls by so much with every bit: it is even over a step of half the width."""


@dataclass(frozen=True)
class MixedBits:
    """What ``choose_bits`` found.

    layer_bits: for ``api.compile``. sensitivity: per layer how much of the outputs' variance is lost when
    that layer alone has two bits. cores, memory_bits: what the network takes with these bits.
    """

    layer_bits: dict[str, int]
    sensitivity: dict[str, float]
    cores: int
    memory_bits: int | None


def choose_bits(
    model: str | Path | OpGraph,
    chip: str | Chip,
    data: npt.ArrayLike,
    *,
    max_cores: int | None = None,
    max_memory_bits: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> MixedBits:
    """The most bits per layer that a budget leaves.

    Each layer's sensitivity is measured: the network runs on calibration samples with that layer alone at
    two bits. Bits are then taken where the least output error is added per stored bit that is saved, until
    the compiled network fits.

    Args:
        model, chip, data, options: as for ``api.compile``.
        max_cores: by default those of the chip.
        max_memory_bits: synapse memory; by default not limited.
        progress: called with (done, all) layers measured.

    Raises:
        NmcError: NMC-P01, NMC-U02 when two bits everywhere are too many; what ``api.compile`` refuses.
    """
    graph = api.load(model, options.pop("profile", None), options.pop("dt", None))
    target = chip if isinstance(chip, Chip) else load_chip(chip)
    samples = calibrate.canonical(np.asarray(data))[:SAMPLES]
    sensitivity = _measure(graph, target, samples, options, progress)
    plan = _order(_stored(graph, target, samples, options), sensitivity, target)

    def sized(steps: int) -> MixedBits | None:
        """The network after the first steps of the plan; None where it is too large."""
        bits = dict.fromkeys(sensitivity, HIGHEST_BITS)
        bits.update(plan[:steps])
        try:
            bundle = api.compile(graph, target, samples, layer_bits=bits, **options)
        except NmcError as error:
            if not error.code.startswith("NMC-P"):
                raise
            return None
        total = api.report(bundle).total
        if max_cores is not None and (total.cores or 0) > max_cores:
            return None
        if max_memory_bits is not None and (total.memory_bits or 0) > max_memory_bits:
            return None
        return MixedBits(bits, sensitivity, total.cores or 0, total.memory_bits)

    return _first_that_fits(sized, len(plan)) or _refuse(
        graph, target, samples, max_cores, max_memory_bits, options
    )


def _first_that_fits(sized: Callable[[int], MixedBits | None], most: int) -> MixedBits | None:
    """Bisection over the plan's length; every step saves memory."""
    best = sized(0)
    if best is not None:
        return best
    low, high = 0, most
    best = sized(most)
    while best is not None and high - low > 1:
        middle = (low + high) // 2
        found = sized(middle)
        if found is None:
            low = middle
        else:
            best, high = found, middle
    return best


def _refuse(
    graph: OpGraph,
    chip: Chip,
    samples: FloatArray,
    max_cores: int | None,
    max_memory_bits: int | None,
    options: dict[str, Any],
) -> MixedBits:
    bundle = api.compile(graph, chip, samples, weight_bits=FEWEST_BITS, **options)
    total = api.report(bundle).total
    if max_cores is not None and (total.cores or 0) > max_cores:
        raise NmcError(
            "NMC-P01",
            bundle.network.name,
            f"needs {total.cores:,} cores at {FEWEST_BITS} bits, allowed are {max_cores:,}",
            "allow more cores, or train a smaller network",
            measured=total.cores,
            allowed=max_cores,
        )
    raise NmcError(
        "NMC-U02",
        "max_memory_bits",
        f"is {max_memory_bits:,}, the network needs {total.memory_bits:,} at {FEWEST_BITS} bits",
        "allow more memory, or train a smaller network",
        measured=max_memory_bits,
        allowed=total.memory_bits,
    )


def _quantized(
    graph: OpGraph, chip: Chip, samples: FloatArray, options: dict[str, Any], **more: Any
) -> Network:
    return api.compile(graph, chip, samples, stop_after="prove-ranges", **options, **more).network


def _measure(
    graph: OpGraph,
    chip: Chip,
    samples: FloatArray,
    options: dict[str, Any],
    progress: Callable[[int, int], None] | None,
) -> dict[str, float]:
    """Per layer with trained weights, in order: the output's lost variance with two bits in that layer."""
    full = _quantized(graph, chip, samples, options)
    wanted = api.run_float(graph, samples, full.steps).output
    layers = [
        population.label
        for population in full.compute
        if any(
            isinstance(p.synapse, Conv2d | Dense) and not p.on_host for p in full.incoming(population.name)
        )
    ]
    layers = list(dict.fromkeys(layers))
    engine = engine_by_name("auto")

    def lost(network: Network) -> float:
        found = engine.run(network, encode.encode(network, samples), network.steps).output
        if not found.std():
            return 1.0
        return 1.0 - float(np.corrcoef(found.reshape(-1), wanted.reshape(-1))[0, 1])

    floor = lost(full)
    result = {}
    for done, layer in enumerate(layers, 1):
        alone = _quantized(graph, chip, samples, options, layer_bits={layer: FEWEST_BITS})
        result[layer] = max(0.0, lost(alone) - floor)
        if progress is not None:
            progress(done, len(layers))
    return result


def _stored(graph: OpGraph, chip: Chip, samples: FloatArray, options: dict[str, Any]) -> dict[str, int]:
    """Weights that each layer's cores store."""
    network = _quantized(graph, chip, samples, options)
    result: dict[str, int] = {}
    for projection in network.projections:
        label = network[projection.target].label
        result[label] = result.get(label, 0) + int(np.prod(projection.weight_shape))
    return result


def _order(stored: dict[str, int], sensitivity: dict[str, float], chip: Chip) -> list[tuple[str, int]]:
    """Which layer gives up bits next, and what is left to it; the cheapest step first."""
    codes = sorted({code for code in chip.weight_codes if FEWEST_BITS <= code <= HIGHEST_BITS}, reverse=True)
    left = dict.fromkeys(sensitivity, codes)
    plan: list[tuple[str, int]] = []

    def price(layer: str) -> float:
        now, after = left[layer][0], left[layer][1]
        added = POWER_PER_BIT ** (FEWEST_BITS - after) - POWER_PER_BIT ** (FEWEST_BITS - now)
        # Where nothing was lost at two bits, the width of the layer still decides.
        return (sensitivity[layer] + 1e-6) * added / (stored[layer] * (now - after))

    while open_layers := [layer for layer in left if len(left[layer]) > 1]:
        cheapest = min(open_layers, key=price)
        left[cheapest] = left[cheapest][1:]
        plan.append((cheapest, left[cheapest][0]))
    return plan
