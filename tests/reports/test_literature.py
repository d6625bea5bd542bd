"""The literature's energy formula, by hand, and the rate that an energy implies."""

from __future__ import annotations

import pytest

from nmc.frontend.zoo import NETWORKS
from nmc.frontend.zoo.draft import operations_by_layer
from nmc.reports.literature import Work


def test_energy_by_hand():
    work = Work(first=1000, behind=50_000, steps=4)
    assert work.energy(20_000) == pytest.approx((4.6 * 1000 + 0.9 * 20_000) * 1e-12)
    assert work.energy(20_000, every_step=True) == pytest.approx((4.6 * 4000 + 0.9 * 20_000) * 1e-12)


@pytest.mark.parametrize("every_step", [False, True])
def test_the_implied_rate_gives_the_energy_back(every_step):
    work = Work(first=1000, behind=50_000, steps=4)
    synops = 0.13 * work.steps * work.behind
    joules = work.energy(synops, every_step=every_step)
    assert work.synops(joules, every_step=every_step) == pytest.approx(synops)
    assert work.rate(joules, every_step=every_step) == pytest.approx(0.13)


def test_the_published_energies_pay_the_first_layer_once():
    """R4's MS-ResNet-34 and GhostNets cost less than their first layer would in six steps."""
    implied = {}
    for name in ("ms-resnet-34-cifar", "ghostnet"):
        entry = NETWORKS[name]
        graph = entry.build()
        layers = operations_by_layer(graph)
        first = sum(layers[name] for name in graph.after("input"))
        assert entry.joules
        work = Work(first, sum(layers.values()) - first, entry.steps)
        implied[name] = [work.rate(entry.joules, every_step=every) for every in (False, True)]
    for once, every in implied.values():
        assert 0 < once < 0.05
        assert every < 0
