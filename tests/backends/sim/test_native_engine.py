"""What the native engine refuses, and what it leaves behind: nothing."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import gen
import numpy as np
import pytest
from same import differences

from nmc import timing
from nmc.backends import memory
from nmc.backends.engines import engine
from nmc.backends.sim import build_native, native, native_abi
from nmc.backends.sim.native import NativeEngine
from nmc.backends.sim.reference import ReferenceEngine
from nmc.errors import NmcError
from nmc.ir import IntArray, Network

STEPS = 6


def some_network(seed: int = 2) -> tuple[Network, IntArray]:
    network = gen.quantize(timing.balance(gen.float_network(seed, STEPS), 62))
    return network, gen.stimulus(network, 4, STEPS, seed)


# --- the library --------------------------------------------------------------------------------------


def test_a_missing_library_says_how_to_build_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(native_abi, "LIBRARY", tmp_path / "none.so")
    with pytest.raises(NmcError, match="build_native") as caught:
        NativeEngine()
    assert caught.value.code == "NMC-E01"


def test_a_broken_library_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"\x7fELF and no more")
    monkeypatch.setattr(native_abi, "LIBRARY", broken)
    with pytest.raises(NmcError, match="cannot be loaded") as caught:
        NativeEngine()
    assert caught.value.code == "NMC-E01"


def test_a_stale_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_abi, "ABI", native_abi.ABI + 1)
    with pytest.raises(NmcError, match="ABI") as caught:
        NativeEngine()
    assert caught.value.code == "NMC-E01"


def test_an_unknown_instruction_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NMC_NATIVE_ISA", "sse9")
    with pytest.raises(NmcError, match="sse9") as caught:
        NativeEngine()
    assert caught.value.code == "NMC-U03"


def test_auto_does_not_hide_an_unknown_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NMC_NATIVE_ISA", "sse9")
    with pytest.raises(NmcError, match="sse9"):
        engine("auto")


def test_the_instruction_set_can_be_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NMC_NATIVE_ISA", "portable")
    assert NativeEngine().isa == "portable"


def test_the_library_is_small() -> None:
    assert native_abi.LIBRARY.stat().st_size < 1 << 20


# --- building -----------------------------------------------------------------------------------------


def test_building_without_a_compiler_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/no/such/compiler")
    with pytest.raises(build_native.BuildError) as caught:
        build_native.build()
    assert "\n" not in str(caught.value)
    assert "CXX" in str(caught.value)


def test_a_failed_build_keeps_the_old_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build_native, "SOURCES", tmp_path)
    library = tmp_path / "lib.so"
    library.write_text("old")
    (tmp_path / "bad.cpp").write_text("int main( {\n")
    try:
        build_native.compiler()
    except build_native.BuildError as error:
        pytest.skip(str(error))
    with pytest.raises(build_native.BuildError, match="error"):
        build_native.build(library)
    assert library.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.cpp", "lib.so"]


# --- refusals -----------------------------------------------------------------------------------------


def test_payloads_outside_of_the_declared_range_are_refused() -> None:
    network, x = some_network()
    with pytest.raises(NmcError, match="payloads") as caught:
        NativeEngine().run(network, x + 256, STEPS)
    assert caught.value.code == "NMC-D02"
    with pytest.raises(NmcError, match="payloads"):
        NativeEngine().run(network, x - 1, STEPS)


def test_sums_beyond_the_registers_are_refused() -> None:
    network, x = some_network()
    (first, *rest) = network.projections
    weight = first.weight
    heavy = replace(weight, mant=np.full(weight.mant.shape, 1 << 24), bits=26)  # type: ignore[type-var]
    network = network.with_(projections=(replace(first, weight=heavy), *rest))
    with pytest.raises(NmcError, match="can reach") as caught:
        NativeEngine().run(network, x, STEPS)
    assert caught.value.code == "NMC-Q01"
    assert caught.value.who == network[first.target].label


def test_more_memory_than_there_is_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    network, x = some_network()
    monkeypatch.setattr(memory, "SMALL_BYTES", 0)
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    monkeypatch.setattr(native._Run, "_arrays", lambda *_: pytest.fail("allocated before the check"))
    with pytest.raises(NmcError, match="GiB") as caught:
        NativeEngine().run(network, x, STEPS)
    assert caught.value.code == "NMC-W02"


def test_a_trace_larger_than_the_memory_is_refused() -> None:
    network, _ = some_network()
    (source,) = network.inputs
    steps = 1 << 30
    train = np.broadcast_to(np.zeros((), np.int64), (1, steps, *source.shape))
    frame = np.zeros((1, *source.shape), np.int64)
    x = train if source.neuron.encoding.value == "spikes" else frame  # type: ignore[union-attr]
    with pytest.raises(NmcError, match="GiB"):
        NativeEngine().run(network, x, steps, [p.name for p in network.compute])
    with pytest.raises(NmcError, match="2,147,483,647") as caught:
        NativeEngine().run(network, x, 1 << 31)
    assert caught.value.code == "NMC-U02"


# --- what stays ---------------------------------------------------------------------------------------


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_no_thread_outlives_a_run() -> None:
    network, x = some_network()
    before = _threads()
    for threads in (1, 2, 5):
        NativeEngine(threads).run(network, x, STEPS)
        assert _threads() == before


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_an_interrupt_leaves_nothing_and_the_engine_goes_on() -> None:
    network, x = some_network()
    engine = NativeEngine(2)
    truth = engine.run(network, x, STEPS)
    before = _threads()
    killer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    # A shell's background job starts with SIGINT ignored.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)

    def run_on() -> None:
        killer.start()
        while True:
            engine.run(network, x, STEPS)

    try:
        with pytest.raises(KeyboardInterrupt):
            run_on()
    finally:
        signal.signal(signal.SIGINT, handler)
    killer.join()
    assert _threads() == before
    assert not differences(truth, engine.run(network, x, STEPS))


def test_one_engine_can_be_used_from_several_threads() -> None:
    cases = [some_network(seed) for seed in range(6)]
    truth = [ReferenceEngine().run(network, x, STEPS) for network, x in cases]
    engine = NativeEngine(1)
    with ThreadPoolExecutor(3) as pool:
        traces = list(pool.map(lambda case: engine.run(*case, STEPS), cases * 5))
    for number, trace in enumerate(traces):
        assert not differences(truth[number % len(cases)], trace)


def test_inputs_are_not_changed() -> None:
    network, x = some_network()
    x.setflags(write=False)
    copy = x.copy()
    NativeEngine().run(network, x, STEPS)
    assert (x == copy).all()


def test_the_profile_names_everything() -> None:
    network, x = some_network()
    engine = NativeEngine()
    engine.run(network, x, STEPS)
    assert engine.profile["nanoseconds"].keys() == {p.name for p in network.populations}
    assert engine.profile["event_steps"].keys() == {p.name for p in network.projections}
