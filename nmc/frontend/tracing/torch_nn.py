"""Layers of torch.nn, by class name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nmc.frontend import opgraph as og
from nmc.frontend.tracing import functions, moves, ops
from nmc.frontend.tracing.functions import LINEAR_LEADS, ONE_LEAD
from nmc.frontend.tracing.layout import Axes
from nmc.frontend.tracing.table import Leaf, Table
from nmc.frontend.tracing.value import Value

if TYPE_CHECKING:
    from nmc.frontend.tracing.tracer import Tracer


Leads = tuple[Axes, ...]


def convolved(tr: Tracer, path: str, module: Any, x: Value, leads: Leads) -> Value:
    if module.padding_mode != "zeros":
        tr.refuse(f"padding_mode {module.padding_mode!r}", "pad with zeros")

    def make() -> og.Conv2d:
        m = module
        return ops.convolution(tr, m.weight, m.bias, m.stride, m.padding, m.dilation, m.groups)

    x = tr.leads(x, leads, "a 2-D convolution")
    return tr.emit(tr.once(module, make), [x], x, path)


def multiplied(tr: Tracer, path: str, module: Any, x: Value, leads: Leads) -> Value:
    x = tr.leads(x, leads, "a linear layer")
    return tr.emit(tr.once(module, lambda: ops.dense(tr, module.weight, module.bias)), [x], x, path)


def normalized(tr: Tracer, path: str, module: Any, x: Value, leads: Leads) -> Value:
    if module.running_mean is None:
        tr.refuse(
            "batch norm without running statistics uses those of the batch", "set track_running_stats=True"
        )
    x = tr.leads(x, leads, "batch norm")

    def make() -> og.BatchNorm:
        m = module
        return ops.normalization(tr, m.running_mean, m.running_var, m.weight, m.bias, m.eps)

    return tr.emit(tr.once(module, make), [x], x, path)


def conv2d(tr: Tracer, path: str, module: Any, x: Any) -> Value:
    return convolved(tr, path, module, x, ONE_LEAD)


def linear(tr: Tracer, path: str, module: Any, x: Any) -> Value:
    return multiplied(tr, path, module, x, LINEAR_LEADS)


def batch_norm(tr: Tracer, path: str, module: Any, x: Any) -> Value:
    return normalized(tr, path, module, x, ONE_LEAD)


def max_pool(tr: Tracer, path: str, module: Any, x: Any) -> Value:
    m = module
    return functions.max_pool2d(
        tr, x, m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode, m.return_indices, name=path
    )


def avg_pool(tr: Tracer, path: str, module: Any, x: Any) -> Value:
    m = module
    return functions.avg_pool2d(
        tr,
        x,
        m.kernel_size,
        m.stride,
        m.padding,
        m.ceil_mode,
        m.count_include_pad,
        m.divisor_override,
        name=path,
    )


def lp_pool(tr: Tracer, path: str, module: Any, x: Any) -> Value:
    m = module
    return functions.lp_pool2d(tr, x, m.norm_type, m.kernel_size, m.stride, m.ceil_mode, name=path)


def adaptive_pool(tr: Tracer, path: str, module: Any, x: Any) -> Value:
    x = tr.leads(x, ONE_LEAD, "adaptive pool")
    maximum = "Max" in type(module).__name__
    return ops.adaptive_pool(tr, x, path, module.output_size, maximum)


def flatten(tr: Tracer, path: str, module: Any, x: Any) -> Value:
    shape = tr.shape(x)
    start, end = module.start_dim % len(shape), module.end_dim % len(shape)
    return moves.reshaped(tr, x, [*shape[:start], -1, *shape[end + 1 :]], path)


def unflatten(tr: Tracer, path: str, module: Any, x: Any) -> Value:
    return moves.unflatten(tr, x, module.dim, module.unflattened_size)


def relu(tr: Tracer, path: str, module: Any, x: Any) -> Value:
    return functions.relu(tr, x, module.inplace, name=path)


def softmax(tr: Tracer, path: str, module: Any, x: Any) -> Value:
    return functions.softmax(tr, x)


def identity(tr: Tracer, path: str, module: Any, x: Any) -> Value:
    """Passes its input on; dropout does so in eval mode."""
    return tr.read(x)


def zero_pad(tr: Tracer, path: str, module: Any, x: Any) -> Value:
    x = tr.leads(x, ONE_LEAD, "zero padding")
    return ops.pad(tr, x, list(module.padding), path)


LAYERS: dict[str, Leaf] = {
    "Conv2d": conv2d,
    "Linear": linear,
    **dict.fromkeys(("BatchNorm1d", "BatchNorm2d", "SyncBatchNorm"), batch_norm),
    "MaxPool2d": max_pool,
    "AvgPool2d": avg_pool,
    "LPPool2d": lp_pool,
    **dict.fromkeys(("AdaptiveAvgPool2d", "AdaptiveMaxPool2d"), adaptive_pool),
    "Flatten": flatten,
    "Unflatten": unflatten,
    "ReLU": relu,
    **dict.fromkeys(("Softmax", "LogSoftmax"), softmax),
    **dict.fromkeys(("Identity", "Dropout", "Dropout1d", "Dropout2d", "AlphaDropout"), identity),
    "ZeroPad2d": zero_pad,
}

TABLE = Table(
    prefixes=("torch.nn.modules.", "torch.ao.nn."),
    layers=LAYERS,
    containers=frozenset({"Module", "Sequential", "ModuleList", "ModuleDict"}),
)
