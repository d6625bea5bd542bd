"""How finely a network is quantized: bits per weight, and what shares one scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeAlias, get_args

import numpy as np

from nmc.chip import Chip
from nmc.errors import NmcError
from nmc.ir import Network, Population

Granularity: TypeAlias = Literal["layer", "channel"]
LOWEST_BITS, HIGHEST_BITS = 1, 8
"""One bit alone has no sign: the weights of a projection are then 0 and one other value."""


@dataclass(frozen=True)
class Precision:
    """Settings of the quantizer.

    weight_bits: 1 to 8, for every layer that ``layer_bits`` does not name (by the user's layer name, or by
    population). granularity: "layer" scales a population as a whole; "channel" scales every output channel
    by itself, with as many different thresholds as the chip has.

    Raises NmcError NMC-U02 for bits outside of 1..8 or an unknown granularity.
    """

    weight_bits: int = HIGHEST_BITS
    granularity: Granularity = "layer"
    layer_bits: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for who, bits in (("weight_bits", self.weight_bits), *self.layer_bits.items()):
            whole = isinstance(bits, int | np.integer)
            if not whole or not LOWEST_BITS <= bits <= HIGHEST_BITS:
                raise NmcError(
                    "NMC-U02",
                    who,
                    f"is {bits!r} bits",
                    f"use {LOWEST_BITS} to {HIGHEST_BITS}",
                    measured=bits if whole else None,
                    allowed=HIGHEST_BITS,
                )
        if self.granularity not in get_args(Granularity):
            raise NmcError("NMC-U02", "granularity", f"is {self.granularity!r}", "use layer or channel")
        object.__setattr__(self, "layer_bits", MappingProxyType(dict(self.layer_bits)))

    def profiles(self, chip: Chip) -> int | None:
        """How many different thresholds a population may have; None: any number."""
        return 1 if self.granularity == "layer" else chip.threshold_profiles

    def bits(self, population: Population) -> int:
        """Bits of the weights into this population."""
        by_name = self.layer_bits.get(population.name, self.weight_bits)
        return self.layer_bits.get(population.label, by_name)

    def check_names(self, network: Network) -> None:
        """Raise NmcError NMC-U03 when ``layer_bits`` names what is no layer of the network."""
        known = {name for one in network.compute for name in (one.name, one.label)}
        for name in self.layer_bits:
            if name not in known:
                layers = ", ".join(one.label for one in network.compute[:12])
                raise NmcError("NMC-U03", name, "is no layer of this network", f"layers are: {layers}")


def parse_layer_bits(text: str) -> dict[str, int]:
    """``conv1=4,fc=6`` as a mapping; the last "=" parts name and bits. Raises NmcError NMC-U02."""
    result = {}
    for part in filter(None, text.split(",")):
        name, _, bits = part.rpartition("=")
        if not name or not bits.isdecimal():
            raise NmcError("NMC-U02", "layer_bits", f"{part!r} is not LAYER=BITS", "such as conv1=4,fc=6")
        result[name] = int(bits)
    return result
