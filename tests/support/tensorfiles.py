"""Safetensors files, written plainly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np


def safetensors(
    path: Path, tensors: Mapping[str, np.ndarray], kinds: Mapping[str, str] | str = "F32"
) -> Path:
    """Write tensors of one kind, or of the kinds that names have; returns the path."""
    header, body = {}, b""
    for name, array in tensors.items():
        end = len(body) + array.nbytes
        kind = kinds if isinstance(kinds, str) else kinds.get(name, "F32")
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": [len(body), end]}
        body += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
    return path
