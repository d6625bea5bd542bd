"""Which handler a module has, by the path of its class. No framework is imported."""

from __future__ import annotations

from types import FunctionType
from typing import Any

from nmc.frontend.tracing import norse, sinabs, slayer, snntorch, spikingjelly, torch_nn
from nmc.frontend.tracing.table import Leaf, Table
from nmc.frontend.tracing.tracer import Tracer

TABLES: tuple[Table, ...] = (
    torch_nn.TABLE,
    spikingjelly.TABLE,
    snntorch.TABLE,
    norse.TABLE,
    sinabs.TABLE,
    *slayer.TABLES,
)

HARMLESS = frozenset({"extra_repr", "reset_parameters", "train", "eval", "reset", "detach"})
"""Methods that a subclass may override and still be the layer that it derives from."""

RECURRENT = frozenset({"RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"})


def path_of(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def find(module: Any) -> Leaf | None:
    """The handler of a framework's layer or neuron; None for a module whose forward pass is to be run."""
    if "forward" in vars(module):
        return None
    classes = type(module).__mro__
    for index, cls in enumerate(classes):
        table = table_of(cls)
        if table is None:
            continue
        name = cls.__name__
        if name in table.containers:
            return None
        leaf, overridden = table.leaf(name), _overridden(classes[:index], cls)
        if leaf and not overridden:
            return leaf
        if any(base.__name__ in table.neuron_bases for base in classes):
            return _unknown(tuple(table.neurons), overridden if leaf else "")
        return None if overridden else _unknown(tuple(table.layers), "")
    return None


def table_of(cls: type) -> Table | None:
    return next((table for table in TABLES if path_of(cls).startswith(table.prefixes)), None)


def _overridden(subclasses: tuple[type, ...], cls: type) -> str:
    """A method of ``cls`` that one of its subclasses replaces; "" if there is none."""
    for subclass in subclasses:
        for name, member in vars(subclass).items():
            special = name.startswith("__") and name != "__call__"
            if (
                isinstance(member, FunctionType)
                and hasattr(cls, name)
                and not special
                and name not in HARMLESS
            ):
                return name
    return ""


def _unknown(known: tuple[str, ...], overridden: str) -> Leaf:
    def handler(tr: Tracer, path: str, module: Any, *args: Any, **kwargs: Any) -> Any:
        cls = type(module)
        if overridden:
            tr.refuse(
                f"{path_of(cls)} replaces {overridden}() of its framework", "use the framework's own class"
            )
        if "Recurrent" in cls.__name__ or cls.__name__ in RECURRENT:
            tr.refuse(
                f"{path_of(cls)} is recurrent in a way that no chip is",
                "feed back the spikes of LIF neurons through a layer, as the frameworks' recurrent layers do",
            )
        tr.refuse(f"{path_of(cls)} is not supported", f"supported are {', '.join(known)}" if known else "")

    return handler
