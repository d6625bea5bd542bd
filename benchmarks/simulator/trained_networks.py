"""Trained networks to time: the demo's, and a converted ResNet-20, with the firing rates of real images."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

import nmc
from nmc.backends import encode
from nmc.ir import Network

ROOT = Path(__file__).parents[2]
CHIP = "loihi2"
STEPS = 32
EPOCHS = 3
"""Of the ResNet-20: not enough for its best accuracy, but for the rates of a trained network."""

KEYS = ("digits", "converted20")


def trained(key: str, cache: Path) -> tuple[Network, npt.NDArray[np.int64]]:
    """The quantized network and its test images, encoded; compiled once, then read from the cache."""
    path = cache / f"{key}.nmc"
    images = _digits() if key == "digits" else _converted_images()[1]
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        (_compile_digits() if key == "digits" else _convert()).save(path)
    network = nmc.read(path).network
    return network, encode.encode(network, images)


def _digits() -> npt.NDArray[np.float32]:
    with np.load(ROOT / "nmc" / "data" / "digits_test.npz") as file:
        images: npt.NDArray[np.float32] = file["x"]
    return images


def _compile_digits() -> nmc.Bundle:
    return nmc.compile(ROOT / "nmc" / "data" / "digits_sew.nir", chip=CHIP)


def _example() -> object:
    sys.path.insert(0, str(ROOT / "examples"))
    import convert_digits

    return convert_digits


def _converted_images() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    x_train, x_test, y_train, _ = _example().load_data()  # type: ignore[attr-defined]
    return x_train, x_test, y_train


def _convert() -> nmc.Bundle:
    import torch

    torch.set_num_threads(1)
    x, _, y = _converted_images()
    with torch.enable_grad():
        ann = _example().trained(x, y, widths=(16, 32, 64), blocks=3, epochs=EPOCHS)  # type: ignore[attr-defined]
    calibration = x[:256]
    # A hard reset is what SpikingJelly has as well; Loihi's soft reset is a synapse of a neuron onto itself.
    spiking = nmc.convert(ann, calibration, STEPS, chip=CHIP, reset="hard")
    return nmc.compile(spiking, CHIP, calibration)
