"""What a chip can do at all, checked against a network before sizes matter."""

from __future__ import annotations

from nmc.chip import Chip
from nmc.errors import NmcError
from nmc.ir import Encoding, FixedNeuron, GradedRelay, InputNeuron, Network, Population


def check_support(network: Network, chip: Chip) -> Network:
    """Refuse what the chip has no hardware for.

    Contract: QUANTIZED in, the same network out.

    Raises:
        NmcError: NMC-Q03 for a payload wider than the chip's, or a reset that it has not got.
    """
    for population in network.populations:
        _check_payload(population, chip)
        if isinstance(population.neuron, FixedNeuron) and population.neuron.reset.value not in chip.resets:
            raise NmcError(
                "NMC-Q03",
                population.label,
                f"reset by {population.neuron.reset.value}, {chip.name} has {', '.join(chip.resets)}",
                "train with a hard reset, or compile for lava-cpu",
            )
    return network


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
