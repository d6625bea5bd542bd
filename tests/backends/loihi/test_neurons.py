"""``nmc.neuron`` equals Lava's own neuron models, run in process: every spike, u and v of every step."""

from __future__ import annotations

import numpy as np
import pytest
from lava.proc.graded.process import GradedVec
from lava.proc.lif.process import LIF

from nmc import neuron as spec
from nmc.backends.loihi import build
from nmc.backends.loihi.models import Wire, model_of, step
from nmc.backends.loihi.program import Neurons
from nmc.ir import Fixed, FixedNeuron, IntArray, Reset, frozen

NEURONS, POPULATIONS, STEPS = 500, 24, 20
INTERVAL, LEVEL = 7, 3
EDGE = spec.V_LIMIT
EXTREMES = np.array([EDGE, -EDGE, EDGE - 1, 1 - EDGE, EDGE + 1, 4095, -4095, 64, -64, 1, -1, 0])


class Case:
    """One random population: parameters at and between the edges of their fields, states up to 24 bits."""

    def __init__(self, seed: int, reset: Reset = Reset.ZERO, start: bool = False) -> None:
        rng = np.random.default_rng(seed)
        self.neuron = FixedNeuron(
            Fixed(self._field(rng, [0, 1, 5, 1000, 131070, 131071], 131072), 6, 17, signed=False),
            Fixed(np.array(rng.choice([0, 1, 99, 2048, 4094, 4095])), -12, 12, signed=False),
            Fixed(np.array(rng.choice([0, 1, 128, 2048, 4094, 4095])), -12, 12, signed=False),
            reset,
            v0=frozen(rng.choice(EXTREMES, NEURONS) if start else 0, np.int64),
            drop=frozen(rng.integers(0, 131072, NEURONS) << 6, np.int64) if reset is Reset.SUBTRACT else None,
        )
        self.bias = Fixed(
            self._field(rng, [-4096, 4095, -1, 0, 1], 4096, -4096), int(rng.integers(8)), 13, True
        )
        self.u = self._states(rng)
        self.v = np.clip(self._states(rng), -EDGE, EDGE)
        # 2**18 is the most that one fold brings back into 24 bits; mostly values that also spike and decay.
        reach = rng.choice([20, 3000, 1 << 17, 1 << 18], (STEPS, NEURONS), p=[0.3, 0.4, 0.2, 0.1])
        self.current = np.rint(rng.uniform(-1, 1, (STEPS, NEURONS)) * reach).astype(np.int64)

    @staticmethod
    def _field(rng: np.random.Generator, edges: list[int], high: int, low: int = 0) -> IntArray:
        return np.where(
            rng.random(NEURONS) < 0.4, rng.choice(edges, NEURONS), rng.integers(low, high, NEURONS)
        )

    @staticmethod
    def _states(rng: np.random.Generator) -> IntArray:
        anywhere = rng.integers(-EDGE, EDGE + 1, NEURONS)
        return np.where(rng.random(NEURONS) < 0.5, rng.choice(EXTREMES, NEURONS), anywhere)

    def spec_of(self, process: str) -> Neurons:
        drop = frozen(0, np.int64) if self.neuron.drop is None else self.neuron.drop
        fields = (self.neuron.du.mant, self.neuron.dv.mant, self.neuron.vth.mant, self.neuron.v0, drop)
        return Neurons("case", process, (NEURONS,), LEVEL, *fields, self.bias.mant, self.bias.exp)

    def lif(self) -> LIF:
        return LIF(
            shape=(NEURONS,),
            du=int(self.neuron.du.mant),
            dv=int(self.neuron.dv.mant),
            vth=self.neuron.vth.mant.astype(np.int32),
            bias_mant=self.bias.mant,
            bias_exp=self.bias.exp,
        )

    def mismatches(self, process: object, reset: bool) -> tuple[int, int]:
        """Unequal entries of spikes, u and v over all steps; and the spikes."""
        current, out = Wire("a_in"), Wire("s_out")
        model = model_of(process, {"a_in": [current], "s_out": [out]})
        model.u[:], model.v[:] = self.u, self.v
        u, v, bias = self.u, self.v, spec.bias_value(self.bias)
        wrong = fired = 0
        for t in range(1, STEPS + 1):
            if reset and (t - LEVEL - 1) % INTERVAL == 0:
                u, v = np.zeros_like(u), np.broadcast_to(self.neuron.v0, v.shape)
            spikes, u, v = spec.step(self.neuron, u, v, self.current[t - 1], bias)
            current.send(self.current[t - 1])
            step(model)
            wrong += int((out.message != spikes).sum() + (model.u != u).sum() + (model.v != v).sum())
            fired += int(spikes.sum())
        return wrong, fired


@pytest.mark.parametrize(
    ("process", "reset", "start"),
    [
        pytest.param("LIF", Reset.ZERO, False, id="LIF"),
        pytest.param("LIFReset", Reset.ZERO, False, id="LIFReset"),
        pytest.param("HardLIF", Reset.ZERO, True, id="HardLIF"),
        pytest.param("SoftLIF", Reset.SUBTRACT, True, id="SoftLIF"),
    ],
)
def test_neurons_equal_lava(process: str, reset: Reset, start: bool) -> None:
    """12,000 neurons x 20 steps each."""
    wrong = fired = 0
    for seed in range(POPULATIONS):
        case = Case(seed, reset, start)
        lava = case.lif() if process == "LIF" else build.neuron_process(case.spec_of(process), INTERVAL)
        assert type(lava).__name__ == process
        unequal, spikes = case.mismatches(lava, reset=process != "LIF")
        wrong, fired = wrong + unequal, fired + spikes
    assert wrong == 0
    assert 0.02 < fired / (NEURONS * POPULATIONS * STEPS) < 0.98, "silent or saturated cases prove nothing"


def test_a_population_without_threshold_never_fires() -> None:
    """Even where v saturates, which is above the chip's largest threshold."""
    from nmc.backends.loihi import quirks

    zero = frozen(0, np.int64)
    du = frozen(4095, np.int64)
    cell = Neurons("r", "LIFReset", (2,), 0, du, zero, frozen(quirks.NEVER, np.int64), zero, zero, zero)
    current, out = Wire("a_in"), Wire("s_out")
    model = model_of(build.neuron_process(cell, 100), {"a_in": [current], "s_out": [out]})
    for _ in range(4):
        current.send(np.array([100_000, -100_000]))
        step(model)
        assert not out.message.any()
    assert model.v.tolist() == [EDGE, -EDGE]


def test_graded_relay_sends_every_sum() -> None:
    values = np.concatenate([EXTREMES, np.random.default_rng(0).integers(-EDGE, EDGE + 1, 10_000)])
    zero = frozen(0, np.int64)
    cell = Neurons("g", "GradedVec", values.shape, 1, zero, zero, zero, zero, zero, zero)
    process = build.neuron_process(cell, INTERVAL)
    assert isinstance(process, GradedVec)
    current, out = Wire("a_in"), Wire("s_out")
    model = model_of(process, {"a_in": [current], "s_out": [out]})
    for sign in (1, -1):
        current.send(sign * values)
        step(model)
        assert np.array_equal(out.message, sign * values)
