"""Synthetic event data for the reference networks: shapes that move before an event camera; the class is
how they move.

A square, triangle, bar or cross, brighter or darker than the background, of any size and angle, moves in one
of eight directions, turns one way or the other, or grows. The polarity of a leading edge depends on the
contrast, which is drawn too: no single frame tells the motion. Sample i of a split only depends on the seed,
the split and i, so that a larger set begins with the smaller one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Split: TypeAlias = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
DIRECTIONS = ("east", "north-east", "north", "north-west", "west", "south-west", "south", "south-east")
MOTIONS = (*DIRECTIONS, "clockwise", "counterclockwise", "growing")
SHAPES = ("square", "triangle", "bar", "cross")

THRESHOLD = 0.3
"""Change of intensity since a pixel's last event at which it sends the next one; the contrast is 1."""
SUBPIXELS = 2
"""Samples per pixel and axis of which intensity is the mean."""
FIELD = 32
"""Pixels for which speeds and sizes below are meant; other fields scale them."""


@dataclass(frozen=True)
class Motion:
    """One sample's drawn numbers: pixels, radians and steps; radius grows by the factor ``growth`` a step."""

    shape: str
    contrast: float
    radius: float
    angle: float
    centre: tuple[float, float]
    velocity: tuple[float, float]
    spin: float
    growth: float


def moving_shapes(
    samples: int,
    split: Split = "train",
    *,
    size: int = FIELD,
    steps: int = 16,
    noise: float = 0.005,
    seed: int = 0,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Event trains and their classes, classes in turn.

    Args:
        samples: N. size: pixels per side. steps: T.
        noise: probability that a pixel's event of one polarity in one step is inverted.

    Returns:
        x (N, T, 2, size, size) of 0 and 1, polarity 0 brighter; y (N,), an index of ``MOTIONS``.
    """
    x = np.zeros((samples, steps, 2, size, size), np.uint8)
    y = np.arange(samples, dtype=np.int64) % len(MOTIONS)
    for index, label in enumerate(y):
        rng = np.random.default_rng((seed, SPLITS.index(split), index))
        x[index] = events(render(_draw(rng, MOTIONS[label]), size, steps))
        x[index] ^= rng.random(x[index].shape) < noise
    return x, y


def _draw(rng: np.random.Generator, motion: str) -> Motion:
    heading, speed = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.3)
    spin, growth = np.radians(rng.uniform(-3, 3)), 1 + rng.uniform(-0.01, 0.01)
    radius = rng.uniform(4, 7)
    if motion in DIRECTIONS:
        heading = DIRECTIONS.index(motion) * np.pi / 4 + rng.normal(0, 0.1)
        speed = rng.uniform(0.7, 1.5)
    elif motion == "growing":
        radius, growth = rng.uniform(2.5, 4.5), rng.uniform(1.05, 1.09)
    else:
        # Less than half of a square's symmetry, so that the sense of the turn can be told.
        spin = np.radians(rng.uniform(12, 24)) * (1 if motion == "counterclockwise" else -1)
    return Motion(
        shape=str(rng.choice(SHAPES)),
        contrast=float(rng.choice((-1.0, 1.0))),
        radius=radius,
        angle=rng.uniform(0, 2 * np.pi),
        centre=(rng.uniform(-4, 4), rng.uniform(-4, 4)),
        velocity=(speed * np.cos(heading), speed * np.sin(heading)),
        spin=float(spin),
        growth=float(growth),
    )


def render(motion: Motion, size: int, steps: int) -> npt.NDArray[np.float64]:
    """Intensity of every pixel before the first step and after each, (T + 1, size, size), in -1..1.

    The centre is where the shape is in the middle of the train; y points up.
    """
    points = size * SUBPIXELS
    axis = (np.arange(points) + 0.5) / SUBPIXELS - size / 2
    axis = axis * FIELD / size
    time = np.arange(steps + 1)[:, None, None]
    middle = time - steps / 2
    east = axis[None, None, :] - motion.centre[0] - motion.velocity[0] * middle
    north = -axis[None, :, None] - motion.centre[1] - motion.velocity[1] * middle
    angle, radius = motion.angle + motion.spin * time, motion.radius * motion.growth**time
    along = (east * np.cos(angle) + north * np.sin(angle)) / radius
    across = (north * np.cos(angle) - east * np.sin(angle)) / radius
    covered = _inside(motion.shape, along, across)
    cells = covered.reshape(steps + 1, size, SUBPIXELS, size, SUBPIXELS)
    return np.asarray(motion.contrast * cells.mean(axis=(2, 4)))


def _inside(shape: str, p: npt.NDArray[Any], q: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Whether points, in radii from the centre along the shape's axes, lie in it."""
    if shape == "square":
        return np.asarray(np.maximum(abs(p), abs(q)) < 0.8)
    if shape == "bar":
        return np.asarray((abs(p) < 1.2) & (abs(q) < 0.35))
    if shape == "cross":
        return np.asarray(np.maximum(abs(p), abs(q)) < 1.1) & (np.minimum(abs(p), abs(q)) < 0.3)
    slope = np.sqrt(3.0)
    return np.asarray((q > -0.55) & (q + slope * abs(p) < 1.1))


def events(frames: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Events (T, 2, H, W) of intensities (T + 1, H, W): 1 where a pixel has become brighter (first channel)
    or darker than at its last event by more than ``THRESHOLD``; at most one per step."""
    seen = frames[0].copy()
    train = np.zeros((len(frames) - 1, 2, *seen.shape), np.uint8)
    for t, frame in enumerate(frames[1:]):
        train[t, 0], train[t, 1] = frame - seen > THRESHOLD, seen - frame > THRESHOLD
        seen = np.where(train[t].any(axis=0), frame, seen)
    return train
