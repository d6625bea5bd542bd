"""The torch engine against the reference on random networks: everything equal, 0 mismatches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gen
import layers
import pytest
from same import differences

from nmc import timing
from nmc.backends.base import Engine
from nmc.backends.sim.reference import ReferenceEngine

torch = pytest.importorskip("torch", reason="torch is not installed")
# Behind the check, because it imports torch.
from nmc.backends.sim import torch_operators  # noqa: E402

NETWORKS, LOOPS = 200, 40
CHUNK = 50
STEPS = 6
RECORD = ("input", "layer")
VARIANTS = ("float64", "stepwise", "alone")


@pytest.mark.parametrize("first", range(0, NETWORKS, CHUNK))
def test_random_networks(torch_engines: dict[str, Engine], first: int) -> None:
    spikes = 0
    for seed in range(first, first + CHUNK):
        network = gen.quantize(timing.balance(gen.float_network(seed, STEPS), (62, 0, 1)[seed % 3]))
        x = gen.stimulus(network, (1, 3, 8)[seed % 3], STEPS, seed)
        names = tuple(population.name for population in network.populations)
        truth = ReferenceEngine().run(network, x, STEPS, names)
        spikes += sum(truth.counts.spikes[p.name] for p in network.compute)
        other = "two threads" if seed % 40 == 0 else VARIANTS[seed // 3 % 3]
        for name in ("auto", other):
            wrong = differences(truth, torch_engines[name].run(network, x, STEPS, names))
            assert not wrong, f"seed {seed}, {name}: {wrong}"
    assert spikes > 1000, "silent networks prove nothing"


def test_random_loops(torch_engines: dict[str, Engine]) -> None:
    looped = 0
    for seed in range(LOOPS):
        free = gen.with_loops(gen.float_network(seed, STEPS), seed)
        network = gen.quantize(timing.balance(free, (62, 0, 1)[seed % 3]))
        looped += any(len(segment) > 1 for segment in network.segments)
        x = gen.stimulus(network, (1, 3, 8)[seed % 3], STEPS, seed)
        names = tuple(population.name for population in network.populations)
        truth = ReferenceEngine().run(network, x, STEPS, names)
        for variant in ("auto", "alone")[: 1 + (seed % 4 == 0)]:
            wrong = differences(truth, torch_engines[variant].run(network, x, STEPS, names))
            assert not wrong, f"seed {seed}, {variant}: {wrong}"
    assert looped > LOOPS / 4


def test_constant_input_that_arrives_late(torch_engines: dict[str, Engine]) -> None:
    """A frame is sent in every step, but with a lag nothing arrives in the first."""
    for seed in range(40):
        network = gen.quantize(timing.balance(gen.float_network(seed, STEPS), 62))
        late = tuple(
            replace(p, lag=1 + seed % 8) if network[p.source].is_input and not p.on_host else p
            for p in network.projections
        )
        network = network.with_(projections=late)
        x = gen.stimulus(network, 2, STEPS, seed)
        names = tuple(population.name for population in network.populations)
        truth = ReferenceEngine().run(network, x, STEPS, names)
        assert not differences(truth, torch_engines["auto"].run(network, x, STEPS, names)), f"seed {seed}"


# --- the suite has teeth --------------------------------------------------------------------------------


def _floor(state: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    return (state.long() * keep.long() >> 12).to(state.dtype)


def _at_least(advance: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(cell: Any, *arguments: Any) -> Any:
        lower = None if cell.threshold is None else cell.threshold - 1
        return advance(replace(cell, threshold=lower), *arguments)

    return wrong


def _shifted(of: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(windows: Any, maps: torch.Tensor) -> torch.Tensor:
        return of(windows, maps.roll(1, dims=2) if windows.padding[1] else maps)

    return wrong


BREAKS = {
    "decay rounds down": ("decay", _floor),
    "v >= threshold": ("Cell.advance", _at_least(torch_operators.Cell.advance)),
    "padding off by one": ("Windows.of", _shifted(torch_operators.Windows.of)),
}


@pytest.mark.parametrize("what", BREAKS)
def test_a_broken_rule_is_found(
    monkeypatch: pytest.MonkeyPatch, torch_engines: dict[str, Engine], what: str
) -> None:
    monkeypatch.setattr(f"nmc.backends.sim.torch_operators.{BREAKS[what][0]}", BREAKS[what][1])
    found = 0
    for seed in range(60):
        case = layers.case(seed)
        truth = ReferenceEngine().run(case.network, case.x, case.steps, RECORD)
        found += bool(differences(truth, torch_engines["auto"].run(case.network, case.x, case.steps, RECORD)))
    assert found >= 3
