"""Layers that read their own spikes of the step before: what the frameworks' recurrent layers share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nmc.frontend.tracing import layout
from nmc.frontend.tracing.layout import BATCH, TIME
from nmc.frontend.tracing.value import Value

if TYPE_CHECKING:
    from nmc.frontend.tracing.tracer import Tracer


def previous(tr: Tracer, path: str, module: Any, x: Value, size: int | None = None) -> Value:
    """What the layer sent in the step before, 0 in the first; ``feed_back`` must close the loop.

    Args:
        x: settled input of the layer in this step (or in all steps).
        size: of the vector that it sends; None: what it sends has the shape of ``x``.
    """
    shape = tr.node_shape(x) if size is None else (size,)
    node = tr.once(module, lambda: tr.builder.open(f"{path}.previous", shape), "previous", x.node)
    return x.moved(node, (*layout.leading(x.axes), *range(len(shape))))


def feed_back(tr: Tracer, before: Value, sent: Value) -> None:
    """Closes the loop: ``before`` is what ``sent`` was a step ago."""
    tr.builder.close(before.node, sent.node)


def one_step(x: Value) -> Value:
    """A tensor of all steps as a module sees it that is called step by step; the step does not matter."""
    return x.moved(x.node, tuple(axis for axis in x.axes if axis != TIME))


def each_step(tr: Tracer, x: Value, layer: Callable[[Value], Value]) -> Value:
    """A layer that a multi-step container calls with one step after the other."""
    axes = tuple(axis for axis in x.axes if axis != TIME)
    for t in range(tr.sizes.time):
        y = layer(Value(tr, x.node, axes, (t,), x.delay))
    return Value(tr, y.node, (TIME, BATCH, *range(len(tr.node_shape(y)))), None, x.delay)
