"""``model.py:build``: a Python function that builds the model, with its weights in a safetensors file.

Naming a builder runs the user's own Python file; weights are read as plain numbers and run nothing.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nmc.errors import NmcError
from nmc.frontend.opgraph import OpGraph
from nmc.frontend.safetensors import read_safetensors
from nmc.ir import Shape

CONTRACT = "return an OpGraph, a torch module, or (module, input_shape)"


def is_builder(model: str | os.PathLike[str]) -> bool:
    """Whether a model is named as ``file.py:function``."""
    return ".py:" in os.fspath(model)


def build(
    model: str | os.PathLike[str], weights: str | os.PathLike[str] | None = None
) -> OpGraph | tuple[Any, Shape | None]:
    """What ``file.py:function`` builds: a graph, or a module in eval mode with its weights.

    Args:
        model: ``file.py:function``; the function takes no arguments and obeys ``CONTRACT``.
        weights: a safetensors file that holds the module's whole state dict.

    Returns:
        The graph; or the module and the shape of one sample in one step, None where the function does not
        say it (``(module, input_shape)``) and the module has no attribute ``input_shape``.

    Raises:
        NmcError: NMC-F01 for a file that is not there, NMC-U03 for a function that is not in it, NMC-G05 for
            a function that fails or returns something else, NMC-F04 for weights that do not fit.
    """
    # stdout is for results, and what the user's code prints is none.
    with contextlib.redirect_stdout(sys.stderr):
        built = _build(model)
    if isinstance(built, OpGraph):
        if weights is not None:
            raise NmcError("NMC-U02", "weights", "given, but the function builds a graph", "leave them out")
        return built
    module, shape = built if isinstance(built, tuple) and len(built) == 2 else (built, None)
    if not hasattr(module, "state_dict"):
        raise NmcError("NMC-G05", os.fspath(model), f"returned a {type(built).__name__}", CONTRACT)
    module.eval()
    if weights is not None:
        _load_state(module, weights)
    shape = getattr(module, "input_shape", None) if shape is None else shape
    return module, shape


def _build(model: str | os.PathLike[str]) -> Any:
    file, _, name = os.fspath(model).rpartition(":")
    function = _function(Path(file), name)
    try:
        return function()
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        problem = f"{name}() raised {type(error).__name__}: {error}"
        raise NmcError("NMC-G05", file, problem, "run it by itself first") from error


def _function(file: Path, name: str) -> Callable[[], Any]:
    if not file.is_file():
        raise NmcError("NMC-F01", str(file), "no such file", "check the path")
    spec = importlib.util.spec_from_file_location(f"nmc_model_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    sys.path.insert(0, str(file.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        problem = f"cannot be imported: {type(error).__name__}: {error}"
        raise NmcError("NMC-G05", str(file), problem, "run it by itself first") from error
    finally:
        sys.path.pop(0)
    function = getattr(module, name, None)
    if not callable(function):
        raise NmcError("NMC-U03", name, f"is no function of {file}", CONTRACT)
    found: Callable[[], Any] = function
    return found


def _load_state(module: Any, weights: str | os.PathLike[str]) -> None:
    import torch

    given = read_safetensors(weights)
    wanted = module.state_dict()
    for word, names in (("misses", set(wanted) - set(given)), ("has unknown", set(given) - set(wanted))):
        if names:
            listed = ", ".join(sorted(names)[:5])
            raise NmcError(
                "NMC-F04",
                os.fspath(weights),
                f"{word} {len(names)} tensors: {listed}",
                "save the state_dict of the module that the function builds",
            )
    for name, tensor in wanted.items():
        if tuple(tensor.shape) != given[name].shape:
            problem = f"{name} of shape {given[name].shape}, the module has {tuple(tensor.shape)}"
            raise NmcError("NMC-F04", os.fspath(weights), problem, "build the network that was trained")
    module.load_state_dict({name: torch.from_numpy(array) for name, array in given.items()})
