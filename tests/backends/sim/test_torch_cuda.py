"""The torch engine on a CUDA device: the same 2,000 layers and 200 networks, by every route."""

from __future__ import annotations

import gen
import layers
import pytest
from same import differences

from nmc import timing
from nmc.backends.sim.reference import ReferenceEngine
from nmc.backends.sim.torch_engine import TorchEngine

torch = pytest.importorskip("torch", reason="torch is not installed")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

STEPS = 6
ROUTES = (None, ("triton", "int8", "float64"), ("int8", "float64"), ("float32", "float64"), ("float64",))


@pytest.fixture(scope="module", params=ROUTES, ids=str)
def on_cuda(request: pytest.FixtureRequest) -> TorchEngine:
    made = TorchEngine("cuda", request.param)
    assert not made.problems, "a route that a CUDA device has is not used"
    return made


def test_random_layers(on_cuda: TorchEngine) -> None:
    for seed in range(2000):
        case = layers.case(seed)
        truth = ReferenceEngine().run(case.network, case.x, case.steps, ("input", "layer"))
        wrong = differences(truth, on_cuda.run(case.network, case.x, case.steps, ("input", "layer")))
        assert not wrong, f"seed {seed}: {wrong}"


@pytest.mark.parametrize("loops", [False, True])
def test_random_networks(on_cuda: TorchEngine, loops: bool) -> None:
    for seed in range(200):
        free = gen.float_network(seed, STEPS)
        free = gen.with_loops(free, seed) if loops else free
        network = gen.quantize(timing.balance(free, (62, 0, 1)[seed % 3]))
        x = gen.stimulus(network, (1, 3, 8)[seed % 3], STEPS, seed)
        names = tuple(population.name for population in network.populations)
        truth = ReferenceEngine().run(network, x, STEPS, names)
        wrong = differences(truth, on_cuda.run(network, x, STEPS, names))
        assert not wrong, f"seed {seed}: {wrong}"
