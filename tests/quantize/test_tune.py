"""Fine-tuning in one call: it learns, keeps what was best on other samples, and stays the chip's integers."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import quantnet
import torch

from nmc import api
from nmc.backends import encode
from nmc.backends.engines import engine
from nmc.chip import load_chip
from nmc.errors import NmcError
from nmc.frontend.float_network import run_network
from nmc.ir import Network
from nmc.quantize.aware import aware
from nmc.quantize.fake import AwareNetwork
from nmc.quantize.precision import Precision
from nmc.quantize.tune import Recipe, Score, tune

BITS = 2
MODEL = Path(str(files("nmc") / "data" / "digits_sew.nir"))


def start(chip: str = "lava-cpu", **changes: object) -> AwareNetwork:
    network = quantnet.network(threshold=None, **changes)  # type: ignore[arg-type]
    return aware(network, load_chip(chip), quantnet.images(24), Precision(BITS, "channel"))


def labelled(network: Network, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples with the float network's own classes."""
    x = quantnet.images(count, seed)
    return x, run_network(network, x, network.steps)["output/b"].argmax(axis=1)


def parameters(module: AwareNetwork) -> list[np.ndarray]:
    return [one.detach().numpy().copy() for one in module.parameters()]


@pytest.fixture(scope="module")
def learned() -> tuple[AwareNetwork, tuple[Score, ...], np.ndarray, np.ndarray]:
    """The packaged network at two bits, trained on 80 digits; 48 others with their classes."""
    x = np.load(Path(str(files("nmc") / "data" / "digits_calibration.npz")))["x"].astype(float)
    module = api.aware(MODEL, "loihi2", x[:32], weight_bits=BITS)
    found = run_network(module.source, x, module.source.steps)
    y = found[f"output/{module.source.outputs[0]}"].argmax(axis=1)
    scores = tune(module, x[:80], y[:80], validation=(x[80:], y[80:]), recipe=Recipe(epochs=5, batch=16))
    return module, scores, x[80:], y[80:]


def test_it_learns_and_keeps_the_best(
    learned: tuple[AwareNetwork, tuple[Score, ...], np.ndarray, np.ndarray],
) -> None:
    module, scores, x, y = learned
    assert len(scores) == 6
    least = min(score.loss for score in scores)
    assert least < 0.7 * scores[0].loss
    with torch.no_grad():
        right = (module(torch.from_numpy(x)).argmax(1).numpy() == y).mean()
    assert right == next(score.accuracy for score in reversed(scores) if score.loss == least)


def test_what_it_leaves_is_what_the_engines_compute(
    learned: tuple[AwareNetwork, tuple[Score, ...], np.ndarray, np.ndarray],
) -> None:
    """Without the noise of the training, to the last bit."""
    module, _, x, _ = learned
    assert not module.training
    network = module.export()
    names = [population.name for population in network.compute]
    trace = engine("auto").run(network, encode.encode(network, x), network.steps, names)
    found = module.trace(torch.from_numpy(x))
    assert sum(int(trace.spikes[name].sum()) for name in names) > 10_000
    for name in names:
        assert np.array_equal(found[name].numpy(), trace.spikes[name]), name


def test_noise_belongs_to_the_training() -> None:
    module = start()
    module.noise = 0.3
    x = torch.from_numpy(quantnet.images(24, 3))
    torch.manual_seed(0)
    with torch.no_grad():
        still = [module.eval()(x) for _ in range(2)]
        noisy = module.train()(x)
    assert torch.equal(*still)
    assert not torch.equal(still[0], noisy)


def test_a_recipe_that_spoils_the_network_is_undone() -> None:
    module = start()
    before = parameters(module)
    spoiling = Recipe(epochs=2, batch=24, rate=50.0, state_rate=5.0)
    lesson, held = labelled(module.source, 48, 1), labelled(module.source, 120, 2)
    scores = tune(module, *lesson, validation=held, recipe=spoiling)
    assert scores[0].loss < min(score.loss for score in scores[1:])
    assert all(map(np.array_equal, before, parameters(module)))
    tune(module, *lesson, recipe=spoiling)
    assert not all(map(np.array_equal, before, parameters(module))), "nothing to select on: the last epoch"


def test_the_same_seed_gives_the_same_integers() -> None:
    lesson = labelled(start().source, 48, 1)
    found = []
    for seed in (0, 0, 1):
        module = start()
        tune(module, *lesson, recipe=Recipe(epochs=2, batch=24, seed=seed))
        found.append(parameters(module))
    assert all(map(np.array_equal, found[0], found[1]))
    assert not all(map(np.array_equal, found[0], found[2]))


def test_equal_thresholds_stay_equal_where_a_chip_has_few() -> None:
    """Eight per core of Loihi; a tuned network with more than that could not be mapped."""
    x = np.random.default_rng(0).integers(0, 17, (24, 1, 8, 8)) / 16
    module = api.aware(MODEL, "loihi1", x, weight_bits=4, granularity="channel")
    before = [np.unique(p.neuron.vth.mant).size for p in module.export().compute if p.neuron.vth is not None]
    assert max(before) == 8
    tune(module, x, np.arange(24) % 10, recipe=Recipe(epochs=1, batch=8, state_rate=0.1))
    network = module.export()
    after = [np.unique(p.neuron.vth.mant).size for p in network.compute if p.neuron.vth is not None]
    assert all(map(int.__le__, after, before))
    assert api.compile(network, "loihi1", x).network.mapping is not None


@pytest.mark.parametrize(
    ("y", "problem"),
    [
        (np.zeros(7, np.int64), r"y is int64 of shape \(7,\), expected integers of shape \(8,\)"),
        (np.zeros(8), r"y is float64 of shape \(8,\), expected integers"),
        (np.full(8, 3), "labels 3 to 3, the network answers 0 to 2"),
        (np.full(8, -1), "labels -1 to -1, the network answers 0 to 2"),
    ],
)
def test_classes_that_do_not_fit_are_refused(y: np.ndarray, problem: str) -> None:
    with pytest.raises(NmcError, match=f"NMC-D02 small: {problem}"):
        tune(start(), quantnet.images(8), y)


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"batch": 0}, {"rate": -1.0}, {"noise": float("nan")}])
def test_recipes_that_cannot_train_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(NmcError, match=next(iter(wrong))) as caught:
        Recipe(**wrong)
    assert caught.value.code == "NMC-U02"


@pytest.mark.parametrize("wrong", [np.nan, np.inf, "text"])
def test_samples_that_are_no_finite_numbers_are_refused(wrong: float | str) -> None:
    x = quantnet.images(8).astype(object if isinstance(wrong, str) else float)
    x[0, 0] = wrong
    with pytest.raises(NmcError) as caught:
        tune(start(), x, np.zeros(8, np.int64))
    assert caught.value.code == "NMC-D02"


def test_no_sample_is_refused() -> None:
    with pytest.raises(NmcError, match="NMC-D02 small: no sample"):
        tune(start(), quantnet.images(0), np.zeros(0, np.int64))
