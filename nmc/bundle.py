"""The ``.nmc`` bundle: one file with a network, its mapping, its chip and a small proof of what it computes.

A stored (uncompressed) ZIP with sorted members and fixed dates:

manifest.json   schema, nmc's version, build id; per member its SHA-256 and size, dtype and shape of arrays
network.json    the network without its arrays        tensors/*.npy  its arrays, named by content
mapping.json    tiles and cores, null before mapping  chip.toml      the chip file
config.json     how it was compiled                   report.json    optional
golden.json     names of arrays such as input and spikes, which lie in golden/*.npy
verified.json   optional: what nmc verify compared

The archive's comment is the SHA-256 of every byte before it, and it is checked before anything is
parsed. The same content gives the same bytes on every machine.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nmc import __version__, verification
from nmc.backends.compare import Verification
from nmc.chip import Chip, parse_chip
from nmc.errors import InternalError, NmcError
from nmc.ir import Network, Stage
from nmc.netjson import mapping_to_json, network_from_json, network_to_json
from nmc.records import ArrayReader, ArrayStore, Record
from nmc.reports.model import VerifiedRun
from nmc.rules import verify
from nmc.safeio import (
    Limits,
    atomic_write,
    canonical_json,
    parse_json,
    parse_npy,
    read_bytes,
    unzip,
)

SCHEMA = "nmc.bundle/1"
_MARK = b"nmc-sha256:"
_COMMENT_BYTES = len(_MARK) + 64
_REQUIRED = {"chip.toml", "config.json", "golden.json", "manifest.json", "mapping.json", "network.json"}
_ADDED = {"report.json", "verified.json"}
_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, eq=False)
class Bundle:
    """A compiled network of any stage with all that is needed to run, verify and report it.

    config: JSON values only. golden: small arrays by name, of any numeric dtype. report: a JSON document.
    verified: the comparisons of engines that were made with this build.
    """

    network: Network
    chip: Chip
    config: dict[str, Any] = field(default_factory=dict)
    golden: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    report: dict[str, Any] | None = None
    verified: tuple[VerifiedRun, ...] = ()

    @cached_property
    def members(self) -> dict[str, bytes]:
        """Everything but the manifest, sorted by name.

        Raises NmcError NMC-C02 for a chip that differs from its own file: it would be read back as another.
        """
        if parse_chip(self.chip.toml, self.chip.name) != self.chip:
            raise NmcError(
                "NMC-C02",
                self.chip.name,
                "was changed after it was read",
                "change a copy of its file instead",
            )
        tensors, arrays = ArrayStore(), ArrayStore()
        golden = {name: arrays.put(np.asarray(array)) for name, array in self.golden.items()}
        members = {
            "network.json": canonical_json(network_to_json(self.network, tensors)),
            "mapping.json": canonical_json(mapping_to_json(self.network)),
            "chip.toml": self.chip.toml,
            "config.json": canonical_json(self.config),
            "golden.json": canonical_json(golden),
            **{f"tensors/{name}": data for name, data in tensors.members.items()},
            **{f"golden/{name}": data for name, data in arrays.members.items()},
        }
        if self.report is not None:
            members["report.json"] = canonical_json(self.report)
        if self.verified:
            record = verification.to_json(self.verified, _build_id(members))
            members["verified.json"] = canonical_json(record)
        return dict(sorted(members.items()))

    @cached_property
    def build_id(self) -> str:
        """SHA-256 over the content; the report and the verification record may be added later."""
        return _build_id(self.members)

    def with_verification(self, result: Verification) -> Bundle:
        """The same build with one more comparison in its record. Raises NmcError NMC-U02 for too many."""
        runs = verification.added(self.verified, verification.record_of(result))
        return replace(self, verified=runs)

    def save(self, path: str | os.PathLike[str]) -> None:
        save(self, path)

    def _repr_html_(self) -> str:
        from nmc.reports.build import build_report

        report = build_report(self.network, self.chip, config=self.config, verified=self.verified)
        return report._repr_html_()


def _digest(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


def _build_id(members: dict[str, bytes]) -> str:
    lines = (f"{name} {_digest(data)}\n" for name, data in sorted(members.items()) if name not in _ADDED)
    return _digest("".join(lines).encode())


def _manifest(members: dict[str, bytes], version: str) -> dict[str, Any]:
    """What the manifest must say about these members."""
    entries = {}
    for name, data in members.items():
        entry: dict[str, Any] = {"sha256": _digest(data), "bytes": len(data)}
        if name.endswith(".npy"):
            array = parse_npy(data, name, "NMC-F06")
            entry.update(dtype=array.dtype.str, shape=list(array.shape))
        entries[name] = entry
    return {"schema": SCHEMA, "nmc": version, "build_id": _build_id(members), "members": entries}


def to_bytes(bundle: Bundle) -> bytes:
    """The whole file."""
    members = {**bundle.members, "manifest.json": canonical_json(_manifest(bundle.members, __version__))}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(members.items()):
            info = zipfile.ZipInfo(name, _DATE)
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            archive.writestr(info, data)
        archive.comment = _MARK + b"0" * 64
    size = buffer.tell() - 64
    digest = _digest(buffer.getbuffer()[:size])
    buffer.seek(size)
    buffer.write(digest.encode())
    return buffer.getvalue()


def save(bundle: Bundle, path: str | os.PathLike[str]) -> None:
    """Write the bundle, whole or not at all. Raises NmcError NMC-W01."""
    atomic_write(path, to_bytes(bundle))


def is_bundle(path: str | os.PathLike[str]) -> bool:
    """Whether the file ends like a bundle: enough to overwrite it, not enough to trust it."""
    try:
        if not os.path.isfile(path):  # a pipe would be waited for
            return False
        with open(path, "rb") as file:
            file.seek(-_COMMENT_BYTES, os.SEEK_END)
            return file.read(len(_MARK)) == _MARK
    except (OSError, ValueError):
        return False


def opened(bundle: Bundle | str | os.PathLike[str] | Any) -> Bundle:
    """A bundle as it is given, or read from its path.

    Raises:
        NmcError: NMC-F01 for a model that was not compiled yet, NMC-U02 for what is no bundle at all, and
            those of ``read``.
    """
    if isinstance(bundle, Bundle):
        return bundle
    if not isinstance(bundle, str | os.PathLike):
        remedy = "compile it first: nmc.compile(model, chip, data)"
        raise NmcError("NMC-U02", type(bundle).__name__, "is no bundle, nor the path of one", remedy)
    path = Path(bundle)
    if path.suffix in (".nir", ".net") and path.is_file():
        also = ", or run it with --engine float" if path.suffix == ".nir" else ""
        remedy = f"compile it first: nmc compile {path} -o model.nmc{also}"
        raise NmcError("NMC-F01", str(path), "is a model, not a bundle", remedy)
    return read(path)


def read(path: str | os.PathLike[str]) -> Bundle:
    """Read a bundle; every checksum is verified before anything is parsed.

    Raises:
        NmcError: NMC-F01 when it is missing or no bundle; NMC-F06 when anything was changed, is missing,
            is too much or breaks a rule of ``rules.py``; NMC-F07 for another schema; NMC-F02, NMC-F03 for
            members that no bundle has.
    """
    who, limits = os.fspath(path), Limits()
    data = read_bytes(path, limits)
    _check_digest(data, who)
    members = unzip(data, who, limits)
    del data
    _check_manifest(members, who, limits)
    try:
        return _decode(members, who, limits)
    except InternalError as error:
        raise NmcError("NMC-F06", who, f"breaks a rule of nmc: {error}") from error


def _broken(who: str, problem: str) -> NmcError:
    return NmcError("NMC-F06", who, problem, "the file was changed or damaged; compile or copy it again")


def _check_digest(data: bytes, who: str) -> None:
    starts, ends = data.startswith(b"PK"), data[-_COMMENT_BYTES:].startswith(_MARK)
    if not starts and not ends:
        raise NmcError("NMC-F01", who, "is no nmc bundle")
    if not starts or not ends or _digest(memoryview(data)[:-64]).encode() != data[-64:]:
        raise _broken(who, "its bytes do not match the checksum at its end")


def _check_manifest(members: dict[str, bytes], who: str, limits: Limits) -> None:
    """Schema, member list, and everything that the manifest says of the members."""
    if missing := sorted(_REQUIRED - set(members)):
        raise _broken(who, f"lacks {', '.join(missing)}")
    manifest = parse_json(members.pop("manifest.json"), f"{who}: manifest.json", limits, "NMC-F06")
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    if schema != SCHEMA:
        if isinstance(schema, str) and schema.startswith("nmc.bundle/"):
            raise NmcError(
                "NMC-F07", who, f"has schema {schema[:40]}, this nmc reads {SCHEMA}", "use another nmc"
            )
        raise _broken(who, "its manifest names no schema")
    for name in members:
        if name not in {*_REQUIRED, *_ADDED} and not _is_array(name):
            raise _broken(who, f"holds the foreign member {name[:80]}")
    version = Record(manifest, {"schema", "nmc", "build_id", "members"}, f"{who}: manifest.json").text("nmc")
    expected = _manifest(members, version)
    if manifest != expected:
        raise _broken(who, f"manifest and members differ in {', '.join(_differences(manifest, expected))}")


def _is_array(name: str) -> bool:
    folder, _, file = name.partition("/")
    return folder in ("tensors", "golden") and file.endswith(".npy") and len(file) == 68


def _differences(manifest: dict[str, Any], expected: dict[str, Any]) -> Iterator[str]:
    """Names of what differs, at most five members."""
    said, true = manifest["members"], expected["members"]
    if not isinstance(said, dict):
        yield "members"
        return
    differing = [name for name in sorted({*said, *true}) if said.get(name) != true.get(name)]
    yield from (name[:80] for name in differing[:5])
    if manifest["build_id"] != expected["build_id"]:
        yield "build id"


def _decode(members: dict[str, bytes], who: str, limits: Limits) -> Bundle:
    def document(name: str) -> Any:
        return parse_json(members[name], f"{who}: {name}", limits, "NMC-F06")

    def folder(prefix: str) -> ArrayReader:
        arrays = {
            name.removeprefix(prefix): data for name, data in members.items() if name.startswith(prefix)
        }
        return ArrayReader(arrays, who)

    tensors, arrays = folder("tensors/"), folder("golden/")
    chip = parse_chip(members["chip.toml"], f"{who}: chip.toml")
    network = network_from_json(
        document("network.json"), document("mapping.json"), tensors, f"{who}: network.json"
    )
    documents = {
        name: document(name) for name in ("golden.json", "config.json", "report.json") if name in members
    }
    for name, value in documents.items():
        if not isinstance(value, dict):
            raise _broken(who, f"{name} is no object")
    loaded = {
        name: arrays.get(Record(one, {"array", "dtype"}, f"{who}: golden.json: {name[:80]}"))
        for name, one in documents["golden.json"].items()
    }
    if unused := sorted(tensors.unused | arrays.unused):
        raise _broken(who, f"holds arrays that nothing uses, such as {unused[0][:16]}")
    verify(network, network.stage)
    _check_tiles(network, chip, who)
    runs: tuple[VerifiedRun, ...] = ()
    if "verified.json" in members:
        runs = verification.from_json(document("verified.json"), _build_id(members), f"{who}: verified.json")
    return Bundle(network, chip, documents["config.json"], loaded, documents.get("report.json"), runs)


def _check_tiles(network: Network, chip: Chip, who: str) -> None:
    """Tiles lie inside their populations, on cores of the chip.

    The limits of a core are the business of ``partition/check.py``.
    """
    if (network.mapping is None) != (network.stage < Stage.MAPPED):
        raise _broken(who, "stage and mapping contradict each other")
    if network.mapping is None:
        return
    cores = [tile.core for tile in network.mapping.tiles]
    if chip.cores is not None and max(cores, default=0) >= chip.cores:
        raise _broken(who, "its mapping uses a core that the chip has not got")
    for tile in network.mapping.tiles:
        shape = network[tile.population].shape if tile.population in network else ()
        inside = len(tile.ranges) == len(shape) and all(
            start < stop <= size for (start, stop), size in zip(tile.ranges, shape, strict=True)
        )
        if not shape or not inside:
            raise _broken(who, f"its mapping has a tile outside of {tile.population[:80]}")
