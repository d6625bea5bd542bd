"""What a chip can do at all, checked against a network before sizes matter."""

from __future__ import annotations

import numpy as np

from nmc.chip import Chip
from nmc.errors import NmcError
from nmc.ir import Encoding, FixedNeuron, GradedRelay, InputNeuron, Network, Population


def check_support(network: Network, chip: Chip) -> Network:
    """Refuse what the chip has no hardware for.

    Contract: QUANTIZED in, the same network out.

    Raises:
        NmcError: NMC-Q03 for a payload wider than the chip's, a reset or a start value that it has not got.
    """
    for population in network.populations:
        _check_payload(population, chip)
        if isinstance(population.neuron, FixedNeuron):
            _check_neuron(population.label, population.neuron, chip)
    return network


def _check_neuron(who: str, neuron: FixedNeuron, chip: Chip) -> None:
    if neuron.reset.value not in chip.resets:
        raise NmcError(
            "NMC-Q03",
            who,
            f"reset by {neuron.reset.value}, {chip.name} has {', '.join(chip.resets)}",
            "train with a hard reset, or compile for lava-cpu",
        )
    if chip.start_values or not np.any(neuron.v0):
        return
    start = int(neuron.v0.flat[np.abs(neuron.v0).argmax()])
    theta = "" if neuron.vth is None else f" (threshold {int(neuron.vth.value.max())})"
    raise NmcError(
        "NMC-Q03",
        who,
        f"every sample starts at v = {start}{theta}, {chip.name} clears v to 0, the reset potential",
        "let v start at its reset potential, or compile for lava-cpu",
        measured=start,
        allowed=0,
    )


def _check_payload(population: Population, chip: Chip) -> None:
    neuron = population.neuron
    on_host = isinstance(neuron, InputNeuron) and neuron.encoding is Encoding.CURRENT
    graded = isinstance(neuron, GradedRelay) or population.max_payload > 1
    if on_host or not graded:
        return
    needed = population.max_payload.bit_length()
    if needed > chip.payload_bits:
        raise NmcError(
            "NMC-Q03",
            population.label,
            f"spikes with a payload of {needed} bits, {chip.name} carries {chip.payload_bits}",
            "use --joins distribute, or a chip with graded spikes such as loihi2",
            measured=needed,
            allowed=chip.payload_bits,
        )
