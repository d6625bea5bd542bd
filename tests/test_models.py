"""A torch module is a model as it is: its shape from itself, from the call or from the samples."""

from __future__ import annotations

import numpy as np
import pytest

import nmc
from nmc.frontend import opgraph as og
from nmc.frontend.opgraph import Input
from nmc.models import sample_shape

torch = pytest.importorskip("torch", reason="torch is not installed")

from torch import nn  # noqa: E402

FRAMES = np.random.default_rng(0).random((12, 1, 8, 8)).astype(np.float32)


def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))


@pytest.mark.parametrize(
    ("shape", "steps", "expected"),
    [
        ((5, 7), None, (7,)),
        ((5, 3, 8, 8), 3, (3, 8, 8)),
        ((5, 4, 3, 8, 8), None, (3, 8, 8)),
        ((5, 4, 7), 4, (7,)),
        ((5, 4, 7), 6, (4, 7)),
        ((5, 4, 7), None, (4, 7)),
    ],
)
def test_frames_and_trains_are_told_apart(shape, steps, expected) -> None:
    assert sample_shape(np.zeros(shape), steps) == expected


def shape_of(graph) -> tuple[int, ...]:
    (found,) = (op.shape for op in graph.nodes.values() if isinstance(op, Input))
    return found


def test_the_shape_is_stated_or_told_from_the_samples() -> None:
    net = module()
    assert shape_of(nmc.load(net, steps=4, data=FRAMES)) == (1, 8, 8)
    assert shape_of(nmc.load(net, steps=4, data=np.repeat(FRAMES[:, None], 4, 1))) == (1, 8, 8)
    assert shape_of(nmc.load(net[:3], steps=4, input_shape=(1, 6, 6), data=FRAMES)) == (1, 6, 6)
    net.input_shape = (1, 8, 8)
    assert shape_of(nmc.load(net, steps=4)) == (1, 8, 8)


def test_a_module_in_training_is_run_as_in_evaluation_and_stays_in_training() -> None:
    net = module().train()
    expected = module().eval()(torch.from_numpy(FRAMES)).detach().numpy()
    np.testing.assert_allclose(nmc.run_float(net, FRAMES, 1).output, expected, rtol=1e-4, atol=1e-5)
    assert net.training


def test_a_builder_need_not_say_the_shape_where_samples_do(tmp_path) -> None:
    path = tmp_path / "net.py"
    path.write_text(
        "from torch import nn\n\ndef build():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3))\n"
    )
    bundle = nmc.compile(nmc.convert(f"{path}:build", FRAMES, 4), "loihi2", FRAMES)
    assert nmc.run(bundle, FRAMES).output.shape == (12, 3)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (module(), {"steps": 4}, "NMC-U02 Sequential: does not say the shape of its input; give input_shape"),
        (module(), {"steps": 4, "data": FRAMES, "profile": "norse"}, "NMC-U02 profile: given for a module"),
        (module(), {"weights": "w.safetensors"}, "NMC-U02 weights: given without a builder"),
        (module(), {"steps": 4, "input_shape": (1, 0)}, "NMC-U02 input_shape"),
        (
            [1, 2],
            {},
            "NMC-U02 model: a list is none; give a .nir file, file.py:function, a torch module",
        ),
        ("net.py", {}, "NMC-U02 net.py: is a Python file; name the function that builds the model: net.py:"),
    ],
    ids=["no shape", "profile", "weights", "empty shape", "a list", "no function"],
)
def test_what_is_refused(model, options, message) -> None:
    with pytest.raises(nmc.NmcError) as caught:
        nmc.load(model, **options)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("option", [{"profile": "norse"}, {"dt": 1e-3}, {"input_shape": (3,)}])
def test_a_graph_takes_no_options_that_it_says_itself(option: dict[str, object]) -> None:
    nodes = {"in": og.Input((3,)), "n": og.Neuron(1.0), "out": og.Output()}
    graph = og.OpGraph(nodes, (("in", "n"), ("n", "out")), steps=2)
    assert nmc.load(graph) is graph
    with pytest.raises(nmc.NmcError, match=f"NMC-U02 {next(iter(option))}: given for a graph"):
        nmc.compile(graph, **option)


def test_a_nir_file_says_its_shape() -> None:
    with pytest.raises(nmc.NmcError, match="NMC-U02 input_shape: given for a NIR file"):
        nmc.load("nmc/data/digits_sew.nir", input_shape=(1, 8, 8))
