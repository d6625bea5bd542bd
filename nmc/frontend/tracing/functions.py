"""torch functions, tensor methods and operators by name. Each handler has torch's own signature."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nmc.frontend import opgraph as og
from nmc.frontend.tracing import moves, ops
from nmc.frontend.tracing.layout import BATCH, BATCH_TIME, TIME_BATCH
from nmc.frontend.tracing.value import OVERWRITTEN, Value, is_value

if TYPE_CHECKING:
    from nmc.frontend.tracing.tracer import Tracer

Handler = Callable[..., Any]

ONE_LEAD = ((BATCH,), (TIME_BATCH,), (BATCH_TIME,))
"""Leading axes that torch's 2-D layers accept."""

LINEAR_LEADS = (*ONE_LEAD, ("T", "N"), ("N", "T"))
"""Leading axes that a matrix product accepts: any."""


# --- layers as functions ----------------------------------------------------------------------------


def conv2d(
    tr: Tracer,
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value:
    x = tr.leads(input, ONE_LEAD, "conv2d")
    op = ops.convolution(tr, weight, bias, stride, padding, dilation, groups)
    return tr.emit(op, [x], x, tr.local("conv2d"))


def linear(tr: Tracer, input: Any, weight: Any, bias: Any = None) -> Value:
    x = tr.leads(input, LINEAR_LEADS, "linear")
    return tr.emit(ops.dense(tr, weight, bias), [x], x, tr.local("linear"))


def matmul(tr: Tracer, first: Any, second: Any) -> Value:
    if is_value(second):
        tr.refuse("multiplies a matrix by a traced tensor", "use a Linear layer; attention is not supported")
    return linear(tr, first, second.T)


def batch_norm(
    tr: Tracer,
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Value:
    if training or running_mean is None:
        tr.refuse("batch norm computes the statistics of the batch", "use running statistics, in eval mode")
    x = tr.leads(input, ONE_LEAD, "batch norm")
    op = ops.normalization(tr, running_mean, running_var, weight, bias, eps)
    return tr.emit(op, [x], x, tr.local("batch_norm"))


def max_pool2d(
    tr: Tracer,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    name: str | None = None,
) -> Value:
    if ops.pair(dilation) != (1, 1) or return_indices:
        tr.refuse("a max pool with dilation or indices", "use a plain max pool")
    x = tr.leads(input, ONE_LEAD, "max pool")
    return ops.max_pool(tr, x, name or tr.local("max_pool2d"), kernel_size, stride, padding, ceil_mode)


def avg_pool2d(
    tr: Tracer,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    name: str | None = None,
) -> Value:
    x = tr.leads(input, ONE_LEAD, "average pool")
    if not count_include_pad and ops.pair(padding) != (0, 0):
        tr.refuse(
            "an average pool that does not count its padding", "pad nothing, or set count_include_pad=True"
        )
    name = name or tr.local("avg_pool2d")
    if divisor_override is None:
        return ops.avg_pool(tr, x, name, kernel_size, stride, padding, ceil_mode)
    summed = tr.emit(og.SumPool(*ops.window(tr, x, kernel_size, stride, padding, ceil_mode)), [x], x, name)
    return ops.scale(tr, summed, 1.0 / divisor_override)


def lp_pool2d(
    tr: Tracer,
    input: Any,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
    name: str | None = None,
) -> Value:
    if norm_type != 1:
        tr.refuse(f"a power pool of norm {norm_type:g}", "use norm 1, which is a sum pool")
    x = tr.leads(input, ONE_LEAD, "sum pool")
    sizes = ops.window(tr, x, kernel_size, stride, 0, ceil_mode)
    return tr.emit(og.SumPool(*sizes), [x], x, name or tr.local("sum_pool2d"))


def adaptive_avg_pool2d(tr: Tracer, input: Any, output_size: Any) -> Value:
    x = tr.leads(input, ONE_LEAD, "adaptive pool")
    return ops.adaptive_pool(tr, x, tr.local("adaptive_avg_pool2d"), output_size)


def adaptive_max_pool2d(
    tr: Tracer,
    input: Any,
    output_size: Any,
    return_indices: bool = False,
) -> Value:
    x = tr.leads(input, ONE_LEAD, "adaptive pool")
    return ops.adaptive_pool(tr, x, tr.local("adaptive_max_pool2d"), output_size, maximum=True)


def dropout(
    tr: Tracer,
    input: Any,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
) -> Value:
    if training and p:
        tr.refuse("dropout is active although the module is in eval mode", "pass training=self.training")
    return tr.read(input)


def relu(tr: Tracer, input: Any, inplace: bool = False, name: str | None = None) -> Value:
    x = tr.read(input)
    result = tr.emit(og.ReLU(), [x], x, name or tr.local("relu"), x.axes)
    return x.become(result) if inplace else result


def clamp(tr: Tracer, input: Any, min: Any = None, max: Any = None) -> Value:
    if max is not None or not isinstance(min, int | float) or min != 0:
        tr.refuse("clamps values to a range", "only clamp(min=0), which is a ReLU, has a lowering")
    return relu(tr, input)


def softmax(tr: Tracer, input: Any, *args: Any, **kwargs: Any) -> Value:
    """A softmax at the very end: the order of the classes stays."""
    x = tr.read(input)
    if SOFTMAX_NOTE not in tr.notes:
        tr.notes.append(SOFTMAX_NOTE)
    result = x.moved(x.node, x.axes)
    result.forbidden = SOFTMAX
    return result


SOFTMAX_NOTE = "the softmax at the end is left to the host; it does not change the order of the classes"
SOFTMAX = "reads the result of a softmax; end the network with it"


# --- arithmetic -------------------------------------------------------------------------------------


def add(tr: Tracer, input: Any, other: Any, alpha: float = 1) -> Value:
    return ops.add(tr, input, other, float(alpha))


def sub(tr: Tracer, input: Any, other: Any, alpha: float = 1) -> Value:
    return ops.add(tr, input, other, -float(alpha))


def mul(tr: Tracer, input: Any, other: Any) -> Value:
    return ops.mul(tr, input, other)


def rsub(tr: Tracer, input: Any, other: Any, alpha: float = 1) -> Value:
    return ops.add(tr, other, input, -float(alpha))


def div(tr: Tracer, input: Any, other: Any, rounding_mode: str | None = None) -> Value:
    if is_value(other) or rounding_mode is not None:
        tr.refuse("divides by a traced tensor, or rounds", "divide by constants")
    return ops.scale(tr, input, 1.0 / other)


def add_(tr: Tracer, input: Any, other: Any, alpha: float = 1) -> Any:
    return _in_place(tr, input, add(tr, input, other, alpha))


def sub_(tr: Tracer, input: Any, other: Any, alpha: float = 1) -> Any:
    return _in_place(tr, input, sub(tr, input, other, alpha))


def mul_(tr: Tracer, input: Any, other: Any) -> Any:
    return _in_place(tr, input, ops.mul(tr, input, other))


def div_(tr: Tracer, input: Any, other: Any) -> Any:
    return _in_place(tr, input, div(tr, input, other))


def _in_place(tr: Tracer, target: Any, result: Value) -> Any:
    if is_value(target):
        return target.become(result)
    # A loop over time may start from a real tensor: "total = torch.zeros(...); total += spikes".
    if target.requires_grad or not target.is_floating_point() or not bool((target == 0).all()):
        tr.refuse(*OVERWRITTEN)
    # The name has the sum now. Who else holds the tensor would go on to read zeros, and must not.
    target.fill_(float("nan"))
    tr.overwritten = True
    return result


def neg(tr: Tracer, input: Any) -> Value:
    return ops.scale(tr, input, -1.0)


# --- over axes --------------------------------------------------------------------------------------


def _dims(tr: Tracer, x: Value, dim: Any) -> list[int]:
    if dim is None:
        tr.refuse("reduces over every axis, the batch included", "name the axes")
    return [dim] if isinstance(dim, int) else [int(d) for d in dim]


def mean(tr: Tracer, input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    return ops.mean(tr, input, _dims(tr, input, dim), keepdim)


def total(tr: Tracer, input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    return ops.total(tr, input, _dims(tr, input, dim), keepdim)


def cat(tr: Tracer, tensors: Any, dim: int = 0) -> Value:
    steps = moves.as_stack(tr, tensors, dim)
    return ops.concat(tr, list(tensors), dim) if steps is None else steps


def pad(tr: Tracer, input: Any, pad: Any, mode: str = "constant", value: float | None = None) -> Value:
    if mode != "constant" or value:
        tr.refuse(f"pads with {mode} {value or ''}".rstrip(), "pad with zeros")
    return ops.pad(tr, input, [int(n) for n in pad], tr.local("pad"))


# --- what needs no op -------------------------------------------------------------------------------


def same(tr: Tracer, input: Any, *args: Any, **kwargs: Any) -> Any:
    """Precision, device and memory format play no role; a type of whole numbers would round."""
    for kind in (*args, *kwargs.values()):
        if isinstance(kind, tr.torch.dtype) and not kind.is_floating_point:
            tr.refuse(f"converts to {kind}".replace("torch.", ""), "keep floats")
    return input


def copy(tr: Tracer, input: Any, *args: Any, **kwargs: Any) -> Value:
    result: Value = input.moved(input.node, input.axes)
    result.forbidden = input.forbidden
    return result


def _filled(make: str) -> Handler:
    """torch.zeros_like and its kind: a real tensor of the example's shape."""

    def handler(tr: Tracer, input: Any, *args: Any, **kwargs: Any) -> Any:
        kwargs.setdefault("dtype", tr.dtype)
        kwargs.pop("memory_format", None)
        shape = tr.shape(input)
        if make.startswith("new_"):
            size = kwargs.pop("size", None) or args[0]
            shape = (
                tuple(size)
                if isinstance(size, list | tuple)
                else tuple(n for n in args if isinstance(n, int))
            )
            args = args[1:] if make == "new_full" else ()
        function = make.removeprefix("new_").removesuffix("_like")
        kwargs["device"] = "cpu"
        return getattr(tr.torch, function)(shape, *args, **kwargs)

    return handler


def _refusing(problem: str, remedy: str) -> Handler:
    def handler(tr: Tracer, *args: Any, **kwargs: Any) -> Any:
        tr.refuse(problem, remedy)

    return handler


COMPARE = _refusing(
    "compares a traced tensor",
    "a neuron written by hand? use one of SpikingJelly, snnTorch, Norse, Sinabs or lava-dl; "
    "control flow on data is not supported",
)
DATA = _refusing("reads the numbers of a traced tensor", "control flow on data is not supported")

NEW = ("new_zeros", "new_ones", "new_empty", "new_full")

FUNCTIONS: dict[str, Handler] = {
    **dict.fromkeys(("add", "__add__", "__radd__"), add),
    **dict.fromkeys(("add_", "__iadd__"), add_),
    **dict.fromkeys(("sub", "subtract", "__sub__"), sub),
    **dict.fromkeys(("rsub", "__rsub__"), rsub),
    **dict.fromkeys(("sub_", "__isub__"), sub_),
    **dict.fromkeys(("mul", "multiply", "__mul__", "__rmul__"), mul),
    **dict.fromkeys(("mul_", "__imul__"), mul_),
    **dict.fromkeys(("div", "true_divide", "divide", "__truediv__"), div),
    **dict.fromkeys(("div_", "__itruediv__"), div_),
    **dict.fromkeys(("neg", "negative", "__neg__"), neg),
    **dict.fromkeys(("matmul", "mm", "__matmul__"), matmul),
    "conv2d": conv2d,
    "linear": linear,
    "batch_norm": batch_norm,
    "max_pool2d": max_pool2d,
    "avg_pool2d": avg_pool2d,
    "lp_pool2d": lp_pool2d,
    "adaptive_avg_pool2d": adaptive_avg_pool2d,
    "adaptive_max_pool2d": adaptive_max_pool2d,
    **dict.fromkeys(("dropout", "dropout1d", "dropout2d", "alpha_dropout", "feature_dropout"), dropout),
    "relu": relu,
    "relu_": lambda tr, input: relu(tr, input, inplace=True),
    **dict.fromkeys(("clamp", "clip"), clamp),
    **dict.fromkeys(("softmax", "log_softmax"), softmax),
    "mean": mean,
    "sum": total,
    **dict.fromkeys(("cat", "concat", "concatenate"), cat),
    "pad": pad,
    **moves.FUNCTIONS,
    **dict.fromkeys(
        ("contiguous", "detach", "to", "type", "type_as", "float", "double", "half", "bfloat16"), same
    ),
    **dict.fromkeys(("cpu", "cuda", "requires_grad_"), same),
    "clone": copy,
    **{name: _filled(name) for name in ("zeros_like", "ones_like", "empty_like", "full_like", *NEW)},
    **dict.fromkeys(
        ("eq", "ne", "lt", "le", "gt", "ge", "greater", "less", "where", "sign", "heaviside"), COMPARE
    ),
    **dict.fromkeys(("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"), COMPARE),
    **dict.fromkeys(
        ("item", "bool", "tolist", "numpy", "__bool__", "__float__", "__int__", "__array__"), DATA
    ),
    "setitem": _refusing("writes into a tensor", "collect the steps in a list and use torch.stack"),
    "__setitem__": _refusing("writes into a tensor", "collect the steps in a list and use torch.stack"),
}


def _size(tr: Tracer, value: Value) -> Any:
    return tr.torch.Size(tr.shape(value))


ATTRIBUTES: dict[str, Callable[[Tracer, Value], Any]] = {
    "shape": _size,
    "ndim": lambda tr, value: len(value.axes),
    "dtype": lambda tr, value: tr.dtype,
    "device": lambda tr, value: tr.torch.device("cpu"),
    "layout": lambda tr, value: tr.torch.strided,
    "data": lambda tr, value: value,
    **dict.fromkeys(
        ("is_cuda", "is_sparse", "is_quantized", "is_meta", "is_mkldnn", "requires_grad", "is_complex"),
        lambda tr, value: False,
    ),
    "grad_fn": lambda tr, value: None,
    "size": lambda tr, value: lambda dim=None: _size(tr, value) if dim is None else _size(tr, value)[dim],
    **dict.fromkeys(("dim", "ndimension"), lambda tr, value: lambda: len(value.axes)),
    **dict.fromkeys(("numel", "nelement"), lambda tr, value: lambda: _size(tr, value).numel()),
    "is_floating_point": lambda tr, value: lambda: True,
    "get_device": lambda tr, value: lambda: -1,
}
