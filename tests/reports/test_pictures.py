"""Pictures: every tile is drawn where its core lies, loads become colours, names cannot break out."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from mapped import Chain

from nmc.chip import load_chip
from nmc.ir import Network
from nmc.partition.check import check_mapping
from nmc.partition.graph import core_graph
from nmc.partition.place import place
from nmc.partition.route import route
from nmc.partition.tile import partition
from nmc.reports import pictures as pictures_module
from nmc.reports.pictures import core_map, link_map, pictures

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


def test_a_fuller_core_has_a_stronger_colour_and_says_of_what() -> None:
    chip, chain = replace(CHIP, neurons_per_core=1024, populations_per_core=1), Chain(2, 12, 12)
    chain.conv(chain.conv("in", 7), 2)
    network = place(partition(chain.network(), chip), chip)
    uses = check_mapping(network, chip)
    root = ET.fromstring(core_map(network, chip, uses))
    drawn = {one.find(f"{SVG}title").text: one for one in root.iter(f"{SVG}rect") if len(one)}
    strength = {}
    for use in uses:
        (text,) = (title for title in drawn if title.startswith(f"core {use.core}: "))
        assert f"; {use.neurons.share:.0%} neurons" in text
        assert f"; {use.synapse_bits.share:.0%} bits of synapse memory" in text
        full = max(one.share for name, one in use.resources().items() if name != "populations")
        strength[full] = float(drawn[text].get("fill-opacity"))
    assert len(strength) > 1
    assert [strength[share] for share in sorted(strength)] == sorted(strength.values())


def test_both_pictures_of_a_mapping() -> None:
    network = mapped()
    cores, links = pictures(network, CHIP, {one.name: 3.0 for one in network.populations})
    assert cores.count("<svg") == links.count("<svg") == 1
    spikes = {one.name: 3.0 for one in network.populations}
    assert f"{route(CHIP, core_graph(network, spikes)).spike_hops:,.0f} spike-hops" in links
    assert pictures(network.with_(mapping=None), CHIP) == ()


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


def test_many_links_become_few_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every loaded link is still drawn, the busiest in the last colour, in a third of the bytes."""
    network = mapped()
    routing = route(CHIP, core_graph(network))
    detailed = link_map(routing, CHIP)
    monkeypatch.setattr(pictures_module, "DETAILED", 0)
    small = link_map(routing, CHIP)
    ends = {
        (float(one.get("x1")), float(one.get("y1"))) for one in ET.fromstring(detailed).iter(f"{SVG}line")
    }
    paths = list(ET.fromstring(small).iter(f"{SVG}path"))
    drawn = [pair for one in paths for pair in re.findall(r"M([\d.]+) ([\d.]+)l", one.get("d"))]
    assert len(drawn) == detailed.count("<line")
    assert {(float(x), float(y)) for x, y in drawn} == ends
    assert paths[-1].get("stroke") == "rgb(165,0,38)"
    assert len(small) < len(detailed) / 3


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
