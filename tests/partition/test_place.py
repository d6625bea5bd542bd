"""Core graph, routes and placement, against slow loops and hand counts."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest
from mapped import Chain, weight

from nmc.chip import Chip, load_chip
from nmc.ir import Dense, Identity, Mapping, Network, SumPool2d, Tile
from nmc.partition.check import check_mapping
from nmc.partition.graph import CoreGraph, core_graph, to_graphml, to_json, uniform_traffic
from nmc.partition.place import available, curve, move, place
from nmc.partition.route import loads, position, positions, route
from nmc.partition.swap import Layout, relieve, shorten
from nmc.partition.tile import partition

LOIHI1 = load_chip("loihi1")
LOIHI2 = load_chip("loihi2")
SMALL = dataclasses.replace(LOIHI1, neurons_per_core=64)
NAHUKU = dataclasses.replace(load_chip("loihi1:nahuku-32"), neurons_per_core=64)


def some_network() -> Network:
    """Every operator: convolution with stride and groups, pool, relay, dense."""
    chain = Chain(2, 12, 12)
    a = chain.conv("in", 8)
    b = chain.conv(a, 8, groups=2)
    c = chain.relay(chain.conv(b, 8), b)
    d = chain.conv(c, 12, stride=2)
    e = chain.add(d, SumPool2d((2, 2), (2, 2)), weight())
    chain.add(e, Dense(), weight(30, 12 * 9))
    return chain.network()


def brute_force_edges(network: Network, rate: float) -> dict[tuple[int, int], float]:
    """Push a one through every synapse: which core reads each source neuron."""
    from nmc import synapse

    owner = {}
    for one in network.compute:
        cores = np.zeros(one.shape, np.int64)
        for tile in network.mapping.of(one.name):
            cores[tuple(slice(*r) for r in tile.ranges)] = tile.core
        owner[one.name] = cores.reshape(-1)
    edges: dict[tuple[int, int], float] = {}
    for one in network.projections:
        if network[one.source].is_input:
            continue
        source = network[one.source]
        ones = np.ones(one.weight_shape)
        for neuron in range(source.size):
            x = np.zeros((1, source.size))
            x[0, neuron] = 1
            hit = synapse.apply(one.synapse, ones, x.reshape(1, *source.shape)).reshape(-1) != 0
            for core in np.unique(owner[one.target][hit]):
                key = (int(owner[one.source][neuron]), int(core))
                edges[key] = edges.get(key, 0.0) + rate
    return edges


@pytest.mark.parametrize("chip", [SMALL, dataclasses.replace(LOIHI2, neurons_per_core=60)])
def test_graph_against_every_synapse(chip: Chip) -> None:
    mapped = partition(some_network(), chip)
    graph = core_graph(mapped, {one.name: 2.0 * one.size for one in mapped.populations})
    found = dict(
        zip(zip(graph.source.tolist(), graph.target.tolist(), strict=True), graph.spikes, strict=True)
    )
    assert found == brute_force_edges(mapped, 2.0)
    assert len(found) > 20


def test_identity_between_two_shapes() -> None:
    chain = Chain(4, 4, 4)
    a = chain.conv("in", 4)
    name = chain.add(a, Dense(), weight(64, 64))
    chain.project(a, name, Identity(), weight())
    network = chain.network()
    network = network.with_(
        projections=tuple(p for p in network.projections if p.synapse != Dense() or p.source != a)
    )
    tiles = [Tile("p1", ((0, 4), (r, r + 1), (0, 4)), r) for r in range(4)]
    tiles += [Tile("p2", ((0, 32),), 4), Tile("p2", ((32, 64),), 5)]
    mapped = network.with_(mapping=Mapping("x", tuple(tiles)))
    graph = core_graph(mapped, {"p1": 64.0})
    # Channels 0 and 1 are the first 32 neurons: every row sends half to either core.
    assert graph.spikes.tolist() == [8.0] * 8
    assert graph.target.tolist() == [4, 5] * 4


def test_default_traffic_is_uniform() -> None:
    network = some_network()
    assert uniform_traffic(network)["p1"] == pytest.approx(0.15 * network.steps * network["p1"].size)
    mapped = partition(network, SMALL)
    assert core_graph(mapped).total == pytest.approx(core_graph(mapped, uniform_traffic(network)).total)


def test_loads_against_a_walk() -> None:
    rng = np.random.default_rng(0)
    rows, columns = rng.integers(0, 5, (2, 200)), rng.integers(0, 7, (2, 200))
    spikes = rng.integers(1, 9, 200).astype(float)
    links = loads((rows[0], rows[1]), (columns[0], columns[1]), spikes, (5, 7))
    walked = {name: np.zeros((5, 7)) for name in ("east", "west", "south", "north")}
    for (r, r1), (c, c1), w in zip(rows.T.tolist(), columns.T.tolist(), spikes, strict=True):
        while c != c1:
            walked["east" if c1 > c else "west"][r, c] += w
            c += 1 if c1 > c else -1
        while r != r1:
            walked["south" if r1 > r else "north"][r, c] += w
            r += 1 if r1 > r else -1
    for name, load in walked.items():
        assert np.array_equal(getattr(links, name), load), name
    assert links.worst == max(load.max() for load in walked.values())


def graph_of(*edges: tuple[int, int, float]) -> CoreGraph:
    source, target, spikes = (np.array(column) for column in zip(*edges, strict=True))
    return CoreGraph(np.unique([source, target]), source, target, spikes.astype(float))


def test_route_by_hand() -> None:
    # Loihi 1: routers of 4 cores, 8 columns. 0 -> router (0, 0), 5 -> (0, 1), 34 -> (1, 0), 39 -> (1, 1).
    result = route(LOIHI1, graph_of((0, 5, 2.0), (0, 39, 3.0), (34, 0, 7.0), (0, 1, 9.0)))
    assert result.spike_hops == 2 * 1 + 3 * 2 + 7 * 1
    assert result.spikes == 21
    assert result.mean_hops == 15 / 21
    assert (result.worst_link, result.worst_at) == (7.0, ("north", 1, 0))
    assert result.links.east[0, 0] == 5.0
    assert result.links.south[0, 1] == 3.0
    assert result.crossings == 0


def test_a_board_is_one_mesh() -> None:
    # Nahuku: 4 x 8 chips of 4 x 8 routers.
    assert (position(NAHUKU, 128).row, position(NAHUKU, 128).column) == (0, 8)
    assert (position(NAHUKU, 8 * 128).row, position(NAHUKU, 8 * 128).column) == (4, 0)
    rows, columns = positions(NAHUKU, np.arange(NAHUKU.cores))
    routers, sharers = np.unique(rows * 64 + columns, return_counts=True)
    assert len(routers) == 16 * 64
    assert set(sharers.tolist()) == {4}
    result = route(NAHUKU, graph_of((28, 128, 2.0), (128, 28, 5.0), (96, 1024, 1.0), (1024, 96, 4.0)))
    assert result.crossings == 12
    assert result.spike_hops == 12


def test_curve_visits_neighbours() -> None:
    rows, columns = (grid.reshape(-1) for grid in np.indices((16, 16)))
    order = curve(rows, columns)
    assert sorted(order) == list(range(256))
    assert (np.abs(np.diff(rows[order])) + np.abs(np.diff(columns[order])) == 1).all()


def test_available_takes_the_fewest_chips() -> None:
    assert len(available(NAHUKU, 129)) == 256
    nine = available(NAHUKU, 9 * 128)
    assert len(nine) == 9 * 128
    rows, columns = positions(NAHUKU, nine)
    assert rows.max() + columns.max() + 2 <= 40
    assert len(available(LOIHI1, 3)) == 128
    assert len(np.unique(nine)) == len(nine)


def test_moving_changes_core_numbers_only() -> None:
    network = partition(some_network(), SMALL)
    placed = place(network, SMALL)
    assert [(t.population, t.ranges) for t in placed.mapping.tiles] == [
        (t.population, t.ranges) for t in network.mapping.tiles
    ]
    assert placed.with_(mapping=None).populations is network.populations
    check_mapping(placed, SMALL)
    before, after = core_graph(network), core_graph(placed)
    assert sorted(before.spikes.tolist()) == pytest.approx(sorted(after.spikes.tolist()))
    assert route(SMALL, after).spike_hops < 0.8 * route(SMALL, before).spike_hops
    assert route(SMALL, after).worst_link <= route(SMALL, before).worst_link


def test_no_mesh_no_move() -> None:
    cpu = load_chip("lava-cpu")
    network = partition(some_network(), cpu)
    assert place(network, cpu) is network


def test_a_shuffled_ring_comes_closer_together() -> None:
    order = list(range(40))
    random.Random(1).shuffle(order)
    ring = sorted((order[i], order[(i + 1) % 40], 1.0) for i in range(40))
    graph = graph_of(*ring)
    single = dataclasses.replace(LOIHI2, cores=128)
    slots = available(single, 40)
    rows, columns = positions(single, slots)
    start = Layout.of(graph, rows, columns, curve(rows, columns))
    scale = start.spikes[0]
    best = shorten(start, np.random.default_rng(0))
    assert best.hops() < 0.5 * start.hops()
    assert best.hops() / scale >= 40
    assert sorted(best.node_at.tolist()) == sorted(start.node_at.tolist())


def test_relief_lowers_the_busiest_link() -> None:
    rng = np.random.default_rng(3)
    edges = {(int(a), int(b)): 1.0 for a, b in rng.integers(0, 100, (600, 2)) if a != b}
    graph = graph_of(*((a, b, w) for (a, b), w in sorted(edges.items())))
    rows, columns = positions(LOIHI2, np.arange(120))
    start = shorten(Layout.of(graph, rows, columns, np.arange(120)), rng)
    after = relieve(start, rng)
    assert after.links().worst < 0.85 * start.links().worst
    assert after.hops() < 1.1 * start.hops()


def test_traffic_decides() -> None:
    # Two populations talk to one: the busier is put nearer.
    chain = Chain(40)
    a = chain.add("in", Dense(), weight(40, 40))
    b = chain.add("in", Dense(), weight(40, 40))
    c = chain.add(a, Dense(), weight(40, 40))
    chain.project(b, c, Dense(), weight(40, 40))
    chip = dataclasses.replace(LOIHI2, neurons_per_core=10)
    network = partition(chain.network(), chip)

    def distance(traffic: dict[str, float], name: str) -> float:
        graph = core_graph(place(network, chip, traffic), {name: 1.0})
        return route(chip, graph).spike_hops

    assert distance({"p1": 90.0, "p2": 1.0}, "p1") < distance({"p1": 1.0, "p2": 90.0}, "p1")


def test_move_keeps_shared_cores_together() -> None:
    network = partition(some_network(), SMALL)
    tiles = network.mapping.tiles
    shared = network.with_(
        mapping=Mapping("loihi1", (*tiles[:-1], dataclasses.replace(tiles[-1], core=tiles[0].core)))
    )
    cores = np.unique([tile.core for tile in shared.mapping.tiles])
    moved = move(shared, cores, cores[::-1]).mapping.tiles
    assert moved[0].core == moved[-1].core == cores[-1]


def test_exports() -> None:
    network = partition(some_network(), SMALL)
    graph = core_graph(network)
    document = json.loads(to_json(graph, network))
    assert document["schema"] == "nmc.coregraph/1"
    assert len(document["edges"]) == len(graph.source)
    assert {tile["layer"] for core in document["cores"] for tile in core["tiles"]} >= {"layer.p1", "layer.p2"}
    import networkx

    read = networkx.parse_graphml(to_graphml(graph, network))
    assert read.number_of_edges() == len(graph.source)
    assert read.size("weight") == pytest.approx(graph.total)
    assert sum(neurons for _, neurons in read.nodes("neurons")) == sum(p.size for p in network.compute)


PRINT = """
import sys
from mapped import Chain
from nmc.chip import load_chip
from nmc.partition.place import place
from nmc.partition.tile import partition
import dataclasses
chip = dataclasses.replace(load_chip("loihi2"), neurons_per_core=100)
chain = Chain(3, 16, 16)
name = chain.conv("in", 8)
for _ in range(3): name = chain.conv(name, 8)
print(place(partition(chain.network(), chip), chip).mapping)
"""


def test_same_placement_for_any_hash_seed_and_thread_count() -> None:
    import mapped

    support = os.path.dirname(mapped.__file__)
    printed = {
        subprocess.run(
            [sys.executable, "-c", PRINT],
            env={**os.environ, "PYTHONHASHSEED": n, "OMP_NUM_THREADS": n, "PYTHONPATH": support},
            check=True,
            capture_output=True,
            timeout=60,
        ).stdout
        for n in ("1", "2")
    }
    assert len(printed) == 1
