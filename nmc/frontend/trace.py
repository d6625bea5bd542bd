"""A torch module, as it is, into an op graph.

The module is copied and run once on stand-ins for tensors (``tracing.value``). Layers and neurons of torch,
SpikingJelly, snnTorch, Norse, Sinabs and lava-dl are recognised by the path of their class; everything else
in a forward pass is followed operation by operation. What has no meaning in the op graph is refused with the
module's path and the user's line.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from nmc import extras
from nmc.errors import NmcError
from nmc.frontend import opgraph as og
from nmc.frontend.lower import LAST_POTENTIAL
from nmc.frontend.opgraph import OpGraph
from nmc.frontend.tracing import layout
from nmc.frontend.tracing.copying import private_copy, unwrapped
from nmc.frontend.tracing.layout import BATCH, BATCH_TIME, TIME, Sizes
from nmc.frontend.tracing.neurons import Population
from nmc.frontend.tracing.tracer import Tracer, run
from nmc.frontend.tracing.value import Value, values_in
from nmc.ir import Shape

StepMode: TypeAlias = Literal["s", "m", "nt", "merged", "t_last"]
"""What ``forward`` gets: "s" one step (N, ...), or one frame; "m" all steps (T, N, ...); "nt" (N, T, ...);
"merged" (N * T, ...); "t_last" (N, ..., T)."""

EXAMPLE_STEPS = 3
EXAMPLE_BATCH = 2


@dataclass(frozen=True, eq=False)
class Traced:
    """A graph and how its module is to be called.

    neurons: the population of every neuron node. inner_loop: one call of the module covers all steps.
    output: what the module returns: its axes, the steps that it sums up, its delay.
    """

    graph: OpGraph
    step_mode: StepMode
    neurons: Mapping[str, Population]
    inner_loop: bool
    output: Value


def trace(
    module: Any,
    input_shape: Sequence[int],
    *,
    step_mode: StepMode | None = None,
    steps: int | None = None,
    dt: float | None = None,
    name: str | None = None,
) -> OpGraph:
    """The op graph of a torch module.

    Args:
        module: a ``torch.nn.Module``; it is not changed.
        input_shape: of one sample in one step: without batch and time, such as (3, 32, 32).
        step_mode: what ``forward`` gets (see ``StepMode``); None: what the module's layers say, else "s".
        steps: T for the report; only needed where the module does not say it.
        dt: seconds per step; only checked against modules that state one (Norse).
        name: of the graph; by default the name of the class.

    Raises:
        NmcError: NMC-G05 for what cannot be expressed, naming module path and line; NMC-G04 for numbers that
            are not finite; NMC-G07 when ``dt`` contradicts the module; NMC-U02 for a bad argument; NMC-E01
            without torch.
    """
    return trace_module(module, input_shape, step_mode=step_mode, steps=steps, dt=dt, name=name).graph


def trace_module(
    module: Any,
    input_shape: Sequence[int],
    *,
    step_mode: StepMode | None = None,
    steps: int | None = None,
    dt: float | None = None,
    name: str | None = None,
) -> Traced:
    """``trace``, with what is needed to run the module beside the graph."""
    from nmc.frontend.tracing.recognise import find

    torch = _torch()
    if not isinstance(module, torch.nn.Module):
        raise NmcError("NMC-U02", "module", f"a {type(module).__name__}", "give a torch.nn.Module")
    shape = _checked_shape(input_shape, steps)
    module = unwrapped(module)
    name = name or type(module).__name__
    twin, notes = private_copy(torch, module, name)
    _check_dt(torch, twin, dt, name)
    mode = step_mode or detect_mode(twin)
    tracer = Tracer(torch, name, _sizes(twin, steps), dtype_of(torch, twin))
    tracer.notes += notes
    for path, part in list(twin.named_modules()):
        part.forward = tracer.wrap(part, path, find(part))
    result = run(tracer, twin, tracer.input(_axes(mode, len(shape)), shape))
    output = _output(tracer, result)
    loops = _loops(tracer, output)
    graph = tracer.builder.finish(output.node, name, _steps(tracer, mode, steps, loops), tracer.notes)
    _check_states(tracer, [result, [vars(part) for part in twin.modules()]], loops, graph)
    populations = {p.node: p for p in tracer.neurons.populations.values() if p.node in graph.nodes}
    inner_loop = loops > 1 or (mode == "s" and tracer.steps is not None)
    return Traced(graph, mode, populations, inner_loop, output)


def detect_mode(module: Any) -> StepMode:
    """What the layers of a module say about its input; "s" where they say nothing."""
    modes: set[StepMode] = set()
    flattens = False
    for part in module.modules():
        path = type(part).__module__
        kind = type(part).__name__
        if (path.startswith("spikingjelly.") and getattr(part, "step_mode", "s") == "m") or (
            path.startswith("norse.torch.module.") and kind in ("LIF", "IAF", "LI", "LIFRecurrent", "Lift")
        ):
            modes.add("m")
        elif path.startswith("sinabs.layers.") and hasattr(part, "num_timesteps"):
            modes.add("merged")
        elif path.startswith("sinabs.layers.") and kind in ("FlattenTime", "UnflattenTime"):
            flattens = flattens or kind == "FlattenTime"
            modes |= set() if flattens else {"merged"}
        elif path.startswith("sinabs.layers.") and hasattr(part, "spike_fn"):
            modes.add("nt")
        elif path.startswith("lava.lib.dl.slayer."):
            modes.add("t_last")
    ranked: tuple[StepMode, ...] = ("merged", "t_last", "m", "nt")
    return next((mode for mode in ranked if mode in modes), "s")


# --- before -----------------------------------------------------------------------------------------


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        raise NmcError("NMC-E01", "torch", "is not installed", extras.install("torch")) from None
    return torch


def _checked_shape(input_shape: Sequence[int], steps: int | None) -> Shape:
    try:
        shape = tuple(operator.index(size) for size in input_shape)
    except TypeError:
        shape = ()
    if not shape or min(shape) < 1:
        raise NmcError(
            "NMC-U02",
            "input_shape",
            f"is {input_shape!r:.60}",
            "give the shape of one sample, such as (3, 32, 32)",
        )
    if steps is not None and steps < 1:
        raise NmcError("NMC-U02", "steps", f"{steps} time steps", "give at least 1")
    return shape


def _check_dt(torch: Any, module: Any, dt: float | None, name: str) -> None:
    for path, part in module.named_modules():
        own = getattr(part, "dt", None)
        norse = type(part).__module__.startswith("norse.")
        if dt is not None and norse and own is not None and abs(float(own) - dt) > 1e-9 * dt:
            problem = f"has dt = {float(own):g} s, {dt:g} s was asked for"
            raise NmcError("NMC-G07", path or name, problem, "leave dt out: the module states its own")


def _sizes(module: Any, steps: int | None) -> Sizes:
    """Example sizes; layers that squeeze time into the batch may fix them."""
    time, batch = max(steps or EXAMPLE_STEPS, 2), EXAMPLE_BATCH
    for part in module.modules():
        if not any(cls.__module__.startswith("sinabs.layers.") for cls in type(part).__mro__):
            continue
        if hasattr(part, "num_timesteps") and hasattr(part, "batch_size"):
            time = part.num_timesteps if part.num_timesteps > 0 else time
            batch = part.batch_size if part.batch_size > 0 else batch
        elif type(part).__name__ == "UnflattenTime" and part.batch_size > 0:
            batch = part.batch_size
    return Sizes(time, batch if batch != time or batch > EXAMPLE_BATCH else batch + 1)


def dtype_of(torch: Any, module: Any) -> Any:
    """The precision that a module computes in."""
    floats = [t.dtype for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()]
    return floats[0] if floats else torch.get_default_dtype()


def _axes(mode: StepMode, ndim: int) -> layout.Axes:
    data = tuple(range(ndim))
    table: dict[StepMode, layout.Axes] = {
        "s": (BATCH, *data),
        "m": (TIME, BATCH, *data),
        "nt": (BATCH, TIME, *data),
        "merged": (BATCH_TIME, *data),
        "t_last": (BATCH, *data, TIME),
    }
    return table[mode]


# --- after ------------------------------------------------------------------------------------------


def _output(tracer: Tracer, result: Any) -> Value:
    """The one tensor that the module returns; states and potentials beside it do not count."""
    from nmc.frontend.tracing.functions import SOFTMAX

    values = list(values_in(result))
    readable = [value for value in values if not value.forbidden or value.forbidden == SOFTMAX]
    if not readable and values:
        problem, _, remedy = values[0].forbidden.partition("; ")
        tracer.refuse(problem.replace("reads", "returns only", 1), remedy.replace("use", "return", 1))
    if not readable:
        tracer.refuse("its output does not depend on its input", "check what forward returns")
    first = readable[0]
    if any((v.node, v.step) != (first.node, first.step) for v in readable[1:]):
        nodes = ", ".join(dict.fromkeys(value.node for value in readable))
        tracer.refuse(f"returns several tensors ({nodes})", "return the one that is to be compiled")
    summed = first.step
    plain = Value(tracer, first.node, first.axes, None, first.delay)
    settled = tracer.settled(_time_first(plain))
    settled.step = summed
    if settled.delay:
        tracer.notes.append(
            f"the framework's output is {settled.delay} steps late (delay_shift); nmc counts from the first"
        )
    return settled


def _time_first(value: Value) -> Value:
    """A trailing time axis (SLAYER), and the axes of size 1 in front of it, moved out of the way."""
    if value.axes[-1] != TIME:
        return value
    data = tuple(axis for axis in value.axes[1:-1] if axis != layout.UNIT)
    return value.moved(value.node, (value.axes[0], TIME, *data))


def _loops(tracer: Tracer, output: Value) -> int:
    """How many steps one call of the module covers by calling its neurons step by step; 0 without such.

    Raises NmcError NMC-G05 when the neurons disagree, or when the module does not return all steps.
    """
    used = tracer.builder.behind(output.node)
    calls = {p.node: p.calls for p in tracer.neurons.populations.values() if p.node in used and p.calls}
    loops = max(calls.values(), default=0)
    for node, count in calls.items():
        if count != loops:
            other = next(n for n, c in calls.items() if c == loops)
            raise NmcError(
                "NMC-G05",
                node,
                f"runs {count} times while {other} runs {loops} times",
                "a neuron that is used twice in a step shares its state: give each use its own",
            )
    if len(output.step or ()) > 1 and _never_fires(tracer, output.node):
        problem = f"sums up {output.node}, which never fires, over time: {LAST_POTENTIAL}"
        tracer.refuse(problem, "return its last step")
    steps = loops or tracer.sizes.time
    whole = output.step is None or output.step == tuple(range(steps))
    last = output.step == (steps - 1,) and _never_fires(tracer, output.node)
    if not (whole or last):
        step = (output.step or (0,))[-1]
        tracer.refuse(f"returns step {step} of {steps} only", "return all steps, or their sum or mean")
    if loops and tracer.last_step >= 0 and tracer.last_step + 1 != loops:
        tracer.refuse(
            f"reads {tracer.last_step + 1} steps and runs {loops}", "read every step once, in order"
        )
    return loops


def _never_fires(tracer: Tracer, node: str) -> bool:
    op = tracer.builder.nodes[node]
    return isinstance(op, og.Neuron) and op.threshold is None


def _steps(tracer: Tracer, mode: StepMode, steps: int | None, loops: int) -> int | None:
    """T: what the caller says, else what the module repeats or counts by itself."""
    known = tracer.steps
    if loops > 1 and (mode == "s" or loops != EXAMPLE_STEPS):
        known = loops
    if steps is not None and known is not None and mode == "s" and steps != known:
        raise NmcError(
            "NMC-U02", "steps", f"{steps}, but {tracer.name} runs {known} steps by itself", "leave it out"
        )
    return steps or known


def _check_states(tracer: Tracer, holders: list[Any], loops: int, graph: OpGraph) -> None:
    """A neuron whose caller neither returns nor stores the state would start anew in every step."""
    if loops != 1:
        return
    kept = {state.node for state in tracer.neurons.states_in(holders)}
    for population in tracer.neurons.populations.values():
        handed = population.explicit and population.calls and population.node in graph.nodes
        if handed and population.node not in kept:
            raise NmcError(
                "NMC-G05",
                population.node,
                "its state is dropped at the end of the step, so that every step would start anew",
                "return the state, let the layer keep it, or loop over time in forward",
            )
