"""Chip files: what ships, and every way a file can be wrong."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from nmc.chip import ENERGY_TERMS, chip_names, load_chip, other_hardware, parse_chip
from nmc.errors import NmcError

LOIHI1 = load_chip("loihi1").toml.decode()


def refused(text: str, match: str) -> None:
    with pytest.raises(NmcError, match=match) as info:
        parse_chip(text.encode(), "mine.toml")
    assert info.value.code == "NMC-C02"
    assert str(info.value).startswith("NMC-C02 mine.toml: ")
    assert "\n" not in str(info.value)


def line_of(text: str, start: str) -> int:
    return next(n for n, line in enumerate(text.splitlines(), 1) if line.startswith(start))


def test_chips_that_ship() -> None:
    assert chip_names() == ("generic", "lava-cpu", "loihi1", "loihi2")
    one, two, cpu = (load_chip(name) for name in ("loihi1", "loihi2", "lava-cpu"))
    # Davies 2018, as chips-and-mapping 1.1 quotes it
    assert (one.cores, one.neurons_per_core, one.synapse_bits) == (128, 1024, 16384 * 64)
    assert (one.input_axons, one.output_axons, one.payload_bits) == (4096, 4096, 0)
    assert (two.cores, two.payload_bits, two.delay_slots) == (120, 16, None)
    assert (cpu.cores, cpu.neurons_per_core, cpu.synapse_bits) == (None, None, None)
    assert cpu.resets == ("zero", "subtract")
    for chip in (one, two, cpu):
        assert chip.max_delay == 62
        assert chip.weight_bits == 8
        assert (chip.threshold_bits, chip.bias_mant_bits, chip.bias_exp_max, chip.decay_bits) == (
            17,
            13,
            7,
            12,
        )


@pytest.mark.parametrize("name", chip_names())
def test_every_number_has_a_source(name: str) -> None:
    chip = load_chip(name)
    assert len({fact.key for fact in chip.facts}) == len(chip.facts) == 31 + 3 * len(chip.boards)
    for fact in chip.facts:
        assert fact.source
        assert (fact.value is None) == (fact.basis in ("unknown", "unlimited"))
    assert chip.name == name


def test_energy_sets() -> None:
    one = load_chip("loihi1")
    davies, sanafe, keras = one.energy
    assert keras.joules("synop_conv") == 27.1e-12
    assert (davies.name, davies.basis, davies.chip) == ("davies2018", "simulated", "loihi1")
    assert davies.joules("synop_conv") == davies.joules("synop") == 23.6e-12
    assert davies.joules("spike") is None
    assert davies.joules("barrier_min") is None
    assert davies.seconds("barrier_min") == 113e-9
    assert sanafe.joules("synop_conv") == 24.0e-12
    assert sanafe.joules("synop") is None
    assert math.isclose(sanafe.joules("update_active") or 0, 51.2e-12 + 21.6e-12)
    assert one.energy_set() is davies
    assert one.energy_set("sanafe2025") is sanafe
    with pytest.raises(NmcError, match="NMC-U03 guess: loihi1 has no such energy constants"):
        one.energy_set("guess")


def test_loihi2_has_no_prices_of_its_own_and_borrows_loihi1s() -> None:
    assert load_chip("loihi2").energy == load_chip("loihi1").energy
    assert {one.chip for one in load_chip("loihi2").energy} == {"loihi1"}


def test_stored_bits() -> None:
    chip = load_chip("loihi1")  # 1 2 3 4 5 6 8
    assert [chip.stored_bits(bits) for bits in (1, 6, 7, 8, 9)] == [1, 6, 8, 8, 8]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("loihi3", "did you mean loihi2"),
        ("LOIHI1", "did you mean loihi1"),
        ("qqq", "chips are: generic, lava-cpu, loihi1"),
    ],
)
def test_unknown_name(name: str, hint: str) -> None:
    with pytest.raises(NmcError, match=f"NMC-C01 {name}: .*{hint}"):
        load_chip(name)


def test_missing_file_and_file(tmp_path: Path) -> None:
    with pytest.raises(NmcError, match="NMC-C01"):
        load_chip(tmp_path / "no.toml")
    with pytest.raises(NmcError, match="NMC-C01"):
        load_chip("a\0b")
    with pytest.raises(NmcError, match=r"NMC-C02 .*is a directory"):
        load_chip(tmp_path)
    (tmp_path / "mine.toml").write_text(LOIHI1.replace('"loihi1"', '"mine"', 1))
    assert load_chip(tmp_path / "mine.toml").name == "mine"
    (tmp_path / "big.toml").write_text("#" * (10 << 20))
    with pytest.raises(NmcError, match="NMC-F03"):
        load_chip(tmp_path / "big.toml")


def test_syntax_errors_name_the_line() -> None:
    refused("a = \n", r"line 1")
    refused(LOIHI1 + "\nx = = 1\n", "line")
    refused("#" * (2 << 20), "allowed are 1,048,576")
    refused("a = " + "[" * 5000 + "]" * 5000, "")
    with pytest.raises(NmcError, match="NMC-C02"):
        parse_chip(b"\xff", "x")


def test_duplicate_keys() -> None:
    lines = LOIHI1.splitlines()
    at = line_of(LOIHI1, "neurons =")
    refused("\n".join([*lines[:at], lines[at - 1], *lines[at:]]), f"line {at + 1}")
    refused(LOIHI1 + "\n[mesh]\n", "line")


@pytest.mark.parametrize(
    ("start", "new", "problem"),
    [
        ("neurons =", "neurones = 1", r"core\.neurones is unknown, did you mean neurons"),
        ("neurons =", "", r"core\.neurons is missing"),
        ("neurons =", "neurons = 1024", r"core\.neurons is a bare value"),
        (
            "neurons =",
            'neurons = { value = 0, basis = "code", source = "x" }',
            r"core\.neurons is 0, expected a whole",
        ),
        ("neurons =", 'neurons = { value = -1024, basis = "code", source = "x" }', "neurons is -1024"),
        ("neurons =", 'neurons = { value = 10.5, basis = "code", source = "x" }', "neurons is 10.5"),
        ("neurons =", 'neurons = { value = true, basis = "code", source = "x" }', "neurons is True"),
        (
            "neurons =",
            'neurons = { value = "1024", basis = "code", source = "x" }',
            "neurons is 1024, expected a whole",
        ),
        ("neurons =", 'neurons = { value = 1, basis = "rumour", source = "x" }', "has the basis 'rumour'"),
        ("neurons =", 'neurons = { value = 1, basis = "code", source = "" }', "source is missing or no text"),
        (
            "neurons =",
            'neurons = { value = 1, basis = "code", source = "x", unit = "k" }',
            "neurons has the unknown key unit",
        ),
        ("neurons =", "neurons = { unknown = true }", "why is missing or no text"),
        ("neurons =", 'neurons = { unknown = false, why = "x" }', "cannot be unknown"),
        (
            "word_bits =",
            'word_bits = { unknown = true, why = "x" }',
            r"word_bits must be .* cannot be unknown",
        ),
        (
            "cores =",
            'cores = { value = 129, basis = "code", source = "x" }',
            r"mesh\.cores is 129, the mesh has room for 128",
        ),
        ("resets =", 'resets = { value = ["soft"], basis = "code", source = "x" }', r"resets is \['soft'\]"),
        ("weight_codes =", 'weight_codes = { value = [], basis = "code", source = "x" }', "weight_codes is"),
        ("pad_runs =", 'pad_runs = { value = 1, basis = "code", source = "x" }', "true or false"),
        ("[axon]", "[axons]", "axons is unknown, did you mean axon"),
        ("schema =", 'schema = "nmc.chip/2"', "schema is 'nmc.chip/2', expected 'nmc.chip/1'"),
        ("synop =", "synop = { J = -1.0 }", r"energy\.davies2018\.synop J is -1\.0"),
        ("synop =", "synop = { J = 23.6 }", r"synop J is 23\.6, expected 0 to 1"),
        ("synop =", "synop = { pJ = 23.6e-12 }", "synop has the unknown key pJ"),
        ("synop =", "synapse = { J = 1e-12 }", "is no price"),
        ("synop_conv =", "synop_conv = 24e-12", r"energy\.sanafe2025\.synop_conv is no price"),
    ],
)
def test_bad_entries_name_line_and_key(start: str, new: str, problem: str) -> None:
    at = line_of(LOIHI1, start)
    lines = LOIHI1.splitlines()
    lines[at - 1] = new
    # A key that is gone has no line of its own: its table is named.
    shown = line_of(LOIHI1, "[core]") if new == "" else at
    refused("\n".join(lines), rf"line {shown}: .*{problem}")


def test_energy_shapes() -> None:
    refused(re.sub(r"(?s)\[\[energy\]\].*", "", LOIHI1) + "[energy]\nx = 1\n", "energy is no array")
    refused(LOIHI1.replace('"sanafe2025"', '"davies2018"'), "two sets of one name")
    refused(LOIHI1 + '\n[[energy]]\nsame_as = "loihi1:none"\n', "loihi1:none, which no chip")
    refused(LOIHI1 + '\n[[energy]]\nsame_as = "../x:none"\n', "which no chip")
    assert parse_chip(re.sub(r"(?s)\[\[energy\]\].*", "", LOIHI1).encode(), "x").energy == ()


def test_terms_of_the_shipped_files_are_known() -> None:
    sets = (*load_chip("loihi1").energy, *other_hardware())
    used = {term.name for one in sets for term in one.terms}
    assert used == set(ENERGY_TERMS)
