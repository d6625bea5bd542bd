"""Will a model fit a chip, and if not, which change would make it fit: each is tried before it is named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from nmc.chip import Chip, chip_names, load_chip
from nmc.errors import EXIT_DOES_NOT_FIT, NmcError
from nmc.frontend.lower import Joins, lower
from nmc.frontend.opgraph import OpGraph
from nmc.ir import Encoding, Network
from nmc.partition.fit import Fit, Remedy, analyse, largest_fan_in, remedies, tradeoffs
from nmc.passes import pipeline, run_passes
from nmc.quantize.precision import Precision


@dataclass(frozen=True)
class Setting:
    """What a model is fitted with. joins None: relays where the chip carries payloads."""

    chip: Chip
    steps: int
    encoding: Encoding
    weight_bits: int = 8
    joins: Joins | None = None

    @property
    def lowering(self) -> Joins:
        return self.joins or ("relay" if self.chip.payload_bits else "distribute")


def fit(graph: OpGraph, setting: Setting, *, compare: bool = False) -> Fit:
    """Lower, time and quantize the model without data, then cut it; remedies where it does not fit.

    Args:
        compare: also the ways to cut it, for every objective.

    Raises:
        NmcError: of a model that no chip could run.
    """
    found = _attempt(graph, setting)
    if isinstance(found, NmcError):
        refused = Fit(graph.name, setting.chip.name, None, setting.chip.cores, None, (), refusal=found)
        return replace(refused, remedies=tuple(_other_ways(graph, setting)))
    result = analyse(found, setting.chip)
    if result.fits:
        return replace(result, tradeoffs=tradeoffs(found, setting.chip)) if compare else result
    changes = [*remedies(found, setting.chip), *_other_ways(graph, setting)]
    return replace(result, remedies=(*changes, *_narrower(found, setting.chip, result)))


def _attempt(graph: OpGraph, setting: Setting) -> Network | NmcError:
    """The QUANTIZED network, or why this chip cannot have it."""
    try:
        network = lower(graph, setting.steps, setting.lowering, setting.encoding)
        passes = pipeline(setting.chip, None, Precision(setting.weight_bits))
        return run_passes(network, passes, stop_after="hold")
    except NmcError as error:
        if error.exit_status != EXIT_DOES_NOT_FIT:
            raise
        return error


def _other_ways(graph: OpGraph, setting: Setting) -> Iterator[Remedy]:
    """The other lowering of joins, then other chips, then their smallest board that suffices."""
    other: Joins = "distribute" if setting.lowering == "relay" else "relay"
    found = _cores(graph, replace(setting, joins=other))
    if found is not None:
        yield Remedy("joins", other, *found, f"lower residual additions otherwise: --joins {other}")
    for name in chip_names():
        chip = load_chip(name)
        if name == setting.chip.base or chip.neurons_per_core is None or _imagined(chip):
            continue
        boards = [chip.on_board(one.name) for one in sorted(chip.boards, key=lambda one: one.chips)]
        for one in (chip, *boards):
            found = _cores(graph, replace(setting, chip=one, joins=None))
            if found is not None:
                yield Remedy("chip", one.name, *found, f"use another chip: --chip {one.name}")
                break


def _imagined(chip: Chip) -> bool:
    """Whether nobody builds it: its number of cores is a choice of nmc."""
    return any(fact.key == "mesh.cores" and fact.basis == "choice" for fact in chip.facts)


def _cores(graph: OpGraph, setting: Setting) -> tuple[int, int | None] | None:
    """(needed, available) cores where the model fits."""
    network = _attempt(graph, setting)
    if isinstance(network, NmcError):
        return None
    found = analyse(network, setting.chip)
    return (found.cores or 0, found.available) if found.fits else None


def _narrower(network: Network, chip: Chip, result: Fit) -> Iterator[Remedy]:
    """For layers of which no neuron fits a core: the fan-in that would."""
    for one in result.layers:
        most = largest_fan_in(network, chip, one.population) if one.problem is not None else None
        if most is not None:
            text = f"train {one.label} with at most {most:,} inputs (channels of a convolution) per neuron"
            yield Remedy("fan-in", f"{one.label}={most}", 0, chip.cores, text)
