"""A run that cannot be held is refused before it allocates, by every engine and in the same words."""

from __future__ import annotations

from pathlib import Path

import gen
import numpy as np
import pytest

from nmc import timing
from nmc.backends import memory
from nmc.backends.engines import NAMES, engine
from nmc.errors import NmcError
from nmc.ir import Encoding, IntArray, Network

STEPS = 1 << 30


def endless(seed: int) -> tuple[Network, IntArray]:
    """A network that a billion steps are asked of."""
    network = gen.quantize(timing.balance(gen.float_network(seed, 6), 62))
    (source,) = network.inputs
    frames = source.neuron.encoding is not Encoding.SPIKES  # type: ignore[union-attr]
    shape = source.shape if frames else (STEPS, *source.shape)
    return network, np.broadcast_to(np.zeros((), np.int64), (1, *shape))


@pytest.mark.parametrize("seed", [0, 2])
@pytest.mark.parametrize("name", NAMES)
def test_every_engine_refuses(name: str, seed: int) -> None:
    try:
        chosen = engine(name)
    except NmcError as error:
        pytest.skip(str(error))
    network, x = endless(seed)
    record = [population.name for population in network.compute]
    with pytest.raises(NmcError) as caught:
        chosen.run(network, x, STEPS, record)
    if caught.value.code == "NMC-E01":
        pytest.skip(str(caught.value))
    assert caught.value.code == "NMC-W02"
    assert caught.value.who == network.name
    assert caught.value.measured > caught.value.allowed  # type: ignore[operator]
    assert "GiB are free" in caught.value.problem


def test_small_runs_are_not_questioned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 0)
    network, _ = endless(0)
    memory.refuse_beyond_free(network, memory.SMALL_BYTES - 1)
    with pytest.raises(NmcError):
        memory.refuse_beyond_free(network, memory.SMALL_BYTES)


def test_an_unknown_amount_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: None)
    memory.refuse_beyond_free(endless(0)[0], 1 << 60)


@pytest.mark.parametrize(
    ("limit", "expected"), [("max", None), ("1000", 1000 - 700 + 200), ("600", 100), (None, None)]
)
def test_the_control_group_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: str | None, expected: int | None
) -> None:
    """A container has less than its machine; what only caches files can be had."""
    if limit is not None:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / "memory.current").write_text("700\n")
        (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 200\n")
    monkeypatch.setattr(memory, "GROUP", str(tmp_path))
    monkeypatch.setattr(memory, "_machine_bytes", lambda: None)
    assert memory.available_bytes() == expected
