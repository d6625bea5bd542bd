"""The packages that nmc can do without, and how to get them.

Remedies name the packages themselves: nmc has no release on PyPI, and whoever takes its name there would be
what ``pip install 'nmc[torch]'`` fetches.
"""

from __future__ import annotations

from typing import Literal

Extra = Literal["torch", "lava", "plot"]

LAVA_PYTHON = (3, 10)
"""The only Python that Lava 0.10 runs in."""
PACKAGES: dict[Extra, tuple[str, ...]] = {
    "torch": ("torch>=2.3", "safetensors>=0.4"),
    "lava": ("lava-nc>=0.10,<0.11", "lava-dl>=0.6,<0.7", "setuptools<81"),
    "plot": ("matplotlib>=3.8",),
}
"""As pyproject.toml says; a test compares."""


def install(extra: Extra) -> str:
    """The command that installs an extra's packages into this environment."""
    return "pip install " + " ".join(f"'{package}'" for package in PACKAGES[extra])
