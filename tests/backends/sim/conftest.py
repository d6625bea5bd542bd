"""Engines of one kind in several ways to run them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from nmc.backends.base import Engine, Trace
from nmc.backends.sim.torch_engine import TorchEngine
from nmc.ir import IntArray, Network


@dataclass
class _Within:
    """An engine that runs inside of a context."""

    engine: Engine
    context: Any
    name: str = "within"

    def run(self, network: Network, x: IntArray, steps: int, record: Collection[str] = ()) -> Trace:
        with self.context():
            return self.engine.run(network, x, steps, record)


@contextmanager
def _two_threads() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _one_step_at_a_time() -> Iterator[None]:
    from nmc.backends.sim import torch_run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_run, "BLOCK_BYTES", 1)
        yield


@pytest.fixture(scope="session")
def torch_engines() -> dict[str, Engine]:
    """The torch engine on the CPU: as users run it, all in float64, every sample alone, every step alone,
    on two threads."""
    pytest.importorskip("torch", reason="torch is not installed")
    auto = TorchEngine("cpu")
    return {
        "auto": auto,
        "float64": TorchEngine("cpu", ["float64"]),
        "alone": TorchEngine("cpu", budget=1),
        "stepwise": _Within(auto, _one_step_at_a_time),
        "two threads": _Within(auto, _two_threads),
    }
