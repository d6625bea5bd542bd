"""Native and torch engines against the reference on random layers: everything equal, 0 mismatches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import layers
import pytest
from same import differences

from nmc.backends.base import Engine, Trace
from nmc.backends.sim.native import NativeEngine
from nmc.backends.sim.native_abi import ISAS
from nmc.backends.sim.reference import ReferenceEngine
from nmc.errors import NmcError
from nmc.ir import Conv2d, FixedNeuron, Reset

CASES = 2000
CHUNK = 100
RECORD = ("input", "layer")
PATHS = ((2, "auto"), (1, "event"), (1, "dense"), (1, "valued"))
Known = dict[int, tuple[layers.Case, Trace]]


@pytest.fixture(scope="module")
def reference() -> Known:
    """Cases and their reference traces, made once for all engines."""
    return {}


def expected(known: Known, seed: int) -> tuple[layers.Case, Trace]:
    if seed not in known:
        case = layers.case(seed)
        known[seed] = case, ReferenceEngine().run(case.network, case.x, case.steps, RECORD)
    return known[seed]


def check(known: Known, first: int, engines_of: Callable[[int], dict[str, Engine]]) -> None:
    """A chunk of cases; ``engines_of`` says which engines run a case."""
    spiking = 0
    for seed in range(first, first + CHUNK):
        case, truth = expected(known, seed)
        spiking += truth.counts.spikes["layer"] > 0
        for name, engine in engines_of(seed).items():
            wrong = differences(truth, engine.run(case.network, case.x, case.steps, RECORD))
            assert not wrong, f"seed {seed}, {name}: {wrong}"
    assert spiking > CHUNK / 3, "silent layers prove nothing"


@pytest.mark.parametrize("first", range(0, CASES, CHUNK))
@pytest.mark.parametrize("isa", reversed(ISAS))
def test_native(reference: Known, monkeypatch: pytest.MonkeyPatch, isa: str, first: int) -> None:
    """Every case as users run it, and in turn with two threads and with every path forced."""
    monkeypatch.setenv("NMC_NATIVE_ISA", isa)
    try:
        case = layers.case(0)
        NativeEngine(1).run(case.network, case.x, case.steps)
    except NmcError as error:
        pytest.skip(f"this CPU has no {isa}: {error}")

    def engines(seed: int) -> dict[str, Engine]:
        threads, path = PATHS[seed % len(PATHS)]
        return {"1 auto": NativeEngine(1), f"{threads} {path}": NativeEngine(threads, path)}

    check(reference, first, engines)


@pytest.mark.parametrize("first", range(0, CASES, CHUNK))
def test_torch(reference: Known, torch_engines: dict[str, Engine], first: int) -> None:
    """Every case as users run it, and every second in turn in float64, sample by sample, step by step; a few
    with two threads, which are slow to meet."""

    def engines(seed: int) -> dict[str, Engine]:
        other = "two threads" if seed % 40 == 0 else ("float64", "alone", "stepwise")[seed % 3]
        return {name: torch_engines[name] for name in ("auto", other)[: 2 - seed % 2]}

    check(reference, first, engines)


def test_the_cases_cover_what_engines_may_treat_specially() -> None:
    seen: Counter[str] = Counter()
    for seed in range(0, CASES, 4):
        case = layers.case(seed)
        source, target = case.network.populations
        neuron = target.neuron
        seen[f"batch {len(case.x)}"] += 1
        seen[f"steps {case.steps}"] += 1
        seen[f"payload {source.max_payload}"] += 1
        seen["over 512 channels"] += source.shape[0] > 512 or target.shape[0] > 512
        seen["one channel"] += source.shape[0] == 1
        if isinstance(neuron, FixedNeuron):
            seen[f"reset {neuron.reset.value}"] += 1
            seen["u decays"] += int(neuron.du.mant) < 4095
            seen["v decays"] += 0 < int(neuron.dv.mant) < 4095
            seen["threshold per neuron"] += neuron.vth is not None and neuron.vth.mant.size > 1
        for projection in case.network.projections:
            weight, op = projection.integer_weight, projection.synapse
            seen["weights at both ends"] += weight.min(initial=0) < -100 and weight.max(initial=0) > 100
            seen[type(op).__name__] += 1
            if isinstance(op, Conv2d):
                seen[f"kernel {weight.shape[2]}"] += 1
                seen["stride"] += op.stride != (1, 1)
                seen["dilation"] += op.dilation != (1, 1)
                seen["groups"] += op.groups > 1
    wanted = (
        *(f"batch {n}" for n in (1, 2, 3, 8)),
        *(f"steps {t}" for t in (1, 4, 32)),
        *(f"payload {g}" for g in (1, 3, 7, 255)),
        *(f"kernel {k}" for k in (1, 3, 5, 7)),
        *(f"reset {r.value}" for r in Reset),
        *("stride", "dilation", "groups", "Dense", "SumPool2d", "Identity", "over 512 channels"),
        *("one channel", "u decays", "v decays", "threshold per neuron", "weights at both ends"),
    )
    assert not [what for what in wanted if seen[what] < 5], seen
