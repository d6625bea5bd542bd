"""Any partition gives the same spikes, and where a core lies changes hops only.

The full number is ``python tests/support/partitions.py``: 100 networks, two tilings each.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import partitions
import pytest

from nmc.backends.sim.native import NativeEngine
from nmc.chip import load_chip
from nmc.partition.graph import core_graph
from nmc.partition.place import move
from nmc.partition.route import route


@pytest.mark.parametrize("seed", range(200, 204))
def test_reference_native_and_tiles_agree(seed: int) -> None:
    mappings, _ = partitions.case(seed)
    assert all(len(one.mapping.tiles) > len(one.compute) for one in mappings)
    for found in partitions.results(seed):
        assert found.passed, found.first
        assert found.compared > 0


def test_permuted_cores_change_hops_only() -> None:
    chip = replace(load_chip("loihi2"), name="none")
    changed = 0
    for seed in range(6):
        (mapped, _), x = partitions.case(seed)
        graph = core_graph(mapped)
        to = np.random.default_rng(seed).permutation(chip.cores)[: len(graph.cores)]
        permuted = move(mapped, graph.cores, to)
        traces = [
            NativeEngine().run(one, x, partitions.STEPS, [p.name for p in one.compute])
            for one in (mapped, permuted)
        ]
        assert traces[0].counts == traces[1].counts
        for name in traces[0].spikes:
            assert np.array_equal(traces[0].spikes[name], traces[1].spikes[name])
        there = core_graph(permuted)
        assert there.total == pytest.approx(graph.total)
        assert sorted(there.spikes.tolist()) == pytest.approx(sorted(graph.spikes.tolist()))
        changed += route(chip, there).spike_hops != route(chip, graph).spike_hops
    assert changed >= 4
