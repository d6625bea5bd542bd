"""Sinabs: IAF, LIF, ExpLeak; time is the second axis, or squeezed into the first. Spike: v >= threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nmc.frontend.opgraph import Neuron, ResetRule
from nmc.frontend.tracing import moves, ops, recurrent, torch_nn
from nmc.frontend.tracing.layout import BATCH, BATCH_TIME, TIME
from nmc.frontend.tracing.table import Leaf, Table
from nmc.frontend.tracing.value import Value
from nmc.ir import Compare, Shape

if TYPE_CHECKING:
    from nmc.frontend.tracing.tracer import Tracer


def _neuron(tr: Tracer, module: Any, shape: Shape) -> Neuron:
    """i = alpha_syn (i + x); v = alpha_mem v + i, or with norm_input (1 - alpha_mem) i."""
    if module.min_v_mem is not None:
        tr.refuse(f"min_v_mem = {float(module.min_v_mem):g} clips the potential", "train with min_v_mem=None")
    keep_v = tr.per_neuron(module.alpha_mem_calculated, shape, "alpha_mem")
    alpha_syn = module.alpha_syn_calculated
    dynamics: dict[str, Any] = {"keep_v": keep_v, "gain": 1.0 - keep_v if module.norm_input else 1.0}
    if alpha_syn is not None:
        keep_u = tr.per_neuron(alpha_syn, shape, "alpha_syn")
        dynamics |= {"keep_u": keep_u, "w_in": keep_u}
    if module.spike_fn is None:
        return Neuron(None, **dynamics)
    threshold = tr.per_neuron(module.spike_threshold, shape, "spike_threshold")
    multi_spike = _multi_spike(tr, module.spike_fn)
    return Neuron(
        threshold,
        multi_spike=multi_spike,
        compare=Compare.GREATER_EQUAL,
        **_reset(tr, module, threshold),
        **dynamics,
    )


def _multi_spike(tr: Tracer, spike_fn: Any) -> bool:
    name = getattr(spike_fn, "__name__", type(spike_fn).__name__)
    limit = getattr(spike_fn, "max_num_spikes_per_bin", None)
    if name == "MultiSpike" or (name == "MaxSpike" and limit is None):
        return True
    if name == "SingleSpike" or (name == "MaxSpike" and limit == 1):
        return False
    tr.refuse(f"spike function {name}", "use MultiSpike or SingleSpike")


def _reset(tr: Tracer, module: Any, threshold: Any) -> dict[str, Any]:
    rule = module.reset_fn
    name = type(rule).__name__
    if name == "MembraneSubtract":
        if rule.subtract_value is not None and not bool((threshold == float(rule.subtract_value)).all()):
            tr.refuse(
                f"subtracts {rule.subtract_value} at a threshold of {threshold}", "subtract the threshold"
            )
        return {"reset": ResetRule.SUBTRACT}
    if name == "MembraneReset":
        if rule.reset_value != 0:
            # Sinabs adds reset_value in every step, spike or not.
            tr.refuse(f"MembraneReset({rule.reset_value:g}) adds its value in every step", "reset to 0")
        return {"reset": ResetRule.VALUE}
    tr.refuse(f"reset function {name}", "use MembraneSubtract or MembraneReset")


def neuron(tr: Tracer, path: str, module: Any, x: Any) -> Value:
    """A layer that gets (N, T, ...)."""
    x = tr.leads(x, ((BATCH, TIME),), "a Sinabs neuron")
    shape = tr.node_shape(x)
    op = tr.once(module, lambda: _neuron(tr, module, shape), shape)
    return tr.neurons.multi_step(module, path, op, x)


def looped(tr: Tracer, path: str, module: Any, x: Any) -> Value:
    """A layer that gets (N, T, ...) and adds ``rec_connect`` of its spikes to the next step's input.

    A bias of ``rec_connect`` acts from the second step on; without one, the delay may as well stand in front.
    """
    x = tr.leads(x, ((BATCH, TIME),), "a Sinabs neuron")
    before = recurrent.previous(tr, path, module, x)
    late_bias = any(getattr(part, "bias", None) is not None for part in module.rec_connect.modules())
    arriving = before
    if not late_bias:
        arriving = x.moved(_feedback(tr, module, before).node, x.axes)
    total = ops.add(tr, x, arriving)
    shape = tr.node_shape(x)
    op = tr.once(module, lambda: _neuron(tr, module, shape), shape)
    y = tr.neurons.multi_step(module, path, op, total)
    recurrent.feed_back(tr, before, _feedback(tr, module, y) if late_bias else y)
    return y


def _feedback(tr: Tracer, module: Any, spikes: Value) -> Value:
    return tr.settled(module.rec_connect(recurrent.one_step(spikes)))


def squeezed(tr: Tracer, path: str, module: Any, x: Any) -> Value:
    """A layer that gets (N * T, ...)."""
    x = tr.leads(x, ((BATCH_TIME,),), "a squeezing Sinabs neuron")
    for given, have in ((module.batch_size, tr.sizes.batch), (module.num_timesteps, tr.sizes.time)):
        if given not in (-1, have):
            tr.refuse(
                f"expects batches of {module.batch_size} and {module.num_timesteps} steps (-1: any), "
                f"another layer expects {tr.sizes.batch} and {tr.sizes.time}",
                "give all layers the same batch_size and num_timesteps",
            )
    flat = x.moved(x.node, (BATCH, TIME, *x.axes[1:]))
    y = neuron(tr, path, module, flat)
    return y.moved(y.node, (BATCH_TIME, *y.axes[2:]))


def merge(tr: Tracer, path: str, module: Any, data1: Any, data2: Any) -> Value:
    return ops.add(tr, data1, data2)


def flatten_time(tr: Tracer, path: str, module: Any, x: Any) -> Value:
    return moves.flatten(tr, x, 0, 1)


def unflatten_time(tr: Tracer, path: str, module: Any, x: Any) -> Value:
    return moves.unflatten(tr, x, 0, (module.batch_size, -1))


NEURONS: dict[str, Leaf] = {
    **dict.fromkeys(("IAF", "LIF", "ExpLeak"), neuron),
    **dict.fromkeys(("IAFRecurrent", "LIFRecurrent"), looped),
    **dict.fromkeys(("IAFSqueeze", "LIFSqueeze", "ExpLeakSqueeze"), squeezed),
}

LAYERS: dict[str, Leaf] = {
    "Merge": merge,
    "SumPool2d": torch_nn.lp_pool,
    "FlattenTime": flatten_time,
    "UnflattenTime": unflatten_time,
}

TABLE = Table(
    prefixes=("sinabs.layers.",),
    layers=LAYERS,
    neurons=NEURONS,
    containers=frozenset({"Repeat"}),
    neuron_bases=frozenset({"StatefulLayer"}),
)
