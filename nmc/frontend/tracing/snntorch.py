"""snnTorch: Leaky and Synaptic, and their recurrent forms, which add ``recurrent(spk)`` of the last step to
their input. A spike is mem > threshold; by default the reset comes one step later."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from nmc.frontend.opgraph import Neuron, ResetRule
from nmc.frontend.tracing import ops, recurrent
from nmc.frontend.tracing.table import Leaf, Table
from nmc.frontend.tracing.value import Value, is_value
from nmc.ir import Compare, Shape

if TYPE_CHECKING:
    from nmc.frontend.tracing.tracer import Tracer


NO_RESET = (
    "reads the spikes of a neuron without reset (reset_mechanism='none'); read its potential, or reset it"
)

RESIDUE = (
    "subtracts in the same step (reset_delay=False), but compares mem - threshold in a step that starts "
    "above it, which is no plain subtraction"
)


def _checked(tr: Tracer, module: Any) -> None:
    if module.inhibition:
        tr.refuse("inhibition lets only one neuron of a layer fire", "set inhibition=False")
    if module.state_quant:
        tr.refuse("state_quant rounds the potential", "set state_quant=False; nmc quantizes for the chip")


def _rule(tr: Tracer, module: Any, zero: ResetRule) -> ResetRule:
    """The reset rule; ``zero``: what reset to zero with delay amounts to."""
    delayed = getattr(module, "reset_delay", True)
    if module.reset_mechanism == "zero":
        return zero if delayed else ResetRule.VALUE
    if not delayed:
        tr.refuse(RESIDUE, "use reset_delay=True or reset_mechanism='zero'")
    return ResetRule.SUBTRACT_NEXT


def _neuron(tr: Tracer, module: Any, shape: Shape, zero: ResetRule, keep_u: Any) -> Neuron:
    _checked(tr, module)
    keep_v = tr.per_neuron(module.beta.clamp(0, 1), shape, "beta")
    dynamics = {"keep_v": keep_v, "keep_u": keep_u}
    if module.reset_mechanism == "none":
        return Neuron(None, **dynamics)
    return Neuron(
        tr.per_neuron(module.threshold, shape, "threshold"),
        reset=_rule(tr, module, zero),
        compare=Compare.GREATER,
        **dynamics,
    )


def _run(tr: Tracer, path: str, module: Any, x: Value, op: Neuron, states: tuple[Any, ...]) -> Any:
    """(spikes, *states), or spikes alone where the module keeps its state hidden."""
    given = [state for state in states if state is not None]
    hidden = module.init_hidden
    state = _state(tr, given)
    value, after = tr.neurons.single_step(module, path, op, x, state, explicit=bool(given))
    potential = value
    if op.threshold is None:
        spikes = value.moved(value.node, value.axes)
        spikes.forbidden = NO_RESET
    else:
        factor = getattr(module, "graded_spikes_factor", 1.0)
        spikes = ops.scale(tr, value, factor)
        potential = tr.neurons.potential(value)
    tr.neurons.hand_out(potential, after)
    if hidden and not module.output:
        return spikes
    return (spikes, *(potential for _ in states))


def _state(tr: Tracer, given: list[Any]) -> object:
    """The state in what the caller passed: potentials of an earlier step, or zeros."""
    for item in given:
        state = tr.neurons.handed_out(item)
        if state is not None:
            return state
        if not hasattr(item, "any"):
            tr.refuse(
                f"gets a {type(item).__name__} as its state", "pass what it returned in the step before"
            )
        if bool(item.any()):
            tr.refuse(
                "starts from a potential that is not zero", "start from init_leaky() or init_synaptic()"
            )
    return None


def leaky(tr: Tracer, path: str, module: Any, input_: Any, mem: Any = None) -> Any:
    x = tr.settled(input_)
    shape = tr.node_shape(x)
    # Reset to zero in the next step, before the leak: the same spikes as a reset in the same step.
    op = tr.once(module, lambda: _neuron(tr, module, shape, ResetRule.VALUE, 0.0), shape)
    return _run(tr, path, module, x, op, (mem,))


def synaptic(tr: Tracer, path: str, module: Any, input_: Any, syn: Any = None, mem: Any = None) -> Any:
    x = tr.settled(input_)
    shape = tr.node_shape(x)

    def make() -> Neuron:
        keep_u = tr.per_neuron(module.alpha.clamp(0, 1), shape, "alpha")
        return _neuron(tr, module, shape, ResetRule.BLANK_NEXT, keep_u)

    return _run(tr, path, module, x, tr.once(module, make, shape), (syn, mem))


# --- recurrent --------------------------------------------------------------------------------------

NEVER_RESET = "with reset_delay=False never resets the potential that it keeps"


def _with_own_spikes(tr: Tracer, path: str, module: Any, x: Value, spk: Any) -> tuple[Value, Value]:
    """(spikes of the step before, input with what ``module.recurrent`` makes of them)."""
    before = recurrent.previous(tr, path, module, x)
    if spk is not None and not is_value(spk) and bool(spk.any()):
        tr.refuse("starts from spikes that are not zero", "start from reset_mem()")
    if is_value(spk) and x.step is not None and spk.step not in (None, (x.step[0] - 1,)):
        tr.refuse(f"gets spikes of step {spk.step} in step {x.step[0]}", "pass those that it returned last")
    sent = ops.scale(tr, before, getattr(module, "graded_spikes_factor", 1.0))
    return before, ops.add(tr, x, module.recurrent(sent))


def _run_recurrent(
    tr: Tracer, path: str, module: Any, x: Value, spk: Any, make: Callable[[Shape], Neuron], states: Any
) -> Any:
    before, total = _with_own_spikes(tr, path, module, x, spk)
    shape = tr.node_shape(x)
    op = tr.once(module, lambda: make(shape), shape)
    if op.threshold is None:
        tr.refuse(NO_RESET.replace("reads", "feeds back", 1), "reset it")
    result = _run(tr, path, module, total, op, states)
    sent = result[0] if isinstance(result, tuple) else result
    node = tr.neurons.populations[id(module), total.node].node
    if is_value(spk) and spk.node != sent.node:
        tr.refuse("gets spikes that are not its own", "pass those that it returned in the step before")
    recurrent.feed_back(tr, before, x.moved(node, x.axes))
    return result


def rleaky(tr: Tracer, path: str, module: Any, input_: Any, spk: Any = None, mem: Any = None) -> Any:
    x = tr.settled(input_)
    # Unlike Leaky, the reset takes the input of the next step with it.
    make = partial(_neuron, tr, module, zero=ResetRule.BLANK_NEXT, keep_u=0.0)
    return _run_recurrent(tr, path, module, x, spk, make, (mem,))


def rsynaptic(
    tr: Tracer, path: str, module: Any, input_: Any, spk: Any = None, syn: Any = None, mem: Any = None
) -> Any:
    x = tr.settled(input_)
    if not module.reset_delay:
        tr.refuse(NEVER_RESET, "use reset_delay=True")

    def make(shape: Shape) -> Neuron:
        keep_u = tr.per_neuron(module.alpha.clamp(0, 1), shape, "alpha")
        return _neuron(tr, module, shape, ResetRule.BLANK_NEXT, keep_u)

    return _run_recurrent(tr, path, module, x, spk, make, (syn, mem))


NEURONS: dict[str, Leaf] = {"Leaky": leaky, "Synaptic": synaptic, "RLeaky": rleaky, "RSynaptic": rsynaptic}

TABLE = Table(
    prefixes=("snntorch.",),
    neurons=NEURONS,
    containers=frozenset({"RecurrentOneToOne"}),
    neuron_bases=frozenset({"SpikingNeuron", "LIF"}),
)
