"""Tensors of a ``.safetensors`` file: eight bytes of header length, a JSON header, then raw data."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nmc import safeio
from nmc.errors import NmcError

MAX_HEADER = 100 << 20
TYPES: dict[str, str] = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"},
    **{"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?"},
}


def read_safetensors(path: str | os.PathLike[str]) -> dict[str, npt.NDArray[Any]]:
    """All tensors by name; bfloat16 as float32.

    Raises:
        NmcError: NMC-F01 for what is no such file, NMC-F04 for a header that does not fit the data.
    """
    size = safeio.check_regular(path)
    data = Path(path).read_bytes()
    length = int.from_bytes(data[:8], "little")
    if size < 8 or length > min(MAX_HEADER, size - 8):
        raise NmcError(
            "NMC-F01", os.fspath(path), "is no safetensors file", "save it with safetensors.torch.save_file"
        )
    try:
        header = json.loads(data[8 : 8 + length])
        body = memoryview(data)[8 + length :]
        return {name: _tensor(body, one) for name, one in header.items() if name != "__metadata__"}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        problem = f"its header does not describe its data ({type(error).__name__})"
        raise NmcError("NMC-F04", os.fspath(path), problem, "save it again") from None


def _tensor(body: memoryview, facts: dict[str, Any]) -> npt.NDArray[Any]:
    start, stop = facts["data_offsets"]
    shape = tuple(facts["shape"])
    dtype = np.dtype(TYPES[facts["dtype"]])
    if not 0 <= start <= stop <= len(body) or stop - start != math.prod(shape) * dtype.itemsize:
        raise ValueError("offsets")
    values = np.frombuffer(body[start:stop], dtype).reshape(shape)
    if facts["dtype"] == "BF16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.copy()
