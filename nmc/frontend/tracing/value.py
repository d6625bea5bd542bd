"""Values: what a module sees instead of tensors while it is traced.

A Value behaves like a tensor as far as a forward pass may look: shape, dtype and device are concrete, so
that control flow on them just runs. Everything else goes to the tracer. Code that insists on real data
fails, and the tracer turns the failure into a message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeGuard

from nmc.frontend.tracing.layout import Axes

if TYPE_CHECKING:
    from nmc.frontend.tracing.tracer import Tracer


STALE = "shares memory with a tensor that was changed in place; write x = x + y instead of x += y"

OVERWRITTEN = ("changes a constant tensor in place", "write total = total + x")
"""Problem and remedy."""

LOOP = "let spikes come back through the framework's own recurrent layer, which nmc knows"


@dataclass(eq=False)
class Value:
    """One traced tensor.

    node: the op graph node whose output it is.
    axes: what its axes mean (``layout``).
    step: None where the value has a time axis, or is the same in every step, or time plays no role;
    otherwise the steps whose outputs it adds up, one of them for a value inside of a loop over time.
    delay: steps by which the framework shifted it.
    forbidden: why nothing may read it (a membrane potential), and what to do; empty for ordinary values.
    family: the Values that share its memory, itself included; empty if it is alone.
    """

    tracer: Tracer
    node: str
    axes: Axes
    step: tuple[int, ...] | None = None
    delay: int = 0
    forbidden: str = ""
    family: list[Value] = field(default_factory=list)

    # numpy must hand "array * value" to __rmul__ instead of looping over its elements.
    __array_ufunc__ = None
    __hash__ = object.__hash__

    def moved(self, node: str, axes: Axes, step: tuple[int, ...] | None = None) -> Value:
        """A Value like this one, of another node or layout."""
        return Value(self.tracer, node, axes, self.step if step is None else step, self.delay)

    def become(self, other: Value) -> Value:
        """In-place operations: this very object, which others may hold, is the result from now on."""
        for relative in self.family:
            relative.forbidden = relative.forbidden if relative is self else STALE
        self.family = []
        self.node, self.axes, self.step, self.delay = other.node, other.axes, other.step, other.delay
        return self

    # isinstance(x, torch.Tensor) in a forward pass is a question about the interface.
    @property  # type: ignore[misc]
    def __class__(self) -> type[Any]:
        return self.tracer.tensor_type

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        value = next(values_in((args, kwargs or {})))
        return value.tracer.call(func, args, kwargs or {})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.tracer.attribute(self, name)

    def _call(self, function: str, *args: Any) -> Any:
        return self.tracer.call_named(function, (self, *args), {})

    def __repr__(self) -> str:
        return f"Value({self.node}, {self.axes})"

    def __len__(self) -> int:
        return int(self.tracer.shape(self)[0])

    def __iter__(self) -> Iterator[Any]:
        return iter([self[i] for i in range(len(self))])

    def __getitem__(self, key: Any) -> Any:
        return self._call("getitem", key)

    def __setitem__(self, key: Any, item: Any) -> None:
        self._call("setitem", key, item)

    def __add__(self, other: Any) -> Any:
        return self._call("add", other)

    def __radd__(self, other: Any) -> Any:
        return self._call("add", other)

    def __iadd__(self, other: Any) -> Any:
        return self._call("add_", other)

    def __sub__(self, other: Any) -> Any:
        return self._call("sub", other)

    def __rsub__(self, other: Any) -> Any:
        return self._call("rsub", other)

    def __isub__(self, other: Any) -> Any:
        return self._call("sub_", other)

    def __mul__(self, other: Any) -> Any:
        return self._call("mul", other)

    def __rmul__(self, other: Any) -> Any:
        return self._call("mul", other)

    def __imul__(self, other: Any) -> Any:
        return self._call("mul_", other)

    def __truediv__(self, other: Any) -> Any:
        return self._call("div", other)

    def __itruediv__(self, other: Any) -> Any:
        return self._call("div_", other)

    def __rtruediv__(self, other: Any) -> Any:
        return self._call("reciprocal", other)

    def __neg__(self) -> Any:
        return self._call("neg")

    def __matmul__(self, other: Any) -> Any:
        return self._call("matmul", other)

    def __rmatmul__(self, other: Any) -> Any:
        return self._call("rmatmul", other)

    def __pow__(self, other: Any) -> Any:
        return self._call("pow", other)

    def __eq__(self, other: object) -> Any:
        return False if other is None else self._call("eq", other)

    def __ne__(self, other: object) -> Any:
        return True if other is None else self._call("ne", other)

    def __lt__(self, other: Any) -> Any:
        return self._call("lt", other)

    def __le__(self, other: Any) -> Any:
        return self._call("le", other)

    def __gt__(self, other: Any) -> Any:
        return self._call("gt", other)

    def __ge__(self, other: Any) -> Any:
        return self._call("ge", other)

    def __bool__(self) -> bool:
        return bool(self._call("bool"))

    def __float__(self) -> float:
        return float(self._call("item"))

    def __int__(self) -> int:
        return int(self._call("item"))

    def __index__(self) -> int:
        return int(self._call("item"))


class State:
    """What a neuron hands from one step to the next; its fields (Norse's v and i) may be passed on, not read.

    node: the neuron's node. step: the step after which it is the state.
    """

    def __init__(self, value: Value, node: str, step: int) -> None:
        self.value, self.node, self.step = value, node, step

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self.value


def is_value(item: object) -> TypeGuard[Value]:
    """``isinstance`` would do, but a Value claims to be a tensor: this says what is meant."""
    return type(item) is Value


def values_in(item: object) -> Iterator[Value]:
    """Every Value in nested lists, tuples and dicts, in order."""
    if is_value(item):
        yield item
    elif isinstance(item, list | tuple):
        for part in item:
            yield from values_in(part)
    elif isinstance(item, dict):
        for part in item.values():
            yield from values_in(part)
