"""A module named like a public function would replace it as soon as anything imports that module."""

from __future__ import annotations

import importlib.util

import pytest

import nmc


@pytest.mark.parametrize("name", nmc.__all__)
def test_no_module_is_named_like_a_public_function(name: str) -> None:
    spec = importlib.util.find_spec(f"nmc.{name}")
    # A folder of data (nmc/chips) has no loader; nothing imports it.
    assert spec is None or spec.loader is None
