"""Good and broken NIR files, made from the packaged digits network."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import h5py
import numpy as np

DIGITS = Path(str(files("nmc") / "data" / "digits_sew.nir"))
CALIBRATION = Path(str(files("nmc") / "data" / "digits_calibration.npz"))


def whole(path: Path) -> None:
    shutil.copyfile(DIGITS, path)


def missing(path: Path) -> None:
    path.unlink(missing_ok=True)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("not a network\n" * 100)


def truncated(path: Path) -> None:
    data = DIGITS.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def directory(path: Path) -> None:
    path.mkdir()


def other_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(3)


def edit(change: Callable[[h5py.File], object]) -> Callable[[Path], None]:
    """A maker that copies the good file and changes it."""

    def make(path: Path) -> None:
        whole(path)
        with h5py.File(path, "r+") as file:
            change(file)

    return make


def replace(name: str, value: object) -> Callable[[h5py.File], object]:
    """Put another value in the place of a data set."""

    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = value

    return change


def link_outside(file: h5py.File) -> None:
    del file["node/nodes/stem.conv/weight"]
    file["node/nodes/stem.conv/weight"] = h5py.ExternalLink("other.h5", "/secret")


def link_in_a_circle(file: h5py.File) -> None:
    file["node/nodes/stem.conv/again"] = h5py.SoftLink("/node/nodes")


def declare_64_gib(file: h5py.File) -> None:
    del file["node/nodes/stem.conv/weight"]
    file.create_dataset("node/nodes/stem.conv/weight", (1 << 17, 1 << 17), "f4", chunks=(1024, 1024))


def nan_weight(file: h5py.File) -> None:
    file["node/nodes/stem.conv/weight"][0, 0, 0, 0] = np.nan


def wrong_shape(file: h5py.File) -> None:
    replace("node/nodes/stage1.0.conv1/weight", np.zeros((12, 7, 3, 3), np.float32))(file)


def edges_without(node: str) -> Callable[[h5py.File], object]:
    """Drop every edge into a node."""

    def change(file: h5py.File) -> None:
        edges = [tuple(map(bytes.decode, edge)) for edge in file["node/edges"][()]]
        _set_edges(file, [edge for edge in edges if edge[1] != node])

    return change


def edge_to_nowhere(file: h5py.File) -> None:
    edges = [tuple(map(bytes.decode, edge)) for edge in file["node/edges"][()]]
    _set_edges(file, [*edges, ("stem.if", "nowhere")])


def _set_edges(file: h5py.File, edges: list[tuple[str, str]]) -> None:
    del file["node/edges"]
    file.create_dataset("node/edges", data=np.array(edges, dtype=object), dtype=h5py.string_dtype())


def without(name: str) -> Callable[[h5py.File], object]:
    """Drop a field."""

    def change(file: h5py.File) -> None:
        del file[name]

    return change


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing": (missing, "NMC-F01"),
    "empty": (empty, "NMC-F01"),
    "text": (text, "NMC-F01"),
    "truncated": (truncated, "NMC-F01"),
    "directory": (directory, "NMC-F01"),
    "another HDF5 file": (other_hdf5, "NMC-F01"),
    "external link": (edit(link_outside), "NMC-F02"),
    "soft-link cycle": (edit(link_in_a_circle), "NMC-F02"),
    "64 GiB declared": (edit(declare_64_gib), "NMC-F03"),
    "NaN weight": (edit(nan_weight), "NMC-G04"),
    "unknown node": (edit(replace("node/nodes/stem.if/type", "Attention")), "NMC-F05"),
    "missing weight": (edit(without("node/nodes/stem.conv/weight")), "NMC-F04"),
    "edge to a missing node": (edit(edge_to_nowhere), "NMC-G01"),
    "node without input": (edit(edges_without("stage2.0.shortcut.conv")), "NMC-G02"),
    "shape mismatch": (edit(wrong_shape), "NMC-G03"),
}
"""Name -> (maker, code of the refusal)."""
