"""Lava processes from a ``Program``. Importing this imports Lava."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.proc.conv.process import Conv
from lava.proc.dense.process import DelayDense, Dense
from lava.proc.graded.process import GradedVec
from lava.proc.io.source import RingBuffer
from lava.proc.lif.process import LIFReset
from lava.proc.sparse.process import DelaySparse, Sparse
from lava.utils.weightutils import SignMode
from scipy.sparse import csr_matrix

from nmc.backends.loihi import processes, quirks
from nmc.backends.loihi.program import Neurons, Program, Source, Synapses
from nmc.ir import IntArray

_LIF = {"LIFReset": LIFReset, "HardLIF": processes.HardLIF, "SoftLIF": processes.SoftLIF}


def _number(value: IntArray) -> Any:
    """A plain int where all neurons share it: Lava passes scalars as they come."""
    return int(value) if value.ndim == 0 else value.astype(np.int32)


def source_process(source: Source) -> Any:
    """``RingBuffer`` that sends data[..., t] in step t + 1."""
    return RingBuffer(data=source.data)


def neuron_process(cell: Neurons, interval: int) -> Any:
    """The neuron process, cleared every ``interval`` steps at its level."""
    if cell.process == "GradedVec":
        return GradedVec(shape=cell.shape, vth=_number(cell.vth))
    arguments: dict[str, Any] = {
        "shape": cell.shape,
        "du": _number(cell.du),
        "dv": _number(cell.dv),
        "vth": _number(cell.vth),
        "bias_mant": cell.bias_mant,
        "bias_exp": cell.bias_exp,
        "reset_interval": interval,
        "reset_offset": quirks.reset_offset(cell.level),
        "name": cell.name,
    }
    if cell.process != "LIFReset":
        arguments["v_start"] = _number(cell.v0)
    if cell.process == "SoftLIF":
        arguments["v_drop"] = _number(cell.drop)
    return _LIF[cell.process](**arguments)


def synapse_process(synapse: Synapses) -> Any:
    """The synapse process."""
    common: dict[str, Any] = {"name": synapse.name, "num_message_bits": synapse.message_bits}
    if synapse.process == "Conv":
        width, height, channels = (synapse.source_shape[axis] for axis in quirks.AXES_TO_LAVA)
        return Conv(
            weight=synapse.weight,
            input_shape=(width, height, channels),
            stride=synapse.stride,
            padding=synapse.padding,
            dilation=synapse.dilation,
            groups=synapse.groups,
            **common,
        )
    common |= {
        "sign_mode": SignMode[synapse.sign_mode],
        "num_weight_bits": 8,
        "weight_exp": synapse.weight_exp,
    }
    if synapse.process == "Dense":
        return Dense(weights=synapse.weight, **common)
    if synapse.process == "DelayDense":
        return DelayDense(weights=synapse.weight, delays=synapse.delay, max_delay=synapse.delay, **common)
    shape = tuple(int(np.prod(ends)) for ends in (synapse.target_shape, synapse.source_shape))
    where = (synapse.rows, synapse.columns)
    weights = csr_matrix((synapse.weight, where), shape)
    if synapse.process == "Sparse":
        return Sparse(weights=weights, **common)
    # One delay per entry: given as a number, Lava fills a dense matrix with it.
    delays = csr_matrix((np.full(len(synapse.weight), synapse.delay), where), shape)
    return DelaySparse(weights=weights, delays=delays, max_delay=synapse.delay, **common)


def connect(synapse: Synapses, process: Any, sender: Any, receiver: Any) -> None:
    """sender.s_out -> process -> receiver.a_in, through the port views that reorder or flatten."""
    if synapse.process == "Conv":
        sender.s_out.transpose(quirks.AXES_TO_LAVA).connect(process.s_in)
        process.a_out.transpose(quirks.AXES_TO_LAVA).connect(receiver.a_in)
    else:
        sender.s_out.flatten().connect(process.s_in)
        process.a_out.reshape(synapse.target_shape).connect(receiver.a_in)


def build(program: Program) -> dict[str, Any]:
    """All processes of the program, connected; sources and neurons by name."""
    cells = {source.name: source_process(source) for source in program.sources}
    cells |= {cell.name: neuron_process(cell, program.interval) for cell in program.neurons}
    for synapse in program.synapses:
        connect(synapse, synapse_process(synapse), cells[synapse.source], cells[synapse.target])
    return cells
