"""What a user may give as a model: a file, a builder, a torch module or a graph; the graph that it means."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from nmc.bundle import is_bundle
from nmc.errors import NmcError
from nmc.frontend.builder import build, is_builder
from nmc.frontend.netfile import is_net
from nmc.frontend.nir_read import load_nir
from nmc.frontend.opgraph import Input, OpGraph
from nmc.ir import Encoding, Shape


def load(
    model: str | Path | OpGraph | Any,
    profile: str | None = None,
    dt: float | None = None,
    *,
    weights: str | Path | None = None,
    steps: int | None = None,
    input_shape: Sequence[int] | None = None,
    data: npt.NDArray[Any] | None = None,
) -> OpGraph:
    """Read a model into an op graph; a graph is passed on.

    Args:
        model: path of a ``.nir`` file, ``file.py:function`` that builds a torch module or a graph (which
            runs that file; see ``frontend.builder``), a torch module, or a graph.
        profile: the framework that the weights were trained in, where the file does not say.
        dt: seconds per step, where the file does not say.
        weights: a safetensors file for the module that a function builds.
        steps: T, where a module does not say.
        input_shape: of a module's sample in one step, without batch and time, such as (3, 32, 32); by
            default the module's attribute of that name, else told from ``data`` (see ``sample_shape``).
        data: samples, where there are any.

    Raises:
        NmcError: NMC-F*, NMC-G* for files and graphs that cannot be read, NMC-U02 for options that do not
            belong to the kind of model, or something else than a model, and those of ``frontend.trace``.
    """
    if isinstance(model, str | Path) and is_builder(model):
        built = build(model, weights)
        model, stated = (built, None) if isinstance(built, OpGraph) else built
        input_shape = stated if input_shape is None else input_shape
    elif weights is not None:
        raise NmcError("NMC-U02", "weights", "given without a builder", "give the model as file.py:function")
    if isinstance(model, OpGraph):
        _refuse_given("a graph, which says all of it", profile=profile, dt=dt, input_shape=input_shape)
        return model
    if not isinstance(model, str | Path):
        return _traced(model, profile, dt, steps, input_shape, data)
    if str(model).endswith(".py"):
        remedy = f"name the function that builds the model: {model}:build"
        raise NmcError("NMC-U02", str(model), "is a Python file", remedy)
    if is_bundle(model):
        remedy = "give the model that it was compiled from"
        raise NmcError("NMC-U02", str(model), "is a bundle, compiled already", remedy)
    if is_net(model):
        remedy = f"compile it as it is: nmc compile {model} -o model.nmc"
        raise NmcError("NMC-U02", str(model), "holds a chip's integers, no float network", remedy)
    _refuse_given("a NIR file, which says it", input_shape=input_shape)
    return load_nir(Path(model), profile, dt)


def _refuse_given(model: str, **options: object) -> None:
    """Raise NmcError NMC-U02 for an option that this kind of model has no use for."""
    for name, value in options.items():
        if value is not None:
            raise NmcError("NMC-U02", name, f"given for {model}", "leave it out")


def sample_shape(data: npt.NDArray[Any], steps: int | None) -> Shape:
    """The shape of one sample in one step: frames (N, *shape) or trains (N, T, *shape).

    Five axes are trains, two or four are frames. Three are trains if the second has T = ``steps`` entries.
    """
    trains = data.ndim == 5 or (data.ndim == 3 and data.shape[1] == steps)
    return data.shape[2:] if trains else data.shape[1:]


def encoding_of(graph: OpGraph, data: npt.NDArray[Any] | None) -> Encoding:
    """Trains when the data have one axis more than frames would have."""
    shapes = [op.shape for op in graph.nodes.values() if isinstance(op, Input)]
    return Encoding.SPIKES if data is not None and data.ndim == len(shapes[0]) + 2 else Encoding.GRADED


def _traced(
    module: Any,
    profile: str | None,
    dt: float | None,
    steps: int | None,
    input_shape: Sequence[int] | None,
    data: npt.NDArray[Any] | None,
) -> OpGraph:
    if not hasattr(module, "state_dict"):
        remedy = "give a .nir file, file.py:function, a torch module or a graph"
        raise NmcError("NMC-U02", "model", f"a {type(module).__name__} is none", remedy)
    if profile is not None:
        raise NmcError("NMC-U02", "profile", "given for a module, which says what it is", "leave it out")
    shape = getattr(module, "input_shape", None) if input_shape is None else input_shape
    if shape is None and data is not None:
        shape = sample_shape(data, steps)
    if shape is None:
        remedy = "give input_shape, the shape of one sample in one step such as (3, 32, 32), or data"
        raise NmcError("NMC-U02", type(module).__name__, "does not say the shape of its input", remedy)
    from nmc.frontend.trace import trace  # heavy, and only modules need it

    return trace(module, shape, steps=steps, dt=dt)
