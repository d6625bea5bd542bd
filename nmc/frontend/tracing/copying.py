"""A private copy of the user's module: on the CPU, in eval mode, without hooks and gradients.

The user's module is read, never written: not its mode, device, hooks, states or parameters.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

from nmc.errors import NmcError

HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_load_state_dict_pre_hooks",
)

WEIGHT_HOOKS = ("torch.nn.utils.weight_norm.", "torch.nn.utils.spectral_norm.", "torch.nn.utils.prune.")
"""Pre-hooks that compute a weight; they are run once instead of being dropped."""

WRAPPERS = {
    "torch._dynamo.eval_frame.OptimizedModule": "_orig_mod",
    "torch.nn.parallel.data_parallel.DataParallel": "module",
    "torch.nn.parallel.distributed.DistributedDataParallel": "module",
    "torch.optim.swa_utils.AveragedModel": "module",
}
"""Modules that only wrap another one, and where."""


def path_of(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def unwrapped(module: Any) -> Any:
    """The module inside of torch.compile, DataParallel and their kind."""
    while path_of(type(module)) in WRAPPERS:
        module = getattr(module, WRAPPERS[path_of(type(module))])
    return module


OWN_COPY = "sinabs.layers."


def private_copy(torch: Any, module: Any, name: str) -> tuple[Any, list[str]]:
    """The copy, and notes about what it lacks.

    Raises NmcError NMC-G05 for a module that cannot be copied or whose numbers cannot be seen.
    """
    memo: dict[int, Any] = {}
    dropped: list[str] = []
    kept: dict[str, list[Any]] = {}
    for path, part in module.named_modules():
        who = path or name
        if isinstance(part, torch.jit.ScriptModule):
            raise NmcError(
                "NMC-G05", who, "is a TorchScript module, whose code is hidden", "give the Python module"
            )
        _replace_tensors(torch, vars(part), memo, who)
        for hooks in HOOKS:
            memo[id(getattr(part, hooks, None))] = OrderedDict()
        pre_hooks = list(part._forward_pre_hooks.values())
        kept[path] = [hook for hook in pre_hooks if _is_weight_hook(hook)]
        if part._forward_hooks or len(kept[path]) < len(pre_hooks):
            dropped.append(who)
    try:
        for part in module.modules():
            if id(part) not in memo and path_of(type(part)).startswith(OWN_COPY) and list(part.children()):
                _copy_plainly(part, memo)
        twin = copy.deepcopy(module, memo)
    except Exception as error:
        raise _uncopied(module, memo, name, error) from error
    twin.eval()
    with torch.no_grad():
        for path, part in twin.named_modules():
            for hook in kept.get(path, []):
                hook(part, None)
    notes = [f"forward hooks of {', '.join(dropped)} were not traced"] if dropped else []
    return twin, notes


def _copy_plainly(module: Any, memo: dict[int, Any]) -> None:
    """A copy by what the module holds: its own ``__deepcopy__`` looks for its parts' parameters in itself."""
    twin = memo[id(module)] = object.__new__(type(module))
    vars(twin).update(copy.deepcopy(vars(module), memo))


def _uncopied(module: Any, memo: dict[int, Any], name: str, error: Exception) -> NmcError:
    """The refusal, naming the innermost module that cannot be copied."""
    who, kind = name, path_of(type(module))
    for path, part in reversed(list(module.named_modules())):
        try:
            copy.deepcopy(part, dict(memo))
        except Exception as reason:
            who, kind, error = path or name, path_of(type(part)), reason
            break
    text = " ".join(str(error).split())
    return NmcError("NMC-G05", who, f"{kind} cannot be copied: {text}", "replace it, or what else it holds")


def _is_weight_hook(hook: Any) -> bool:
    return any(path_of(cls).startswith(WEIGHT_HOOKS) for cls in type(hook).__mro__)


def _replace_tensors(torch: Any, item: Any, memo: dict[int, Any], who: str) -> None:
    """Tells ``deepcopy`` what to put in place of every tensor: tensors with a history refuse to be copied."""
    if isinstance(item, torch.Tensor):
        if id(item) not in memo:
            memo[id(item)] = _detached(torch, item, who)
    elif isinstance(item, dict):
        for part in item.values():
            _replace_tensors(torch, part, memo, who)
    elif isinstance(item, list | tuple):
        for part in item:
            _replace_tensors(torch, part, memo, who)


def _detached(torch: Any, tensor: Any, who: str) -> Any:
    if torch.nn.parameter.is_lazy(tensor):
        raise NmcError("NMC-G05", who, "is lazy and has no weights yet", "run the module once on an example")
    if tensor.device.type == "meta":
        raise NmcError("NMC-G05", who, "is on the meta device and has no numbers", "load its weights first")
    twin = tensor.detach().cpu().clone()
    return torch.nn.Parameter(twin, requires_grad=False) if isinstance(tensor, torch.nn.Parameter) else twin
