"""Networks of the zoo whose trained weights ship with nmc."""

from __future__ import annotations

from importlib.resources import as_file, files

from nmc.frontend.opgraph import OpGraph
from nmc.frontend.safetensors import read_safetensors
from nmc.frontend.zoo.events import seven_b
from nmc.frontend.zoo.moving_shapes import FIELD, MOTIONS
from nmc.frontend.zoo.weights import with_tensors

WEIGHTS = "moving_shapes_7b.safetensors"
WIDTH, STEPS = 0.5, 16


def seven_b_untrained(seed: int = 0) -> OpGraph:
    """7B-Net of half the published width for ``moving_shapes``: 32 x 32 pixels, T = 16, eleven classes."""
    return seven_b(size=FIELD, width=WIDTH, classes=len(MOTIONS), steps=STEPS, seed=seed)


def seven_b_trained() -> OpGraph:
    """The same with the weights that ``examples/train_events.py`` learned."""
    with as_file(files("nmc") / "data" / WEIGHTS) as path:
        return with_tensors(seven_b_untrained(), read_safetensors(path))
