"""The ANN in the form that conversion works on: no batch norm behind a layer, no max pool, same function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nmc.errors import NmcError
from nmc.frontend import opgraph as og
from nmc.frontend.conversion.activations import ACTIVATIONS
from nmc.frontend.conversion.draft import Draft
from nmc.frontend.conversion.method import PoolRule
from nmc.frontend.fold import fold
from nmc.frontend.opgraph import OpGraph, Pair
from nmc.ir import Shape

REFUSED = {
    og.Mul: ("a product of activations", "rates cannot be multiplied; train it as a spiking network"),
    og.Neuron: ("already a spiking neuron", "nmc.convert takes networks of ReLUs"),
    og.TimeMean: ("a mean over time", "convert the network that sees one frame"),
}


@dataclass(frozen=True, eq=False)
class NormalForm:
    """graph: the ANN. gates: ReLUs that max pools became, each with the activation whose spikes it compares
    (None where it compares sums)."""

    graph: OpGraph
    gates: Mapping[str, str | None]


def normal_form(ann: OpGraph, pool: PoolRule) -> NormalForm:
    """Fold batch norms and replace max pools.

    Raises:
        NmcError: NMC-G05 for an op that rates cannot carry or a max pool that no rule can replace,
            NMC-G08 for a dead end, and those of shape inference.
    """
    ann.check_ends()
    for name, op in ann.nodes.items():
        for kind, (problem, remedy) in REFUSED.items():
            if isinstance(op, kind):
                raise NmcError("NMC-G05", name, problem, remedy)
    shapes = ann.shapes
    if not any(isinstance(op, ACTIVATIONS) for op in ann.nodes.values()):
        raise NmcError(
            "NMC-G05", ann.name, "no ReLU to convert", "nmc.compile takes spiking networks as they are"
        )
    draft = Draft(fold(ann))
    gates: dict[str, str | None] = {}
    for name in draft.named(og.MaxPool):
        gates |= _replace_max_pool(draft, name, shapes, pool)
    return NormalForm(draft.graph(), gates)


# --- max pools --------------------------------------------------------------------------------------


def _replace_max_pool(
    draft: Draft, name: str, shapes: dict[str, Shape], rule: PoolRule
) -> dict[str, str | None]:
    """Returns the new ReLUs and what they compare."""
    op = draft.nodes[name]
    assert isinstance(op, og.MaxPool)
    _relu_first(draft, name)
    if rule == "average":
        draft.nodes[name] = og.AvgPool(op.kernel, op.stride, op.padding)
        return {}
    if rule == "or":
        if not all(
            isinstance(draft.nodes[source], (*ACTIVATIONS, og.MaxPool)) for source in draft.inputs[name]
        ):
            raise NmcError(
                "NMC-G05",
                name,
                "the OR of something else than spikes",
                'put it behind a ReLU or use pool="gated"',
            )
        return {}
    padded = any(op.padding)
    if padded and not _never_negative(draft, name):
        raise NmcError(
            "NMC-G05", name, "a padded max pool of values that may be negative", "put it behind a ReLU"
        )
    source = draft.inputs[name][0] if len(draft.inputs[name]) == 1 else ""
    compared = source if isinstance(draft.nodes.get(source), ACTIVATIONS) else None
    return dict.fromkeys(_gate(draft, name, op, shapes[name][0]), compared)


def _relu_first(draft: Draft, name: str) -> None:
    """max, then ReLU is ReLU, then max; in this order the pool sees spikes."""
    readers = draft.readers(name)
    if len(readers) != 1 or not isinstance(draft.nodes[readers[0]], ACTIVATIONS):
        return
    (relu,) = readers
    if draft.inputs[relu] != [name]:
        return
    draft.inputs[relu] = draft.inputs[name]
    for reader in set(draft.readers(relu)):
        draft.redirect(reader, relu, name)
    draft.inputs[name] = [relu]


def _never_negative(draft: Draft, name: str) -> bool:
    """Whether everything that ``name`` reads is a sum or mean of activations."""
    keeps = (og.AvgPool, og.SumPool, og.MaxPool, og.Flatten, og.Concat, og.Add)
    for source in draft.inputs[name]:
        op = draft.nodes[source]
        if not (isinstance(op, ACTIVATIONS) or (isinstance(op, keeps) and _never_negative(draft, source))):
            return False
    return True


def _gate(draft: Draft, name: str, op: og.MaxPool, channels: int) -> list[str]:
    """A max pool as ReLUs: max(a, b) = b + relu(a - b), first along the rows of windows, then down.

    In spikes this is Rueckauer's gate: the neuron on a - b sends what a has fired more than b, so that the
    sum of both follows the input with the higher count.

    Returns:
        The new ReLUs.
    """
    (kh, kw), (sh, sw), (ph, pw) = op.kernel, op.stride, op.padding
    sources = draft.inputs[name]
    across, rows = _gate_axis(draft, f"{name}.across", sources, channels, ((1, kw), (1, sw), (0, pw)))
    down, columns = _gate_axis(draft, f"{name}.down", across, channels, ((kh, 1), (sh, 1), (ph, 0)))
    draft.nodes[name], draft.inputs[name] = og.Add(), down
    return rows + columns


def _gate_axis(
    draft: Draft, name: str, sources: list[str], channels: int, window: tuple[Pair, Pair, Pair]
) -> tuple[list[str], list[str]]:
    """The maximum over neighbours along one axis, as operands of a sum; and the ReLUs in it.

    With m(t) = x(t) + d(t) the maximum of the first t taps, d(t) = relu(x(t - 1) - x(t) + d(t - 1)).
    """
    kernel, stride, padding = window
    size = max(kernel)
    if size == 1 and stride == (1, 1):
        return sources, []

    def pick(suffix: str, taps: dict[int, float]) -> str:
        weight = np.zeros((channels, 1, size))
        for tap, factor in taps.items():
            weight[:, 0, tap] = factor
        conv = og.Conv2d(weight.reshape(channels, 1, *kernel), None, stride, padding, groups=channels)
        return draft.add(f"{name}.{suffix}", conv, sources)

    ahead: list[str] = []
    for tap in range(1, size):
        lead = pick(f"lead{tap}", {tap - 1: 1.0, tap: -1.0})
        ahead.append(draft.add(f"{name}.ahead{tap}", og.ReLU(), [lead, *ahead[-1:]]))
    return [pick("last", {size - 1: 1.0}), *ahead[-1:]], ahead
