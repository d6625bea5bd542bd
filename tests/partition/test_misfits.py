"""Models that do not fit Loihi as they are: the limit that binds, and the first remedy makes them fit."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from nmc import api
from nmc.chip import load_chip
from nmc.frontend import opgraph as og
from nmc.ir import Encoding
from nmc.partition.fit import Fit, Remedy

NEURON = og.Neuron(threshold=og.constant(1.0))


def chain(shape: tuple[int, ...], *layers: og.Conv2d | og.Linear, flat: bool = False) -> og.OpGraph:
    """Layers with neurons behind each."""
    nodes: dict[str, og.Op] = {"in": og.Input(shape)}
    if flat:
        nodes["flat"] = og.Flatten()
    for number, layer in enumerate(layers):
        nodes |= {f"layer{number}": layer, f"sn{number}": NEURON}
    nodes["out"] = og.Output()
    return og.OpGraph(nodes, tuple(itertools.pairwise(nodes)), "misfit", steps=4)


def conv(c_out: int, c_in: int, kernel: int, stride: int = 1) -> og.Conv2d:
    weight = np.random.default_rng(0).normal(size=(c_out, c_in, kernel, kernel))
    pad = kernel // 2 if stride == 1 else 0
    return og.Conv2d(og.constant(weight), stride=(stride, stride), padding=(pad, pad))


def linear(outer: int, inner: int) -> og.Linear:
    return og.Linear(np.random.default_rng(0).normal(size=(outer, inner)))


def skip(length: int) -> og.OpGraph:
    """A residual connection over so many layers."""
    one = chain((1, 4, 4), *(conv(1, 1, 1) for _ in range(length + 2)))
    nodes = dict(one.nodes) | {"add": og.Add()}
    edges = [edge for edge in one.edges if edge[1] != f"layer{length + 1}"]
    last = (f"sn{length}", "add"), ("sn0", "add"), ("add", f"layer{length + 1}")
    return og.OpGraph(nodes, (*edges, *last), "skip", steps=4)


def summed() -> og.OpGraph:
    return skip(1)


@dataclass(frozen=True)
class Case:
    """options: of ``api.fit``. binds: by the first layer that has a limit, or the refusal's text."""

    model: Callable[[], og.OpGraph]
    binds: str
    remedy: tuple[str, str]
    options: dict[str, object]


SPIKES = {"encoding": Encoding.SPIKES}
SMALL = replace(load_chip("loihi1"), cores=22, boards=())
"""So that the kernel may be small, and the test quick."""
CASES = {
    "too many neurons": Case(
        lambda: chain((2, 80, 80), conv(24, 2, 3)), "neurons", ("chip", "loihi1:kapoho-bay"), SPIKES
    ),
    "too many axons": Case(
        lambda: chain((1, 768, 768), conv(1, 1, 4, 4)), "input axons", ("chip", "loihi1:kapoho-bay"), SPIKES
    ),
    "too much kernel memory": Case(
        lambda: chain((512, 2, 2), conv(256, 512, 3)),
        "bits of synapse memory",
        ("weight-bits", "5"),
        {**SPIKES, "chip": SMALL},
    ),
    "fan-in of one neuron": Case(
        lambda: chain((5000,), linear(10, 5000)),
        "one neuron needs 5,000 input axons, a loihi1 core has 4,096",
        ("chip", "loihi2"),
        SPIKES,
    ),
    "payload on a binary chip": Case(
        summed, "payload", ("joins", "distribute"), {**SPIKES, "joins": "relay"}
    ),
}


def fit(model: og.OpGraph, **options: object) -> Fit:
    return api.fit(model, **{"chip": "loihi1", **options})


def applied(options: dict[str, object], remedy: Remedy) -> dict[str, object]:
    changed = {"weight-bits": "weight_bits", "chip": "chip", "joins": "joins"}[remedy.change]
    value = int(remedy.value) if remedy.change == "weight-bits" else remedy.value
    joins = {"joins": "auto"} if remedy.change == "chip" else {}
    return {**options, **joins, changed: value}


@pytest.mark.parametrize("name", CASES)
def test_the_binding_limit_and_the_first_remedy(name: str) -> None:
    case = CASES[name]
    found = fit(case.model(), **case.options)
    assert not found.fits
    said = [one.binding for one in found.layers] + [str(one) for one in found.problems] + [str(found.refusal)]
    assert any(case.binds in one for one in said), said
    first = found.remedies[0]
    assert (first.change, first.value) == case.remedy
    mended = fit(case.model(), **applied(case.options, first))
    assert mended.fits
    assert mended.cores == first.cores


def test_a_delay_over_62_becomes_relays_and_fits() -> None:
    """The sixth: nmc lengthens it by itself, with one relay more than a skip of 62 steps needs."""
    short, long = (fit(skip(length), **SPIKES) for length in (62, 63))
    assert short.fits
    assert long.fits
    (relay,) = [one for one in long.layers if "delay line" in one.label]
    assert relay.cores == 1
    assert not any("delay line" in one.label for one in short.layers)
