"""The user's module stays as it is, whatever state it is in; and what it is in does not change the graph."""

from __future__ import annotations

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from standins import IFNode  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn.utils import prune  # noqa: E402

from nmc.errors import NmcError  # noqa: E402
from nmc.frontend.opgraph import OpGraph  # noqa: E402
from nmc.frontend.trace import trace  # noqa: E402

MAP = (2, 6, 6)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4),
        IFNode(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(64, 3),
        IFNode(),
    )


def same(first: OpGraph, second: OpGraph) -> bool:
    def numbers(graph: OpGraph) -> list[object]:
        return [
            value.tolist() if isinstance(value, np.ndarray) else value
            for op in graph.nodes.values()
            for value in vars(op).values()
        ]

    return first.edges == second.edges and numbers(first) == numbers(second)


def snapshot(module: nn.Module) -> dict[str, object]:
    return {
        "state": {name: tensor.clone() for name, tensor in module.state_dict().items()},
        "ids": [id(tensor) for tensor in module.parameters()],
        "training": [part.training for part in module.modules()],
        "hooks": [(len(part._forward_hooks), len(part._forward_pre_hooks)) for part in module.modules()],
        "forward": ["forward" in vars(part) for part in module.modules()],
        "grad": [tensor.requires_grad for tensor in module.parameters()],
        "devices": [tensor.device for tensor in module.parameters()],
        "keys": [sorted(vars(part)) for part in module.modules()],
    }


def test_the_module_is_not_changed():
    module = net().train()
    seen = []
    module[2].register_forward_hook(lambda *args: seen.append(args))
    module(torch.rand(2, *MAP))
    seen.clear()
    potential = module[2].v
    before = snapshot(module)
    graph = trace(module, MAP)
    after = snapshot(module)
    assert before.pop("state").keys() == after["state"].keys()
    for name, tensor in after.pop("state").items():
        assert torch.equal(tensor, module.state_dict()[name])
    assert before == after
    assert module[2].v is potential
    assert seen == []
    assert graph.notes == ("forward hooks of 2 were not traced",)


def test_training_mode_hooks_and_history_change_nothing():
    plain = trace(net().eval(), MAP)
    used = net().train()
    # A forward pass with gradients leaves tensors with a history in the layers; they refuse to be copied.
    statistics = copy.deepcopy(used[1].state_dict())
    used(torch.rand(2, *MAP))
    used[1].load_state_dict(statistics)
    assert used[2].v.grad_fn is not None
    used[0].register_forward_hook(lambda module, args, output: output * 2)
    assert same(trace(used, MAP), plain)


def test_precisions():
    graph = trace(net(), MAP)
    assert same(trace(net().double(), MAP), graph)
    half = trace(net().half(), MAP)
    assert np.allclose(half.nodes["0"].weight, graph.nodes["0"].weight, atol=1e-3)
    assert trace(net().bfloat16(), MAP).shapes == graph.shapes


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("path", "parameter"),
    [("0", "weight"), ("0", "bias"), ("1", "running_var"), ("1", "weight"), ("5", "weight")],
)
def test_values_that_are_not_finite(path, parameter, bad):
    module = net()
    getattr(module[int(path)], parameter).data.view(-1)[1] = bad
    with pytest.raises(NmcError) as caught:
        trace(nn.ModuleDict({"net": module})["net"], MAP)
    error = caught.value
    assert (error.code, error.who, error.measured) == ("NMC-G04", path, 1)
    assert parameter in error.problem


@pytest.mark.parametrize("variance", [0.0, -1.0])
def test_batch_norm_that_divides_by_nothing(variance):
    norm = nn.BatchNorm2d(4, eps=0.0)
    norm.running_var[1] = variance
    with pytest.raises(NmcError, match=f"NMC-G04 0: running_var . eps is {variance:g} in 1 of 4 channels"):
        trace(nn.Sequential(norm), MAP)


@pytest.mark.parametrize("shape", [784, "abc", (3.5,), (), (0, 4), None])
def test_input_shapes_that_are_none(shape):
    with pytest.raises(NmcError, match="NMC-U02 input_shape: is"):
        trace(nn.Linear(6, 4), shape)


def test_attributes_that_a_framework_means_otherwise():
    module = nn.Linear(6, 4)
    module.num_timesteps, module.batch_size = 4, None
    assert trace(module, (6,)).shapes["output"] == (4,)


def test_threshold_that_is_not_finite():
    module = net()
    module[6].v_threshold = float("nan")
    with pytest.raises(NmcError) as caught:
        trace(module, MAP)
    assert (caught.value.code, caught.value.who) == ("NMC-G04", "6")


def test_weights_that_hooks_and_parametrizations_compute():
    torch.manual_seed(1)
    layer = nn.Linear(6, 4)
    expected = layer.weight.detach().clone()
    old = nn.utils.weight_norm(copy.deepcopy(layer))
    old.weight_g.data *= 2
    assert np.allclose(trace(old, (6,)).nodes["Linear"].weight, 2 * expected.double().numpy(), atol=1e-6)
    new = nn.utils.parametrizations.weight_norm(copy.deepcopy(layer))
    assert np.allclose(
        trace(new, (6,)).nodes["ParametrizedLinear"].weight, expected.double().numpy(), atol=1e-6
    )
    pruned = copy.deepcopy(layer)
    prune.l1_unstructured(pruned, "weight", amount=0.5)
    with torch.no_grad():
        pruned.weight_orig *= 3
    weight = trace(pruned, (6,)).nodes["Linear"].weight
    assert (weight == 0).sum() == 12
    assert np.allclose(weight[weight != 0], 3 * expected.double().numpy()[weight != 0])


def test_wrappers():
    module = net()
    plain = trace(module, MAP)
    assert same(trace(nn.DataParallel(module), MAP), plain)
    assert same(trace(torch.compile(module, backend="eager"), MAP), plain)
    assert list(trace(nn.DataParallel(module), MAP).nodes) == list(plain.nodes)


def test_script_lazy_and_meta_modules():
    cases = {
        "TorchScript": torch.jit.script(nn.Sequential(nn.Linear(6, 2))),
        "lazy": nn.Sequential(nn.LazyLinear(2)),
        "meta": nn.Sequential(nn.Linear(6, 2, device="meta")),
    }
    for text, module in cases.items():
        with pytest.raises(NmcError, match=text) as caught:
            trace(module, (6,))
        assert caught.value.code == "NMC-G05"


def test_what_cannot_be_copied():
    class Stubborn(nn.Linear):
        def __deepcopy__(self, memo):
            raise TypeError("a file is open")

    with pytest.raises(NmcError, match="a file is open") as caught:
        trace(nn.Sequential(nn.Identity(), Stubborn(6, 2)), (6,))
    assert (caught.value.code, caught.value.who) == ("NMC-G05", "1")


def test_tied_weights_stay_one_array():
    first, second = nn.Linear(6, 6), nn.Linear(6, 6)
    second.weight = first.weight
    graph = trace(nn.Sequential(first, second), (6,))
    assert graph.nodes["0"].weight is graph.nodes["1"].weight


@pytest.mark.gpu
def test_on_another_device():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    module = net().cuda()
    assert same(trace(module, MAP), trace(net(), MAP))
    assert next(module.parameters()).is_cuda
