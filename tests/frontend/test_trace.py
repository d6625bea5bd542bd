"""Operations and layers of plain torch: the traced graph computes what the module computes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812
from torch import nn  # noqa: E402

from nmc.frontend import opgraph as og  # noqa: E402
from nmc.frontend.trace import trace  # noqa: E402
from nmc.frontend.tracing.compare import compare  # noqa: E402

C, H, W = 4, 6, 6
MAP = (C, H, W)
VECTOR = (12,)


class Fn(nn.Module):
    """A module whose forward pass is a function of itself and the input, with a few layers at hand."""

    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.function = function
        self.conv = nn.Conv2d(C, C, 3, padding=1)
        self.other = nn.Conv2d(C, C, 1)
        self.fc = nn.Linear(VECTOR[0], 5)
        self.bn = nn.BatchNorm2d(C)
        self.gain = nn.Parameter(torch.rand(C, 1, 1))
        self.down = nn.Conv2d(C, 2 * C, 3, stride=2, padding=1)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self, x)


def random_module(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(3)
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.is_floating_point():
            tensor.data.copy_(0.2 + torch.rand(tensor.shape, generator=generator))
    return module.double()


def iadd(m, x):
    y = m.conv(x)
    y += x
    return y


def total(m, x):
    y = 0
    for part in (m.conv(x), m.other(x), x):
        y = y + part
    return y


def growing(m, x):
    factor = torch.ones(C, 1, 1, dtype=x.dtype)
    y = m.conv(x) * factor
    factor += 1
    return y + x * factor


OPERATIONS: dict[str, tuple[tuple[int, ...], Callable[..., torch.Tensor]]] = {
    "+": (MAP, lambda m, x: m.conv(x) + x),
    "+=": (MAP, iadd),
    "x + x": (MAP, lambda m, x: x + x),
    "sum of three": (MAP, total),
    "torch.add": (MAP, lambda m, x: torch.add(m.conv(x), x)),
    "add alpha": (MAP, lambda m, x: m.conv(x).add(x, alpha=-0.5)),
    "sub": (MAP, lambda m, x: torch.sub(m.conv(x), m.other(x))),
    "1 - y": (MAP, lambda m, x: x * (1.0 - m.conv(x))),
    "mul": (MAP, lambda m, x: torch.mul(m.conv(x), x)),
    "gain per channel": (MAP, lambda m, x: m.gain * m.conv(x)),
    "gain with batch axis": (MAP, lambda m, x: m.conv(x) * m.gain.unsqueeze(0)),
    "constant": (MAP, lambda m, x: (2 * m.conv(x) - 3) / 4 + m.gain),
    "constant changed in place": (MAP, growing),
    "neg": (MAP, lambda m, x: -m.conv(x)),
    "in-place chain": (MAP, lambda m, x: m.conv(x).mul_(2).add_(1).div_(3).sub_(x)),
    "cat": (MAP, lambda m, x: torch.cat([m.conv(x), x, m.other(x)], dim=1)),
    "cat vectors": (VECTOR, lambda m, x: torch.cat((x, m.fc(x)), -1)),
    "flatten": (MAP, lambda m, x: torch.flatten(m.conv(x), 1)),
    "view": (MAP, lambda m, x: m.conv(x).view(x.size(0), -1)),
    "reshape": (MAP, lambda m, x: m.conv(x).reshape(-1, C * H * W)),
    "flatten H and W": (MAP, lambda m, x: m.conv(x).flatten(2)),
    "permute there and back": (MAP, lambda m, x: m.conv(x.permute(0, 2, 3, 1).permute(0, 3, 1, 2))),
    "squeeze": (MAP, lambda m, x: x.mean((2, 3), keepdim=True).squeeze(-1).squeeze(-1)),
    "mean over space": (MAP, lambda m, x: m.conv(x).mean([2, 3])),
    "mean twice": (MAP, lambda m, x: m.conv(x).mean(-1).mean(-1)),
    "sum over space": (MAP, lambda m, x: m.conv(x).sum(dim=(-2, -1))),
    "relu": (MAP, lambda m, x: F.relu(m.conv(x) - 2) + torch.relu(x) + x.clamp(min=0)),
    "max_pool2d": (MAP, lambda m, x: F.max_pool2d(m.conv(x), 3, 2, 1)),
    "avg_pool2d": (MAP, lambda m, x: F.avg_pool2d(m.conv(x), 2)),
    "avg_pool2d divisor": (MAP, lambda m, x: F.avg_pool2d(x, 2, divisor_override=3)),
    "adaptive to 1": (MAP, lambda m, x: F.adaptive_avg_pool2d(x, 1)),
    "adaptive to 2 x 3": (MAP, lambda m, x: F.adaptive_avg_pool2d(x, (2, 3))),
    "adaptive spreads a pixel": (MAP, lambda m, x: F.adaptive_avg_pool2d(F.adaptive_avg_pool2d(x, 1), 3)),
    "adaptive max": (MAP, lambda m, x: F.adaptive_max_pool2d(x, 2)),
    "pad": (MAP, lambda m, x: m.conv(F.pad(x, (1, 1, 2, 2)))),
    "dropout": (MAP, lambda m, x: m.drop(x) + F.dropout(x, 0.3, m.training)),
    "conv2d": (MAP, lambda m, x: F.conv2d(x, m.down.weight, m.down.bias, stride=2, padding=1)),
    "linear": (VECTOR, lambda m, x: F.linear(x, m.fc.weight)),
    "matmul": (VECTOR, lambda m, x: x @ m.fc.weight.T + m.fc.bias),
    "batch_norm": (
        MAP,
        lambda m, x: F.batch_norm(x, m.bn.running_mean, m.bn.running_var, m.bn.weight, m.bn.bias),
    ),
    "slice of channels": (MAP, lambda m, x: torch.cat([x[:, 1:3], m.conv(x)[:, ::2]], 1)),
    "chunk": (MAP, lambda m, x: torch.add(*m.down(x).chunk(2, dim=1))),
    "split vector": (VECTOR, lambda m, x: x.split([4, 4, 4], 1)[1]),
    "shared layer": (MAP, lambda m, x: m.conv(m.conv(x))),
    "type and device": (MAP, lambda m, x: m.conv(x.to(x.dtype).contiguous().detach().clone())),
    "zeros_like": (MAP, lambda m, x: torch.zeros_like(x) + m.conv(x) + x.new_zeros(x.shape)),
    "branch on shape": (MAP, lambda m, x: m.conv(x) if x.ndim == 4 and x.shape[1] == C else x),
    "isinstance": (MAP, lambda m, x: m.conv(x) if isinstance(x, torch.Tensor) and torch.is_tensor(x) else x),
    "unused branch": (MAP, lambda m, x: (m.other(x), m.conv(x))[1]),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation(name):
    shape, function = OPERATIONS[name]
    module = random_module(Fn(function))
    x = np.random.default_rng(0).normal(size=(5, *shape))
    match = compare(module, shape, x, steps=2, double=True)
    assert match.output.differing == 0
    assert match.output.largest < 1e-9
    assert match.output.values > 5


LAYERS: dict[str, tuple[tuple[int, ...], nn.Module]] = {
    "Conv2d": (MAP, nn.Conv2d(C, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2)),
    "Conv2d same": (MAP, nn.Conv2d(C, 6, 3, padding="same", dilation=2)),
    "Conv2d valid": (MAP, nn.Conv2d(C, 6, 3, padding="valid")),
    "depthwise": (MAP, nn.Conv2d(C, C, 3, groups=C, bias=False)),
    "Linear": (VECTOR, nn.Linear(VECTOR[0], 3)),
    "BatchNorm2d": (MAP, nn.BatchNorm2d(C)),
    "BatchNorm1d": (VECTOR, nn.BatchNorm1d(VECTOR[0], affine=False)),
    "MaxPool2d": (MAP, nn.MaxPool2d(3, stride=2, padding=1)),
    "MaxPool2d ceil": (MAP, nn.MaxPool2d(2, ceil_mode=True)),
    "AvgPool2d": (MAP, nn.AvgPool2d((2, 3), stride=1, padding=(1, 0))),
    "LPPool2d": (MAP, nn.LPPool2d(1, 2)),
    "AdaptiveAvgPool2d": (MAP, nn.AdaptiveAvgPool2d((None, 2))),
    "AdaptiveMaxPool2d": (MAP, nn.AdaptiveMaxPool2d(1)),
    "Flatten": (MAP, nn.Flatten()),
    "Flatten 2": (MAP, nn.Flatten(2)),
    "ReLU": (MAP, nn.ReLU()),
    "Identity": (MAP, nn.Sequential(nn.Identity(), nn.ReLU(inplace=True), nn.Dropout2d())),
    "ZeroPad2d": (MAP, nn.ZeroPad2d((1, 1, 2, 2))),
    "ZeroPad2d, one side": (MAP, nn.Sequential(nn.ZeroPad2d((0, 1, 2, 1)), nn.Conv2d(C, 3, 3, stride=2))),
    "Conv2d same, even kernel": (MAP, nn.Conv2d(C, 6, (2, 4), padding="same")),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("name", LAYERS)
def test_layer(name):
    shape, layer = LAYERS[name]
    x = np.abs(np.random.default_rng(0).normal(size=(5, *shape)))
    match = compare(random_module(layer), shape, x, steps=1, double=True)
    assert match.output.differing == 0
    assert match.output.largest < 1e-9


def test_names_are_module_paths():
    block = nn.Sequential(nn.Conv2d(C, C, 1), nn.BatchNorm2d(C), nn.ReLU())
    net = nn.Sequential(block, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(C, 2))
    graph = trace(net, MAP)
    assert list(graph.nodes) == ["input", "0.0", "0.1", "0.2", "1", "2", "3", "output"]
    assert graph.name == "Sequential"
    assert graph.shapes["output"] == (2,)


def test_functional_names_say_where():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = Fn(lambda m, x: F.relu(m.conv(x) + x))

        def forward(self, x):
            return self.block(x) + 0.5 * x

    graph = trace(Net(), MAP)
    assert list(graph.nodes)[1:-1] == ["block.conv", "block.add", "block.relu", "scale", "add"]


def test_shared_weights_are_one_array():
    graph = trace(Fn(lambda m, x: m.conv(m.conv(x) + m.conv(x))), MAP)
    first, second = (graph.nodes[name] for name in graph.named(og.Conv2d))
    assert first.weight is second.weight
    # m.conv(x) twice is one node, read twice.
    assert graph.before("add") == ("conv", "conv")


def test_in_place_changes_what_other_names_see():
    """``y = x; x += z`` changes y too."""

    def forward(m, x):
        x = m.conv(x)
        y = x
        x += m.other(x)
        return y + x

    module = random_module(Fn(forward))
    x = np.random.default_rng(1).normal(size=(3, *MAP))
    assert compare(module, MAP, x, 1).output.largest < 1e-9


def test_in_place_on_a_view():
    """Flatten, then an in-place ReLU: fine as long as nobody reads the tensor before the flattening."""

    def forward(m, x):
        return F.relu_((m.conv(x) - 1).flatten(1))

    module = random_module(Fn(forward))
    x = np.random.default_rng(1).normal(size=(3, *MAP))
    assert compare(module, MAP, x, 1).output.largest < 1e-9


def test_unused_branches_are_left_out():
    graph = trace(Fn(lambda m, x: (m.other(x), m.conv(x))[1]), MAP)
    assert list(graph.nodes) == ["input", "conv", "output"]


def test_softmax_at_the_end_is_left_to_the_host():
    graph = trace(nn.Sequential(nn.Linear(12, 3), nn.Softmax(dim=1)), VECTOR)
    assert list(graph.nodes) == ["input", "0", "output"]
    assert "softmax" in graph.notes[0]


def test_fx_graph_module():
    module = random_module(Fn(lambda m, x: F.relu(m.conv(x) + x)))
    plain, through_fx = trace(module, MAP), trace(torch.fx.symbolic_trace(module), MAP)
    assert list(plain.nodes) == list(through_fx.nodes)
    assert plain.edges == through_fx.edges
