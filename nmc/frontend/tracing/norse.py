"""Norse: cells (one step, state handed in and out) and modules (all steps, time first). Spike: v > v_th."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from nmc.frontend.opgraph import Neuron, ResetRule
from nmc.frontend.tracing import ops, recurrent
from nmc.frontend.tracing.layout import BATCH, TIME
from nmc.frontend.tracing.table import Leaf, Table
from nmc.frontend.tracing.value import State, Value
from nmc.ir import Compare, Shape

if TYPE_CHECKING:
    from nmc.frontend.tracing.tracer import Tracer


Make = Callable[["Tracer", Any, Shape], Neuron]

RESETS = {"reset_value": ResetRule.VALUE, "reset_subtract": ResetRule.SUBTRACT}


def _membrane(tr: Tracer, module: Any, shape: Shape) -> dict[str, Any]:
    """v += dt tau_mem_inv (v_leak - v + i), from v_leak on."""
    # The product is taken in the module's own precision, as its forward pass does.
    rate = tr.per_neuron(module.dt * module.p.tau_mem_inv, shape, "dt * tau_mem_inv")
    v_leak = tr.per_neuron(module.p.v_leak, shape, "v_leak")
    return {"keep_v": 1.0 - rate, "gain": rate, "v_leak": v_leak, "v0": v_leak}


def _filter(tr: Tracer, module: Any, shape: Shape) -> dict[str, Any]:
    """i jumps by the input, then decays by dt tau_syn_inv."""
    return {"keep_u": 1.0 - tr.per_neuron(module.dt * module.p.tau_syn_inv, shape, "dt * tau_syn_inv")}


def _spike(tr: Tracer, module: Any, shape: Shape) -> dict[str, Any]:
    method = getattr(getattr(module.p, "reset_method", None), "__name__", "reset_value")
    if method not in RESETS:
        tr.refuse(f"reset_method {method}", "use reset_value or reset_subtract")
    return {
        "threshold": tr.per_neuron(module.p.v_th, shape, "v_th"),
        "v_reset": tr.per_neuron(module.p.v_reset, shape, "v_reset"),
        "reset": RESETS[method],
        "compare": Compare.GREATER,
    }


def _lif_box(tr: Tracer, module: Any, shape: Shape) -> Neuron:
    return Neuron(**_membrane(tr, module, shape), **_spike(tr, module, shape))


def _lif(tr: Tracer, module: Any, shape: Shape) -> Neuron:
    return Neuron(**_membrane(tr, module, shape), **_filter(tr, module, shape), **_spike(tr, module, shape))


def _iaf(tr: Tracer, module: Any, shape: Shape) -> Neuron:
    rules = _spike(tr, module, shape)
    return Neuron(v0=rules["v_reset"], **rules)


def _li(tr: Tracer, module: Any, shape: Shape) -> Neuron:
    return Neuron(None, **_membrane(tr, module, shape), **_filter(tr, module, shape))


def _li_box(tr: Tracer, module: Any, shape: Shape) -> Neuron:
    return Neuron(None, **_membrane(tr, module, shape))


def cell(make: Make) -> Leaf:
    """A cell: (input, state) -> (output, state)."""

    def handler(tr: Tracer, path: str, module: Any, input_tensor: Any, state: Any = None) -> Any:
        x = tr.settled(input_tensor)
        shape = tr.node_shape(x)
        op = tr.once(module, lambda: make(tr, module, shape), shape)
        return tr.neurons.single_step(module, path, op, x, _checked(tr, state, op), explicit=True)

    return handler


def _recurrent(tr: Tracer, path: str, module: Any, x: Value) -> tuple[Value, Value]:
    """(spikes of the step before, W_in x + W_rec of them)."""
    before = recurrent.previous(tr, path, module, x, int(module.hidden_size))
    currents = []
    for what, read in (("input", x), ("recurrent", before)):
        weight = getattr(module, f"{what}_weights")
        op = tr.once(module, partial(ops.dense, tr, weight), what)
        currents.append(tr.emit(op, [read], read, f"{path}.{what}"))
    return before, ops.add(tr, currents[0], currents[1])


def recurrent_cell(make: Make) -> Leaf:
    """A cell with weights of its own: (input, state) -> (output, state)."""

    def handler(tr: Tracer, path: str, module: Any, input_tensor: Any, state: Any = None) -> Any:
        before, total = _recurrent(tr, path, module, tr.settled(input_tensor))
        shape = tr.node_shape(total)
        op = tr.once(module, lambda: make(tr, module, shape), shape)
        state = _checked(tr, state, op)
        value, after = tr.neurons.single_step(module, path, op, total, state, explicit=True)
        recurrent.feed_back(tr, before, value)
        return value, after

    return handler


def recurrent_sequence(make: Make) -> Leaf:
    """The same over all steps: (T, N, ...) -> (T, N, ...) and the last state."""

    def handler(tr: Tracer, path: str, module: Any, input_tensor: Any, state: Any = None) -> Any:
        x = tr.leads(input_tensor, ((TIME, BATCH),), "a Norse module over time")
        if isinstance(state, State):
            tr.refuse("goes on from the state of an earlier call", "run all steps in one call")
        before, total = _recurrent(tr, path, module, x)
        shape = tr.node_shape(total)
        op = tr.once(module, lambda: make(tr, module, shape), shape)
        _checked(tr, state, op)
        value = tr.neurons.multi_step(module, path, op, total, explicit=True)
        recurrent.feed_back(tr, before, value)
        return value, State(tr.neurons.potential(value), value.node, -1)

    return handler


def sequence(make: Make) -> Leaf:
    """A module over all steps: (T, N, ...) -> (T, N, ...) and the last state."""

    def handler(tr: Tracer, path: str, module: Any, input_tensor: Any, state: Any = None) -> Any:
        x = tr.leads(input_tensor, ((TIME, BATCH),), "a Norse module over time")
        if isinstance(state, State):
            tr.refuse("goes on from the state of an earlier call", "run all steps in one call")
        shape = tr.node_shape(x)
        op = tr.once(module, lambda: make(tr, module, shape), shape)
        _checked(tr, state, op)
        value = tr.neurons.multi_step(module, path, op, x, explicit=True)
        return value, State(tr.neurons.potential(value), value.node, -1)

    return handler


def _checked(tr: Tracer, state: Any, op: Neuron) -> object:
    """A state from an earlier step, or None; an initial state must be the one that the neuron has anyway."""
    if state is None or isinstance(state, State):
        return state
    for name in ("v", "i", "z"):
        start = getattr(state, name, None)
        expected = op.v0 if name == "v" else 0.0
        if start is not None and not bool((tr.constant(start, name) == expected).all()):
            tr.refuse(f"starts from another {name} than its rest", "start from state=None")
    return None


NEURONS: dict[str, Leaf] = {
    "LIFBoxCell": cell(_lif_box),
    "LIFCell": cell(_lif),
    "IAFCell": cell(_iaf),
    "LICell": cell(_li),
    "LIBoxCell": cell(_li_box),
    "LIFRecurrentCell": recurrent_cell(_lif),
    "LIF": sequence(_lif),
    "LIFRecurrent": recurrent_sequence(_lif),
    "IAF": sequence(_iaf),
    "LI": sequence(_li),
}

TABLE = Table(
    prefixes=("norse.torch.module.",),
    neurons=NEURONS,
    containers=frozenset({"SequentialState", "Lift"}),
    neuron_bases=frozenset({"SNNCell", "SNN", "SNNRecurrentCell", "SNNRecurrent"}),
)
