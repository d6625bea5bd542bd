"""What ``netjson.py`` and ``bundle.py`` share: arrays by content, JSON objects with checked fields."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar

import numpy as np
import numpy.typing as npt

from nmc.errors import NmcError
from nmc.ir import frozen
from nmc.safeio import npy_bytes, parse_npy

Array = npt.NDArray[Any]
Choice = TypeVar("Choice", bound=enum.Enum)


class ArrayStore:
    """Arrays by content. Integers are kept in the narrowest type and remember their own."""

    def __init__(self) -> None:
        self.members: dict[str, bytes] = {}

    def put(self, array: Array) -> dict[str, str]:
        """A reference to the array: {"array": its digest, "dtype": its own type}."""
        dtype = array.dtype.newbyteorder("<").str
        data = npy_bytes(array.astype(_narrowest(array)) if array.dtype.kind in "iu" else array)
        digest = hashlib.sha256(data).hexdigest()
        self.members[f"{digest}.npy"] = data
        return {"array": digest, "dtype": dtype}


def _narrowest(array: Array) -> np.dtype[Any]:
    lowest, highest = (int(array.min()), int(array.max())) if array.size else (0, 0)
    for kind in "iu":
        for size in (1, 2, 4, 8):
            dtype = np.dtype(f"<{kind}{size}")
            if np.iinfo(dtype).min <= lowest and highest <= np.iinfo(dtype).max:
                return dtype
    raise AssertionError("every integer array fits int64 or uint64")


class ArrayReader:
    """Arrays by digest; each file is parsed once. ``unused`` tells which were never asked for."""

    def __init__(self, members: Mapping[str, bytes], who: str) -> None:
        self._members, self._who = members, who
        self._parsed: dict[str, Array] = {}

    def get(self, record: Record) -> Array:
        digest, dtype = record.text("array"), record.text("dtype")
        if digest not in self._parsed:
            member = f"{digest}.npy"
            if member not in self._members:
                record.refuse("array", f"names {digest[:16]}, which is missing")
            self._parsed[digest] = parse_npy(
                self._members[member], f"{self._who}: {member}", "NMC-F06", "biuf"
            )
        array = self._parsed[digest]
        if dtype not in _DTYPES or not np.can_cast(array.dtype, dtype):
            record.refuse("dtype", f"is {dtype[:40]}, the array has {array.dtype.str}")
        return frozen(array, dtype)

    @property
    def unused(self) -> set[str]:
        return set(self._members) - {f"{digest}.npy" for digest in self._parsed}


_DTYPES = (
    "|b1",
    "|i1",
    "|u1",
    *(f"<{kind}{size}" for kind, size in ("i2", "i4", "i8", "u2", "u4", "u8", "f2", "f4", "f8")),
)


class Record:
    """A JSON object with exactly the expected keys; every getter checks its type. Raises NMC-F06."""

    def __init__(self, value: Any, keys: set[str], who: str) -> None:
        self._who = who
        self._value: dict[str, Any] = value if isinstance(value, dict) else {}
        if set(self._value) != keys or not isinstance(value, dict):
            odd = sorted(set(self._value) ^ keys)[:3]
            raise NmcError(
                "NMC-F06", who, f"is not an object with the expected fields (see {', '.join(odd)})"
            )

    def refuse(self, key: str, problem: str) -> NoReturn:
        raise NmcError("NMC-F06", f"{self._who}: {key}", problem)

    def raw(self, key: str) -> Any:
        return self._value[key]

    def _typed(self, key: str, kind: type | tuple[type, ...], words: str) -> Any:
        value = self._value[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.refuse(key, f"is no {words}")
        return value

    def text(self, key: str) -> str:
        return str(self._typed(key, str, "text"))

    def flag(self, key: str) -> bool:
        return bool(self._typed(key, bool, "true or false"))

    def integer(self, key: str, lowest: int = 0) -> int:
        value = int(self._typed(key, int, "whole number"))
        if value < lowest:
            self.refuse(key, f"is {value}, at least {lowest} is allowed")
        return value

    def number(self, key: str) -> float:
        return float(self._typed(key, float, "number with a decimal point"))

    def items(self, key: str) -> list[Any]:
        return list(self._typed(key, list, "list"))

    def texts(self, key: str) -> tuple[str, ...]:
        if not all(isinstance(one, str) for one in self.items(key)):
            self.refuse(key, "is no list of texts")
        return tuple(self.items(key))

    def integers(self, key: str, lowest: int, length: int | None = None) -> tuple[int, ...]:
        values = self.items(key)
        if not all(type(one) is int and one >= lowest for one in values) or length not in (None, len(values)):
            self.refuse(key, f"is no list of whole numbers from {lowest}")
        return tuple(values)

    def pair(self, key: str, lowest: int) -> tuple[int, int]:
        first, second = self.integers(key, lowest, 2)
        return first, second

    def choice(self, key: str, kind: type[Choice]) -> Choice:
        for one in kind:
            if one.value == self._value[key]:
                return one
        self.refuse(key, "has an unknown value")
