"""lava-dl SLAYER: CUBA blocks, their synapses and neurons, on tensors (N, C, [H, W,] T).

SLAYER trains with the chip's arithmetic: weights are multiples of 2/64, states are integers and decays
truncate. The op graph is float, so a network with decays agrees with SLAYER up to that truncation; without
decays it agrees exactly. A spike is v > threshold, v is then set to 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nmc.frontend import opgraph as og
from nmc.frontend.opgraph import Neuron
from nmc.frontend.tracing import ops, recurrent
from nmc.frontend.tracing.layout import BATCH, TIME, UNIT
from nmc.frontend.tracing.table import Leaf, Table
from nmc.frontend.tracing.value import Value
from nmc.ir import Compare, FloatArray

if TYPE_CHECKING:
    from nmc.frontend.tracing.tracer import Tracer


TRUNCATES = "SLAYER's states are integers that truncate; those of the float graph are not"


def front(tr: Tracer, x: Any, layer: str) -> Value:
    """(N, data..., T) as (N, T, data...), settled."""
    x = tr.read(x)
    if x.axes[-1] != TIME or x.axes[0] != BATCH:
        tr.refuse(
            f"{layer} gets a tensor {tr.shape(x)} whose last axis is not time",
            "trace with step_mode='t_last'",
        )
    middle = tuple(axis for axis in x.axes[1:-1] if axis != UNIT)
    return tr.settled(x.moved(x.node, (BATCH, TIME, *middle)))


def back(y: Value, ndim: int) -> Value:
    """(N, T, data...) as a tensor (N, data..., T) with ``ndim`` axes; vectors get axes of size 1."""
    data = (*y.axes[2:], *[UNIT] * (ndim - len(y.axes)))
    return y.moved(y.node, (BATCH, *data, TIME))


# --- synapses ---------------------------------------------------------------------------------------


def _weight(tr: Tracer, module: Any) -> FloatArray:
    """As the forward pass uses it: quantized by the block's hook."""
    weight = module.weight if module.pre_hook_fx is None else module.pre_hook_fx(module.weight)
    return tr.constant(weight, "weight")


def dense(tr: Tracer, path: str, module: Any, x: Any) -> Value:
    axes = len(x.axes)
    x = front(tr, x, "a dense synapse")
    ndim = len(tr.node_shape(x))
    if ndim > 1:
        x = tr.flatten(x.moved(x.node, (BATCH, TIME, 0)), 0, ndim - 1, f"{path}.flatten")

    def make() -> og.Linear:
        weight = _weight(tr, module)
        return og.Linear(weight.reshape(len(weight), -1))

    return back(tr.emit(tr.once(module, make), [x], x, path), axes)


def conv(tr: Tracer, path: str, module: Any, x: Any) -> Value:
    x = front(tr, x, "a convolution")

    def make() -> og.Conv2d:
        m = module
        weight = _weight(tr, m)[..., 0]
        return og.Conv2d(weight, None, m.stride[:2], m.padding[:2], m.dilation[:2], m.groups)

    return back(tr.emit(tr.once(module, make), [x], x, path), 5)


def pool(tr: Tracer, path: str, module: Any, x: Any) -> Value:
    x = front(tr, x, "a pool")
    kernel, shape = module.kernel_size[:2], tr.node_shape(x)
    if module.stride[:2] != kernel or any(module.padding) or len(shape) != 3:
        tr.refuse(
            "a pool with padding or with a stride that is not its kernel", "use stride=kernel_size, padding=0"
        )
    if shape[1] % kernel[0] or shape[2] % kernel[1]:
        tr.refuse(f"a pool of {kernel} on a map of {shape[1:]} pads it", "choose a size that divides")
    weight = _weight(tr, module)
    summed = tr.emit(og.SumPool(kernel, kernel), [x], x, path)
    return back(ops.scale(tr, summed, float(weight.flat[0])), 5)


# --- neurons ----------------------------------------------------------------------------------------


def neuron(tr: Tracer, path: str, module: Any, x: Any) -> Value:
    axes = len(x.axes)
    x = front(tr, x, "a CUBA neuron")
    if module.graded_spike:
        tr.refuse("fires graded spikes", "set graded_spike=False")
    shape = tr.node_shape(x)
    op = tr.once(module, lambda: _cuba(tr, module, len(shape)), shape)
    return back(tr.neurons.multi_step(module, path, op, x), axes)


def _cuba(tr: Tracer, module: Any, ndim: int) -> Neuron:
    if TRUNCATES not in tr.notes:
        tr.notes.append(TRUNCATES)
    keep_u, keep_v = (_kept(tr, module, name, ndim) for name in ("current_decay", "voltage_decay"))
    gain, offset = _norm(tr, module.norm, ndim)
    leak = np.zeros(())
    if offset.any():
        if bool((keep_v == 1).any()):
            tr.refuse(
                "normalizes the current of a neuron without voltage decay", "fold the bias, or use a decay"
            )
        leak = offset / (1.0 - keep_v)
    return Neuron(
        tr.constant(module.threshold, "threshold").reshape(()),
        keep_v=keep_v,
        keep_u=keep_u,
        gain=gain,
        v_leak=leak,
        compare=Compare.GREATER,
    )


def _kept(tr: Tracer, module: Any, name: str, ndim: int) -> FloatArray:
    """What is left of a state after a step; a decay is a number of 4096ths, or one number per channel."""
    decay = np.rint(tr.constant(getattr(module, name), name))
    return _per_channel(1.0 - decay / module.p_scale, ndim)


def _per_channel(values: FloatArray, ndim: int) -> FloatArray:
    return values.reshape(()) if values.size == 1 else values.reshape(-1, *[1] * (ndim - 1))


def _norm(tr: Tracer, norm: Any, ndim: int) -> tuple[FloatArray, FloatArray]:
    """(gain, offset) of what a normalization makes of the current."""
    if norm is None:
        return np.ones(()), np.zeros(())
    kind = type(norm).__name__
    if kind not in ("MeanOnlyBatchNorm", "WgtScaleBatchNorm"):
        tr.refuse(f"normalizes by {kind}", "use MeanOnlyBatchNorm or WgtScaleBatchNorm")
    gain = np.ones(())
    if kind == "WgtScaleBatchNorm":
        gain = 1.0 / tr.constant(norm.std(norm.running_var), "norm.running_var").reshape(())
    mean = tr.constant(norm.pre_hook_fx(norm.running_mean), "norm.running_mean")
    return gain, _per_channel(-mean, ndim) * gain


# --- blocks -----------------------------------------------------------------------------------------


def block(tr: Tracer, path: str, module: Any, x: Any) -> Any:
    """Synapse, neuron, one step of delay."""
    _only_cuba(tr, module)
    mask = getattr(module, "mask", None)
    if mask is not None:
        module.synapse.weight.data *= mask
    y = module.neuron(module.synapse(x))
    return _result(tr, module, _delayed(tr, module, y))


def looped(tr: Tracer, path: str, module: Any, x: Any) -> Any:
    """Synapse, and a neuron that also gets its own spikes of the step before through another synapse."""
    _only_cuba(tr, module)
    if module.bias is not None:
        tr.refuse("adds a bias in front of the neuron", "use a normalization")
    z = module.input_synapse(x)
    axes = len(z.axes)
    z = front(tr, z, "a recurrent block")
    before = recurrent.previous(tr, path, module, z)
    synapse = module.recurrent_synapse
    weight = tr.once(synapse, lambda: og.Linear(_weight(tr, synapse).reshape(module.num_neurons, -1)))
    total = ops.add(tr, z, tr.emit(weight, [before], before, f"{path}.recurrent_synapse"))
    if module.neuron.graded_spike:
        tr.refuse("fires graded spikes", "set graded_spike=False")
    total = _delayed(tr, module, total)
    y = tr.neurons.multi_step(module, path, tr.once(module, lambda: _cuba(tr, module.neuron, 1)), total)
    recurrent.feed_back(tr, before, y)
    return _result(tr, module, back(y, axes))


def affine(tr: Tracer, path: str, module: Any, x: Any) -> Any:
    _only_cuba(tr, module)
    if module.dynamics:
        tr.refuse("reads the membrane potential of a neuron that fires", "set dynamics=False")
    return _result(tr, module, module.synapse(x))


def entry(tr: Tracer, path: str, module: Any, x: Any) -> Any:
    """An Input block without a neuron only delays."""
    if module.neuron is not None:
        tr.refuse("rounds its input and feeds it to a neuron", "use an Input block without neuron parameters")
    return _result(tr, module, _delayed(tr, module, tr.read(x)))


def flatten(tr: Tracer, path: str, module: Any, x: Any) -> Any:
    x = front(tr, x, "a flatten block")
    ndim = len(tr.node_shape(x))
    y = tr.flatten(x.moved(x.node, (BATCH, TIME, 0)), 0, ndim - 1, path)
    return _result(tr, module, back(y, 3))


def average(tr: Tracer, path: str, module: Any, x: Any) -> Any:
    x = front(tr, x, "an average block")
    (features,) = tr.node_shape(x)
    return _result(tr, module, back(ops.vote(tr, x, path, features // int(module.num_outputs)), 3))


def _only_cuba(tr: Tracer, module: Any) -> None:
    family = type(module).__module__.rpartition(".")[2]
    if family != "cuba":
        tr.refuse(f"a SLAYER block of the family {family}", "CUBA blocks are supported")


def _delayed(tr: Tracer, module: Any, y: Value) -> Value:
    delay = getattr(module, "delay", None)
    if delay is not None and bool(np.floor(tr.constant(delay.delay, "delay")).any()):
        tr.refuse("has learned axonal delays", "export the network to .net, which nmc reads with its delays")
    if module.delay_shift:
        y = y.moved(y.node, y.axes)
        y.delay += 1
    return y


def _result(tr: Tracer, module: Any, y: Value) -> Any:
    return (y, tr.torch.zeros(())) if module.count_log else y


BLOCKS: dict[str, Leaf] = {
    "Input": entry,
    "Dense": block,
    "Conv": block,
    "Pool": block,
    "Recurrent": looped,
    "Affine": affine,
    "Flatten": flatten,
    "Average": average,
}

TABLES = (
    Table(("lava.lib.dl.slayer.block.",), BLOCKS),
    Table(("lava.lib.dl.slayer.synapse.layer.",), {"Dense": dense, "Conv": conv, "Pool": pool}),
    Table(
        ("lava.lib.dl.slayer.neuron.cuba.",), neurons={"Neuron": neuron}, neuron_bases=frozenset({"Neuron"})
    ),
    Table(("lava.lib.dl.slayer.neuron.",)),
)
