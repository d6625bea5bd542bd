"""The choices of a conversion, and the named sets of choices that the literature knows.

Sources: Rueckauer et al. 2017 (percentile, analog input, soft reset), Hu et al. 2018 (shortcut
normalisation, searched compensation), Bu et al. 2022 (QCFS, v0 at half of the threshold), Li et al. 2021
(calibration of biases and initial potentials).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from nmc.chip import Chip
from nmc.errors import NmcError

ScaleRule = Literal["percentile", "least-error"]
PoolRule = Literal["gated", "or", "average"]
ResetKind = Literal["soft", "hard"]
Correction = Literal["none", "bias", "potential"]
Compensation = Literal["none", "gain", "fit"]
ScalePlace = Literal["weights", "thresholds"]


@dataclass(frozen=True)
class Method:
    """How an ANN becomes a spiking network.

    scale: what an activation of "one spike in every step" stands for, per layer or channel: a percentile
        of the positive activations, or the value with the least squared error of T-step rates.
    percentile: in (0, 100]; 100 is the maximum. Only read with ``scale="percentile"``.
    per_channel: one scale per channel instead of one per layer.
    place: the layer's own scale divides its weights and bias (all thresholds 1), or is its threshold.
    v0: initial potential as a fraction of the threshold, 0 to 1.
    starts: the chip can start a neuron from another potential than 0. False puts v0 / T into the bias of
        every step instead: after T steps of a steady input both have added up to the same.
    reset: "soft" subtracts the threshold; "hard" sets v to 0, which is all that Loihi's stock neuron can do.
    shortcut: identity shortcuts carry max_1 / max_3 (Hu); False leaves them 1 and is only for comparison.
    compensation: search, layer by layer, the factor on the input that brings the rates closest to the
        activations ("gain", Hu), or some multiple of the rates ("fit"), which is what a spike counts then.
    correction: what takes the remaining mean error of each channel: its bias, its initial potential.
    refit: fit the weights of every layer to the rates that arrive (``refit.py``).
    pool: max pools become neurons on differences of rates ("gated"), a logical OR of the spikes, or an
        average pool.
    """

    scale: ScaleRule = "percentile"
    percentile: float = 99.9
    per_channel: bool = False
    place: ScalePlace = "weights"
    v0: float = 0.0
    starts: bool = True
    reset: ResetKind = "soft"
    shortcut: bool = True
    compensation: Compensation = "none"
    correction: Correction = "none"
    refit: bool = False
    pool: PoolRule = "gated"

    def __post_init__(self) -> None:
        if not 0 < self.percentile <= 100:
            raise NmcError("NMC-U02", "percentile", f"is {self.percentile:g}", "use more than 0, at most 100")
        if not 0 <= self.v0 <= 1:
            raise NmcError("NMC-U02", "v0", f"is {self.v0:g} thresholds", "use 0 to 1")
        for field, allowed in ALLOWED.items():
            value = getattr(self, field)
            if value not in allowed:
                raise NmcError("NMC-U02", field, f"is {value!r}", f"use one of {', '.join(allowed)}")

    @property
    def text(self) -> str:
        """Every choice, for reports."""
        return ", ".join(f"{name} {getattr(self, name)}" for name in self.__dataclass_fields__)


ALLOWED: dict[str, tuple[str, ...]] = {
    "scale": ("percentile", "least-error"),
    "place": ("weights", "thresholds"),
    "reset": ("soft", "hard"),
    "compensation": ("none", "gain", "fit"),
    "correction": ("none", "bias", "potential"),
    "pool": ("gated", "or", "average"),
}

METHODS: dict[str, Method] = {
    "max": Method(percentile=100.0),
    "percentile": Method(),
    "hu": Method(compensation="gain"),
    "half": Method(percentile=99.0, v0=0.5),
    "least-error": Method(scale="least-error", v0=0.5),
    "auto": Method(scale="least-error", per_channel=True, v0=0.5, correction="bias", refit=True),
    "hard": Method(scale="least-error", reset="hard", compensation="fit", refit=True),
}
"""max, percentile: Rueckauer. hu: Hu. half, least-error: v0 as in QCFS, on any ANN. auto, hard: the best
measured on validation images with a soft and with a hard reset (``benchmarks/conversion.py``)."""


def named(method: Method | str, **choices: Any) -> Method:
    """A method by name (or as it is) with some choices changed; "auto" follows the choice of the reset.

    Raises:
        NmcError: NMC-U03 for an unknown method or choice, NMC-U02 for a value out of range.
    """
    if method == "auto" and choices.get("reset") == "hard":
        method = "hard"
    if isinstance(method, str):
        if method not in METHODS:
            raise NmcError("NMC-U03", method, "is no conversion method", f"methods are: {', '.join(METHODS)}")
        method = METHODS[method]
    unknown = sorted(set(choices) - set(Method.__dataclass_fields__))
    if unknown:
        fields = ", ".join(Method.__dataclass_fields__)
        raise NmcError("NMC-U03", unknown[0], "is no choice of a conversion", f"choices are: {fields}")
    return replace(method, **choices)


def for_chip(method: Method | str, chip: Chip, **choices: Any) -> Method:
    """``named``, with the reset and the start values that the chip has where no choice says otherwise.

    A chip that only resets to 0 has both where neurons can subtract by a synapse onto themselves
    (``quantize/reset_loops.py``); not where frames enter as a bias, which such neurons would not add up.

    Raises:
        NmcError: NMC-Q03 for a chosen reset or start value that the chip has not got, and those of ``named``.
    """
    loops = chip.loops_resets and chip.payload_bits > 0
    resets = [kind for kind, stored in RESETS.items() if stored in chip.resets or (kind == "soft" and loops)]
    if isinstance(method, str) and "soft" not in resets:
        choices = {"reset": "hard", **choices}
    starts = chip.start_values or (loops and named(method, **choices).reset == "soft")
    chosen = named(method, **{"starts": starts, **choices})
    if chosen.reset not in resets:
        problem = f"{chosen.reset}, {chip.name} has {', '.join(resets)}"
        raise NmcError("NMC-Q03", "reset", problem, "leave the choice out, or convert for lava-cpu")
    needs = chosen.starts or chosen.correction == "potential"
    if needs and not starts:
        remedy = 'use correction="bias" and leave starts out, or convert for lava-cpu'
        problem = f"neurons would start from other potentials than 0, {chip.name} clears them to 0"
        raise NmcError("NMC-Q03", "starts" if chosen.starts else "correction", problem, remedy)
    return chosen


RESETS: dict[ResetKind, str] = {"soft": "subtract", "hard": "zero"}
"""The reset of a method, as chip files call it."""
