"""What ``safeio.open_hdf5`` checks in an HDF5 file before anybody reads from it.

The HDF5 library follows external links, virtual datasets and external raw storage silently, loads
filter plug-ins by number and allocates what a header declares; none of it is wanted in a model file.
Attributes are not checked, so readers must not read them.
"""

from __future__ import annotations

import math
import re
import zlib

import h5py
import numpy as np

from nmc.errors import NmcError
from nmc.safeio import Limits, check_total, too_large

NAME = re.compile(rb"[A-Za-z0-9_.-]{1,128}")
FILTERS = (h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32)
DEFLATE_RATIO = 1032
"""No deflate stream holds more than this many bytes per byte."""


def check(file: h5py.File, stored: int, who: str, limits: Limits) -> None:
    """Walk the whole tree over hard links only; ``stored`` is the file's size in bytes.

    Raises NmcError NMC-F02, F03 or F04 as ``safeio.open_hdf5`` says.
    """
    datasets = _walk(file, who, limits)
    declared = 0
    for name, dataset in datasets:
        _check_storage(dataset, f"{who}: {name}")
        declared += _declared_bytes(dataset, f"{who}: {name}")
        check_total(who, declared, stored, limits)
    for name, dataset in datasets:
        if h5py.check_string_dtype(dataset.dtype) and dataset.dtype.kind == "O":
            _check_strings(dataset, stored, f"{who}: {name}", limits)
        else:
            _check_chunks(dataset, f"{who}: {name}", limits)


HEAP = b"GCOL\x01\x00\x00\x00"
"""Signature, version and reserved bytes of a global heap collection, where variable-length strings lie."""


def check_heaps(data: bytes, who: str) -> None:
    """Walk every global heap of a file before HDF5 does: on a wrong object size HDF5 2.0 loops for ever.

    After the signature come 8 bytes of size; then objects of a 16-byte header (index, references, reserved,
    size) and data in multiples of 8 bytes; index 0 is what is left (HDF5 File Format 3.0, III.E).

    Raises NmcError NMC-F01 where an object or the rest does not end where the collection does.
    """
    start = data.find(HEAP)
    while start >= 0:
        end = start + int.from_bytes(data[start + 8 : start + 16], "little")
        position = start + 16
        while position + 16 <= end:
            index = int.from_bytes(data[position : position + 2], "little")
            size = int.from_bytes(data[position + 8 : position + 16], "little")
            position += size if index == 0 else 16 + -(-size // 8) * 8
            if index == 0 and position != end:
                position = end + 1
        if position > end or end > len(data):
            raise NmcError("NMC-F01", who, f"has a damaged heap at byte {start}", "export it again")
        start = data.find(HEAP, start + len(HEAP))


def _walk(file: h5py.File, who: str, limits: Limits) -> list[tuple[str, h5py.Dataset]]:
    """All datasets with their paths; every group is visited once."""
    datasets: list[tuple[str, h5py.Dataset]] = []
    seen = {_address(file)}
    stack = [(file["/"], "", 0)]
    nodes = 0
    while stack:
        group, path, depth = stack.pop()
        nodes += len(group.id)
        if nodes > limits.max_nodes:
            raise NmcError(
                "NMC-F03",
                who,
                f"holds more than {limits.max_nodes:,} objects",
                measured=nodes,
                allowed=limits.max_nodes,
            )
        for raw in group.id:
            name = f"{path}/{raw.decode('utf-8', 'replace')}"
            _check_link(group, raw, f"{who}: {name[:200]}")
            child = group[raw]
            if isinstance(child, h5py.Dataset):
                datasets.append((name, child))
                continue
            if not isinstance(child, h5py.Group):
                raise NmcError("NMC-F02", f"{who}: {name}", "is neither a group nor a dataset")
            if _address(child) in seen:
                raise NmcError("NMC-F02", f"{who}: {name}", "is a second link to a group")
            if depth == limits.max_depth:
                raise NmcError(
                    "NMC-F03", f"{who}: {name[:200]}", f"is nested deeper than {limits.max_depth} levels"
                )
            seen.add(_address(child))
            stack.append((child, name, depth + 1))
    return datasets


def _address(group: h5py.Group) -> int:
    return int(h5py.h5o.get_info(group.id).addr)


def _check_link(group: h5py.Group, raw: bytes, who: str) -> None:
    if not NAME.fullmatch(raw) or raw in (b".", b".."):
        raise NmcError("NMC-F02", who, "unsafe name", "use 1 to 128 letters, digits and _ . -")
    kind = group.id.links.get_info(raw).type
    if kind != h5py.h5l.TYPE_HARD:
        word = {h5py.h5l.TYPE_SOFT: "a soft link", h5py.h5l.TYPE_EXTERNAL: "a link to another file"}
        raise NmcError("NMC-F02", who, f"is {word.get(kind, 'a foreign link')}", "store the data itself")


def _check_storage(dataset: h5py.Dataset, who: str) -> None:
    """Refuse data that lie outside of the file, and filters that could load a plug-in."""
    plist = dataset.id.get_create_plist()
    if plist.get_layout() == h5py.h5d.VIRTUAL:
        raise NmcError("NMC-F02", who, "is a virtual dataset", "store the data itself")
    if plist.get_external_count():
        raise NmcError("NMC-F02", who, "keeps its data in another file", "store the data itself")
    codes = _filters(dataset)
    for code in codes:
        if code not in FILTERS or codes.count(code) > 1:
            raise NmcError(
                "NMC-F02", who, f"uses the HDF5 filters {codes}", "store it with gzip or no filter"
            )


def _filters(dataset: h5py.Dataset) -> list[int]:
    plist = dataset.id.get_create_plist()
    return [int(plist.get_filter(index)[0]) for index in range(plist.get_nfilters())]


def _declared_bytes(dataset: h5py.Dataset, who: str) -> int:
    """Bytes that reading would allocate: the array, or one chunk where that is larger."""
    try:
        dtype = dataset.dtype
    except TypeError as error:
        raise NmcError("NMC-F04", who, f"holds data of a foreign type ({error})") from error
    if dtype.kind not in "biuf" and not h5py.check_string_dtype(dtype):
        raise NmcError("NMC-F04", who, f"holds data of type {dtype}", "only numbers and strings are read")
    if dataset.shape is None:
        return 0
    chunk = math.prod(dataset.chunks) if dataset.chunks else 0
    return int(max(math.prod(dataset.shape), chunk) * dtype.itemsize)


def _check_strings(dataset: h5py.Dataset, stored: int, who: str, limits: Limits) -> None:
    """Refuse variable-length strings that add up to too much: many elements may point to one long text."""
    count = dataset.size or 0
    if count * stored <= limits.max_string_bytes:
        return
    if count > limits.max_nodes:
        raise NmcError("NMC-F03", who, f"holds {count:,} strings", measured=count, allowed=limits.max_nodes)
    total = 0
    for index in np.ndindex(*dataset.shape):
        total += len(dataset[index])
        if total > limits.max_string_bytes:
            too_large(who, "the text", total, limits.max_string_bytes)


def _check_chunks(dataset: h5py.Dataset, who: str, limits: Limits) -> None:
    """Refuse a compressed chunk that inflates to more than the chunk: the library would allocate it all."""
    if h5py.h5z.FILTER_DEFLATE not in _filters(dataset):
        return
    allowed = math.prod(dataset.chunks) * dataset.dtype.itemsize + 4  # a checksum of fletcher32
    for index in range(dataset.id.get_num_chunks()):
        info = dataset.id.get_chunk_info(index)
        if info.size * DEFLATE_RATIO <= limits.ratio_floor_bytes:
            continue
        _, data = dataset.id.read_direct_chunk(info.chunk_offset)
        stream = zlib.decompressobj()
        try:
            inflated = stream.decompress(data, allowed + 1)
        except zlib.error:
            continue  # damaged or not compressed: the library reports it when it is read
        if len(inflated) > allowed:
            too_large(who, "a compressed chunk", len(inflated), allowed)
