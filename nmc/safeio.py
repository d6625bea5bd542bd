"""Files read behind guards; every limit on untrusted input stands here, once. (Writing: ``atomic.py``.)

Guards run before content is read: they look at declared sizes, links, names and filters, so that a
hostile file can reach neither another file nor more memory than ``Limits`` allow.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from nmc.atomic import AnyPath, atomic_write, ensure_writable, reason
from nmc.errors import NmcError

if TYPE_CHECKING:
    import h5py

__all__ = [
    "Limits",
    "atomic_write",
    "canonical_json",
    "check_regular",
    "check_total",
    "ensure_writable",
    "is_safe_name",
    "npy_bytes",
    "open_hdf5",
    "open_npz",
    "parse_json",
    "parse_npy",
    "parse_npy_header",
    "read_bytes",
    "read_member",
    "read_npz",
    "read_zip_members",
    "too_large",
    "unzip",
]


@dataclass(frozen=True)
class Limits:
    """What nmc accepts from a file. Sizes in bytes; ``total`` counts declared, uncompressed data."""

    max_file_bytes: int = 4 << 30
    max_total_bytes: int = 2 << 30
    max_ratio: int = 100
    """Declared bytes per stored byte, where more than ``ratio_floor_bytes`` are declared."""
    ratio_floor_bytes: int = 64 << 20
    max_string_bytes: int = 64 << 20
    max_nodes: int = 100_000
    max_depth: int = 32
    max_members: int = 10_000
    max_json_depth: int = 32


ZIP_NAME = re.compile(r"[^\x00-\x1f\x7f\\:/]{1,255}(/[^\x00-\x1f\x7f\\:/]{1,255}){0,15}")
NPY_HEADER_BYTES = 10_000


def is_safe_name(name: str) -> bool:
    """Whether a member of an archive may be called so: nothing climbs, nothing controls a terminal."""
    parts = name.split("/")
    return ZIP_NAME.fullmatch(name) is not None and "." not in parts and ".." not in parts


# --- reading: any file ------------------------------------------------------------------------------


def check_regular(path: AnyPath, limits: Limits = Limits(), code: str = "NMC-F01") -> int:
    """Size of a regular, non-empty file of acceptable size, without opening it.

    Raises:
        NmcError: ``code`` when it is missing, unreadable, a directory, a pipe or device, or empty;
            NMC-F03 when it is larger than ``limits`` allow.
    """
    who = os.fspath(path)
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise NmcError(code, who, f"cannot be read ({reason(error)})", "check the path") from error
    if stat.S_ISDIR(status.st_mode):
        raise NmcError(code, who, "is a directory", "name a file")
    if not stat.S_ISREG(status.st_mode):
        raise NmcError(code, who, "is a pipe or device", "name a regular file")
    if status.st_size == 0:
        raise NmcError(code, who, "is empty")
    if status.st_size > limits.max_file_bytes:
        too_large(who, "the file", status.st_size, limits.max_file_bytes)
    return status.st_size


def read_bytes(path: AnyPath, limits: Limits = Limits(), code: str = "NMC-F01") -> bytes:
    """A whole regular file. Raises as ``check_regular``."""
    size = check_regular(path, limits, code)
    try:
        with open(path, "rb") as file:
            return file.read(size + 1)[:size]
    except OSError as error:
        raise NmcError(code, os.fspath(path), f"cannot be read ({reason(error)})") from error


def too_large(who: str, what: str, measured: int, allowed: int) -> None:
    raise NmcError(
        "NMC-F03",
        who,
        f"{what} has {measured:,} bytes, allowed are {allowed:,}",
        "raise safeio.Limits only for a file you trust",
        measured=measured,
        allowed=allowed,
    )


def check_total(who: str, declared: int, stored: int, limits: Limits) -> None:
    """Refuse (NMC-F03) data whose declared size is too large, or far beyond what the file can hold."""
    if declared > limits.max_total_bytes:
        too_large(who, "the declared data", declared, limits.max_total_bytes)
    if declared > max(limits.ratio_floor_bytes, limits.max_ratio * stored):
        too_large(who, f"the declared data ({stored:,} bytes stored)", declared, limits.max_ratio * stored)


# --- reading: JSON ----------------------------------------------------------------------------------


def canonical_json(value: Any) -> bytes:
    """One spelling per value: sorted keys, no spaces, UTF-8, no NaN; ends with a newline."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def parse_json(data: bytes, who: str, limits: Limits = Limits(), code: str = "NMC-F04") -> Any:
    """Strict JSON: no NaN or infinity, no duplicate keys, 64-bit integers, valid Unicode, bounded depth.

    Raises NmcError ``code`` for anything else.
    """

    def refuse(problem: str) -> NmcError:
        return NmcError(code, who, f"is not strict JSON: {problem}")

    def number(text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            raise refuse(f"number {text[:40]} out of range")
        return value

    def integer(text: str) -> int:
        if len(text) > 20 or not -(1 << 63) <= int(text) < 1 << 63:
            raise refuse(f"integer {text[:40]} does not fit 64 bits")
        return int(text)

    def table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise refuse("duplicate key")
        return result

    def constant(text: str) -> float:
        raise refuse(f"{text} is not a number")

    depth = 0
    for bracket in re.finditer(rb"[\[{\]}]", re.sub(rb'"(?:[^"\\]|\\.)*"', b"", data)):
        depth += 1 if bracket[0] in b"[{" else -1
        if depth > limits.max_json_depth:
            raise refuse(f"nested deeper than {limits.max_json_depth} levels")
    try:
        value = json.loads(
            data.decode(),
            object_pairs_hook=table,
            parse_float=number,
            parse_int=integer,
            parse_constant=constant,
        )
        # A lone surrogate can be written as an escape but is no character.
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise refuse(reason(error)) from error
    return value


# --- reading: ZIP and NPY ---------------------------------------------------------------------------

_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, ValueError, EOFError)


def _check_end_record(file: BinaryIO, size: int, limits: Limits) -> None:
    """Refuse a central directory that is huge, or an archive with bytes before or behind it."""
    tail_size = min(size, 22 + 65535)
    file.seek(size - tail_size)
    tail = file.read(tail_size)
    start = tail.rfind(b"PK\x05\x06")
    if start < 0 or len(tail) - start < 22:
        raise zipfile.BadZipFile("no end record")
    entries, directory, offset, comment = struct.unpack("<HIIH", tail[start + 10 : start + 22])
    if start + 22 + comment != len(tail):
        raise zipfile.BadZipFile("data behind the archive")
    if offset + directory != size - tail_size + start:
        raise zipfile.BadZipFile("data before the archive")
    if entries > limits.max_members or directory > limits.max_members * 1024:
        raise zipfile.BadZipFile(f"{entries:,} members, allowed are {limits.max_members:,}")


def _check_members(archive: zipfile.ZipFile, who: str, size: int, limits: Limits, *, deflate: bool) -> None:
    """Refuse hostile members by their headers alone. Raises BadZipFile; NMC-F02 for names; NMC-F03."""
    members = sorted(archive.infolist(), key=lambda member: member.header_offset)
    if len({member.filename for member in members}) != len(members):
        raise zipfile.BadZipFile("two members have one name")
    end = 0
    for member in members:
        name = member.filename
        # orig_filename: zipfile cuts a name at its first NUL.
        if not is_safe_name(member.orig_filename):
            raise NmcError("NMC-F02", who, f"unsafe member name {member.orig_filename[:80]!r}")
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
            raise NmcError("NMC-F02", who, f"member {name[:80]!r} is a link or device")
        if member.flag_bits & 0x1:
            raise zipfile.BadZipFile(f"member {name} is encrypted")
        if member.compress_type != zipfile.ZIP_STORED and not (
            deflate and member.compress_type == zipfile.ZIP_DEFLATED
        ):
            raise zipfile.BadZipFile(f"member {name} is compressed by method {member.compress_type}")
        if member.compress_type == zipfile.ZIP_STORED and member.compress_size != member.file_size:
            raise zipfile.BadZipFile(f"member {name} declares two sizes")
        if member.header_offset < end:
            raise zipfile.BadZipFile(f"member {name} overlaps another")
        end = member.header_offset + 30 + len(member.orig_filename.encode()) + member.compress_size
    check_total(who, sum(member.file_size for member in members), size, limits)


@contextlib.contextmanager
def _opened_zip(
    file: BinaryIO, size: int, who: str, limits: Limits, code: str, *, deflate: bool
) -> Iterator[tuple[zipfile.ZipFile, list[zipfile.ZipInfo]]]:
    try:
        _check_end_record(file, size, limits)
        with zipfile.ZipFile(file) as archive:
            _check_members(archive, who, size, limits, deflate=deflate)
            yield archive, archive.infolist()
    except (*_ZIP_ERRORS, OSError) as error:
        raise NmcError(code, who, f"cannot be read ({reason(error)})") from error


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """A whole member; BadZipFile (which the opening block turns into its code) when it is cut off."""
    # In pieces: a single read of a member that lies about its size could inflate without bound.
    pieces, got = [], 0
    with archive.open(member) as file:
        while piece := file.read(1 << 20):
            pieces.append(piece)
            got += len(piece)
    if got != member.file_size:
        raise zipfile.BadZipFile(f"member {member.filename} is cut off")
    return b"".join(pieces)


def unzip(data: bytes, who: str, limits: Limits = Limits(), code: str = "NMC-F06") -> dict[str, bytes]:
    """All members of a stored (uncompressed) ZIP, by name, in the archive's order.

    Raises:
        NmcError: ``code`` when the archive is broken or holds duplicate, overlapping, encrypted or compressed
            members, or data before or behind it; NMC-F02 for absolute or climbing names and links;
            NMC-F03 over the limits.
    """
    with _opened_zip(io.BytesIO(data), len(data), who, limits, code, deflate=False) as (archive, members):
        return {member.filename: read_member(archive, member) for member in members}


def read_zip_members(path: AnyPath, limits: Limits = Limits(), code: str = "NMC-F06") -> dict[str, bytes]:
    """``unzip`` of a file."""
    return unzip(read_bytes(path, limits, code), os.fspath(path), limits, code)


_NPY_HEADER = re.compile(
    r"\{\s*'descr'\s*:\s*'(?P<dtype>[<>|=]?[a-zA-Z?]\d*)'\s*,"
    r"\s*'fortran_order'\s*:\s*(?P<fortran>True|False)\s*,"
    r"\s*'shape'\s*:\s*\((?P<shape>[\d,\s]*)\)\s*,?\s*\}\s*"
)


@dataclass(frozen=True)
class NpyHeader:
    """What the head of a .npy file says; ``start``: where its data begin."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool
    start: int

    @property
    def data_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def _npy_refusal(who: str, code: str, problem: str) -> NmcError:
    return NmcError(code, who, f"is not a readable .npy array ({problem})", "save plain numeric arrays")


def parse_npy_header(data: bytes, who: str, code: str, kinds: str = "biuf") -> NpyHeader:
    """The header at the start of ``data``; it is matched by a pattern and never evaluated.

    Raises NmcError ``code`` for objects, records and other dtype kinds than ``kinds``.
    """
    if data[:6] != b"\x93NUMPY" or data[6:8] not in (b"\x01\x00", b"\x02\x00", b"\x03\x00"):
        raise _npy_refusal(who, code, "no NPY header")
    start = 10 if data[6] == 1 else 12
    end = start + int.from_bytes(data[8:start], "little")
    if end - start > NPY_HEADER_BYTES:
        raise _npy_refusal(who, code, f"header of {end - start:,} bytes")
    header = _NPY_HEADER.fullmatch(data[start:end].decode("latin-1"))
    if header is None:
        raise _npy_refusal(who, code, "header of a foreign form")
    try:
        dtype = np.dtype(header["dtype"])
        shape = tuple(int(number) for number in header["shape"].replace(",", " ").split())
    except (ValueError, TypeError) as error:
        raise _npy_refusal(who, code, reason(error)) from error
    if dtype.kind not in kinds:
        raise _npy_refusal(who, code, f"data of type {dtype}")
    return NpyHeader(dtype, shape, header["fortran"] == "True", end)


def parse_npy(data: bytes, who: str, code: str, kinds: str = "biuf") -> npt.NDArray[Any]:
    """The array in the bytes of a .npy file, as a read-only view of them.

    Raises as ``parse_npy_header``, and where the size does not match the shape.
    """
    header = parse_npy_header(data, who, code, kinds)
    if header.data_bytes != len(data) - header.start:
        raise _npy_refusal(
            who, code, f"shape {header.shape} does not match {len(data) - header.start:,} bytes"
        )
    try:
        array: npt.NDArray[Any] = np.frombuffer(data, header.dtype, offset=header.start)
        return array.reshape(header.shape, order="F" if header.fortran else "C")
    except (ValueError, TypeError, OverflowError) as error:
        raise _npy_refusal(who, code, reason(error)) from error


def npy_bytes(array: npt.NDArray[Any]) -> bytes:
    """The bytes of a .npy file (version 1.0, C order, little-endian): the same for every NumPy."""
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)
    header = f"{{'descr': '{array.dtype.str}', 'fortran_order': False, 'shape': {array.shape}, }}"
    header += " " * (-(10 + len(header) + 1) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + array.tobytes()


@contextlib.contextmanager
def open_npz(
    path: AnyPath, limits: Limits = Limits()
) -> Iterator[tuple[zipfile.ZipFile, list[zipfile.ZipInfo]]]:
    """A .npz archive and its members, once every guard has passed; only read inside the block.

    Raises:
        NmcError: NMC-D01 when it cannot be read, also where the damage shows later, inside the block;
            NMC-F02 for unsafe member names, NMC-F03 over the limits.
    """
    size, name = check_regular(path, limits, "NMC-D01"), os.fspath(path)
    try:
        with (
            open(path, "rb") as file,
            _opened_zip(file, size, name, limits, "NMC-D01", deflate=True) as opened,
        ):
            yield opened
    except OSError as error:
        raise NmcError("NMC-D01", name, f"cannot be read ({reason(error)})") from error


def read_npz(path: AnyPath, limits: Limits = Limits()) -> dict[str, npt.NDArray[Any]]:
    """Arrays of a .npz file by name, read-only: numbers and strings, never pickles. Raises as open_npz."""
    arrays = {}
    with open_npz(path, limits) as (archive, members):
        for member in members:
            who = f"{os.fspath(path)}: {member.filename}"
            array = parse_npy(read_member(archive, member), who, "NMC-D01", "biufUS")
            arrays[member.filename.removesuffix(".npy")] = array
    return arrays


# --- reading: HDF5 ----------------------------------------------------------------------------------


@contextlib.contextmanager
def open_hdf5(path: AnyPath, limits: Limits = Limits()) -> Iterator[h5py.File]:
    """An HDF5 file, read-only, after every guard of ``safehdf5`` has passed; only read inside the block.

    Raises:
        NmcError: NMC-F01 for a file that is missing, empty, truncated or of another format, also where the
            damage shows later, inside the block; NMC-F02 for links, virtual and external data, foreign
            filters and unsafe names; NMC-F03 over the limits; NMC-F04 for data types other than numbers
            and strings.
    """
    import h5py

    from nmc import safehdf5

    who = os.fspath(path)
    size = check_regular(path, limits)
    damaged = "is damaged or not an HDF5 file"
    safehdf5.check_heaps(read_bytes(path, limits, "NMC-F01"), who)
    try:
        with h5py.File(path, "r") as file:
            try:
                safehdf5.check(file, size, who, limits)
            except (KeyError, ValueError, TypeError, RuntimeError) as error:
                raise NmcError("NMC-F01", who, f"{damaged} ({reason(error)})", "export it again") from error
            yield file
    except OSError as error:
        raise NmcError("NMC-F01", who, f"{damaged} ({reason(error)})", "export it again") from error
