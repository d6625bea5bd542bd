"""Synthetic events: reproducible, splits apart, events as a camera would send them, motions as labelled."""

from __future__ import annotations

import numpy as np
import pytest

from nmc.frontend.zoo.moving_shapes import (
    DIRECTIONS,
    MOTIONS,
    SHAPES,
    SPLITS,
    THRESHOLD,
    Motion,
    events,
    moving_shapes,
    render,
)


def still(shape: str = "square", **changes: object) -> Motion:
    fields = {"contrast": 1.0, "radius": 6.0, "angle": 0.0, "centre": (0.0, 0.0), "velocity": (0.0, 0.0)}
    return Motion(**{"shape": shape, **fields, "spin": 0.0, "growth": 1.0, **changes})  # type: ignore[arg-type]


def test_shapes_types_and_classes():
    x, y = moving_shapes(23, size=24, steps=7)
    assert x.shape == (23, 7, 2, 24, 24)
    assert x.dtype == np.uint8
    assert set(np.unique(x)) == {0, 1}
    np.testing.assert_array_equal(y, np.arange(23) % len(MOTIONS))


def test_a_sample_depends_on_nothing_but_seed_split_and_index():
    few, many = moving_shapes(4)[0], moving_shapes(9)[0]
    np.testing.assert_array_equal(few, many[:4])
    others = [moving_shapes(4, split)[0] for split in SPLITS[1:]] + [moving_shapes(4, seed=1)[0]]
    assert all((few[k] != other[k]).any() for other in others for k in range(4))


def test_events_are_changes_beyond_the_threshold_since_the_last_event():
    """One pixel, by hand: up in two steps that only together exceed the threshold, level, down."""
    part = 0.75 * THRESHOLD
    levels = np.array([0.0, part, 2 * part, 2 * part, -part])
    train = events(levels[:, None, None])
    np.testing.assert_array_equal(train[:, 0, 0, 0], [0, 1, 0, 0])
    np.testing.assert_array_equal(train[:, 1, 0, 0], [0, 0, 0, 1])


def test_nothing_moves_nothing_fires():
    assert not events(render(still(), 32, 5)).any()


@pytest.mark.parametrize("shape", SHAPES)
def test_darker_shapes_send_the_other_polarity(shape):
    bright, dark = (events(render(still(shape, contrast=c, velocity=(1.0, 0.0)), 32, 8)) for c in (1.0, -1.0))
    assert bright.any()
    np.testing.assert_array_equal(bright, dark[:, ::-1])


@pytest.mark.parametrize("direction", range(len(DIRECTIONS)))
def test_bright_shapes_lead_with_brighter_pixels(direction):
    """From the centre of the darker events to that of the brighter ones is where the shape goes; y is up."""
    angle = direction * np.pi / 4
    heading = np.array([np.cos(angle), np.sin(angle)])
    train = events(render(still(velocity=tuple(1.2 * heading)), 32, 8)).sum(axis=0)
    rows, columns = np.mgrid[:32, :32]
    east, north = ([(axis * one).sum() / one.sum() for one in train] for axis in (columns, -rows))
    led = np.array([east[0] - east[1], north[0] - north[1]])
    assert led @ heading > 0.98 * np.linalg.norm(led)


def test_turns_one_way_mirror_turns_the_other_way():
    left, right = (events(render(still("cross", spin=spin), 32, 6)) for spin in (0.3, -0.3))
    np.testing.assert_array_equal(left, right[:, :, ::-1])
    assert (left != right).any()


def test_noise_inverts_events_at_its_rate():
    clean, noisy = (moving_shapes(11, noise=noise)[0] for noise in (0.0, 0.02))
    assert np.isclose((clean != noisy).mean(), 0.02, rtol=0.1)
