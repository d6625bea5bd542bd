"""What Lava does otherwise than the specification, one function or constant each.

Every entry says where in lava-nc 0.10 (paths under ``lava/``) and has a test in
``tests/backends/loihi/test_quirks.py`` that fails on the day Lava mends it. Nothing here imports Lava.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nmc import neuron as spec
from nmc.errors import NmcError
from nmc.ir import Conv2d, Fixed, FixedNeuron, InputNeuron, IntArray, Population, Projection, Reset, SumPool2d
from nmc.quantize.weights import MAX_EXPONENT

INT8_MAX = 127
MAX_MERGED = 16
MAX_DELAY = 63
AXES_TO_LAVA = (2, 1, 0)
"""(C, H, W) <-> (W, H, C), its own inverse. Only ``Conv`` wants Lava's order (proc/conv/process.py);
every other process here keeps torch's, so that dense weights need no permutation."""

GRADED_THRESHOLD = 0
"""``GradedVec`` sends a where ``|a| > vth`` and has vth = 1 by default, which loses payloads of +-1
(proc/graded/process.py)."""

NEVER = 1 << spec.THRESHOLD_BITS
"""Threshold mantissa of a population that never fires.

The largest mantissa of the chip, 2**17 - 1, is 8388544 v units, below the largest v of 8388607, so a
saturated readout would fire. Lava's models check no width (proc/lif/models.py takes vth as it comes);
one more is out of v's reach."""


def conv_kernel(weight: IntArray) -> IntArray:
    """(C_out, C_in / groups, K_h, K_w) of a correlation -> (C_out, K_w, K_h, C_in / groups) of ``Conv``.

    ``Conv`` is a true convolution, so the kernel is flipped, and its axes are (x, y) with channels last
    (proc/conv/utils.py, conv_scipy).
    """
    return np.ascontiguousarray(weight[:, :, ::-1, ::-1].transpose(0, 3, 2, 1))


def to_xy(pair: tuple[int, int]) -> tuple[int, int]:
    """(vertical, horizontal) -> (x, y), the order of Conv's stride, padding and dilation."""
    return pair[1], pair[0]


def groups_in_one(groups: int) -> int:
    """How many neighbouring groups of a convolution are made one, with zero weights between them.

    128 groups become -128 in Lava's int8 and give zeros without a word, more raise (proc/conv/models.py,
    AbstractPyConvModel). A port cannot be cut, so several ``Conv`` of fewer groups could not share one
    source. 1 where the groups fit, and where more than ``MAX_MERGED`` would become one: zeros cost time.
    """
    if groups <= INT8_MAX:
        return 1
    fitting = (n for n in range(2, MAX_MERGED + 1) if groups % n == 0 and groups // n <= INT8_MAX)
    return next(fitting, 1)


def fits_conv(synapse: Conv2d | SumPool2d, kernel: tuple[int, int], groups: int) -> bool:
    """Whether ``Conv`` computes this geometry, after ``groups_in_one``.

    Its stride, padding, dilation, kernel size and groups are int8; a kernel side of 128 raises
    (proc/conv/models.py, AbstractPyConvModel). What does not fit is written out as a sparse matrix.
    """
    dilation = synapse.dilation if isinstance(synapse, Conv2d) else (1, 1)
    fields = (*kernel, *synapse.stride, *synapse.padding, *dilation, groups // groups_in_one(groups))
    return max(fields) <= INT8_MAX


def convolves(projection: Projection, source: Population) -> bool:
    """Whether a projection becomes a ``Conv`` process.

    ``Conv`` has no delays (proc/conv/process.py): a delayed convolution is written out for
    ``DelaySparse``.
    """
    synapse = projection.synapse
    if projection.delay or not isinstance(synapse, Conv2d | SumPool2d):
        return False
    if isinstance(synapse, SumPool2d):
        return fits_conv(synapse, synapse.kernel, source.shape[0])
    height, width = projection.integer_weight.shape[2:]
    return fits_conv(synapse, (height, width), synapse.groups)


def sign_mode(weight_signed: bool) -> str:
    """Name of the SignMode to pass.

    Left alone, Dense and Sparse guess it from the data of each process, so that a tile of a layer is
    truncated otherwise than the whole (utils/weightutils.py, determine_sign_mode).
    """
    return "MIXED" if weight_signed else "EXCITATORY"


def representable(projection: Projection, most: int = MAX_EXPONENT) -> tuple[IntArray, int]:
    """The integer weights, checked to be what every Lava process computes with, and their exponent.

    With sign mode MIXED, Dense and Sparse clip to -256..255 and drop the lowest bit; EXCITATORY keeps
    0..255 (utils/weightutils.py). ``Conv`` ignores weight_exp, num_weight_bits and sign mode and neither
    clips nor truncates (proc/conv/models.py; lava issue 803). Even integers in -256..254, and 0..255
    where unsigned, mean the same to all of them and to the chip. Larger ones are such integers times two to
    the exponent, at most ``most``, and ``Conv`` must be given them multiplied out.

    Raises:
        NmcError: NMC-Q02 naming the projection.
    """
    weight, fixed = projection.integer_weight, projection.weight
    assert isinstance(fixed, Fixed)
    low, high, step = (-256, 254, 2) if fixed.signed else (0, 255, 1)
    large = bool(weight.size) and (weight.min() < low or weight.max() > high)
    exponent = min(max(fixed.exp - int(fixed.signed), 0), most) if large else 0
    code = weight >> exponent
    outside = (code < low) | (code > high) | (code % step != 0) | (code << exponent != weight)
    if outside.any():
        worst = int(weight[outside].flat[0])
        raise NmcError(
            "NMC-Q02",
            projection.origin[-1] if projection.origin else projection.name,
            f"weight {worst} is not one of {low}, {low + step}, ..., {high}",
            "quantize to 8 bits",
            measured=worst,
            allowed=high,
        )
    return code, exponent


def message_bits(source: Population) -> int:
    """num_message_bits of every synapse behind this population.

    0 casts what arrives to bool: any payload, negative ones too, counts as 1, and two sources on one
    port are OR-ed instead of added (proc/dense/models.py, proc/conv/models.py). So 0 is for binary
    spikes only, and every synapse process has exactly one source.
    """
    neuron = source.neuron
    binary = isinstance(neuron, FixedNeuron) or (
        isinstance(neuron, InputNeuron) and neuron.lowest == 0 and neuron.highest <= 1
    )
    return 0 if binary else max(1, int(source.max_payload).bit_length())


def reset_offset(level: int) -> int:
    """reset_offset of a population: Lava counts its first step as 1 (magma/core/model/py/model.py)."""
    return level + 1


def stock_lif(neuron: FixedNeuron) -> bool:
    """Whether ``LIFReset`` does it: it resets hard and clears v to 0 only (proc/lif/models.py).

    A soft reset or a start value needs the models of ``processes.py``.
    """
    return neuron.reset is Reset.ZERO and not np.any(neuron.v0)


def checked_bias(mantissa: npt.NDArray[Any], who: str) -> IntArray:
    """The mantissas, checked to fit 13 bits.

    ``LIF`` stores them as int16 and wraps without a word; the chip has 13 bits (proc/lif/models.py).

    Raises:
        NmcError: NMC-Q01 naming the population.
    """
    limit = 1 << (spec.BIAS_MANT_BITS - 1)
    if mantissa.size and (mantissa.min() < -limit or mantissa.max() >= limit):
        worst = int(max(mantissa.max(), -mantissa.min()))
        raise NmcError(
            "NMC-Q01",
            who,
            f"bias mantissa {worst}, allowed -{limit}..{limit - 1}",
            "raise the bias exponent or scale the input down",
            measured=worst,
            allowed=limit - 1,
        )
    return mantissa.astype(np.int64)


def checked_delay(delay: int, who: str) -> int:
    """The delay, checked against 6 bits: beyond them the delay processes raise inside a worker at the
    first step, and the run hangs (proc/dense/models.py, proc/sparse/models.py).

    Raises:
        NmcError: NMC-T01 naming the projection.
    """
    if delay > MAX_DELAY:
        raise NmcError(
            "NMC-T01",
            who,
            f"delay of {delay} steps, Lava's synapses have {MAX_DELAY}",
            "compile with relays (nmc.timing.balance)",
            measured=delay,
            allowed=MAX_DELAY,
        )
    return delay
