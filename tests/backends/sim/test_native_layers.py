"""The native engine against the reference on random layers: spikes, u, v, output and counts, 0 mismatches."""

from __future__ import annotations

import layers
import pytest
from same import differences

from nmc.backends.base import Trace
from nmc.backends.sim.native import NativeEngine
from nmc.backends.sim.native_abi import ISAS
from nmc.backends.sim.reference import ReferenceEngine
from nmc.errors import NmcError

CASES = 2000
CHUNK = 100
RECORD = ("input", "layer")
VARIANTS = ((2, "auto"), (1, "event"), (1, "dense"), (1, "valued"))


@pytest.fixture(scope="module")
def reference() -> dict[int, tuple[layers.Case, Trace]]:
    """Cases and their reference traces, made once for all instruction sets."""
    return {}


def expected(known: dict[int, tuple[layers.Case, Trace]], seed: int) -> tuple[layers.Case, Trace]:
    if seed not in known:
        case = layers.case(seed)
        known[seed] = case, ReferenceEngine().run(case.network, case.x, case.steps, RECORD)
    return known[seed]


@pytest.mark.parametrize("first", range(0, CASES, CHUNK))
@pytest.mark.parametrize("isa", reversed(ISAS))
def test_random_layers(
    reference: dict[int, tuple[layers.Case, Trace]], monkeypatch: pytest.MonkeyPatch, isa: str, first: int
) -> None:
    monkeypatch.setenv("NMC_NATIVE_ISA", isa)
    try:
        _ = NativeEngine(1).run(*_smallest(), RECORD)
    except NmcError as error:
        pytest.skip(f"this CPU has no {isa}: {error}")
    spiking = 0
    for seed in range(first, first + CHUNK):
        case, truth = expected(reference, seed)
        spiking += truth.counts.spikes["layer"] > 0
        # Every case as users run it, and in turn with two threads and with every path forced.
        for threads, path in ((1, "auto"), VARIANTS[seed % len(VARIANTS)]):
            got = NativeEngine(threads, path).run(case.network, case.x, case.steps, RECORD)
            wrong = differences(truth, got)
            assert not wrong, f"seed {seed}, {threads} threads, {path}: {wrong}"
    assert spiking > CHUNK / 3, "silent layers prove nothing"


def _smallest():
    case = layers.case(0)
    return case.network, case.x, case.steps
