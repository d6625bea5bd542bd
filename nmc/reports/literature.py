"""The energy that papers on spiking networks print, and what it takes for granted.

    E = E_MAC F_1 + E_AC (S_2 + S_3 + ...),   S_l = r_l T F_l

F_l: multiply-accumulates of layer l in one step; S_l: its synaptic operations; r_l: the rate of the spikes
that it reads. The first layer reads values. Constants: Horowitz 2014 (ISSCC), 45 nm, 32-bit floating point,
arithmetic alone (4.6 pJ and 0.9 pJ); no memory access, no neuron, no network on chip. Papers differ in
whether the first layer, whose input does not change, is paid once or in every step: both are given here.
"""

from __future__ import annotations

from dataclasses import dataclass

from nmc.chip import EnergySet, other_hardware


def logic() -> EnergySet:
    """The set with the formula's constants: ``horowitz45`` of ``data/energies.toml``."""
    (found,) = (one for one in other_hardware() if one.joules("add_fp32") is not None)
    return found


@dataclass(frozen=True)
class Work:
    """Multiply-accumulates in one step, of the first layer and of all layers behind it; T."""

    first: int
    behind: int
    steps: int

    def energy(self, synops: float, *, every_step: bool = False) -> float:
        """Joules per inference by the formula. synops: of the layers behind the first, over all steps."""
        return self._first(every_step) + _price("add_fp32") * synops

    def synops(self, joules: float, *, every_step: bool = False) -> float:
        """The synaptic operations behind the first layer that make the formula give an energy; negative where
        the first layer alone costs more."""
        return (joules - self._first(every_step)) / _price("add_fp32")

    def rate(self, joules: float, *, every_step: bool = False) -> float:
        """Mean rate of the spikes that the layers behind the first read, weighted by operations."""
        return self.synops(joules, every_step=every_step) / (self.steps * self.behind)

    def _first(self, every_step: bool) -> float:
        return _price("mac_fp32") * self.first * (self.steps if every_step else 1)


def _price(term: str) -> float:
    """Joules of one operation."""
    joules = logic().joules(term)
    assert joules is not None
    return joules
