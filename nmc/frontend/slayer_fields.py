"""Fields of one layer of a ``.net`` file as the chip's numbers, or a refusal that names the layer."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from nmc import neuron as spec
from nmc.errors import NmcError
from nmc.frontend.netfile import NetLayer
from nmc.ir import Fixed, FixedNeuron, IntArray, Shape, frozen

Pair: TypeAlias = tuple[int, int]

BIAS_EXP = 6
"""Biases of a ``.net`` file are whole weight units, of 64 v units each."""
DECAY_ONE = 1 << spec.DECAY_BITS
MAX_DELAY = 62
"""lava-dl clamps delays there (netx/hdf5.py); here more is refused."""
MAX_THRESHOLD = (1 << spec.THRESHOLD_BITS) - 1
"""The last layer of a network whose output is a potential has this threshold or a larger one."""


def shape_of(layer: NetLayer) -> Shape:
    """(C, H, W), or (N,) where the file says (N,) or, behind a dense layer, (N, 1, 1)."""
    values = layer.fields["shape"].reshape(-1)
    if values.size not in (1, 3) or values.min() < 1:
        raise NmcError("NMC-F04", layer.name, f"shape {tuple(values.tolist())}", "expected (C, H, W) or (N,)")
    shape = tuple(int(n) for n in values)
    return shape[:1] if layer.kind in ("dense", "dense_rec", "average") and shape[1:] == (1, 1) else shape


def window(layer: NetLayer, kernel: Pair) -> tuple[Pair, Pair, Pair]:
    """Stride, padding and dilation as (vertical, horizontal)."""
    if "kernelSize" in layer.fields and _pair(layer, "kernelSize", 1) != kernel:
        problem = f"weights with a kernel {kernel}, the file says {_pair(layer, 'kernelSize', 1)}"
        raise NmcError("NMC-G03", layer.name, problem, "export it again")
    return _pair(layer, "stride", 1), _pair(layer, "padding", 0), _pair(layer, "dilation", 1)


def _pair(layer: NetLayer, key: str, least: int) -> Pair:
    values = layer.fields[key].reshape(-1)
    if values.size not in (1, 2):
        problem = f"field '{key}' has {values.size} numbers"
        raise NmcError("NMC-F04", layer.name, problem, "expected one or two")
    if values.min() < least:
        problem = f"{key} {tuple(values.tolist())}"
        raise NmcError("NMC-F04", layer.name, problem, f"every number must be at least {least}")
    return int(values[0]), int(values[-1])


def matrix(layer: NetLayer, key: str, outputs: int) -> IntArray:
    """(out, in); older files hold one row for all of it."""
    weight = layer.fields[key]
    if weight.ndim == 1 and weight.size % outputs == 0:
        weight = weight.reshape(outputs, -1)
    if weight.ndim != 2 or weight.shape[0] != outputs:
        problem = f"{key} of shape {layer.fields[key].shape} for {outputs} neurons"
        raise NmcError("NMC-G03", layer.name, problem, "export it again")
    return weight


def weight_field(layer: NetLayer, values: IntArray) -> Fixed:
    """On the coarsest grid that holds the weights; unsigned where odd or large ones leave no other way.

    Raises NmcError NMC-Q02 for weights that the chip's eight bits do not hold.
    """
    low, high = int(values.min()), int(values.max())
    odd = bool((values % 2).any())
    if low >= 0 and (odd or high > 254) and high <= 255:
        return Fixed(values, 0, 8, signed=False)
    if odd or low < -256 or high > 254:
        what = "odd weights of mixed sign" if odd else f"weights {low}..{high}"
        problem = f"{what}; eight bits hold the even numbers -256 to 254, or 0 to 255"
        raise NmcError("NMC-Q02", layer.name, problem, "export with quantized weights (pre_hook_fx)")
    exp = 1
    while exp < 8 and not (values % (2 << exp)).any() and values.any():
        exp += 1
    mant = values >> exp
    bits = 1 + max(int(mant.max()).bit_length(), int(~mant.min()).bit_length(), 1)
    return Fixed(mant, exp, bits, signed=True)


def rows_of(weight: Fixed, kept: npt.NDArray[np.bool_]) -> Fixed:
    """The same weights, zero outside of the kept output channels."""
    mant = np.where(kept.reshape(-1, *[1] * (weight.mant.ndim - 1)), weight.mant, 0)
    return Fixed(mant, weight.exp, weight.bits, weight.signed)


def delays_of(layer: NetLayer, outputs: int, inputs: int) -> IntArray:
    """One number for all, or one per output channel.

    Raises NmcError NMC-G05 for delays per input or per synapse, NMC-T01 beyond ``MAX_DELAY``.
    """
    delays = layer.fields.get("delay", np.zeros(1, np.int64)).reshape(-1)
    if delays.min() < 0 or delays.max() > MAX_DELAY:
        worst = int(delays.max() if delays.max() > MAX_DELAY else delays.min())
        raise NmcError(
            "NMC-T01",
            layer.name,
            f"a delay of {worst} steps, the file format holds 0 to {MAX_DELAY}",
            "train with shorter delays",
            measured=worst,
            allowed=MAX_DELAY,
        )
    if delays.min() == delays.max():
        return delays[:1]
    if layer.kind == "pool" or delays.size != outputs:
        per = "per input" if delays.size == inputs else f"of shape {layer.fields['delay'].shape}"
        raise NmcError("NMC-G05", layer.name, f"delays {per}", "give each output neuron one delay")
    return delays


def bias_field(layer: NetLayer, shape: Shape) -> Fixed | None:
    """One number for all, one per channel, or one per neuron, in weight units."""
    values = layer.fields.get("bias")
    if values is None:
        return None
    limit = 1 << (spec.BIAS_MANT_BITS - 1)
    worst = int(values.flat[np.abs(values).argmax()])
    if not -limit <= values.min() <= values.max() < limit:
        raise NmcError(
            "NMC-Q02",
            layer.name,
            f"bias {worst}, the chip holds -{limit} to {limit - 1}",
            "scale weights, bias and threshold down",
            measured=worst,
            allowed=limit - 1,
        )
    if values.size == 1:
        values = values.reshape(())
    elif values.size == shape[0]:
        values = values.reshape(-1, *[1] * (len(shape) - 1))
    elif values.shape != shape:
        raise NmcError(
            "NMC-G03",
            layer.name,
            f"bias of shape {values.shape} on {shape} neurons",
            "give one bias per channel",
        )
    return Fixed(values, BIAS_EXP, spec.BIAS_MANT_BITS, signed=True)


def neuron_of(layer: NetLayer, last: bool) -> FixedNeuron:
    """Loihi's neuron; without one, a readout that adds up its input."""
    fields = layer.neuron
    if fields is None and layer.kind not in ("dense", "dense_rec"):
        raise NmcError("NMC-F04", layer.name, "has no neuron", "export it again")
    given = {"iDecay": 0, "vDecay": DECAY_ONE, "vThMant": MAX_THRESHOLD + 1}
    if fields is not None:
        given = {key: int(fields[key].reshape(())) for key in given}
        _check_extras(layer)
    threshold, u_loss, v_loss = given["vThMant"], given["iDecay"], given["vDecay"]
    reads_out = last and threshold >= MAX_THRESHOLD
    if reads_out and u_loss == 0 and v_loss == DECAY_ONE and not layer.fields.get("bias", np.zeros(1)).any():
        # v = u, and u adds up: the same potentials with the sum in v, where the chip can hold it.
        u_loss, v_loss = DECAY_ONE, 0
    for key, loss, low, high in (
        ("iDecay", u_loss, 1, DECAY_ONE),
        ("vDecay", v_loss, 0, DECAY_ONE - 1),
        ("vThMant", min(threshold, MAX_THRESHOLD) if reads_out else threshold, 0, MAX_THRESHOLD),
    ):
        if not low <= loss <= high:
            raise NmcError(
                "NMC-Q02",
                layer.name,
                f"{key} = {loss}, the chip holds {low} to {high}",
                "train with a value in that range",
                measured=loss,
                allowed=high,
            )
    return FixedNeuron(
        None if reads_out else _field(threshold, spec.WEIGHT_SHIFT, spec.THRESHOLD_BITS),
        _field(u_loss - spec.U_DECAY_OFFSET, -spec.DECAY_BITS, spec.DECAY_BITS),
        _field(v_loss, -spec.DECAY_BITS, spec.DECAY_BITS),
    )


def readout() -> FixedNeuron:
    """Adds up whatever arrives; never fires."""
    keep_nothing = _field(DECAY_ONE - spec.U_DECAY_OFFSET, -spec.DECAY_BITS, spec.DECAY_BITS)
    return FixedNeuron(None, keep_nothing, _field(0, -spec.DECAY_BITS, spec.DECAY_BITS))


def _field(value: int, exp: int, bits: int) -> Fixed:
    return Fixed(frozen(value, np.int64), exp, bits, signed=False)


def _check_extras(layer: NetLayer) -> None:
    """Refuse what a neuron says beyond Loihi's own (NMC-Q03)."""
    assert layer.neuron is not None
    for key, plain, what in (
        ("refDelay", 1, "a refractory period of {} steps"),
        ("gradedSpike", 0, "graded spikes"),
        ("messageBits", 0, "spikes with a payload of {} bits"),
        ("wgtExp", 0, "a weight exponent of {}, which lava-dl ignores"),
        ("weight_exp", 0, "a weight exponent of {}, which lava-dl ignores"),
    ):
        value = layer.neuron.get(key)
        if value is not None and int(value.reshape(())) != plain:
            problem = what.format(int(value.reshape(())))
            raise NmcError("NMC-Q03", layer.name, problem, "train without it")
