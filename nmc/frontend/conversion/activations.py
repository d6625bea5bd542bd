"""Activations of networks that are to be converted: ReLU, and the clip-floor-shift of QCFS training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np

from nmc.errors import NmcError
from nmc.frontend import opgraph as og
from nmc.frontend.conversion.draft import Draft
from nmc.frontend.opgraph import Op, OpGraph
from nmc.ir import FloatArray


@dataclass(frozen=True, eq=False)
class ClipFloor:
    """y = limit * clip(floor(x levels / limit + 1/2) / levels, 0, 1): QCFS (Bu et al. 2022).

    limit: one element, or (C, 1, 1); learned, positive. levels: L of the training, at least 1. A ReLU with
    a learned clip (no rounding) is ``levels=None``.
    """

    limit: FloatArray
    levels: int | None = None

    def __post_init__(self) -> None:
        limit = og.constant(self.limit)
        object.__setattr__(self, "limit", limit)
        if not (np.isfinite(limit).all() and limit.min() > 0):
            raise NmcError("NMC-F04", "ClipFloor", f"limit {limit.min():g}", "limits must be positive")
        if self.levels is not None and self.levels < 1:
            raise NmcError("NMC-F04", "ClipFloor", f"{self.levels} levels", "give at least 1")

    def as_op(self) -> Op:
        """Itself, as a node of an ``OpGraph`` that only ``nmc.convert`` and ``plain`` accept."""
        return cast(Op, self)


ACTIVATIONS = (og.ReLU, ClipFloor)


def plain(graph: OpGraph) -> OpGraph:
    """The same function in standard ops only, for one step of the float engine; node names stay.

    A neuron that sends floor(v / threshold) spikes, from v0 = threshold / 2, rounds; and
    min(k, L) = k - relu(k - L) clips.
    """
    draft = Draft(graph)
    for name in draft.named(ClipFloor):
        op = cast(ClipFloor, graph.nodes[name])
        sources, channels = draft.inputs[name], graph.shapes[name][0]
        if op.levels is None:
            low = draft.add(f"{name}.relu", og.ReLU(), sources)
            draft.nodes[name], draft.inputs[name] = og.Sub(), _clip(draft, name, low, op.limit, channels)
            continue
        unit = op.limit / op.levels
        low = draft.add(f"{name}.level", og.Neuron(unit, v0=unit / 2, multi_spike=True), sources)
        clip = _clip(draft, name, low, og.constant(float(op.levels)), channels)
        clipped = draft.add(f"{name}.clipped", og.Sub(), clip)
        draft.nodes[name], draft.inputs[name] = og.Scale(unit), [clipped]
    return draft.graph()


def _clip(draft: Draft, name: str, low: str, top: FloatArray, channels: int) -> list[str]:
    """The operands of the difference that is min(low, top)."""
    mean = np.broadcast_to(top.reshape(-1), (channels,))
    one, zero = np.ones(channels), np.zeros(channels)
    # A batch norm is the op that can subtract a constant.
    over = draft.add(f"{name}.over", og.BatchNorm(mean, one, one, zero, eps=0.0), [low])
    return [low, draft.add(f"{name}.excess", og.ReLU(), [over])]
