"""Where the kernels' registers end: longest sums of extreme weights, the edges of 24 bits, odd geometries."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from same import differences

from nmc import synapse
from nmc.backends.base import Trace
from nmc.backends.sim.native import NativeEngine
from nmc.backends.sim.native_abi import ISAS, PATHS
from nmc.backends.sim.reference import ReferenceEngine
from nmc.backends.sim.torch_engine import TorchEngine, unavailable
from nmc.errors import NmcError
from nmc.ir import (
    Conv2d,
    Dense,
    Encoding,
    Fixed,
    FixedNeuron,
    Identity,
    InputNeuron,
    IntArray,
    Network,
    Population,
    Projection,
    Reset,
    Stage,
    Synapse,
    frozen,
)

RECORD = ("input", "layer")


def neuron(vth: int | None = 1000, du: int = 4095, dv: int = 0, drop: int | None = None) -> FixedNeuron:
    return FixedNeuron(
        None if vth is None else Fixed(np.array(vth), 6, 17, False),
        Fixed(np.array(du), -12, 12, False),
        Fixed(np.array(dv), -12, 12, False),
        Reset.ZERO if drop is None else Reset.SUBTRACT,
        drop=None if drop is None else frozen(drop, np.int64),
    )


def one_layer(
    shape: tuple[int, ...], op: Synapse, weight: Any, target: FixedNeuron, lowest: int, highest: int
) -> Network:
    weight = Fixed(np.asarray(weight), 0, 12, True)
    source = Population(
        "input",
        shape,
        InputNeuron(Encoding.SPIKES, lowest=lowest, highest=highest),
        max_payload=max(highest, -lowest),
        level=0,
    )
    layer = Population("layer", synapse.output_shape(op, weight.mant.shape, shape, "layer"), target, level=1)
    projection = Projection("p", "input", "layer", op, weight)
    return Network("edge", Stage.QUANTIZED, (source, layer), (projection,), ("layer",), 2)


def check(monkeypatch: pytest.MonkeyPatch, network: Network, x: IntArray) -> Trace:
    """Every instruction set of this CPU, every path and torch give the reference's trace (returned)."""
    steps = x.shape[1]
    truth = ReferenceEngine().run(network, x, steps, RECORD)
    ran = 0
    for isa in ISAS:
        monkeypatch.setenv("NMC_NATIVE_ISA", isa)
        for path in PATHS:
            try:
                got = NativeEngine(1, path).run(network, x, steps, RECORD)
            except NmcError as error:
                if error.code != "NMC-E01":
                    raise
                continue  # this CPU lacks the instruction set
            wrong = differences(truth, got)
            assert not wrong, f"{isa}, {path}: {wrong}"
            ran += 1
    for engine in torch_engines():
        wrong = differences(truth, engine.run(network, x, steps, RECORD))
        assert not wrong, f"{engine.name}: {wrong}"
        ran += 1
    assert ran >= len(PATHS)
    return truth


@functools.cache
def torch_engines() -> tuple[TorchEngine, ...]:
    """By every product of this machine's torch and in float64 alone; none without torch."""
    if unavailable() is not None:
        return ()
    return TorchEngine("cpu"), TorchEngine("cpu", ["float64"])


@pytest.mark.parametrize("payload", [1, 2, 3, 7, 127, 128, 255])
@pytest.mark.parametrize("weight", [-128, 127])
def test_longest_sums_of_extreme_weights(monkeypatch: pytest.MonkeyPatch, payload: int, weight: int) -> None:
    """16-bit partial sums are flushed in time; pairs of products do not saturate."""
    longest = (1 << 24) // (128 * payload) - 1
    for inputs, outputs in ((3, 16), (257, 33), (600, 64), (1040, 130), (2100, 20)):
        inputs = min(inputs, longest)
        network = one_layer((inputs,), Dense(), np.full((outputs, inputs), weight), neuron(), 0, payload)
        check(monkeypatch, network, np.full((1, 2, inputs), payload, np.int64))
    channels = min(130, longest // 9)
    shape, kernel = (channels, 5, 5), np.full((70, channels, 3, 3), weight)
    network = one_layer(shape, Conv2d(padding=(1, 1)), kernel, neuron(), 0, payload)
    check(monkeypatch, network, np.full((1, 2, *shape), payload, np.int64))


@pytest.mark.parametrize("outputs", [64, 128])
def test_averages_that_round_up_every_time(monkeypatch: pytest.MonkeyPatch, outputs: int) -> None:
    """Averages of eight rows (native/event.h sum_split) at their largest error, list after list."""
    worst = [0, 1, 1, 2, 1, 2, 2, 3]
    for inputs in (8, 160, 168, 176, 336, 500):
        row = np.array([worst[i % 8] for i in range(inputs)]) - 128
        weight = np.stack([row + 4 * (o % 63) for o in range(outputs)])
        network = one_layer((inputs,), Dense(), weight, neuron(), 0, 1)
        check(monkeypatch, network, np.ones((1, 1, inputs), np.int64))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 8, 9])
def test_few_channels_with_large_payloads(monkeypatch: pytest.MonkeyPatch, channels: int) -> None:
    """Inputs of one or two quads of channels, rows around the 16 pixels that are counted together."""
    rng = np.random.default_rng(channels)
    for width in (1, 15, 16, 17, 33):
        shape = (channels, 3, width)
        kernel = rng.integers(-128, 128, (20, channels, 3, 3))
        network = one_layer(shape, Conv2d(padding=(1, 1)), kernel, neuron(), 0, 255)
        x = rng.integers(0, 256, (2, 2, *shape)) * (rng.random((2, 2, *shape)) < 0.7)
        check(monkeypatch, network, x)


@pytest.mark.parametrize("du", [4095, 4094, 0])
@pytest.mark.parametrize("sign", [-1, 1])
def test_u_folds_at_the_edge_of_24_bits(monkeypatch: pytest.MonkeyPatch, du: int, sign: int) -> None:
    """u keeps +2**23 and folds -2**23; sums up to three steps past the edge, both signs."""
    sums = np.arange((1 << 17) - 3, (1 << 17) + 4)
    network = one_layer((len(sums),), Identity(), sign, neuron(None, du=du), 0, 1 << 18)
    x = np.stack([sums, sums[::-1], np.zeros_like(sums)])[None].astype(np.int64)
    truth = check(monkeypatch, network, x)
    assert int(truth.u["layer"][0, 0].max()) == 1 << 23
    assert int(truth.u["layer"][0, 0].min()) < -(1 << 22), "nothing folded"


@pytest.mark.parametrize("dv", [0, 1, 2048, 4095])
@pytest.mark.parametrize("drop", [None, 64 * 131000])
def test_v_clips_at_the_edge_of_24_bits(monkeypatch: pytest.MonkeyPatch, dv: int, drop: int | None) -> None:
    sums = np.array([131070, 131071, 131072, 100000, -131071, -131072, -100000])
    network = one_layer((len(sums),), Identity(), 1, neuron(131071, dv=dv, drop=drop), -(1 << 17), 1 << 17)
    x = np.broadcast_to(sums, (1, 5, len(sums))).astype(np.int64)
    truth = check(monkeypatch, network, x)
    assert int(truth.v["layer"].min()) == -(1 << 23) + 1


@pytest.mark.parametrize("value", [-1, -4095, -4096, -4097, 1, 4095, 4097, 8388607, -8388607])
def test_decay_truncates_towards_zero(monkeypatch: pytest.MonkeyPatch, value: int) -> None:
    losses = [0, 1, 7, 2048, 4094, 4095]
    for loss in losses:
        target = FixedNeuron(
            None,
            Fixed(np.array(4095), -12, 12, False),
            Fixed(np.array(loss), -12, 12, False),
            v0=frozen(value, np.int64),
        )
        network = one_layer((20,), Identity(), 1, target, 0, 1)
        check(monkeypatch, network, np.zeros((1, 3, 20), np.int64))


@pytest.mark.parametrize("path", PATHS)
def test_a_kernel_may_see_only_padding(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """Outputs whose whole window lies outside of the source have no current."""
    rng = np.random.default_rng(0)
    op = Conv2d((1, 1), (4, 4), (3, 3))
    network = one_layer((3, 2, 1), op, rng.integers(-128, 128, (18, 3, 2, 2)), neuron(5), 0, 3)
    check(monkeypatch, network, rng.integers(0, 4, (3, 4, 3, 2, 1)))


def test_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one event every list is empty."""
    network = one_layer((17, 6, 5), Conv2d(padding=(1, 1)), np.full((20, 17, 3, 3), 9), neuron(5), 0, 1)
    truth = check(monkeypatch, network, np.zeros((2, 3, 17, 6, 5), np.int64))
    assert sum(truth.counts.synops.values()) == 0
