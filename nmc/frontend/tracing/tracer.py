"""Running a module on Values: whose turn it is, where in the user's code we are, what to refuse."""

from __future__ import annotations

import contextlib
import inspect
import linecache
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any, NoReturn

from nmc.errors import InternalError, NmcError
from nmc.frontend import opgraph as og
from nmc.frontend.opgraph import Op
from nmc.frontend.tracing import layout
from nmc.frontend.tracing.builder import Builder
from nmc.frontend.tracing.layout import Axes, LayoutError, Sizes
from nmc.frontend.tracing.neurons import Neurons
from nmc.frontend.tracing.table import Leaf
from nmc.frontend.tracing.value import OVERWRITTEN, Value, values_in
from nmc.ir import FloatArray, Shape

HERE = str(Path(__file__).parent)


class Tracer:
    """State of one trace.

    sizes: of the example. steps: T, where the module itself says it (a loop, a repeated frame).
    notes: for the report. overwritten: a tensor that nmc took for a constant was written to, and is NaN now.
    """

    def __init__(self, torch: Any, name: str, sizes: Sizes, dtype: Any) -> None:
        self.torch: Any = torch
        self.tensor_type: type[Any] = torch.Tensor
        self.name = name
        self.sizes = sizes
        self.dtype: Any = dtype
        self.builder = Builder()
        self.neurons = Neurons(self)
        self.steps: int | None = None
        self.last_step = -1
        self.notes: list[str] = []
        self.paths: list[str] = [""]
        self.failed_in: str | None = None
        self.running = False
        self.overwritten = False
        self._once: dict[tuple[object, ...], tuple[Any, Any]] = {}
        self._torch_folder = str(Path(torch.__file__).parent)

    # --- the graph ------------------------------------------------------------------------------------

    def input(self, axes: Axes, shape: Shape) -> Value:
        return Value(self, self.builder.add(og.Input(shape), (), "input"), axes)

    def node_shape(self, value: Value) -> Shape:
        return self.builder.shapes[value.node]

    def shape(self, value: Value) -> Shape:
        """The shape that the tensor has in the example."""
        return self.sizes.all(value.axes, self.node_shape(value))

    def emit(self, op: Op, operands: list[Value], like: Value, name: str, axes: Axes | None = None) -> Value:
        """A new Value: ``op`` on operands; leading axes, step and delay are those of ``like``.

        name: of the node, without the path of the module for an operation inside of a forward pass.
        axes: of the result; by default the leading axes, then all of the node's.
        """
        with self.blaming():
            node = self.builder.emit(op, [operand.node for operand in operands], name)
        if axes is None:
            axes = (*layout.leading(like.axes), *range(len(self.builder.shapes[node])))
        return like.moved(node, axes)

    def local(self, operation: str) -> str:
        """Name for the node of an operation in the current module's forward pass."""
        return f"{self.paths[-1]}.{operation}" if self.paths[-1] else operation

    def constant(self, tensor: Any, what: str, who: str | None = None) -> FloatArray:
        try:
            return self.builder.constant(tensor, who or self.who, what)
        except NmcError as error:
            if error.code == "NMC-G04" and self.overwritten:
                self.refuse(*OVERWRITTEN)
            raise

    def per_neuron(self, tensor: Any, shape: Shape, what: str) -> FloatArray:
        """A neuron's parameter as the op graph wants it; torch aligns it with the last axes."""
        values = self.constant(tensor, what)
        if values.size == 1:
            return values.reshape(())
        while values.ndim > len(shape) and values.shape[0] == 1:
            values = values[0]
        if values.ndim > len(shape):
            self.refuse(
                f"{what} of shape {values.shape} on neurons of shape {shape}", "give one value per neuron"
            )
        return values.reshape((1,) * (len(shape) - values.ndim) + values.shape)

    def once(self, module: Any, make: Callable[[], Any], *extra: object) -> Any:
        """What ``make`` returned the first time: a layer that is called at every step keeps one op."""
        key = (id(module), *extra)
        if key not in self._once:
            self._once[key] = (module, make())
        return self._once[key][1]

    def set_time(self, count: int) -> None:
        """The module makes a time axis of its own, of this many steps."""
        self.sizes.time = count

    # --- reading values -------------------------------------------------------------------------------

    def read(self, value: Any) -> Value:
        """The Value that an operation reads; refuses potentials and sums over time."""
        if type(value) is not Value:
            self.refuse(f"gets a {type(value).__name__} that does not come from the input", "")
        if value.forbidden:
            self.refuse(*value.forbidden.split("; "))
        if value.step is not None and len(value.step) > 1:
            self.refuse("reads a sum over time", "take the mean over time, or end the network with the sum")
        return value

    def settled(self, value: Any) -> Value:
        """The Value with leading axes first, then all data axes in the node's order."""
        value = self.read(value)
        shape = self.node_shape(value)
        axes = layout.unhide(value.axes, shape)
        visible = layout.data_axes(axes)
        if layout.UNIT in axes or axes != (*layout.leading(axes), *sorted(visible)):
            sizes = self.shape(value)
            self.refuse(f"reads a tensor {sizes} with permuted or new axes", "undo that first")
        return self._tight(value.moved(value.node, axes))

    def _tight(self, value: Value) -> Value:
        """Joins squeezed node axes (size 1) with their neighbours, so that the visible ones remain."""
        starts = [0, *layout.data_axes(value.axes)[1:]]
        stops = [*starts[1:], len(self.node_shape(value))]
        for start, stop in reversed(list(zip(starts, stops, strict=True))):
            axes = tuple(start if isinstance(a, int) and start <= a < stop else a for a in value.axes)
            value = self.flatten(value.moved(value.node, axes), start, stop - 1, self.local("flatten"))
        return value

    def flatten(self, value: Value, start: int, end: int, name: str) -> Value:
        """Joins node axes start..end into one; ``value.axes`` must hold ``start`` for all of them."""
        gone = end - start
        axes = tuple(a - gone if isinstance(a, int) and a > end else a for a in value.axes)
        return self.emit(og.Flatten(start, end), [value], value, name, axes) if gone else value

    def leads(self, value: Value, allowed: tuple[Axes, ...], layer: str) -> Value:
        """A settled Value whose leading axes are among the allowed ones."""
        value = self.settled(value)
        lead = layout.leading(value.axes)
        if lead not in allowed:
            got = " x ".join(map(str, self.shape(value)))
            self.refuse(
                f"{layer} gets a tensor ({got}) with leading axes {_spell(lead)}, it expects "
                + " or ".join(map(_spell, allowed)),
                "check step_mode and the input's shape",
            )
        return value

    # --- calls from torch -----------------------------------------------------------------------------

    def call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self.call_named(getattr(function, "__name__", str(function)), args, kwargs)

    def call_named(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        from nmc.frontend.tracing.functions import FUNCTIONS

        handler = FUNCTIONS.get(name)
        if handler is None:
            self.refuse(f"{name} on a traced tensor is not supported", "see docs for what is, or rewrite it")
        with self.blaming():
            return handler(self, *args, **kwargs)

    def attribute(self, value: Value, name: str) -> Any:
        """``value.name``: concrete facts, or a method."""
        from nmc.frontend.tracing.functions import ATTRIBUTES, FUNCTIONS

        if name in ATTRIBUTES:
            return ATTRIBUTES[name](self, value)
        known = getattr(self.tensor_type, name, None)
        if known is None and name not in FUNCTIONS:
            raise AttributeError(f"a tensor has no attribute {name}")
        if name not in FUNCTIONS and not callable(known):
            self.refuse(f"the tensor attribute {name} is not supported", "")
        return lambda *args, **kwargs: self.call_named(name, (value, *args), kwargs)

    # --- modules --------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def inside(self, path: str) -> Iterator[None]:
        self.paths.append(path)
        try:
            yield
        except BaseException:
            if self.failed_in is None:
                self.failed_in = path
            raise
        finally:
            self.paths.pop()

    def wrap(self, module: Any, path: str, leaf: Leaf | None) -> Callable[..., Any]:
        """What replaces ``module.forward`` in the copy that is traced."""
        forward = module.forward
        signature = inspect.signature(forward) if leaf else None

        def run(*args: Any, **kwargs: Any) -> Any:
            # A layer on constants (a positional code, a prompt) is a constant.
            if leaf is None or signature is None or next(values_in((args, kwargs)), None) is None:
                with self.inside(path):
                    return forward(*args, **kwargs)
            with self.inside(path), self.blaming():
                given = signature.bind(*args, **kwargs)
                return leaf(self, path or self.name, module, *given.args, **given.kwargs)

        return run

    # --- refusing -------------------------------------------------------------------------------------

    @property
    def who(self) -> str:
        """The module whose turn it is, by path."""
        path = self.paths[-1] if self.failed_in is None else self.failed_in
        return path or self.name

    def refuse(self, problem: str, remedy: str, code: str = "NMC-G05") -> NoReturn:
        """Raises NmcError naming the module and the line of the user's code that is running."""
        raise NmcError(code, self.who, problem + self.where(sys._getframe(1)), remedy)

    @contextlib.contextmanager
    def blaming(self) -> Iterator[None]:
        """Turns a layout that cannot be expressed into a refusal."""
        try:
            yield
        except LayoutError as error:
            self.refuse(str(error), "keep the order of axes, or flatten to a vector")

    def where(self, frame: FrameType | None) -> str:
        """' (file line N: `code`)' of the innermost running line that is the user's; '' if there is none."""
        while frame is not None and self.running:
            if frame.f_code is TOP:
                return ""
            if self._is_users(frame.f_code):
                return _spot(frame.f_code.co_filename, frame.f_lineno)
            frame = frame.f_back
        return ""

    def where_raised(self, traceback: TracebackType | None) -> str:
        """The same for an exception that has left the user's code."""
        found = ""
        while traceback is not None:
            if self._is_users(traceback.tb_frame.f_code):
                found = _spot(traceback.tb_frame.f_code.co_filename, traceback.tb_lineno)
            traceback = traceback.tb_next
        return found

    def _is_users(self, code: CodeType) -> bool:
        return not code.co_filename.startswith((HERE, self._torch_folder, contextlib.__file__, "<frozen"))


def run(tracer: Tracer, module: Any, value: Value) -> Any:
    """The module's result on the input; whatever its code raises becomes a refusal, what it prints goes to
    stderr, as stdout is for results.

    Raises NmcError NMC-G05.
    """
    tracer.running = True
    try:
        with tracer.torch.no_grad(), contextlib.redirect_stdout(sys.stderr):
            return module(value)
    except (NmcError, InternalError):
        raise
    except (Exception, SystemExit) as error:
        text = " ".join(str(error).split())
        place = tracer.where_raised(error.__traceback__)
        raise NmcError(
            "NMC-G05",
            tracer.who,
            f"its forward raised {type(error).__name__}: {text}{place}",
            "check input_shape and step_mode, or rewrite what only real tensors can do",
        ) from error
    finally:
        tracer.running = False


TOP = run.__code__


def _spot(filename: str, line: int) -> str:
    code = linecache.getline(filename, line).strip()
    return (
        f" ({Path(filename).name} line {line}: `{code}`)" if code else f" ({Path(filename).name} line {line})"
    )


def _spell(axes: Axes) -> str:
    names = {
        layout.TIME: "time",
        layout.BATCH: "batch",
        layout.TIME_BATCH: "time*batch",
        layout.BATCH_TIME: "batch*time",
    }
    return "(" + ", ".join(names.get(str(axis), str(axis)) for axis in axes) + ")"
