"""Neurons without memory behind a pool, computed as bytes when nobody records them."""

from __future__ import annotations

import numpy as np
import pytest
from same import differences

from nmc import synapse
from nmc.backends.sim.native import NativeEngine
from nmc.backends.sim.native_abi import ISAS
from nmc.backends.sim.reference import ReferenceEngine
from nmc.errors import NmcError
from nmc.ir import (
    Conv2d,
    Encoding,
    Fixed,
    FixedNeuron,
    InputNeuron,
    IntArray,
    Network,
    Population,
    Projection,
    Reset,
    Stage,
    SumPool2d,
    frozen,
)

CASES = 100


def case(seed: int) -> tuple[Network, IntArray]:
    """An input, a pool of neurons that keep little or nothing, and a convolution that reads them."""
    rng = np.random.default_rng(seed)
    channels = int(rng.choice([1, 3, 16, 17, 48, 64, 70, 130]))
    highest = int(rng.choice([1, 1, 1, 2, 5, 29]))
    kernel = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    pad = (int(rng.integers(0, kernel[0])), int(rng.integers(0, kernel[1])))
    pool = SumPool2d(kernel, (int(rng.integers(1, 3)), int(rng.integers(1, 3))), pad)
    shape = (channels, int(rng.integers(3, 8)), int(rng.integers(3, 20)))
    per_channel = rng.random() < 0.5
    weight = rng.integers(-3 if rng.random() < 0.4 else 1, 4, (channels, 1, 1) if per_channel else ())
    drop = frozen(64 * 3, np.int64) if rng.random() < 0.3 else None
    source = Population(
        "input", shape, InputNeuron(Encoding.SPIKES, highest=highest), max_payload=highest, level=0
    )
    size = synapse.output_shape(pool, weight.shape, shape, "pool")
    bias_shape = ((), (channels, 1, 1), size)[rng.integers(3)]
    gate = Population(
        "pool",
        size,
        FixedNeuron(
            Fixed(rng.integers(0, 9, (channels, 1, 1)), 6, 17, False),
            Fixed(np.array(rng.choice([4095] * 7 + [2000])), -12, 12, False),
            Fixed(np.array(rng.choice([4095] * 6 + [4094, 0])), -12, 12, False),
            Reset.ZERO if drop is None else Reset.SUBTRACT,
            v0=frozen(rng.choice([0, 0, 0, 0, 3000, 5000]), np.int64),
            drop=drop,
        ),
        Fixed(rng.integers(-3, 4, bias_shape), 6, 24, True),
        level=1,
    )
    kernels = rng.integers(-128, 128, (5, channels, 2, 2))
    conv = Conv2d(padding=(1, 1))
    reader = Population(
        "reader",
        synapse.output_shape(conv, kernels.shape, size, "reader"),
        FixedNeuron(
            Fixed(np.array(90), 6, 17, False),
            Fixed(np.array(4095), -12, 12, False),
            Fixed(np.array(0), -12, 12, False),
        ),
        level=2,
    )
    network = Network(
        "gates",
        Stage.QUANTIZED,
        (source, gate, reader),
        (
            Projection("a", "input", "pool", pool, Fixed(weight, 0, 8, True)),
            Projection("b", "pool", "reader", conv, Fixed(kernels, 0, 8, True)),
        ),
        ("reader",),
        2,
    )
    steps = int(rng.choice([1, 2, 5, 33, 70]))  # 32 steps are computed at once
    rate = rng.choice([0.1, 0.5])
    x = (rng.random((2, steps, *shape)) < rate) * rng.integers(1, highest + 1, (2, steps, *shape))
    return network, x


@pytest.mark.parametrize("isa", ISAS)
def test_pools_that_nobody_records(monkeypatch: pytest.MonkeyPatch, isa: str) -> None:
    monkeypatch.setenv("NMC_NATIVE_ISA", isa)
    spikes = 0
    for seed in range(CASES):
        network, x = case(seed)
        truth = ReferenceEngine().run(network, x, x.shape[1], ("reader",))
        try:
            engine = NativeEngine(1 + seed % 2)
        except NmcError as error:
            pytest.skip(f"this CPU has no {isa}: {error}")
        wrong = differences(truth, engine.run(network, x, x.shape[1], ("reader",)))
        assert not wrong, f"seed {seed}: {wrong}"
        spikes += truth.counts.spikes["pool"]
    assert spikes > CASES, "silent pools prove nothing"
