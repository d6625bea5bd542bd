"""Models against chips of which only constraints are known, and the files that state them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nmc import api
from nmc.chip import constraint_names, load_chip
from nmc.constraints import HERE, load_constraints, parse_constraints
from nmc.errors import NmcError
from nmc.frontend import opgraph as og
from nmc.frontend.opgraph import OpGraph
from nmc.frontend.zoo.draft import Draft, if_neuron, lif_neuron
from nmc.partition.constrained import check_constraints

SPECK, XYLO = load_constraints("speck2f"), load_constraints("xylo-a2")


def chain(channels: list[int], size: int = 32, neuron: og.Neuron | None = None, kernel: int = 3) -> OpGraph:
    """Convolutions with neurons and a pool of 2 behind the first, then ten classes."""
    draft = Draft((2, size, size), neuron or if_neuron())
    x = "input"
    for number, count in enumerate(channels):
        x = draft.conv_fire(f"conv{number}", x, count, kernel)
        if not number:
            x = draft.add("pool", og.SumPool((2, 2), (2, 2)), x)
    x = draft.fire("out", draft.linear("fc", draft.add("last", og.SumPool((2, 2), (2, 2)), x), 10))
    draft.add("output", og.Output(), x)
    return OpGraph(draft.nodes, tuple(draft.edges), "chain")


def problems(graph: OpGraph, chip=SPECK) -> list[str]:
    return [str(one) for one in check_constraints(graph, chip).problems]


def test_a_network_that_fits_and_what_it_takes() -> None:
    found = check_constraints(chain([8, 16]), SPECK)
    assert found.fits
    assert (found.cores, found.available) == (3, 9)
    layer = found.layers[1]
    used = {need.resource: (need.used, need.allowed) for need in layer.needs}
    # c 2^(ceil log2 9 + ceil log2 16) and f 2^(4 + 4), as sinabs' dynapcnn_layer.py counts
    assert used["kernel entries"] == (8 * 2 ** (4 + 4), 65536)
    assert used["neuron entries"] == (16 * 2 ** (4 + 4), 65536)


def test_sizes_are_rounded_up_to_powers_of_two() -> None:
    (first, *_) = check_constraints(chain([5], size=18), SPECK).layers
    used = {need.resource: need.used for need in first.needs}
    assert used["kernel entries"] == 2 * 2 ** (4 + 3)
    assert used["neuron entries"] == 5 * 2 ** (5 + 5)


@pytest.mark.parametrize(
    ("graph", "text"),
    [
        (lambda: chain([8, 16], size=160), "an input side of 160, allowed are 128"),
        (lambda: chain([8, 16], size=80), "an output side of 80, allowed are 64"),
        (lambda: chain([8, 16], kernel=17), "a kernel side of 17, allowed are 16"),
        (lambda: chain([8, 128, 128]), "needs 262,144 kernel entries, the largest core has 65,536"),
        (lambda: chain([8] * 9), "10 layers, 9 cores that differ in size: 1 layers get none"),
        (lambda: chain([8, 16], neuron=lif_neuron()), "its neurons leak"),
    ],
)  # fmt: skip
def test_every_limit_of_speck(graph, text: str) -> None:
    found = problems(graph())
    assert any(text in one for one in found), found


def test_unequal_cores_are_matched_not_filled_in_order() -> None:
    """Two layers take the two largest kernel memories; a third finds none, although cores are free."""
    large = [8, 64, 64]
    assert check_constraints(chain(large), SPECK).fits
    assert "5 layers, 9 cores that differ in size: 1 layers" in str(problems(chain([*large, 64])))


def test_strangers_are_named() -> None:
    graph = chain([8, 16])
    nodes = dict(graph.nodes)
    nodes["pool"] = og.MaxPool((2, 2), (2, 2))
    assert problems(graph.with_(nodes=nodes)) == [
        "NMC-P02 pool: the chip has no MaxPool there; train the network without it"
    ]
    nodes["pool"] = og.SumPool((3, 3), (2, 2), (1, 1))
    assert "pool of (3, 3) with stride (2, 2), allowed are squares of [1, 2, 4]" in str(
        problems(graph.with_(nodes=nodes))
    )


def test_fan_out() -> None:
    draft = Draft((2, 8, 8), if_neuron())
    stem = draft.conv_fire("stem", "input", 4, 3)
    branches = [draft.conv_fire(f"b{n}", stem, 4, 3) for n in range(3)]
    draft.add("output", og.Output(), draft.conv_fire("end", draft.add("sum", og.Add(), *branches), 4, 3))
    found = problems(OpGraph(draft.nodes, tuple(draft.edges), "wide"))
    assert found == ["NMC-P02 stem.sn: readers of 3, allowed are 2; pool or cut the layer"]


def dense(*sizes: int) -> OpGraph:
    draft = Draft((sizes[0],), lif_neuron())
    x = "input"
    for number, size in enumerate(sizes[1:]):
        x = draft.fire(f"n{number}", draft.linear(f"fc{number}", x, size))
    draft.add("output", og.Output(), x)
    return OpGraph(draft.nodes, tuple(draft.edges), "dense")


def test_xylo() -> None:
    assert check_constraints(dense(16, 600, 400, 8), XYLO).fits
    assert problems(dense(16, 600, 401, 8), XYLO) == [
        "NMC-P02 dense: 1,001 hidden neurons, allowed are 1,000; use fewer hidden neurons"
    ]
    assert "17 inputs, allowed are 16" in problems(dense(17, 8, 8), XYLO)[0]
    assert "9 outputs, allowed are 8" in problems(dense(16, 8, 9), XYLO)[0]
    assert "is a convolution" in problems(chain([8]), XYLO)[0]


# --- the files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", constraint_names())
def test_every_number_has_a_source(name: str) -> None:
    found = load_constraints(name)
    assert found is not None
    assert found.name == name
    assert all(fact.source and (fact.value is None) == (fact.basis == "unknown") for fact in found.facts)


@pytest.mark.parametrize("name", constraint_names())
def test_they_are_checked_but_not_compiled_for(name: str) -> None:
    with pytest.raises(NmcError, match=f"nmc fit MODEL --chip {name}") as info:
        load_chip(name)
    assert info.value.code == "NMC-C01"


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    text = (HERE / "speck2f.toml").read_text()
    path.write_text(text.replace("65536, 65536, 16384, 16384]", "65536, 65536, 16384]"))
    with pytest.raises(NmcError, match=r"line 12: limits.neuron_entries lists 9 cores, kernel_entries 8"):
        load_constraints(path)
    path.write_text(text)
    assert api.fit(chain([8, 16]), str(path)).fits


@pytest.mark.parametrize(
    ("start", "new", "problem"),
    [
        ("family", 'family = "mesh"', "family is 'mesh', expected one of"),
        ("schema", 'schema = "nmc.constraints/2"', "schema is"),
        ("fan_out", "fan_out = 2", "limits.fan_out is a bare value"),
        ("fan_out", "", "limits.fan_out is missing"),
        ("strides", 'strides = { value = [0], basis = "code", source = "x" }', "expected a list of whole"),
        ("leak", 'leek = { value = false, basis = "code", source = "x" }', "limits.leek is unknown, did you"),
    ],
)
def test_bad_entries_name_line_and_key(start: str, new: str, problem: str) -> None:
    lines = (HERE / "speck2f.toml").read_text().splitlines()
    number = next(n for n, line in enumerate(lines) if line.startswith(start))
    lines[number] = new
    with pytest.raises(NmcError, match=problem) as info:
        parse_constraints("\n".join(lines).encode(), "mine.toml")
    assert info.value.code == "NMC-C02"
    if new:
        assert f"line {number + 1}:" in str(info.value)


# --- the generic mesh -------------------------------------------------------------------------------


def test_the_generic_mesh_is_compiled_for_and_never_recommended() -> None:
    chip = load_chip("generic")
    assert {fact.basis for fact in chip.facts} <= {"choice", "code", "unlimited"}
    graph = chain([8, 16])
    assert api.compile(graph, chip, steps=2).network.mapping is not None
    found = api.fit(graph, replace(load_chip("loihi1"), neurons_per_core=40), steps=2)
    assert not found.fits
    assert all(one.value != "generic" for one in found.remedies)
