"""An op graph as text and arrays: what nmc writes into ``metadata["nmc"]`` of a NIR file, and reads again.

NIR states neither the reset rule nor the comparison nor max pools or products. The metadata hold the whole
graph; arrays that a node of the file holds too are named (``node/field``), not repeated. A digest of the
file's nodes and edges tells a file that was changed after nmc wrote it.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from nmc.errors import NmcError
from nmc.frontend import opgraph as og
from nmc.frontend.opgraph import OpGraph
from nmc.frontend.raw import RawGraph, Value
from nmc.ir import Compare, FloatArray

SCHEMA = 1
INLINE = 8
"""Arrays of up to this many elements stand in the text."""
OPS: dict[str, type[Any]] = {kind.__name__: kind for kind in get_args(og.Op)}
ENUMS: dict[str, type[enum.Enum]] = {"ResetRule": og.ResetRule, "Compare": Compare}
ARRAYS = "arrays/"


def digest(nodes: Mapping[str, Any], edges: tuple[og.Edge, ...]) -> str:
    """SHA-256 of types, fields and edges of ``RawNode``s, whatever their order."""
    total = hashlib.sha256()
    for name in sorted(nodes):
        total.update(json.dumps([name, nodes[name].kind]).encode())
        for key, value in sorted(nodes[name].fields.items()):
            total.update(json.dumps([key, str(value) if isinstance(value, str) else value.shape]).encode())
            if not isinstance(value, str):
                wide = np.float64 if value.dtype.kind == "f" else np.int64
                total.update(np.ascontiguousarray(value, wide).tobytes())
    total.update(json.dumps(sorted(edges)).encode())
    return total.hexdigest()


# --- writing ----------------------------------------------------------------------------------------


def encode(graph: OpGraph, stored: Mapping[int, str]) -> tuple[str, dict[str, FloatArray]]:
    """Text and the arrays that it names.

    Args:
        stored: ``node/field`` by id of the arrays that nodes of the file hold.
    """
    arrays: dict[str, FloatArray] = {}
    known = dict(stored)

    def plain(value: object) -> object:
        if isinstance(value, np.ndarray):
            if value.size <= INLINE and id(value) not in stored:
                return {"values": value.ravel().tolist(), "shape": list(value.shape)}
            if id(value) not in known:
                known[id(value)] = f"{ARRAYS}a{len(arrays)}"
                arrays[f"a{len(arrays)}"] = value
            return {"array": known[id(value)]}
        return value.value if isinstance(value, enum.Enum) else value

    nodes = [
        [name, type(op).__name__, {f.name: plain(getattr(op, f.name)) for f in dataclasses.fields(op)}]
        for name, op in graph.nodes.items()
    ]
    facts = {f: getattr(graph, f) for f in ("name", "steps", "notes", "profile")}
    content = {"schema": SCHEMA, **facts, "nodes": nodes, "edges": graph.edges}
    return json.dumps(content, allow_nan=False), arrays


# --- reading ----------------------------------------------------------------------------------------


def carries(raw: RawGraph) -> bool:
    """Whether the file holds a graph that nmc wrote."""
    return "graph" in raw.metadata


def decode(raw: RawGraph) -> OpGraph:
    """The graph in a file's metadata.

    Raises:
        NmcError: NMC-G07 when the file's nodes are no longer those that nmc wrote, NMC-F04 for metadata
            that nmc cannot have written, NMC-F07 for those of a later version.
    """
    if raw.metadata.get("digest") != digest(raw.nodes, raw.edges):
        raise NmcError(
            "NMC-G07",
            raw.name,
            "its nodes were changed after nmc wrote its metadata",
            "export it again, or remove metadata 'nmc' and give --profile",
        )
    try:
        return _graph(json.loads(str(raw.metadata["graph"]), parse_constant=_no_constant), raw)
    except NmcError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
        problem = f"metadata 'nmc' hold no graph ({type(error).__name__})"
        raise NmcError("NMC-F04", raw.name, problem, "export it again") from None


def _no_constant(text: str) -> float:
    raise ValueError(text)


def _graph(content: Mapping[str, Any], raw: RawGraph) -> OpGraph:
    if content["schema"] != SCHEMA:
        raise NmcError("NMC-F07", raw.name, f"metadata of schema {content['schema']!r:.20}", "update nmc")
    cache: dict[str, FloatArray] = {}

    def array(value: Mapping[str, Any]) -> FloatArray:
        if "values" in value:
            return og.constant(np.array(value["values"], np.float64).reshape(value["shape"]))
        key = value["array"]
        if key not in cache:
            cache[key] = og.constant(_stored(raw, key))
        return cache[key]

    nodes = {}
    for name, kind, fields in content["nodes"]:
        if name in nodes:
            raise ValueError(name)
        types = {f.name: str(f.type) for f in dataclasses.fields(OPS[kind])}
        if set(types) != set(fields):
            raise ValueError(kind)
        nodes[_text(name)] = OPS[kind](**{key: _value(types[key], fields[key], array) for key in fields})
    return OpGraph(
        nodes,
        tuple((_text(a), _text(b)) for a, b in content["edges"]),
        _text(content["name"]),
        None if content["steps"] is None else _whole(content["steps"]),
        tuple(_text(note) for note in content["notes"]),
        _text(content["profile"]),
    )


def _stored(raw: RawGraph, key: str) -> npt.NDArray[Any]:
    value: Value
    if key.startswith(ARRAYS):
        value = raw.metadata[key]
    else:
        node, field = key.rsplit("/", 1)
        value = raw.nodes[node].fields[field]
    if isinstance(value, str):
        raise TypeError(key)
    return value


def _value(kind: str, value: Any, array: Callable[[Mapping[str, Any]], FloatArray]) -> Any:
    """A field of an op, by its declared type."""
    if value is None and kind.endswith("| None"):
        return None
    kind = kind.removesuffix(" | None")
    if kind == "FloatArray":
        return array(value)
    if kind in ("Pair", "Shape"):
        numbers = tuple(_whole(number) for number in value)
        if kind == "Pair" and len(numbers) != 2:
            raise ValueError(kind)
        return numbers
    if kind in ENUMS:
        return ENUMS[kind](value)
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind == "int":
        return _whole(value)
    if kind == "float" and isinstance(value, float | int):
        return float(value)
    raise TypeError(kind)


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("int")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("str")
    return value
