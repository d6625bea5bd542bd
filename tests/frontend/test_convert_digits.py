"""A small ANN, trained here on real images, keeps its accuracy as the integers of either kind of chip."""

from __future__ import annotations

import numpy as np
import pytest

import nmc

torch = pytest.importorskip("torch")
datasets = pytest.importorskip("sklearn.datasets")
nn = torch.nn

STEPS = 8


@pytest.fixture(scope="module")
def images() -> tuple[np.ndarray, np.ndarray]:
    digits = datasets.load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    return (digits.images[order, None] / 16).astype(np.float32), digits.target[order].astype(np.int64)


@pytest.fixture(scope="module")
def net(images: tuple[np.ndarray, np.ndarray]) -> nn.Module:
    torch.manual_seed(0)
    x, y = (torch.from_numpy(array[:1437]) for array in images)
    net = nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AvgPool2d(2)),
        *(nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.AvgPool2d(2)),
        *(nn.Flatten(), nn.Linear(64, 10)),
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    for _ in range(6):
        for part in torch.randperm(len(x)).split(48):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[part]), y[part]).backward()
            optimizer.step()
    return net.eval()


@pytest.mark.parametrize("chip", ["lava-cpu", "loihi2"])
def test_integers_of_a_chip_keep_the_accuracy_of_the_ann(
    chip: str, net: nn.Module, images: tuple[np.ndarray, np.ndarray]
) -> None:
    x, y = images
    with torch.no_grad():
        ann = (net(torch.from_numpy(x[1437:])).argmax(1).numpy() == y[1437:]).mean()
    assert ann > 0.93
    snn = nmc.convert(net, x[:256], STEPS, chip=chip)
    bundle = nmc.compile(snn, chip, x[:256], stop_after="prove-ranges")
    assert (nmc.run(bundle, x[1437:]).classes == y[1437:]).mean() > ann - 0.025
