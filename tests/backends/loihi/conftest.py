"""Lava exists for Python 3.10 only; elsewhere this whole folder is skipped, saying so."""

from __future__ import annotations

import sys

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if sys.version_info[:2] == (3, 10):
        return
    here = __file__.rsplit("/", 1)[0]
    for item in items:
        if str(item.path).startswith(here):
            item.add_marker(pytest.mark.skip(reason="lava-nc 0.10 needs Python 3.10"))
