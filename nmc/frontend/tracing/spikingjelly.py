"""SpikingJelly (activation_based): layers that know single-step and multi-step mode, and its neurons."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nmc.frontend import opgraph as og
from nmc.frontend.opgraph import Neuron, ResetRule
from nmc.frontend.tracing import layout, moves, ops, recurrent, torch_nn
from nmc.frontend.tracing.functions import ONE_LEAD
from nmc.frontend.tracing.layout import BATCH, TIME, Axes
from nmc.frontend.tracing.table import Leaf, Table
from nmc.frontend.tracing.value import Value
from nmc.ir import Compare

if TYPE_CHECKING:
    from nmc.frontend.tracing.tracer import Tracer


NO_STEP = ("DeterministicPass", "PoissonPass")
"""Surrogate functions whose forward pass is not the Heaviside step."""

TWO_LEADS = ((TIME, BATCH), (BATCH, TIME))


def leads(tr: Tracer, module: Any) -> tuple[Axes, ...]:
    """What a layer accepts in front of its data: one axis, or in multi-step mode two."""
    if getattr(module, "step_mode", "s") == "m":
        return TWO_LEADS
    return ONE_LEAD


def merged(leaf: Leaf) -> Leaf:
    """A layer of torch.nn whose multi-step mode merges time and batch, runs, and splits them again."""

    def handler(tr: Tracer, path: str, module: Any, x: Any) -> Value:
        if leads(tr, module) is ONE_LEAD:
            return leaf(tr, path, module, x)  # type: ignore[no-any-return]
        x = tr.leads(x, TWO_LEADS, "a layer in multi-step mode")
        pair = x.axes[:2]
        flat = x.moved(x.node, (layout.MERGED[pair], *x.axes[2:]))
        y = leaf(tr, path, module, flat)
        return y.moved(y.node, (*pair, *y.axes[1:]))  # type: ignore[no-any-return]

    return handler


def flatten(tr: Tracer, path: str, module: Any, x: Any) -> Value:
    """In multi-step mode the axes are counted behind time, as if time and batch were one."""
    if leads(tr, module) is ONE_LEAD:
        return torch_nn.flatten(tr, path, module, x)
    shape = tr.shape(x)
    if len(shape) < 2 or layout.leading(x.axes[:2]) not in TWO_LEADS:
        tr.refuse("flatten in multi-step mode gets a tensor without time axis", "check step_mode")
    start, end = (d % (len(shape) - 1) for d in (module.start_dim, module.end_dim))
    if start == 0:
        tr.refuse("flattens time and batch", "use start_dim=1")
    return moves.reshaped(tr, x, [*shape[: start + 1], -1, *shape[end + 2 :]], path)


def vote(tr: Tracer, path: str, module: Any, x: Any) -> Value:
    x = tr.leads(x, leads(tr, module), "a voting layer")
    return ops.vote(tr, x, path, int(module.voting_size))


def scaler(tr: Tracer, path: str, module: Any, x: Any) -> Value:
    """VoltageScaler of ann2snn."""
    x = tr.settled(x)
    op = tr.once(module, lambda: og.Scale(tr.constant(module.scale, "scale").reshape(())))
    return tr.emit(op, [x], x, path)


# --- neurons ----------------------------------------------------------------------------------------


def fire(tr: Tracer, path: str, module: Any, x: Any, op: Neuron) -> Value:
    """The neuron in the mode of the module."""
    if getattr(module, "step_mode", "s") == "m":
        x = tr.leads(x, ((TIME, BATCH),), "a neuron in multi-step mode")
        return tr.neurons.multi_step(module, path, op, x)
    return tr.neurons.single_step(module, path, op, tr.settled(x))[0]


def reset(tr: Tracer, module: Any) -> dict[str, Any]:
    """Threshold, reset and initial potential of a BaseNode; a spike is v >= threshold."""
    surrogate = module.surrogate_function
    if not getattr(surrogate, "spiking", True) or type(surrogate).__name__ in NO_STEP:
        tr.refuse(
            f"{type(surrogate).__name__} does not give spikes of 0 and 1", "use a spiking surrogate function"
        )
    v_reset = module.v_reset
    start = getattr(module, "_memories_rv", {}).get("v", v_reset or 0.0)
    start = tr.constant(start, "initial v")
    if start.size != 1:
        tr.refuse("starts from a different potential in every neuron", "reset it to one number")
    return {
        "threshold": tr.constant(module.v_threshold, "v_threshold").reshape(()),
        "v_reset": 0.0 if v_reset is None else tr.constant(v_reset, "v_reset").reshape(()),
        "reset": ResetRule.SUBTRACT if v_reset is None else ResetRule.VALUE,
        "v0": start.reshape(()),
        "compare": Compare.GREATER_EQUAL,
    }


def _leaky(tr: Tracer, module: Any, rate: Any) -> Neuron:
    """v += rate (x - (v - v_reset)), or with decay_input=False: v += x - rate (v - v_reset)."""
    rate = float(rate)
    gain = rate if module.decay_input else 1.0
    rules = reset(tr, module)
    return Neuron(keep_v=og.constant(1.0 - rate), gain=og.constant(gain), v_leak=rules["v_reset"], **rules)


def if_node(tr: Tracer, path: str, module: Any, x: Any) -> Value:
    op = tr.once(module, lambda: Neuron(**reset(tr, module)))
    return fire(tr, path, module, x, op)


def lif_node(tr: Tracer, path: str, module: Any, x: Any) -> Value:
    op = tr.once(module, lambda: _leaky(tr, module, 1.0 / module.tau))
    return fire(tr, path, module, x, op)


def plif_node(tr: Tracer, path: str, module: Any, x: Any) -> Value:
    op = tr.once(module, lambda: _leaky(tr, module, tr.constant(module.w.sigmoid(), "w")))
    return fire(tr, path, module, x, op)


def cuba_node(tr: Tracer, path: str, module: Any, x: Any) -> Value:
    def make() -> Neuron:
        keep_u, keep_v = float(module.c_decay), float(module.v_decay)
        return Neuron(keep_u=og.constant(keep_u), keep_v=og.constant(keep_v), **reset(tr, module))

    return fire(tr, path, module, x, tr.once(module, make))


# --- recurrent --------------------------------------------------------------------------------------


def _looped(step: Callable[[Tracer, str, Any, Value], Value]) -> Leaf:
    """A container that calls its sub_module step by step, whatever its own mode."""

    def handler(tr: Tracer, path: str, module: Any, x: Any) -> Value:
        if getattr(module, "step_mode", "s") == "m":
            x = tr.leads(x, ((TIME, BATCH),), "a recurrent container in multi-step mode")
            return recurrent.each_step(tr, x, lambda one: step(tr, path, module, one))
        return step(tr, path, module, tr.settled(x))

    return handler


def _element_wise(tr: Tracer, path: str, module: Any, x: Value) -> Value:
    """y[t] = sub_module(f(y[t-1], x[t]))."""
    before = recurrent.previous(tr, path, module, x)
    y = tr.settled(module.sub_module(module.element_wise_function(before, x)))
    recurrent.feed_back(tr, before, y)
    return y


def _linear_recurrent(tr: Tracer, path: str, module: Any, x: Value) -> Value:
    """y[t] = sub_module(W [x[t], y[t-1]] + b), as two layers with a part of W each."""
    sent = int(module.sub_module_out_features)
    before = recurrent.previous(tr, path, module, x, sent)
    weight, bias = module.rc.weight, module.rc.bias
    own = tr.once(module, lambda: ops.dense(tr, weight[:, :-sent], bias), "input")
    back = tr.once(module, lambda: ops.dense(tr, weight[:, -sent:]), "recurrent")
    current = tr.emit(own, [x], x, f"{path}.rc")
    total = ops.add(tr, current, tr.emit(back, [before], before, f"{path}.rc.recurrent"))
    y = tr.settled(module.sub_module(total))
    recurrent.feed_back(tr, before, y)
    return y


LAYERS: dict[str, Leaf] = {
    "ElementWiseRecurrentContainer": _looped(_element_wise),
    "LinearRecurrentContainer": _looped(_linear_recurrent),
    "Conv2d": merged(torch_nn.conv2d),
    "Linear": torch_nn.linear,
    **dict.fromkeys(("BatchNorm1d", "BatchNorm2d"), merged(torch_nn.batch_norm)),
    **dict.fromkeys(
        ("ThresholdDependentBatchNorm1d", "ThresholdDependentBatchNorm2d"), merged(torch_nn.batch_norm)
    ),
    "MaxPool2d": merged(torch_nn.max_pool),
    "AvgPool2d": merged(torch_nn.avg_pool),
    **dict.fromkeys(("AdaptiveAvgPool2d", "AdaptiveMaxPool2d"), merged(torch_nn.adaptive_pool)),
    "Flatten": flatten,
    **dict.fromkeys(("Dropout", "Dropout2d"), torch_nn.identity),
    "VotingLayer": vote,
    "PrintShapeModule": torch_nn.identity,
    "VoltageScaler": scaler,
}

NEURONS: dict[str, Leaf] = {
    **dict.fromkeys(("IFNode", "SimpleIFNode", "HalfThresholdIFNode"), if_node),
    **dict.fromkeys(("LIFNode", "SimpleLIFNode"), lif_node),
    "ParametricLIFNode": plif_node,
    "CUBALIFNode": cuba_node,
}

TABLE = Table(
    prefixes=tuple(
        f"spikingjelly.{generation}.{part}"
        for generation in ("activation_based", "clock_driven")
        for part in ("layer.", "neuron.", "base.", "ann2snn.modules.")
    ),
    layers=LAYERS,
    neurons=NEURONS,
    containers=frozenset(
        {
            "MultiStepContainer",
            "SeqToANNContainer",
            "StepModeContainer",
            "WSConv2d",
            "WSLinear",
            "StepModule",
            "SingleStepModule",
            "MultiStepModule",
        }
    ),
    neuron_bases=frozenset({"BaseNode", "SimpleBaseNode", "NonSpikingBaseNode", "MemoryModule"}),
)
