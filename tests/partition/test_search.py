"""Priced tables against exact prices, objectives against each other, sharing against the checker."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import gen
import numpy as np
import pytest
from mapped import LIF, Chain, weight

from nmc import timing
from nmc.chip import load_chip
from nmc.errors import NmcError
from nmc.ir import Conv2d, Dense, Fixed, Network, SumPool2d
from nmc.partition.check import check_mapping
from nmc.partition.cost import RESOURCES, cut, grid_usage
from nmc.partition.graph import core_graph, uniform_traffic
from nmc.partition.plan import Planner
from nmc.partition.search import Seconds, _exact, options
from nmc.partition.share import share
from nmc.partition.tile import EXTRA, OBJECTIVES, partition

LOIHI1, LOIHI2 = load_chip("loihi1"), load_chip("loihi2")
FREE = replace(LOIHI1, cores=None, **{one.limit: None for one in RESOURCES})


def every_operator() -> Network:
    chain = Chain(2, 9, 9)
    a = chain.conv("in", 6)
    b = chain.conv(a, 6, groups=3)
    c = chain.relay(chain.conv(b, 6, kernel=5), b)
    d = chain.add(c, Conv2d((2, 1), (1, 0), (1, 2)), weight(4, 6, 3, 2))
    chain.add(d, SumPool2d((2, 2), (2, 2)), weight())
    last = chain.populations[-1]
    chain.add(last.name, Dense(), weight(11, last.size))
    return chain.network()


def networks() -> list[Network]:
    return [
        every_operator(),
        *(gen.quantize(timing.balance(gen.float_network(seed), 62)) for seed in range(3)),
    ]


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("chip", [LOIHI1, LOIHI2])
def test_tables_bound_the_exact_price(chip, index: int) -> None:
    network = networks()[index]
    rng = np.random.default_rng(index)
    traffic = {name: float(n) for n, name in enumerate(one.name for one in network.populations)}
    seconds = Seconds.of(chip.energy[0])
    halves = {one.name: tuple(cut(size, -(-size // 2)) for size in one.shape) for one in network.compute}
    for one in network.compute:
        found = options(network, chip, one, halves, traffic, seconds)
        exact = _exact([p for p in network.incoming(one.name) if not p.on_host], network.outgoing(one.name))
        for which in rng.permutation(len(found.tiles))[:12].tolist():
            cuts = found.cuts(which)
            usage = grid_usage(network, chip, one, cuts, halves)
            assert found.tiles[which] == prod(map(len, cuts)) == usage.neurons.size
            for resource in RESOURCES:
                priced, most = found.usage[resource.usage][which], getattr(usage, resource.usage).max()
                assert priced == most if resource.usage in exact else priced >= most, (one.name, resource)
            if found.fits[which]:
                assert found.close[which]


@pytest.mark.parametrize("index", range(4))
def test_messages_are_those_of_the_core_graph(index: int) -> None:
    network = networks()[index]
    chip = replace(FREE, neurons_per_core=20)
    plan = Planner(network, chip).plan()
    assert plan.messages == pytest.approx(core_graph(Planner(network, chip).mapped(plan)).total)


def wide_network() -> Network:
    chain = Chain(4, 24, 24)
    last = "in"
    for channels in (16, 32, 32, 48):
        last = chain.conv(last, channels)
    return chain.network()


CHIP = replace(LOIHI1, neurons_per_core=600, cores=400, cores_per_chip=400)


def test_every_objective_wins_by_its_own_measure() -> None:
    planner = Planner(wide_network(), CHIP)
    best = {name: planner.best(name) for name in OBJECTIVES if name != "balanced"}
    assert all(best["cores"].cores <= one.cores for one in best.values())
    assert all(best["traffic"].messages <= one.messages for one in best.values())
    assert all(best["speed"].step_seconds <= one.step_seconds for one in best.values())
    assert best["speed"].step_seconds < 0.9 * best["cores"].step_seconds
    for name, plan in best.items():
        mapped = partition(wide_network(), CHIP, name)
        check_mapping(mapped, CHIP)
        assert mapped.mapping.cores_used <= plan.cores


def deep_network() -> Network:
    """Ten layers of one shape: all change their tiles at one worth of a message."""
    chain = Chain(12, 10, 10)
    last = "in"
    for _ in range(10):
        last = chain.conv(last, 32)
    return chain.network()


def test_balanced_pays_few_cores_for_few_messages() -> None:
    chip = replace(LOIHI1, neurons_per_core=100, populations_per_core=1, cores=10_000, cores_per_chip=10_000)
    cores, messages = {}, {}
    for name in ("cores", "balanced", "traffic"):
        mapped = partition(deep_network(), chip, name)
        check_mapping(mapped, chip)
        cores[name], messages[name] = mapped.mapping.cores_used, core_graph(mapped).total
    assert cores["cores"] < cores["balanced"] <= cores["cores"] + cores["cores"] // EXTRA
    assert messages["balanced"] < messages["cores"]
    assert cores["balanced"] < cores["traffic"]


def test_balanced_takes_no_further_chip() -> None:
    chip = replace(LOIHI1, neurons_per_core=100, populations_per_core=1, cores=10_000, cores_per_chip=10_000)
    fewest = partition(deep_network(), chip, "cores").mapping.cores_used
    full = replace(chip, cores_per_chip=fewest)
    assert partition(deep_network(), full).mapping.cores_used == fewest


def test_pareto_set_has_no_dominated_plan() -> None:
    plans = Planner(wide_network(), CHIP).pareto()
    points = [(one.cores, one.messages, one.step_seconds) for one in plans]
    assert len(points) > 2
    assert points == sorted(points)
    for a in points:
        assert not any(b != a and all(x <= y for x, y in zip(b, a, strict=True)) for b in points)


def test_traffic_that_was_measured_decides() -> None:
    network = wide_network()
    quiet = uniform_traffic(network) | {"p1": 0.0, "p2": 0.0}
    assert Planner(network, CHIP, quiet).plan().messages < Planner(network, CHIP).plan().messages


# --- sharing ----------------------------------------------------------------------------------------


def small_layers(count: int = 12) -> Network:
    chain = Chain(20)
    last = "in"
    for _ in range(count):
        last = chain.add(last, Dense(), weight(20, 20))
    return chain.network()


def test_small_layers_share_cores() -> None:
    mapped = partition(small_layers(), LOIHI2)
    uses = check_mapping(mapped, LOIHI2)
    # At most 8 populations on a core of Loihi 2.
    assert [use.populations.used for use in uses] == [8, 4]
    assert partition(small_layers(), replace(LOIHI2, populations_per_core=1)).mapping.cores_used == 12
    assert partition(small_layers(), replace(LOIHI2, populations_per_core=None)).mapping.cores_used == 1
    assert partition(small_layers(), load_chip("lava-cpu")).mapping.cores_used == 12


@pytest.mark.parametrize("limit", [one.limit for one in RESOURCES])
def test_sharing_keeps_every_limit(limit: str) -> None:
    network = small_layers()
    alone = check_mapping(partition(network, replace(FREE, populations_per_core=1)), FREE)
    field = next(one.usage for one in RESOURCES if one.limit == limit)
    one_layer = max(getattr(use, field).used for use in alone)
    chip = replace(FREE, populations_per_core=8, threshold_profiles=None, **{limit: 3 * one_layer})
    uses = check_mapping(partition(network, chip), chip)
    assert 2 <= len(uses) <= 5
    assert max(use.populations.used for use in uses) >= 3


def test_sharing_counts_thresholds() -> None:
    chain = Chain(20)
    last = "in"
    vth = Fixed(np.arange(1, 21) % 5 + 1, 6, 17, False)
    for _ in range(4):
        last = chain.add(last, Dense(), weight(20, 20), neuron=replace(LIF, vth=vth))
    chip = replace(LOIHI2, threshold_profiles=10)
    uses = check_mapping(partition(chain.network(), chip), chip)
    assert [use.threshold_profiles.used for use in uses] == [10, 10]


@pytest.mark.parametrize("seed", range(20))
def test_shared_random_networks_pass_the_check(seed: int) -> None:
    network = gen.quantize(timing.balance(gen.float_network(seed), 62))
    rng = np.random.default_rng(seed)
    chip = replace(LOIHI2, cores=None, neurons_per_core=int(rng.integers(20, 200)))
    alone = partition(network, replace(chip, populations_per_core=1))
    together = share(alone, chip)
    check_mapping(together, chip)
    assert together.mapping.cores_used <= alone.mapping.cores_used
    assert [t.ranges for t in together.mapping.tiles] == [t.ranges for t in alone.mapping.tiles]


def test_a_network_fits_by_sharing() -> None:
    chip = replace(LOIHI2, cores=2)
    assert partition(small_layers(), chip).mapping.cores_used == 2
    with pytest.raises(NmcError, match="NMC-P01"):
        partition(small_layers(), replace(chip, populations_per_core=1))
