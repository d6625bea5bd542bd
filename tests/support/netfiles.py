"""``.net`` files as lava-dl writes them, from plain dictionaries."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Layer = dict[str, Any]
NEURON = {"type": "CUBA", "iDecay": 1024, "vDecay": 128, "vThMant": 80, "refDelay": 1, "gradedSpike": False}


def chain() -> list[Layer]:
    """Input (2, 5, 6), a grouped convolution with bias, flatten, a dense layer, a readout."""
    rng = np.random.default_rng(0)
    conv = {
        "type": "conv",
        "shape": [4, 3, 5],
        "inChannels": 2,
        "outChannels": 4,
        "kernelSize": [3, 2],
        "stride": [2, 1],
        "padding": [1, 0],
        "dilation": [1, 1],
        "groups": 2,
        "weight": 2.0 * rng.integers(-40, 60, (4, 1, 3, 2)),
        "bias": [6.0, -2.0, 0.0, 10.0],
        "neuron": NEURON,
    }
    dense = {
        "type": "dense",
        "shape": [5, 1, 1],
        "inFeatures": 60,
        "outFeatures": 5,
        "weight": 2.0 * rng.integers(-40, 50, (5, 60)),
        "neuron": NEURON,
    }
    end = {
        "type": "dense",
        "shape": [3],
        "inFeatures": 5,
        "outFeatures": 3,
        "weight": 2.0 * rng.integers(-30, 40, (3, 5)),
    }
    return deepcopy(
        [{"type": "input", "shape": [2, 5, 6]}, conv, {"type": "flatten", "shape": [60, 1, 1]}, dense, end]
    )


VARIANTS: dict[str, dict[int, Layer]] = {
    "plain": {},
    "frames": {0: {"weight": [36.0], "bias": [34.0], "neuron": NEURON}},
    "one delay": {3: {"delay": 3.0}},
    "delays": {3: {"delay": [0.0, 2.0, 1.0, 2.0, 5.0]}},
    "unsigned": {3: {"weight": np.arange(300.0).reshape(5, 60) % 7}},
    "recurrent": {3: {"type": "dense_rec", "weight_rec": 2.0 * np.arange(-12, 13).reshape(5, 5)}},
}
"""Fields of ``chain`` that differ, by the layer's index."""


def variant(name: str) -> list[Layer]:
    layers = chain()
    for index, fields in VARIANTS[name].items():
        layers[index] |= fields
    return layers


def write(path: Path, layers: list[Layer], simulation: Mapping[str, int] | None = None) -> Path:
    """The file; lists and numbers become the arrays that lava-dl would write."""
    with h5py.File(path, "w") as file:
        for index, layer in enumerate(layers):
            group = file.create_group(f"layer/{index}")
            group["type"] = np.array([layer["type"]], "S10")
            for key, value in layer.items():
                if key == "neuron":
                    for name, number in value.items():
                        group[f"neuron/{name}"] = number
                elif key != "type":
                    group[key] = value
        for key, value in (simulation or {"Ts": 1, "tSample": 8}).items():
            file[f"simulation/{key}"] = value
    return path
