"""The torch engine: what it refuses, which routes it takes, and that torch's settings stay as they were."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gen
import numpy as np
import pytest
from same import differences

from nmc import timing
from nmc.backends import memory
from nmc.backends.engines import engine
from nmc.backends.sim import torch_engine
from nmc.backends.sim.reference import ReferenceEngine
from nmc.backends.sim.torch_engine import TorchEngine
from nmc.errors import NmcError
from nmc.ir import Encoding, Fixed, IntArray, Network

torch = pytest.importorskip("torch", reason="torch is not installed")
# Behind the check, because it imports torch.
from nmc.backends.sim import torch_routes, torch_run  # noqa: E402

STEPS = 6
CPU = torch.device("cpu")


def some_network(seed: int = 2) -> tuple[Network, IntArray]:
    network = gen.quantize(timing.balance(gen.float_network(seed, STEPS), 62))
    return network, gen.stimulus(network, 4, STEPS, seed)


@pytest.fixture
def precision() -> Iterator[None]:
    """Puts torch's precision back."""
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


# --- the engine and its devices -------------------------------------------------------------------------


def test_the_engine_has_its_name_and_device() -> None:
    assert engine("torch:cpu").name == "torch:cpu"
    assert engine("torch").name == ("torch:cuda" if torch.cuda.is_available() else "torch:cpu")


@pytest.mark.parametrize("name", ["torch:cuda:99", "torch:meta", "torch:none", "torch:xpu"])
def test_a_missing_device_is_refused(name: str) -> None:
    with pytest.raises(NmcError, match="torch:cpu") as caught:
        engine(name)
    assert caught.value.code == "NMC-E01"
    assert caught.value.who == name


def test_without_torch_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_engine.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NmcError, match=r"NMC-E01 torch: .*pip install .torch") as caught:
        engine("torch")
    assert caught.value.code == "NMC-E01"


# --- routes -------------------------------------------------------------------------------------------


def test_a_route_that_fails_its_test_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product that is off by one in one entry, now and then."""
    calls = itertools.count()

    def almost(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        product = torch.bmm(left, right)
        product[0, -1, -1] += next(calls) % 3 == 2
        return product

    wrong = replace(torch_routes.FLOAT32, multiply=almost)
    monkeypatch.setattr(torch_routes, "ROUTES", (wrong, torch_routes.FLOAT64))
    chosen = TorchEngine("cpu")
    assert "sums are wrong" in chosen.problems["float32"]
    network, x = some_network()
    assert not differences(ReferenceEngine().run(network, x, STEPS), chosen.run(network, x, STEPS))
    with pytest.raises(NmcError, match="no exact product") as caught:
        TorchEngine("cpu", ["float32"])
    assert caught.value.code == "NMC-E01"


@pytest.mark.parametrize("bits", [8, 11])
def test_the_start_up_test_finds_reduced_precision(bits: int) -> None:
    """bfloat16 has 8 bits, TF32 has 11; both accumulate in float32."""

    def rounded(x: torch.Tensor) -> torch.Tensor:
        mantissa, exponent = torch.frexp(x)
        return torch.ldexp(torch.round(mantissa * 2**bits), exponent - bits)

    reduced = replace(torch_routes.FLOAT32, multiply=lambda a, b: torch.bmm(rounded(a), rounded(b)))
    assert "wrong" in torch_routes.self_test(reduced, CPU)


def test_the_start_up_test_finds_saturating_pairs() -> None:
    """What CPUs without VNNI do: bytes offset by 128, pairs of products added in 16 bits."""

    def saturating(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        a, b = left[0].int() + 128, right[0].int()
        pairs = a[:, 0::2, None] * b[None, 0::2] + a[:, 1::2, None] * b[None, 1::2]
        offset = 128 * b.sum(dim=0, dtype=torch.int32)
        return (pairs.clamp(-(1 << 15), (1 << 15) - 1).sum(dim=1) - offset)[None]

    assert "wrong" in torch_routes.self_test(replace(torch_routes.INT8, multiply=saturating), CPU)


def test_an_unknown_route_is_refused() -> None:
    with pytest.raises(NmcError, match="float64") as caught:
        TorchEngine("cpu", ["winograd"])
    assert caught.value.code == "NMC-U03"


def test_sums_beyond_every_route_are_refused() -> None:
    network, x = some_network()
    (first, *rest) = network.projections
    assert isinstance(first.weight, Fixed)
    heavy = replace(first.weight, mant=np.full(first.weight.mant.shape, (1 << 24) + 1), bits=26)
    network = network.with_(projections=(replace(first, weight=heavy), *rest))
    with pytest.raises(NmcError, match="none of the torch routes") as caught:
        TorchEngine("cpu", ["float32"]).run(network, x, STEPS)
    assert caught.value.code == "NMC-E01"
    truth = ReferenceEngine().run(network, x, STEPS, [p.name for p in network.compute])
    assert not differences(
        truth, TorchEngine("cpu").run(network, x, STEPS, [p.name for p in network.compute])
    )
    endless = replace(first.weight, mant=np.full(first.weight.mant.shape, (1 << 40) + 1), bits=42)
    network = network.with_(projections=(replace(first, weight=endless), *rest))
    with pytest.raises(NmcError, match="can reach") as caught:
        TorchEngine("cpu").run(network, x, STEPS)
    assert caught.value.code == "NMC-Q01"


# --- torch's settings ---------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", ["high", "medium"])
def test_float32_is_not_used_where_torch_may_shorten_it(precision: None, setting: str) -> None:
    chosen = TorchEngine("cpu", ["float32", "float64"])
    network, x = some_network()
    chosen.run(network, x, STEPS)
    assert _routes(chosen) == {"float32"}
    torch.set_float32_matmul_precision(setting)
    truth = ReferenceEngine().run(network, x, STEPS)
    assert not differences(truth, chosen.run(network, x, STEPS))
    assert _routes(chosen) == {"float64"}
    assert torch.get_float32_matmul_precision() == setting


def _routes(chosen: TorchEngine) -> set[str]:
    assert chosen._plan is not None
    arrivals = [arrival for layer in chosen._plan[2].values() for arrival in layer.arrivals]
    return {arrival.operator.route.name for arrival in arrivals if hasattr(arrival.operator, "route")}


def test_settings_are_left_alone_and_do_not_matter() -> None:
    network, x = some_network()
    truth = ReferenceEngine().run(network, x, STEPS)
    chosen = TorchEngine("cpu")
    threads, default = torch.get_num_threads(), torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(2)
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.enable_grad():
            assert not differences(truth, chosen.run(network, x, STEPS))
            assert torch.is_autocast_cpu_enabled()
            assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
        assert torch.get_num_threads() == 2
        assert torch.get_default_dtype() is torch.float64
    finally:
        torch.set_default_dtype(default)
        torch.set_num_threads(threads)


def test_importing_the_engine_does_not_import_torch() -> None:
    source = Path(torch_engine.__file__).read_text(encoding="utf-8")
    assert not [line for line in source.splitlines() if line.startswith(("import torch", "from torch"))]


# --- memory -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 100_000])
def test_small_groups_and_blocks_give_the_same(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(torch_run, "BLOCK_BYTES", block)
    engines = [TorchEngine("cpu", budget=budget) for budget in (1, 30_000)]
    for seed in range(12):
        network, x = some_network(seed)
        names = [p.name for p in network.populations]
        truth = ReferenceEngine().run(network, x, STEPS, names)
        for chosen in engines:
            wrong = differences(truth, chosen.run(network, x, STEPS, names))
            assert not wrong, f"seed {seed}: {wrong}"


def test_payloads_outside_of_the_declared_range_are_refused() -> None:
    network, x = some_network()
    for wrong in (x + 256, x - 1):
        with pytest.raises(NmcError, match="payloads") as caught:
            TorchEngine("cpu").run(network, wrong, STEPS)
        assert caught.value.code == "NMC-D02"


def test_more_memory_than_there_is_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    network, x = some_network()
    monkeypatch.setattr(memory, "SMALL_BYTES", 0)
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    monkeypatch.setattr(torch_run, "Run", lambda *_: pytest.fail("allocated before the check"))
    with pytest.raises(NmcError, match="GiB") as caught:
        TorchEngine("cpu").run(network, x, STEPS)
    assert caught.value.code == "NMC-W02"


def test_a_run_without_end_is_refused() -> None:
    network, x = some_network()
    (source,) = network.inputs
    steps = 1 << 40
    if source.neuron.encoding is Encoding.SPIKES:  # type: ignore[union-attr]
        x = np.broadcast_to(np.zeros((), np.int64), (1, steps, *source.shape))
    with pytest.raises(NmcError, match="GiB") as caught:
        TorchEngine("cpu").run(network, x, steps)
    assert caught.value.code == "NMC-W02"
