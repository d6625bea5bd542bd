"""Fine-tuning with the chip's integers: the forward pass is the integer network, the backward pass is float.

    network = aware(float_network, load_chip("loihi2"), data, Precision(2))
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)     # then train as usual
    integers = network.export()                                  # stage QUANTIZED, ready for the other passes

Straight-through estimators (Bengio et al. 2013, arXiv:1308.3432): rounding, truncation and clipping of the
forward pass count as the identity in the backward pass; a spike's derivative is that of arctan(pi x) / pi,
with x the distance to the threshold as a share of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nmc import extras, timing
from nmc.chip import Chip
from nmc.errors import InternalError, NmcError
from nmc.ir import FloatArray, Network, Stage
from nmc.quantize import calibrate, inputs
from nmc.quantize.network import Quantizer
from nmc.quantize.precision import Precision

if TYPE_CHECKING:
    from nmc.quantize.fake import AwareNetwork


def aware(network: Network, chip: Chip, data: FloatArray, precision: Precision) -> AwareNetwork:
    """A torch module that computes what the chip will compute, bit by bit, and can be trained.

    It starts as the network that the quantization pass would have made. Its parameters are the weights and
    biases (in the model's float units) and the thresholds (as factors) of every layer with trained weights.
    Soft resets stay soft resets in it; on chips that reset to 0 only they become loops afterwards, and differ
    by what ``reset_loops.py`` says.

    Args:
        network: FLOAT.
        chip: for which ``export`` shall fit.
        data: calibration samples, (N, *shape) or (N, T, *shape), in the model's units.
        precision: bits and granularity.

    Raises:
        NmcError: NMC-E01 without torch, and what calibration and quantization refuse.
    """
    if network.stage is not Stage.FLOAT:
        raise InternalError(f"aware expects a FLOAT network, got {network.stage.name}")
    try:
        from nmc.quantize.fake import AwareNetwork
    except ImportError as error:
        raise NmcError("NMC-E01", "aware", "needs torch", extras.install("torch")) from error
    if not chip.payload_bits:
        network = inputs.host_input(network)
    timed = timing.balance(network, chip.max_delay)
    statistics = calibrate.measure(timed, data)
    quantized = Quantizer.for_chip(chip, precision, statistics, data).run(timed)
    return AwareNetwork(timed, quantized, precision.profiles(chip))
