"""Loops on cores: populations that feed themselves are cut, checked and analysed like all others."""

from __future__ import annotations

from dataclasses import replace

import gen
import numpy as np
import pytest

from nmc import timing
from nmc.chip import Chip, load_chip
from nmc.errors import NmcError
from nmc.ir import Dense, Encoding, FloatNeuron, InputNeuron, Network, Stage, frozen
from nmc.partition.check import check_mapping
from nmc.partition.fit import analyse
from nmc.partition.tile import partition
from nmc.rules import verify

LOIHI1 = load_chip("loihi1")
SMALL = replace(LOIHI1, neurons_per_core=8)
GRADED = replace(load_chip("loihi2"), neurons_per_core=12)


def recurrent(size: int) -> Network:
    """All to all, behind a small input and in front of an output."""
    build = gen.Builder(1)
    source = build.population((4,), InputNeuron(Encoding.SPIKES))
    cell = build.population((size,), FloatNeuron(frozen(20.0, np.float64)))
    out = build.population((3,), FloatNeuron(frozen(20.0, np.float64)))
    for a, b in ((source, cell), (cell, cell), (cell, out)):
        build.project(a, b, Dense(), build.weights(b.size, a.size))
    build.projections[1] = replace(build.projections[1], lag=1)
    free = Network("rnn", Stage.FLOAT, tuple(build.populations), tuple(build.projections), (out.name,), 6)
    return gen.quantize(timing.balance(free, 62))


def test_random_loops_keep_every_limit() -> None:
    cut = 0
    for seed in range(12):
        free = gen.with_loops(gen.float_network(seed, 6), seed)
        mapped = partition(gen.quantize(timing.balance(free, 62)), GRADED, "cores")
        verify(mapped, Stage.MAPPED)
        check_mapping(mapped, GRADED)
        assert mapped.mapping is not None
        cut += any(len(mapped.mapping.of(p.source)) > 1 for p in mapped.projections if p.lag)
    assert cut >= 3


def test_a_neuron_sends_to_every_core_of_its_own_population() -> None:
    """512 neurons, 8 to a core: each sends to 64 cores of its own and one of the output's."""
    network = recurrent(512)
    tight = replace(SMALL, output_axons=8 * 65)
    assert {one.output_axons.used for one in _uses(partition(network, tight, "cores"), tight)} == {8 * 65}
    # Fewer axons take smaller tiles, and those more axons: with fewer than 513 there is no end to it.
    with pytest.raises(NmcError, match="one neuron needs 513 output axons"):
        partition(network, replace(SMALL, output_axons=8 * 64), "cores")


def _uses(mapped: Network, chip: Chip) -> list:
    return [one for one in check_mapping(mapped, chip) if one.neurons.used == 8]


def test_what_cannot_be_cut_is_refused_by_name() -> None:
    """One neuron per core still sends to all 40 cores of its own population."""
    with pytest.raises(NmcError, match=r"layer\.p1.*output axons") as caught:
        partition(recurrent(40), replace(LOIHI1, neurons_per_core=1, output_axons=30), "cores")
    assert caught.value.code == "NMC-P04"


def test_fit_analyses_loops() -> None:
    result = analyse(recurrent(512), SMALL)
    mapping = partition(recurrent(512), SMALL, "cores").mapping
    assert mapping is not None
    assert (result.fits, result.cores) == (True, mapping.cores_used)
    assert not analyse(recurrent(40), replace(LOIHI1, neurons_per_core=1, output_axons=30)).fits
