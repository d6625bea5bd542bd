"""Pictures: every tile is drawn where its core lies, loads become colours, names cannot break out."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

from mapped import Chain

from nmc.chip import load_chip
from nmc.ir import Network
from nmc.partition.graph import core_graph
from nmc.partition.place import place
from nmc.partition.route import route
from nmc.partition.tile import partition
from nmc.reports.pictures import core_map, link_map

CHIP = replace(load_chip("loihi1:kapoho-bay"), neurons_per_core=64)
SVG = "{http://www.w3.org/2000/svg}"


def mapped() -> Network:
    chain = Chain(2, 12, 12)
    last = "in"
    for _ in range(3):
        last = chain.conv(last, 8)
    return place(partition(chain.network(), CHIP), CHIP)


def titles(picture: str, shape: str) -> list[str]:
    root = ET.fromstring(picture)
    found = (one.find(f"{SVG}title") for one in root.iter(f"{SVG}{shape}"))
    return [one.text for one in found if one is not None]


def test_every_tile_is_drawn() -> None:
    network = mapped()
    drawn = titles(core_map(network, CHIP), "rect")
    expected = [
        f"core {tile.core}: {network[tile.population].label}, {tile.size:,} neurons"
        for tile in network.mapping.tiles
    ]
    assert sorted(drawn) == sorted(expected)


def test_every_loaded_link_is_drawn_and_the_busiest_is_darkest() -> None:
    network = mapped()
    routing = route(CHIP, core_graph(network))
    picture = link_map(routing, CHIP)
    loaded = sum(int((getattr(routing.links, name) > 0).sum()) for name in ("east", "west", "south", "north"))
    assert len(titles(picture, "line")) == loaded > 10
    name, row, column = routing.worst_at
    worst = f"{name} of row {row}, column {column}: {routing.worst_link:,.0f} spikes per inference"
    assert worst in titles(picture, "line")
    assert picture.count('stroke="rgb(165,0,38)"') >= 1


def test_untrusted_names() -> None:
    network = mapped()
    evil = '</title><script>alert("x")</script>\n\x1b[31m'
    renamed = network.map_populations({"p1": replace(network["p1"], origin=(evil,))})
    picture = core_map(network.with_(populations=renamed, name=evil), CHIP)
    ET.fromstring(picture)
    assert "<script" not in picture
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", picture)


def test_nothing_to_draw_without_a_mesh() -> None:
    cpu = load_chip("lava-cpu")
    chain = Chain(1, 4, 4)
    chain.conv("in", 2)
    assert core_map(partition(chain.network(), cpu), cpu) == ""
