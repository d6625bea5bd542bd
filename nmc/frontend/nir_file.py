"""From a NIR file (HDF5) to ``RawGraph``, without ``nir.read``.

The nir package follows links to other files, allocates what a file declares, accepts NaN and invents
inputs where an edge is missing. Here a file is opened by ``safeio.open_hdf5``, node types and fields are
closed lists, and what is wrong is collected, not raised, as far as reading can go on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nmc import safeio
from nmc.errors import NmcError
from nmc.frontend.nir_neurons import NEURONS
from nmc.frontend.raw import Edge, Finding, RawGraph, RawNode, Value, dissolve, nearest

if TYPE_CHECKING:
    import h5py

REQUIRED: dict[str, tuple[str, ...]] = {
    "Input": ("shape",),
    "Output": ("shape",),
    "Affine": ("weight", "bias"),
    "Linear": ("weight",),
    "Scale": ("scale",),
    "Conv1d": ("weight", "bias", "stride", "padding", "dilation", "groups"),
    "Conv2d": ("weight", "bias", "stride", "padding", "dilation", "groups"),
    "Delay": ("delay",),
    "SumPool2d": ("kernel_size", "stride", "padding"),
    "AvgPool2d": ("kernel_size", "stride", "padding"),
    "Flatten": ("start_dim", "end_dim"),
    "Threshold": ("threshold",),
    "I": ("r",),
    "IF": ("r", "v_threshold"),
    "LI": ("tau", "r", "v_leak"),
    "LIF": ("tau", "r", "v_leak", "v_threshold"),
    "CubaLI": ("tau_syn", "tau_mem", "r", "v_leak"),
    "CubaLIF": ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold"),
}
OPTIONAL: dict[str, tuple[str, ...]] = {
    "Conv1d": ("input_shape",),
    "Conv2d": ("input_shape",),
    "Flatten": ("input_type",),
    "IF": ("v_reset",),
    "LIF": ("v_reset",),
    "CubaLI": ("w_in",),
    "CubaLIF": ("v_reset", "w_in"),
}
NIR_MAJOR = (0, 1)
"""Major versions of the format that this reader knows (files of 2023 to 2026)."""


def read_raw(path: str | os.PathLike[str]) -> tuple[RawGraph, list[Finding]]:
    """All nodes, fields and edges of a file, subgraphs dissolved, with findings on fields and edges.

    Raises:
        NmcError: NMC-F01 for what is no NIR file, NMC-F02, F03 from the guards.
    """
    name = Path(path).name
    with safeio.open_hdf5(path) as file:
        root = file.get("node")
        if not _is_group(root):
            raise NmcError(
                "NMC-F01",
                os.fspath(path),
                "an HDF5 file without NIR's group 'node'",
                "export a NIR file (nir.write)",
            )
        findings = list(_version_findings(name, file))
        kind = _text(root.get("type"))
        if kind != "NIRGraph":
            problem = f"the root is of type {kind!r}, expected 'NIRGraph'"
            raise NmcError("NMC-F04", os.fspath(path), problem, "export a whole graph")
        raw = _read_graph(name, root, findings)
        metadata = _read_metadata(root)
    return RawGraph(name, raw.nodes, raw.edges, metadata), findings


def _version_findings(name: str, file: h5py.File) -> list[Finding]:
    version = _text(file.get("version"))
    major = (version or "0").split(".")[0]
    if not major.isdigit() or int(major) not in NIR_MAJOR:
        problem = f"written by NIR version {version!r:.40}, this reader knows versions 0 and 1"
        return [Finding("warning", "NMC-F07", name, problem, "check what it reads")]
    return []


def _read_graph(name: str, group: h5py.Group, findings: list[Finding]) -> RawGraph:
    """One graph; a subgraph (``NIRGraph`` node) is read first and then dissolved."""
    nodes: dict[str, RawNode | RawGraph] = {}
    members = group.get("nodes")
    if not _is_group(members):
        findings.append(
            Finding("error", "NMC-F04", name, "field 'nodes' is missing", "export the graph again")
        )
        return RawGraph(name, {}, ())
    for key in members:
        try:
            nodes[key] = _read_node(key, members[key], findings)
        except NmcError as error:
            findings.append(Finding.of(error))
            nodes[key] = RawNode("?")
    try:
        edges = _read_edges(name, group)
    except NmcError as error:
        findings.append(Finding.of(error))
        edges = []
    raw, problems = dissolve(name, nodes, edges)
    findings += problems
    return raw


def _read_edges(name: str, group: h5py.Group) -> list[Edge]:
    dataset = group.get("edges")
    if dataset is None or _is_group(dataset):
        raise NmcError("NMC-F04", name, "field 'edges' is missing", "export the graph again")
    if dataset.size == 0:
        return []
    if dataset.ndim != 2 or dataset.shape[1] != 2 or dataset.dtype.kind not in "OS":
        raise NmcError(
            "NMC-F04",
            name,
            f"edges of shape {dataset.shape}, type {dataset.dtype}",
            "expected (n, 2) strings",
        )
    return [(_decoded(name, "edges", a), _decoded(name, "edges", b)) for a, b in dataset[()]]


def _read_node(name: str, group: Any, findings: list[Finding]) -> RawNode | RawGraph:
    if not _is_group(group):
        raise NmcError("NMC-F04", name, "is no node but a bare dataset", "export the graph again")
    kind = _text(group.get("type"))
    if kind is None:
        raise NmcError("NMC-F04", name, "field 'type' is missing or no string", "export the graph again")
    if kind == "NIRGraph":
        return _read_graph(name, group, findings)
    if kind not in REQUIRED:
        known = nearest(kind, REQUIRED) or f"known types: {', '.join(sorted(REQUIRED))}, NIRGraph"
        raise NmcError("NMC-F05", name, f"unknown node type {kind!r:.60}", known)
    fields: dict[str, Value] = {}
    for key in group:
        if key not in ("type", "metadata") and key not in (*REQUIRED[kind], *OPTIONAL.get(kind, ())):
            findings.append(
                Finding(
                    "warning",
                    "NMC-F04",
                    name,
                    f"field '{key}' of {kind} is unknown and ignored",
                    "nothing to do if the node does not need it",
                )
            )
        elif key not in ("type", "metadata"):
            fields[key] = _checked(name, kind, key, _read_field(name, kind, key, group[key]))
    for key in REQUIRED[kind]:
        if key not in fields:
            raise NmcError("NMC-F04", name, f"field '{key}' of {kind} is missing", "export it again")
    return RawNode(kind, _completed(name, kind, fields))


def _checked(name: str, kind: str, key: str, value: Value) -> Value:
    """A field of a node: some numbers, or the name of a padding."""
    problem = ""
    if isinstance(value, str):
        problem = "" if key == "padding" else "text"
    elif value.size == 0:
        problem = f"empty, of shape {value.shape}"
    if problem:
        problem = f"field '{key}' of {kind} is {problem}, expected numbers"
        raise NmcError("NMC-F04", name, problem, "export the graph again")
    return value


def _read_field(name: str, kind: str, key: str, dataset: Any) -> Value:
    if _is_group(dataset):
        raise NmcError(
            "NMC-F04", name, f"field '{key}' of {kind} is a group, expected numbers", "export the graph again"
        )
    if dataset.dtype.kind in "OS" and dataset.ndim == 0:
        return _decoded(name, key, dataset[()])
    if dataset.dtype.kind not in "iuf" or dataset.shape is None:
        raise NmcError(
            "NMC-F04",
            name,
            f"field '{key}' holds {dataset.dtype}, expected numbers",
            "export the graph again",
        )
    values = np.asarray(dataset[()])
    if values.dtype.kind != "f":
        return values.astype(np.int64)
    broken = int((~np.isfinite(values)).sum())
    if broken:
        problem = f"field '{key}' has {broken} of {values.size} values that are NaN or infinite"
        raise NmcError("NMC-G04", name, problem, "train again or repair the file", measured=broken, allowed=0)
    return values.astype(np.float64)


def _completed(name: str, kind: str, fields: dict[str, Value]) -> Mapping[str, Value]:
    """A neuron's optional fields filled in and all brought to one shape."""
    if kind not in NEURONS:
        return fields
    arrays = {key: value for key, value in fields.items() if isinstance(value, np.ndarray)}
    if len(arrays) < len(fields):
        raise NmcError("NMC-F04", name, "a parameter is text, expected numbers", "export the graph again")
    shapes = {value.shape for value in arrays.values() if value.size != 1} or {
        max((value.shape for value in arrays.values()), key=len)
    }
    if len(shapes) > 1:
        listed = ", ".join(f"{key} {value.shape}" for key, value in sorted(arrays.items()))
        raise NmcError(
            "NMC-G03",
            name,
            f"its parameters differ in shape: {listed}",
            "give every parameter the shape of its layer",
        )
    shape = shapes.pop()
    if 0 in shape:
        raise NmcError("NMC-F04", name, f"parameters of shape {shape}", "every size must be at least 1")
    for key, default in (("v_reset", 0.0), ("w_in", 1.0)):
        if key in OPTIONAL.get(kind, ()):
            arrays.setdefault(key, np.asarray(default))
    whole = {
        key: np.broadcast_to(value.reshape(value.shape if value.size > 1 else ()), shape)
        for key, value in arrays.items()
    }
    for key in ("tau", "tau_mem", "tau_syn"):
        if key in whole and whole[key].min() <= 0:
            raise NmcError("NMC-F04", name, f"{key} = {whole[key].min():g}", "time constants are above 0")
    return {key: value.astype(np.float64) for key, value in whole.items()}


def _read_metadata(root: h5py.Group) -> dict[str, Value]:
    """What nmc wrote into ``metadata["nmc"]``: profile, dt, steps, or a whole graph (``nir_semantics``) with
    its arrays (``arrays/a0``). Other tools' metadata is left alone."""
    group = root.get("metadata")
    ours = group.get("nmc") if _is_group(group) else None
    if ours is None or not _is_group(ours):
        return {}
    known = ("profile", "dt", "steps", "graph", "digest")
    found = {key: _read_field("metadata", "nmc", key, ours[key]) for key in known if key in ours}
    arrays = ours.get("arrays")
    if _is_group(arrays):
        found |= {f"arrays/{key}": _read_field("metadata", "nmc", key, arrays[key]) for key in arrays}
    return found


def _is_group(item: Any) -> bool:
    import h5py

    return isinstance(item, h5py.Group)


def _text(dataset: Any) -> str | None:
    if dataset is None or _is_group(dataset) or dataset.dtype.kind not in "OS" or dataset.shape != ():
        return None
    value = dataset[()]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else None


def _decoded(name: str, key: str, value: Any) -> str:
    if not isinstance(value, bytes):
        raise NmcError(
            "NMC-F04",
            name,
            f"field '{key}' holds {type(value).__name__}, expected text",
            "export the graph again",
        )
    return value.decode("utf-8", "replace")
