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
    layers, neurons: handlers by class name.
    containers: classes whose own forward pass is to be run.
    neuron_bases: base classes of its neurons; a subclass of the user's own is refused, not run.
    """

    prefixes: tuple[str, ...]
    layers: Mapping[str, Leaf] = field(default_factory=dict)
    neurons: Mapping[str, Leaf] = field(default_factory=dict)
    containers: frozenset[str] = field(default_factory=frozenset)
    neuron_bases: frozenset[str] = field(default_factory=frozenset)

    def leaf(self, name: str) -> Leaf | None:
        return self.layers.get(name) or self.neurons.get(name)
