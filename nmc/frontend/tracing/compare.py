"""The check of an import: the float engine's spikes against the framework's own, layer by layer."""

from __future__ import annotations

import contextlib
import inspect
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nmc.frontend import opgraph as og
from nmc.frontend.float_engine import FloatRun, as_trains, run
from nmc.frontend.opgraph import OpGraph
from nmc.frontend.trace import StepMode, Traced, dtype_of, trace_module
from nmc.frontend.tracing.copying import private_copy, unwrapped
from nmc.frontend.tracing.layout import BATCH, BATCH_TIME, TIME
from nmc.ir import Shape

Array = npt.NDArray[Any]

READOUT_TOLERANCE = 1e-4
"""Potentials and outputs are sums of floats in another order; relative to the largest of the layer."""


@dataclass(frozen=True)
class LayerMatch:
    """One neuron layer (or the output): how many values were compared and how they differ.

    spikes: the framework's, in total. first: (sample, step, flat index) of the first difference.
    largest: of the absolute differences.
    """

    layer: str
    values: int
    spikes: int
    differing: int
    first: tuple[int, ...] | None
    largest: float


@dataclass(frozen=True, eq=False)
class Match:
    """Every neuron layer in topological order, then the network's output."""

    graph: OpGraph
    layers: tuple[LayerMatch, ...]
    output: LayerMatch

    @property
    def spikes(self) -> int:
        return sum(layer.spikes for layer in self.layers)

    @property
    def differing(self) -> int:
        """Spikes that differ, in all layers."""
        return sum(layer.differing for layer in self.layers)

    @property
    def silent(self) -> tuple[str, ...]:
        """Layers in which nothing fires, so that the comparison says little."""
        return tuple(layer.layer for layer in self.layers if layer.spikes == 0)


def compare(
    module: Any,
    input_shape: Sequence[int],
    x: npt.ArrayLike,
    steps: int,
    *,
    step_mode: StepMode | None = None,
    double: bool = False,
    engine_dtype: npt.DTypeLike = np.float64,
) -> Match:
    """Trace a module, run both, compare.

    Args:
        module, input_shape, step_mode: as for ``trace``; the module is not changed.
        x: (N, *input_shape) frames, held for every step, or (N, T, *input_shape) trains.
        steps: T.
        double: run the framework in float64 instead of in the module's own precision.
        engine_dtype: what the float engine rounds to.

    Raises:
        NmcError: as ``trace``; NMC-D02 for data that do not fit.
    """
    import torch

    shape = tuple(int(size) for size in input_shape)
    data = np.asarray(x)
    trains = as_trains(data, shape, steps, "x")
    twin, _ = private_copy(torch, unwrapped(module), type(module).__name__)
    if double:
        twin.double()
    traced = trace_module(twin, shape, step_mode=step_mode)
    dtype = torch.float64 if double else dtype_of(torch, twin)
    recorder = _Recorder(torch, twin, traced, dtype)
    with torch.no_grad(), _precision(torch, twin, dtype):
        result = _drive(torch, twin, traced, dtype, np.broadcast_to(trains, (len(data), steps, *shape)))
    names = [name for name in traced.graph.order if isinstance(traced.graph.nodes[name], og.Neuron)]
    engine = run(traced.graph, data, steps, record=names, dtype=engine_dtype)
    layers = [
        _layer(name, traced, recorder.train(name, len(data), steps), engine.values[name]) for name in names
    ]
    return Match(traced.graph, tuple(layers), _output(traced, result, engine, len(data), steps))


# --- running the framework --------------------------------------------------------------------------


class _Recorder:
    """The outputs of every neuron module, call by call."""

    def __init__(self, torch: Any, module: Any, traced: Traced, dtype: Any) -> None:
        self.traced = traced
        self.dtype = dtype
        self.calls: dict[str, list[Array]] = defaultdict(list)
        self.nodes: dict[str, list[str]] = defaultdict(list)
        for node, population in traced.neurons.items():
            self.nodes[population.module].append(node)
        for path, part in module.named_modules():
            if path in self.nodes:
                part.register_forward_hook(self._hook(torch, path))

    def _reads_out(self, path: str) -> bool:
        """Whether the neuron never fires: what it gives is its potential, in snnTorch behind the spikes."""
        op = self.traced.graph.nodes[self.nodes[path][0]]
        return isinstance(op, og.Neuron) and op.threshold is None

    def _hook(self, torch: Any, path: str) -> Any:
        def hook(module: Any, args: Any, output: Any) -> Any:
            several = isinstance(output, tuple)
            first = output[0] if several else output
            last = output[-1] if several and isinstance(output[-1], torch.Tensor) else first
            seen = last if self._reads_out(path) else first / getattr(module, "graded_spikes_factor", 1.0)
            self.calls[path].append(seen.double().numpy().copy())
            # Some surrogate functions give float32 spikes whatever they get; a float64 layer refuses them.
            same = first.to(self.dtype)
            return (same, *output[1:]) if several else same

        return hook

    def train(self, node: str, samples: int, steps: int) -> Array:
        """(N, T, *shape)."""
        population = self.traced.neurons[node]
        shape = self.traced.graph.shapes[node]
        sharing = self.nodes[population.module]
        calls = self.calls[population.module][sharing.index(node) :: len(sharing)]
        if population.calls:
            return np.stack([call.reshape(samples, *shape) for call in calls], axis=1)
        return _by_time(calls[0], population.lead, self.traced.step_mode, (samples, steps, *shape))


def _by_time(values: Array, lead: tuple[object, ...], mode: StepMode, goal: Shape) -> Array:
    """A tensor that holds all steps, as (N, T, *shape)."""
    if mode == "t_last":
        return np.moveaxis(values, -1, 1).reshape(goal)
    if lead[:2] == (TIME, BATCH):
        return values.reshape(goal[1], goal[0], *goal[2:]).swapaxes(0, 1)
    return values.reshape(goal)


@contextlib.contextmanager
def _precision(torch: Any, module: Any, dtype: Any) -> Iterator[None]:
    """Everything in one precision: recurrent layers get spikes and zeros that frameworks make in float32."""

    def cast(part: Any, args: Any) -> Any:
        return tuple(x.to(dtype) if torch.is_tensor(x) and x.is_floating_point() else x for x in args)

    layers = (torch.nn.Linear, torch.nn.Conv2d)
    hooks = [part.register_forward_pre_hook(cast) for part in module.modules() if isinstance(part, layers)]
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(default)
        for hook in hooks:
            hook.remove()


def _reset(module: Any) -> None:
    """Frameworks keep states in their layers; every sample starts from rest."""
    for part in module.modules():
        for reset in ("reset", "reset_mem", "reset_states"):
            of_framework = type(part).__module__.split(".")[0] in ("spikingjelly", "snntorch", "sinabs")
            if of_framework and hasattr(part, reset):
                getattr(part, reset)()


def _drive(torch: Any, module: Any, traced: Traced, dtype: Any, trains: Array) -> list[Any]:
    """What the module returned, per call."""
    _reset(module)
    x = torch.tensor(trains, dtype=dtype)
    mode = traced.step_mode
    if mode == "m":
        return [module(x.transpose(0, 1).contiguous())]
    if mode == "nt":
        return [module(x)]
    if mode == "merged":
        return [module(x.flatten(0, 1))]
    if mode == "t_last":
        return [module(x.movedim(1, -1).contiguous())]
    if traced.inner_loop:
        return [module(x[:, 0])]
    return _step_by_step(module, x)


def _step_by_step(module: Any, x: Any) -> list[Any]:
    """One call per step; states that the module returns are handed back where its forward takes them."""
    takes = len(inspect.signature(module.forward).parameters) - 1
    results: list[Any] = []
    states: tuple[Any, ...] = ()
    for t in range(x.shape[1]):
        results.append(module(x[:, t], *states))
        if takes and isinstance(results[-1], tuple):
            states = tuple(results[-1][1:])[:takes]
    return results


# --- comparing --------------------------------------------------------------------------------------


def _layer(name: str, traced: Traced, expected: Array, got: Array) -> LayerMatch:
    late = traced.neurons[name].delay
    if late:
        expected, got = expected[:, late:], got[:, : got.shape[1] - late]
    op = traced.graph.nodes[name]
    spiking = isinstance(op, og.Neuron) and op.threshold is not None
    return _match(name, expected, got, spiking)


def _match(name: str, expected: Array, got: Array, spiking: bool) -> LayerMatch:
    gap = np.abs(expected - got)
    bound = 0.0 if spiking else READOUT_TOLERANCE * max(1.0, float(np.abs(expected).max(initial=0)))
    wrong = np.argwhere(gap > bound)
    first = tuple(int(i) for i in wrong[0]) if len(wrong) else None
    spikes = int(np.rint(expected.sum())) if spiking else 0
    return LayerMatch(name, expected.size, spikes, len(wrong), first, float(gap.max(initial=0)))


def _output(traced: Traced, results: list[Any], engine: FloatRun, samples: int, steps: int) -> LayerMatch:
    """The network's result: the sum over the steps, or what the module itself makes of them."""
    outputs = [_tensor(result) for result in results]
    (sink,) = traced.graph.named(og.Output)
    shape = traced.graph.shapes[sink]
    lead = traced.output.axes[: len(traced.output.axes) - len(shape)]
    last = traced.graph.nodes[traced.output.node]
    potential = isinstance(last, og.Neuron) and last.threshold is None
    if TIME in lead or BATCH_TIME in lead or len(outputs) > 1:
        whole = (
            np.stack([o.reshape(samples, *shape) for o in outputs], axis=1)
            if len(outputs) > 1
            else _by_time(outputs[0], lead, traced.step_mode, (samples, steps, *shape))
        )
        value = whole[:, -1] if potential else whole.sum(axis=1)
    else:
        averaged = isinstance(last, og.TimeMean)
        value = outputs[0].reshape(samples, *shape) * (steps if averaged else 1)
    if traced.output.delay:
        return LayerMatch(sink, 0, 0, 0, None, 0.0)
    return _match(sink, value, engine.output.reshape(value.shape), spiking=False)


def _tensor(result: Any) -> Array:
    while isinstance(result, tuple | list):
        result = result[0]
    values: Array = result.detach().cpu().double().numpy()
    return values
