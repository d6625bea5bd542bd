"""safeio: atomic writes, and every guard as a bad input."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
import zlib
from io import BytesIO
from pathlib import Path

import h5py
import numpy as np
import pytest

from nmc import safeio
from nmc.errors import NmcError
from nmc.safeio import Limits

DEFAULT = Limits()


def refused(code: str, call, *args, match: str = "", **kwargs) -> NmcError:
    with pytest.raises(NmcError, match=match) as info:
        call(*args, **kwargs)
    assert info.value.code == code, str(info.value)
    assert "\n" not in str(info.value)
    return info.value


# --- writing ----------------------------------------------------------------------------------------


def test_atomic_write_creates_replaces_and_keeps_the_mode(tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    safeio.atomic_write(path, b"one")
    assert path.stat().st_mode & 0o077 == 0o066 & ~_umask()
    path.chmod(0o640)
    safeio.atomic_write(path, lambda file: file.write(b"two"))
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["out.bin"]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_failing_writer_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "out.bin"

    def fails(file) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        safeio.atomic_write(path, fails)
    assert os.listdir(tmp_path) == []
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        safeio.atomic_write(path, fails)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out.bin"]


@pytest.mark.parametrize("call", ["write", "fsync", "replace", "open"])
def test_a_system_error_at_any_call_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch, call) -> None:
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    if call != "write":
        monkeypatch.setattr(os, call, full)
    refused(
        "NMC-W01", safeio.atomic_write, tmp_path / "x", full if call == "write" else b"data", match="No space"
    )
    monkeypatch.undo()
    assert os.listdir(tmp_path) == []


def test_atomic_write_follows_links_and_takes_the_longest_name(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    safeio.atomic_write(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"
    safeio.atomic_write(tmp_path / ("n" * 255), b"new")
    assert (tmp_path / ("n" * 255)).read_bytes() == b"new"


def test_stale_temporary_files_are_swept_and_fresh_or_living_ones_kept(tmp_path: Path) -> None:
    dead = 2**22 + 1  # above the largest pid of Linux
    stale, fresh = tmp_path / f".x.{dead}-0123abcd.tmp", tmp_path / f".x.{dead}-0123abce.tmp"
    living, other = tmp_path / f".x.{os.getpid()}-0123abcd.tmp", tmp_path / f".y.{dead}-0123abcd.tmp"
    for file in (stale, fresh, living, other):
        file.write_bytes(b"")
        if file != fresh:
            os.utime(file, (1, 1))
    safeio.atomic_write(tmp_path / "x", b"")
    assert sorted(tmp_path.iterdir()) == sorted([fresh, living, other, tmp_path / "x"])


def test_ensure_writable(tmp_path: Path) -> None:
    path = tmp_path / "out.nmc"
    safeio.ensure_writable(path)
    assert os.listdir(tmp_path) == []
    path.write_bytes(b"mine")
    refused("NMC-W01", safeio.ensure_writable, path, match="--force")
    safeio.ensure_writable(path, force=True)
    refused("NMC-W01", safeio.ensure_writable, path, force=True, inputs=[path], match="also an input")
    refused("NMC-W01", safeio.ensure_writable, tmp_path, match="is a directory")
    refused("NMC-W01", safeio.ensure_writable, tmp_path / "no" / "out", match="No such file")
    refused("NMC-W01", safeio.ensure_writable, "/dev/null", force=True, match="not a regular file")
    refused("NMC-W01", safeio.ensure_writable, tmp_path / "a\0b")
    (tmp_path / "loop").symlink_to("loop")
    refused("NMC-W01", safeio.ensure_writable, tmp_path / "loop")


# --- HDF5 -------------------------------------------------------------------------------------------


def read_all(path: Path, limits: Limits = DEFAULT) -> dict[str, object]:
    found: dict[str, object] = {}
    with safeio.open_hdf5(path, limits) as file:
        file.visititems(lambda name, item: found.update({name: item[()]} if hasattr(item, "dtype") else {}))
    return found


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.nir"
    with h5py.File(path, "w") as file:
        file["version"] = "1.0"
        file["node/nodes/fc.1/weight"] = np.arange(6.0).reshape(2, 3)
        file.create_dataset(
            "node/zip", data=np.zeros((300, 300)), compression="gzip", shuffle=True, fletcher32=True
        )
        file["node/edges"] = [[b"a", b"b"], [b"b", b"c"]]
        file["flag"] = True
        file["nothing"] = h5py.Empty("f8")
    return path


def test_a_good_file_is_read(good: Path) -> None:
    found = read_all(good)
    assert np.array_equal(found["node/nodes/fc.1/weight"], np.arange(6.0).reshape(2, 3))
    assert found["version"] == b"1.0"
    assert len(found) == 6


def test_files_that_are_not_regular_or_not_hdf5(tmp_path: Path) -> None:
    refused("NMC-F01", read_all, tmp_path / "missing", match="No such file")
    refused("NMC-F01", read_all, tmp_path, match="is a directory")
    os.mkfifo(tmp_path / "fifo")
    refused("NMC-F01", read_all, tmp_path / "fifo", match="pipe or device")
    refused("NMC-F01", read_all, Path("/dev/zero"), match="pipe or device")
    (tmp_path / "empty").touch()
    refused("NMC-F01", read_all, tmp_path / "empty", match="is empty")
    (tmp_path / "text.nir").write_text("not HDF5 at all\n" * 100)
    refused("NMC-F01", read_all, tmp_path / "text.nir", match="not an HDF5 file")
    (tmp_path / "dangling").symlink_to("nowhere")
    refused("NMC-F01", read_all, tmp_path / "dangling")
    (tmp_path / "loop").symlink_to("loop")
    refused("NMC-F01", read_all, tmp_path / "loop", match="symbolic links")
    refused("NMC-F01", read_all, tmp_path / "a\0b")
    refused("NMC-F01", read_all, tmp_path / "two\nlines")


def test_a_file_over_the_size_limit(good: Path) -> None:
    error = refused("NMC-F03", read_all, good, Limits(max_file_bytes=100))
    assert error.measured == good.stat().st_size
    assert error.allowed == 100


@pytest.mark.parametrize("percent", [1, 10, 50, 90, 99])
def test_truncated_file(good: Path, percent: int) -> None:
    data = good.read_bytes()
    good.write_bytes(data[: len(data) * percent // 100])
    refused("NMC-F01", read_all, good)


def test_external_link(tmp_path: Path, good: Path) -> None:
    with h5py.File(tmp_path / "bad", "w") as file:
        file["weight"] = h5py.ExternalLink(str(good), "/version")
    refused("NMC-F02", read_all, tmp_path / "bad", match="/weight: is a link to another file")


def test_soft_link_cycle(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "bad", "w") as file:
        file.create_group("a")["again"] = h5py.SoftLink("/a")
    refused("NMC-F02", read_all, tmp_path / "bad", match="/a/again: is a soft link")


def test_hard_link_cycle_and_diamond(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "cycle", "w") as file:
        group = file.create_group("a/b")
        group["up"] = file["a"]
    refused("NMC-F02", read_all, tmp_path / "cycle", match="second link")
    with h5py.File(tmp_path / "root", "w") as file:
        file["root"] = file["/"]
    refused("NMC-F02", read_all, tmp_path / "root", match="second link")


def test_virtual_dataset(tmp_path: Path, good: Path) -> None:
    layout = h5py.VirtualLayout(shape=(2, 3), dtype="f8")
    layout[:] = h5py.VirtualSource(str(good), "node/nodes/fc.1/weight", shape=(2, 3))
    with h5py.File(tmp_path / "bad", "w") as file:
        file.create_virtual_dataset("weight", layout)
    refused("NMC-F02", read_all, tmp_path / "bad", match="/weight: is a virtual dataset")


def test_external_raw_storage(tmp_path: Path, good: Path) -> None:
    with h5py.File(tmp_path / "bad", "w") as file:
        file.create_dataset("weight", (16,), "u1", external=[(str(good), 0, 16)])
    with h5py.File(tmp_path / "bad") as file:
        assert file["weight"][0] == 0x89  # the library does read the other file
    refused("NMC-F02", read_all, tmp_path / "bad", match="/weight: keeps its data in another file")


def test_64_gib_declared(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "bad", "w") as file:
        file.create_dataset("weight", (1 << 33,), "f8", chunks=(1 << 20,), compression="gzip")
    assert (tmp_path / "bad").stat().st_size < 100_000
    error = refused("NMC-F03", read_all, tmp_path / "bad", match="68,719,476,736 bytes")
    assert error.measured == 1 << 36


def test_many_datasets_add_up(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "bad", "w") as file:
        for index in range(4):
            file.create_dataset(f"w{index}", (1 << 23,), "u1", chunks=(1 << 10,))
    refused("NMC-F03", read_all, tmp_path / "bad", Limits(max_total_bytes=(1 << 25) - 1))
    refused("NMC-F03", read_all, tmp_path / "bad", Limits(ratio_floor_bytes=1 << 20), match="bytes stored")
    assert len(read_all(tmp_path / "bad", Limits(max_total_bytes=1 << 25))) == 4


def test_huge_chunk_of_a_small_dataset(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "bad", "w") as file:
        file.create_dataset("w", (1,), "f8", chunks=(1 << 28,), maxshape=(None,))
    refused("NMC-F03", read_all, tmp_path / "bad", match="2,147,483,648|ratio|declared")


def test_compressed_chunk_that_inflates_beyond_the_chunk(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "bad", "w") as file:
        dataset = file.create_dataset("w", (1 << 10,), "u1", chunks=(1 << 10,), compression="gzip")
        dataset.id.write_direct_chunk((0,), zlib.compress(bytes(1 << 24)))
    limits = Limits(ratio_floor_bytes=1 << 20)
    refused("NMC-F03", read_all, tmp_path / "bad", limits, match="/w: a compressed chunk")


def test_long_text_shared_by_many_strings(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "bad", "w") as file:
        file.create_dataset("edges", data=["x" * 1000] * 50, dtype=h5py.string_dtype())
    assert len(read_all(tmp_path / "bad")["edges"]) == 50
    refused("NMC-F03", read_all, tmp_path / "bad", Limits(max_string_bytes=20_000), match="text")


@pytest.mark.parametrize("name", ["a b", "<script>", "x" * 129, "ünlaut", "a\\b"])
def test_bad_names(tmp_path: Path, name: str) -> None:
    with h5py.File(tmp_path / "bad", "w") as file:
        group = file.create_group("nodes")
        group.id.links.create_hard(
            name.encode(), file.create_dataset("w", data=1.0).id, b"."
        ) if False else None
        h5py.h5g.create(group.id, name.encode()) if name != ".." else group.create_group("ok name")
    refused("NMC-F02", read_all, tmp_path / "bad", match="unsafe name")


def test_depth_and_node_count(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "deep", "w") as file:
        file.create_group("/".join(["g"] * 33))
    refused("NMC-F03", read_all, tmp_path / "deep", match="deeper than 32")
    with h5py.File(tmp_path / "wide", "w") as file:
        for index in range(20):
            file.create_group(f"g{index}")
    refused("NMC-F03", read_all, tmp_path / "wide", Limits(max_nodes=19), match="more than 19 objects")
    assert read_all(tmp_path / "wide", Limits(max_nodes=20)) == {}


def test_filters_other_than_gzip(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "lzf", "w") as file:
        file.create_dataset("w", data=np.zeros(100), compression="lzf")
    refused("NMC-F02", read_all, tmp_path / "lzf", match="32000")
    with h5py.File(tmp_path / "twice", "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((10,))
        plist.set_deflate(1)
        plist.set_filter(h5py.h5z.FILTER_DEFLATE, 0, (1,))
        h5py.h5d.create(file.id, b"w", h5py.h5t.NATIVE_FLOAT, h5py.h5s.create_simple((10,)), plist)
    refused("NMC-F02", read_all, tmp_path / "twice", match="filters")


@pytest.mark.parametrize(
    "dtype", [h5py.vlen_dtype("f4"), h5py.ref_dtype, np.dtype([("a", "f4")]), np.dtype("c8"), np.dtype("V3")]
)
def test_dtypes_other_than_numbers_and_strings(tmp_path: Path, dtype) -> None:
    with h5py.File(tmp_path / "bad", "w") as file:
        file.create_dataset("w", (3,), dtype)
    refused("NMC-F04", read_all, tmp_path / "bad", match="/w: holds data of")


def test_named_datatype(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "bad", "w") as file:
        file["type"] = np.dtype("f4")
    refused("NMC-F02", read_all, tmp_path / "bad", match="neither a group nor a dataset")


def test_damage_found_inside_the_block_is_reported(good: Path) -> None:
    data = bytearray(good.read_bytes())
    with h5py.File(good) as file:
        start = file["node/zip"].id.get_chunk_info(0).byte_offset
    data[start + 5] ^= 0xFF
    good.write_bytes(bytes(data))
    refused("NMC-F01", read_all, good, match="damaged")


def test_errors_of_the_reader_itself_pass_through(good: Path) -> None:
    with pytest.raises(KeyError), safeio.open_hdf5(good) as file:
        file["no such key"]


def test_flipped_bytes_never_escape_as_other_errors(good: Path) -> None:
    data = good.read_bytes()
    rng = np.random.default_rng(0)
    outcomes = set()
    for position in rng.integers(0, len(data), 400):
        bad = bytearray(data)
        bad[position] ^= 1 << int(rng.integers(8))
        good.write_bytes(bytes(bad))
        try:
            read_all(good)
            outcomes.add("read")
        except NmcError as error:
            outcomes.add(error.code)
    assert outcomes >= {"read", "NMC-F01"}


# --- NPZ and ZIP ------------------------------------------------------------------------------------


def test_read_npz(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    x = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    np.savez_compressed(
        path, x=x, y=np.arange(3), s=np.array(["a", "b"]), **{"spikes/conv1": np.zeros((2, 0), bool)}
    )
    arrays = safeio.read_npz(path)
    assert sorted(arrays) == ["s", "spikes/conv1", "x", "y"]
    assert np.array_equal(arrays["x"], x)
    assert arrays["y"].dtype == np.int64
    np.savez(path, x=x)
    assert np.array_equal(safeio.read_npz(path)["x"], x)


class Canary:
    def __reduce__(self):
        return (os.mkdir, ("canary",))


def test_pickles_are_never_run(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("bad.npz", x=np.array([Canary()], dtype=object))
    refused("NMC-D01", safeio.read_npz, "bad.npz", match="data of type object")
    with zipfile.ZipFile("raw.npz", "w") as archive:
        archive.writestr("x.npy", b"\x80\x04N.")
    refused("NMC-D01", safeio.read_npz, "raw.npz")
    assert not Path("canary").exists()


def npy(shape: str, data: bytes = b"", descr: str = "'<f8'", pad: int = 0) -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode() + b" " * pad + b"\n"
    return b"\x93NUMPY\x02\x00" + len(header).to_bytes(4, "little") + header + data


@pytest.mark.parametrize(
    "member",
    [
        npy("(8589934592,)"),
        npy("(-1,)", b"12345678"),
        npy("(1,)", b"123"),
        npy("(1,)", b"123456789"),
        npy("(1,)", bytes(8), pad=20_000),
        npy("()", bytes(4), "[('a', '<f4')]"),
        npy("(1,", bytes(8)),
        npy("('a',)", bytes(8)),
        npy("(1,)", bytes(8), "'nonsense'"),
        npy("(1,)", bytes(8))[:7],
        b"",
    ],
)
def test_hostile_npy(tmp_path: Path, member: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "bad.npz", "w") as archive:
        archive.writestr("x.npy", member)
    refused("NMC-D01", safeio.read_npz, tmp_path / "bad.npz", match=r"bad\.npz: x\.npy")


def test_npz_that_is_no_zip(tmp_path: Path) -> None:
    refused("NMC-D01", safeio.read_npz, tmp_path / "no.npz", match="No such file")
    (tmp_path / "a.npz").write_bytes(b"text" * 100)
    refused("NMC-D01", safeio.read_npz, tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", x=np.arange(1000))
    data = (tmp_path / "b.npz").read_bytes()
    for cut in (10, 100, len(data) - 1):
        (tmp_path / "b.npz").write_bytes(data[:cut])
        refused("NMC-D01", safeio.read_npz, tmp_path / "b.npz")


def test_zip_bombs(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros(1 << 20))
    refused("NMC-F03", safeio.read_npz, tmp_path / "bomb.npz", Limits(ratio_floor_bytes=1 << 20))
    refused("NMC-F03", safeio.read_npz, tmp_path / "bomb.npz", Limits(max_total_bytes=1 << 23))
    assert safeio.read_npz(tmp_path / "bomb.npz")["x"].size == 1 << 20
    # A member that declares 1000 bytes and inflates to 8 MiB: both size fields are patched.
    data = bytearray((tmp_path / "bomb.npz").read_bytes())
    with zipfile.ZipFile(BytesIO(data)) as archive:
        size = archive.infolist()[0].file_size.to_bytes(4, "little")
    central = data.rindex(b"PK\x01\x02")
    data[central + 24 : central + 28] = (1000).to_bytes(4, "little")
    assert size != data[central + 24 : central + 28]
    (tmp_path / "liar.npz").write_bytes(bytes(data))
    refused("NMC-D01", safeio.read_npz, tmp_path / "liar.npz")


def make_zip(path: Path, *members: tuple[str, bytes], **fields: object) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members:
            info = zipfile.ZipInfo(name)
            for key, value in fields.items():
                setattr(info, key, value)
            archive.writestr(info, data)
    return path


def test_read_zip_members(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a", ("x", b"1"), ("d/y.npy", b"22"))
    assert safeio.read_zip_members(path) == {"x": b"1", "d/y.npy": b"22"}


@pytest.mark.parametrize(
    "name", ["/abs", "../up", "a/../../b", "a\\b", "C:/x", "a//b", "dir/", "a\nb", "./a", "n" * 256]
)
def test_unsafe_member_names(tmp_path: Path, name: str) -> None:
    refused(
        "NMC-F02", safeio.read_zip_members, make_zip(tmp_path / "a", (name, b"")), match="unsafe member name"
    )


def test_member_name_with_nul(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a", ("aXb", b""))
    path.write_bytes(path.read_bytes().replace(b"aXb", b"a\0b"))
    refused("NMC-F02", safeio.read_zip_members, path, match="unsafe member name")


def test_symlink_duplicate_compressed_encrypted(tmp_path: Path) -> None:
    link = make_zip(tmp_path / "a", ("x", b"/etc/passwd"), external_attr=0o120777 << 16)
    refused("NMC-F02", safeio.read_zip_members, link, match="is a link")
    with pytest.warns(UserWarning, match="Duplicate name"):
        twice = make_zip(tmp_path / "b", ("x", b"1"), ("x", b"2"))
    refused("NMC-F06", safeio.read_zip_members, twice, match="one name")
    deflated = make_zip(tmp_path / "c", ("x", b"1" * 100), compress_type=zipfile.ZIP_DEFLATED)
    refused("NMC-F06", safeio.read_zip_members, deflated, match="compressed")
    secret = bytearray(make_zip(tmp_path / "d", ("x", b"1")).read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        secret[secret.index(signature) + offset] |= 1
    (tmp_path / "d").write_bytes(bytes(secret))
    refused("NMC-F06", safeio.read_zip_members, tmp_path / "d", match="encrypted")


def test_bytes_before_and_behind_the_archive(tmp_path: Path) -> None:
    data = make_zip(tmp_path / "a", ("x", b"1")).read_bytes()
    (tmp_path / "front").write_bytes(b"#!/bin/sh\n" + data)
    refused("NMC-F06", safeio.read_zip_members, tmp_path / "front", match="before the archive")
    (tmp_path / "back").write_bytes(data + b"more")
    refused("NMC-F06", safeio.read_zip_members, tmp_path / "back", match="behind the archive")


def test_overlapping_members(tmp_path: Path) -> None:
    data = bytearray(make_zip(tmp_path / "a", ("x", b"1"), ("y", b"1")).read_bytes())
    second = data.rindex(b"PK\x01\x02")
    data[second + 42 : second + 46] = bytes(4)  # the second member's header is the first one's
    (tmp_path / "a").write_bytes(bytes(data))
    refused("NMC-F06", safeio.read_zip_members, tmp_path / "a", match="overlaps")


def test_too_many_members_and_bytes(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a", *((f"m{index}", b"12") for index in range(11)))
    refused("NMC-F06", safeio.read_zip_members, path, Limits(max_members=10), match="11 members")
    refused("NMC-F03", safeio.read_zip_members, path, Limits(max_total_bytes=21))


# --- JSON -------------------------------------------------------------------------------------------


def test_json_round_trip() -> None:
    value = {"b": [1, -2.5e-300, 1 << 62, True, None, 'ü"\\['], "a": {}}
    data = safeio.canonical_json(value)
    assert data.startswith(b'{"a":{},"b":')
    assert safeio.parse_json(data, "x") == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"a":1,"a":2}',
        "NaN",
        "-Infinity",
        "1e400",
        str(1 << 63),
        "9" * 5000,
        '"\\ud800"',
        "[" * 33 + "]" * 33,
        "[" * 100_000,
        '{"a":' * 40 + "1" + "}" * 40,
        '"\xff',
    ],
)
def test_json_that_is_refused(text: str) -> None:
    refused("NMC-F04", safeio.parse_json, text.encode("latin-1"), "network.json", match="network.json")


def test_nan_is_never_written() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        safeio.canonical_json(float("nan"))


def test_no_byte_of_a_heap_makes_the_reader_hang(tmp_path: Path) -> None:
    """One byte of a heap's sizes changed: refused, in a child that can be killed."""
    good = tmp_path / "good.nir"
    with h5py.File(good, "w") as file:
        file["type"] = "a string of variable length"
        file["other"] = "another"
    data = bytearray(good.read_bytes())
    heap = bytes(data).index(b"GCOL")
    refused = 0
    for offset in (8, 16 + 8, 16 + 9, 16 + 15):
        broken = bytearray(data)
        broken[heap + offset] ^= 0xFF
        path = tmp_path / f"broken{offset}.nir"
        path.write_bytes(broken)
        code = (
            "import sys; from nmc.safeio import open_hdf5\n"
            "with open_hdf5(sys.argv[1]) as file: print(file['type'][()], file['other'][()])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60, check=False
        )
        refused += "NMC-F01" in done.stderr
    assert refused == 4
