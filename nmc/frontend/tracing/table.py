"""What the layer tables have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Leaf: TypeAlias = Callable[..., Any]
"""Handler of a framework's layer: (tracer, module path, module, *what the layer gets) -> what it returns."""


@dataclass(frozen=True)
class Table:
    """Classes of a framework.

    prefixes: how the dotted paths of its classes begin.
    leaves: handlers by class name.
    containers: classes whose own forward pass is to be run.
    neuron_bases: base classes of its neurons; a subclass of the user's own is refused, not run.
    """

    prefixes: tuple[str, ...]
    leaves: Mapping[str, Leaf]
    containers: frozenset[str] = field(default_factory=frozenset)
    neuron_bases: frozenset[str] = field(default_factory=frozenset)
