"""The bundle: exact round trip, the same bytes everywhere, and nothing changed is ever read."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from dataclasses import fields, is_dataclass, replace
from functools import cache
from io import BytesIO
from pathlib import Path

import gen
import numpy as np
import pytest

from nmc import bundle, timing
from nmc.bundle import Bundle
from nmc.chip import load_chip
from nmc.errors import NmcError
from nmc.ir import Network, Projection, Stage
from nmc.partition.tile import partition
from nmc.safeio import canonical_json

MARK = b"nmc-sha256:"


@cache
def networks(seed: int) -> dict[Stage, Network]:
    """One random network at every stage; two of its projections hold one weight object."""
    free = gen.float_network(seed)
    first = free.projections[0]
    twin = replace(first, name="twin")
    free = free.with_(projections=(*free.projections, twin))
    timed = timing.balance(free, 62)
    quantized = gen.quantize(timed)
    by_name = {one.name: one for one in quantized.projections}
    shared = tuple(
        replace(one, weight=by_name[first.name].weight) if one.name == "twin" else one
        for one in quantized.projections
    )
    quantized = quantized.with_(projections=shared, notes=("a note",))
    chip = load_chip("lava-cpu")
    return {one.stage: one for one in (free, timed, quantized, partition(quantized, chip))}


def make(seed: int = 3, stage: Stage = Stage.MAPPED, **more) -> Bundle:
    golden = {
        "x": np.arange(12, dtype=np.int32).reshape(3, 4),
        "output": np.array([[1, -300]]),
        "spikes/conv:1 ü": np.zeros((2, 0, 3), bool),
        "float": np.array(0.1),
    }
    config = {"steps": 4, "seed": None, "profile": "snntorch", "nested": {"a": [1.5, True]}}
    return Bundle(networks(seed)[stage], load_chip("lava-cpu"), config, golden, **more)


def same(a: object, b: object) -> bool:
    """Equal in type and value, arrays in every bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return (
            a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes() and not b.flags.writeable
        )
    if is_dataclass(a):
        return all(same(getattr(a, one.name), getattr(b, one.name)) for one in fields(a))
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("seed", [3, 4, 5, 6])
def test_round_trip_is_exact(tmp_path: Path, seed: int, stage: Stage) -> None:
    written = make(seed, stage)
    written.save(tmp_path / "a.nmc")
    loaded = bundle.read(tmp_path / "a.nmc")
    assert same(written.network, loaded.network)
    assert loaded.chip == written.chip
    assert loaded.config == written.config
    assert loaded.report is None
    assert list(loaded.golden) == sorted(written.golden)
    for name, array in written.golden.items():
        assert same(array, loaded.golden[name]), name
    assert bundle.to_bytes(loaded) == (tmp_path / "a.nmc").read_bytes()
    assert loaded.build_id == written.build_id
    assert os.listdir(tmp_path) == ["a.nmc"]


@pytest.mark.parametrize("stage", Stage)
def test_shared_weights_are_stored_once_and_stay_shared(tmp_path: Path, stage: Stage) -> None:
    written = make(3, stage).network
    assert written.projections[-1].name == "twin"
    bundle.save(make(3, stage), tmp_path / "a.nmc")
    read = bundle.read(tmp_path / "a.nmc").network

    def groups(network: Network) -> list[list[str]]:
        together: dict[int, list[str]] = {}
        for one in network.projections:
            together.setdefault(id(one.weight), []).append(one.name)
        return list(together.values())

    assert groups(read) == groups(written)
    assert any(len(names) > 1 for names in groups(read))
    # Equal content in two objects is one file but stays two objects.
    apart = written.with_(projections=tuple(_copied(one) for one in written.projections))
    bundle.save(replace(make(3, stage), network=apart), tmp_path / "b.nmc")
    assert len(groups(bundle.read(tmp_path / "b.nmc").network)) == len(apart.projections)
    assert (tmp_path / "a.nmc").stat().st_size == pytest.approx((tmp_path / "b.nmc").stat().st_size, abs=1000)


def _copied(projection: Projection) -> Projection:
    weight = projection.weight
    return replace(projection, weight=replace(weight) if is_dataclass(weight) else gen.frozen(weight))


def test_integers_are_stored_narrow(tmp_path: Path) -> None:
    bundle.save(make(), tmp_path / "a.nmc")
    with zipfile.ZipFile(tmp_path / "a.nmc") as archive:
        assert archive.testzip() is None
        manifest = json.loads(archive.read("manifest.json"))
        names = [info.filename for info in archive.infolist()]
    assert names == sorted(names) == sorted([*manifest["members"], "manifest.json"])
    dtypes = {
        entry.get("dtype") for name, entry in manifest["members"].items() if name.startswith("tensors/")
    }
    assert dtypes <= {"|i1", "<i2", "<i4"}
    assert manifest["schema"] == "nmc.bundle/1"
    assert manifest["build_id"] == make().build_id
    for name, entry in manifest["members"].items():
        if name.endswith(".npy"):
            assert name.partition("/")[2] == entry["sha256"] + ".npy"


def test_arrays_are_plain_npy_files(tmp_path: Path) -> None:
    bundle.save(make(), tmp_path / "a.nmc")
    with zipfile.ZipFile(tmp_path / "a.nmc") as archive:
        index = json.loads(archive.read("golden.json"))
        x = np.load(BytesIO(archive.read(f"golden/{index['x']['array']}.npy")))
    assert np.array_equal(x, np.arange(12).reshape(3, 4))
    assert index["x"]["dtype"] == "<i4"


BUILD = """
import os, sys
sys.path.insert(0, sys.argv[1])
os.chdir(sys.argv[2])
import test_bundle
from nmc import bundle
bundle.save(test_bundle.make(), sys.argv[3])
"""


def test_same_bytes_for_any_hash_seed_folder_locale_and_time_zone(tmp_path: Path) -> None:
    files = set()
    support = os.path.dirname(gen.__file__)
    for seed, cwd, lang, zone in (
        ("0", "/", "C", "UTC"),
        ("1", str(tmp_path), "C.UTF-8", "Pacific/Kiritimati"),
    ):
        out = tmp_path / f"{seed}.nmc"
        env = {
            **os.environ,
            "PYTHONHASHSEED": seed,
            "LC_ALL": lang,
            "TZ": zone,
            "PYTHONPATH": support,
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-c", BUILD, str(Path(__file__).parent), cwd, str(out)]
        subprocess.run(command, env=env, check=True, timeout=120)
        files.add(out.read_bytes())
    assert len(files) == 1
    assert files == {bundle.to_bytes(make())}


def test_the_report_is_optional_and_not_part_of_the_build_id(tmp_path: Path) -> None:
    reported = make(report={"schema": "nmc.report/1", "cores": 3})
    bundle.save(reported, tmp_path / "a.nmc")
    assert bundle.read(tmp_path / "a.nmc").report == {"schema": "nmc.report/1", "cores": 3}
    assert reported.build_id == make().build_id
    assert make(4).build_id != make().build_id
    assert replace(make(), config={}).build_id != make().build_id


def test_is_bundle(tmp_path: Path) -> None:
    bundle.save(make(), tmp_path / "a.nmc")
    (tmp_path / "b.nmc").write_bytes(b"PK\x03\x04" + bytes(100))
    (tmp_path / "c.nmc").touch()
    found = [bundle.is_bundle(tmp_path / name) for name in ("a.nmc", "b.nmc", "c.nmc", "d.nmc", ".")]
    assert found == [True, False, False, False, False]


def test_a_failed_save_leaves_nothing(tmp_path: Path, monkeypatch) -> None:
    def full(*_args) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NmcError, match="NMC-W01"):
        bundle.save(make(), tmp_path / "a.nmc")
    assert os.listdir(tmp_path) == []


# --- broken bundles ---------------------------------------------------------------------------------


def refused(data: bytes, path: Path, code: str = "NMC-F06", match: str = "") -> None:
    path.write_bytes(data)
    with pytest.raises(NmcError, match=match) as info:
        bundle.read(path)
    assert info.value.code == code, str(info.value)
    assert "\n" not in str(info.value)


def test_any_flipped_byte_is_refused(tmp_path: Path) -> None:
    small = partition(gen.quantize(timing.balance(gen.float_network(0, depth=1), 62)), load_chip("lava-cpu"))
    data = bundle.to_bytes(Bundle(small, load_chip("lava-cpu")))
    with zipfile.ZipFile(BytesIO(data)) as archive:
        directory = archive.start_dir
        headers = [
            i
            for m in archive.infolist()
            for i in range(m.header_offset, m.header_offset + 30 + len(m.filename))
        ]
    everywhere = range(0, len(data), 37)
    positions = {*headers, *everywhere, *range(directory, len(data))}
    assert len(positions) > 1500
    path = tmp_path / "a.nmc"
    for position in sorted(positions):
        bad = bytearray(data)
        bad[position] ^= 1 << (position % 8)
        path.write_bytes(bytes(bad))
        with pytest.raises(NmcError) as info:
            bundle.read(path)
        assert info.value.code == "NMC-F06", position


def test_missing_truncated_extended_and_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "a.nmc"
    with pytest.raises(NmcError, match=r"NMC-F01 .*No such file"):
        bundle.read(path)
    with pytest.raises(NmcError, match=r"NMC-F01 .*is a directory"):
        bundle.read(tmp_path)
    refused(b"", path, "NMC-F01", "is empty")
    refused(b"some text" * 100, path, "NMC-F01", "no nmc bundle")
    data = bundle.to_bytes(make())
    for cut in (1, 10, 100, len(data) // 2, len(data) - 1):
        refused(data[:cut], path, "NMC-F01" if cut == 1 else "NMC-F06")
    refused(data + b"\0", path)
    refused(b"\0" + data, path)
    np.savez(tmp_path / "x.npz", x=np.arange(3))
    refused((tmp_path / "x.npz").read_bytes(), path)


def forged(change, seed: int = 3, keep_manifest: bool = False) -> bytes:
    """A bundle whose members were changed and whose checksums all fit: only the content is wrong."""
    members = dict(make(seed).members)
    manifest = bundle._manifest(members, "0.1.0")
    change(members, manifest) if keep_manifest else change(members)
    if not keep_manifest:
        manifest = bundle._manifest(members, "0.1.0")
    members.setdefault("manifest.json", canonical_json(manifest))
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in sorted(members.items()):
            archive.writestr(zipfile.ZipInfo(name), data)
        archive.comment = MARK + b"0" * 64
    body = buffer.getvalue()[:-64]
    return body + hashlib.sha256(body).hexdigest().encode()


def test_a_forgery_without_change_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.nmc").write_bytes(forged(lambda members: None))
    assert same(bundle.read(tmp_path / "a.nmc").network, make().network)


@pytest.mark.parametrize(
    ("change", "code", "match"),
    [
        (lambda m, manifest: m.pop("mapping.json"), "NMC-F06", "lacks mapping.json"),
        (
            lambda m, manifest: m.pop(next(n for n in m if n.startswith("tensors"))),
            "NMC-F06",
            "differ in tensors/",
        ),
        (lambda m, manifest: m.update({"extra.json": b"{}"}), "NMC-F06", "foreign member extra.json"),
        (lambda m, manifest: m.update({f"tensors/{'0' * 64}.npy": m["chip.toml"]}), "NMC-F06", "NPY header"),
        (
            lambda m, manifest: m.update({"config.json": b"{}\n"}),
            "NMC-F06",
            "differ in config.json, build id",
        ),
        (lambda m, manifest: manifest.update(build_id="0" * 64), "NMC-F06", "differ in build id"),
        (lambda m, manifest: manifest.update(schema="nmc.bundle/99"), "NMC-F07", "nmc.bundle/99"),
        (lambda m, manifest: manifest.update(schema="other"), "NMC-F06", "names no schema"),
        (lambda m, manifest: manifest.pop("nmc"), "NMC-F06", "fields"),
        (lambda m, manifest: manifest.update(members=[]), "NMC-F06", "differ in members"),
        (lambda m, manifest: manifest["members"].update({"ghost.npy": {}}), "NMC-F06", "differ in ghost.npy"),
        (lambda m, manifest: m.update({"manifest.json": b"[" * 100_000}), "NMC-F06", "nested deeper"),
        (lambda m, manifest: m.update({"manifest.json": b'{"schema": NaN}'}), "NMC-F06", "NaN"),
        (lambda m, manifest: m.update({"../up": b""}), "NMC-F02", "unsafe member name"),
    ],
)
def test_manifest_and_members_must_agree(tmp_path: Path, change, code: str, match: str) -> None:
    refused(forged(change, keep_manifest=True), tmp_path / "a.nmc", code, match)


def test_wrong_dtype_in_the_manifest(tmp_path: Path) -> None:
    def change(members, manifest) -> None:
        next(entry for entry in manifest["members"].values() if "dtype" in entry)["dtype"] = "<f8"

    refused(forged(change, keep_manifest=True), tmp_path / "a.nmc", match="differ in golden/")


def edit(path: str, value: object, member: str = "network.json"):
    """Set one entry of a member, named by a path such as ``populations/0/shape``; ``...`` removes it."""

    def change(members) -> None:
        document = json.loads(members[member])
        *way, last = path.split("/")
        place = document
        for step in way:
            place = place[int(step)] if isinstance(place, list) else place[step]
        key = int(last) if isinstance(place, list) else last
        if value is ...:
            del place[key]
        else:
            place[key] = value
        members[member] = canonical_json(document)

    return change


@pytest.mark.parametrize(
    ("path", "value", "match"),
    [
        ("steps", 0, "steps is 0|steps: is 0"),
        ("steps", True, "whole number"),
        ("steps", 1.5, "whole number"),
        ("stage", 9, "unknown value"),
        ("stage", 1, "stage and mapping|rule of nmc"),
        ("name", 5, "no text"),
        ("name", ..., "expected fields"),
        ("surplus", 1, "expected fields"),
        ("outputs", ["nowhere"], "R02 nowhere"),
        ("outputs", [1], "list of texts"),
        ("populations/0", 7, "expected fields"),
        ("populations/0/shape", [-1, 2], "whole numbers from 1"),
        ("populations/0/shape", [1, 1, 1], "R04"),
        ("populations/0/level", 5, "R20"),
        ("populations/1/neuron/kind", "Magic", "unknown kind Magic"),
        ("populations/1/neuron/kind", "__class__", "unknown kind"),
        ("populations/1/neuron/reset", "soft", "unknown value"),
        ("populations/1/neuron/du/bits", 99, "fixed-point"),
        ("populations/1/neuron/du/exp", 10**10, "fixed-point"),
        ("populations/1/neuron/du/mant/array", "0" * 64, "is missing"),
        ("populations/1/neuron/du/mant/dtype", "object", "the array has"),
        ("populations/1/neuron/du/mant/dtype", "|b1", "the array has"),
        ("projections/0/weight", 10**6, "points behind"),
        ("projections/0/weight", -1, "at least 0"),
        ("projections/0/source", "p99", "R02"),
        ("projections/0/delay", 3, "R20"),
        ("projections/0/synapse/stride", [0, 1], "whole numbers from 1"),
        ("projections/0/synapse/padding", [1], "whole numbers from 0"),
        ("weights", [], "points behind|fields"),
    ],
)
def test_forged_networks(tmp_path: Path, path: str, value: object, match: str) -> None:
    refused(forged(edit(path, value)), tmp_path / "a.nmc", match=match)


@pytest.mark.parametrize(
    ("path", "value", "match"),
    [
        ("tiles/0/2", -1, "at least 0"),
        ("tiles/0/0", "p99", "tile outside of p99|R40"),
        ("tiles/0/1/0", [0, 10**6], "outside|R40"),
        ("tiles/0/1/0", [1, 1], "R40|outside"),
        ("tiles/0", 3, "no tile"),
        ("tiles/0", ..., "R40"),
        ("chip", 3, "no text"),
    ],
)
def test_forged_mappings(tmp_path: Path, path: str, value: object, match: str) -> None:
    refused(forged(edit(path, value, "mapping.json")), tmp_path / "a.nmc", match=match)


def test_core_outside_of_the_chip(tmp_path: Path) -> None:
    def change(members) -> None:
        members["chip.toml"] = load_chip("loihi2").toml
        edit("tiles/0/2", 120, "mapping.json")(members)

    refused(forged(change), tmp_path / "a.nmc", match="the chip has not got")


@pytest.mark.parametrize("member", ["config.json", "golden.json", "report.json"])
def test_documents_must_be_objects(tmp_path: Path, member: str) -> None:
    refused(forged(lambda members: members.update({member: b"[]\n"})), tmp_path / "a.nmc", match="no object")


def test_unused_array_and_bad_chip(tmp_path: Path) -> None:
    def surplus(members) -> None:
        data = bundle.ArrayStore()
        data.put(np.arange(999))
        members.update({f"tensors/{name}": content for name, content in data.members.items()})

    refused(forged(surplus), tmp_path / "a.nmc", match="nothing uses")
    refused(
        forged(lambda members: members.update({"chip.toml": b"x = "})),
        tmp_path / "a.nmc",
        "NMC-C02",
        "chip.toml",
    )


def test_the_chip_is_read_back_as_it_was_used(tmp_path: Path) -> None:
    board = load_chip("loihi2:kapoho-point")
    network = make(stage=Stage.QUANTIZED).network.with_(chip=board.name)
    bundle.save(Bundle(network, board), tmp_path / "a.nmc")
    assert bundle.read(tmp_path / "a.nmc").chip == board
    with pytest.raises(NmcError, match="NMC-C02 lava-cpu: was changed after it was read"):
        replace(make(), chip=replace(load_chip("lava-cpu"), cores=3)).save(tmp_path / "b.nmc")
    assert not (tmp_path / "b.nmc").exists()


def test_weights_that_do_not_fit_their_format(tmp_path: Path) -> None:
    def change(members) -> None:
        document = json.loads(members["network.json"])
        document["weights"][0]["bits"] = 2
        members["network.json"] = canonical_json(document)

    refused(forged(change), tmp_path / "a.nmc", match="breaks a rule of nmc")


def leaves(value: object, path: str = ""):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        if "/" in str(key):
            continue
        yield f"{path}{key}"
        yield from leaves(child, f"{path}{key}/")


@pytest.mark.parametrize("odd", [None, -1, 0, 1 << 62, 1e308, "", "x", [], {}, [[]], True], ids=repr)
def test_no_forged_field_escapes_as_another_error(tmp_path: Path, odd: object) -> None:
    members, codes = make(5).members, set()
    for member in ("network.json", "mapping.json", "golden.json"):
        paths = list(leaves(json.loads(members[member])))
        step = max(1, len(paths) // 5)
        for path in paths[len(repr(odd)) % step :: step]:
            (tmp_path / "a.nmc").write_bytes(forged(edit(path, odd, member), seed=5))
            try:
                bundle.read(tmp_path / "a.nmc")
            except NmcError as error:
                codes.add(error.code)
    assert codes == {"NMC-F06"}
