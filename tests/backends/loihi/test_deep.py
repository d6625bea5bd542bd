"""Deep residual stages and wide blocks, verified against Lava's process models in every spike, u and v."""

from __future__ import annotations

import deepnets
import features
import pytest

from nmc.backends.compare import compare
from nmc.backends.loihi.inprocess import InProcessLavaEngine
from nmc.backends.loihi.lower import lower
from nmc.backends.sim.reference import ReferenceEngine
from nmc.frontend import zoo
from nmc.frontend.lower import Joins
from nmc.ir import GradedRelay, IntArray, Network

STEPS = 4


@pytest.mark.parametrize("name", [name for name in deepnets.NETWORKS if not name.startswith(deepnets.SLOW)])
def test_deep_networks_equal_lava(name: str) -> None:
    make, joins = deepnets.NETWORKS[name]
    check(*deepnets.compiled(make(), STEPS, joins))


@pytest.mark.parametrize("joins", ["relay", "distribute"])
def test_delay_lines_equal_lava(joins: Joins) -> None:
    """Four bottlenecks with delays of at most 3 steps; the whole stage is in the command of ``deepnets``."""
    network, x = deepnets.compiled(deepnets.bottleneck_stage(4), STEPS, joins, max_delay=3)
    assert any(".delay" in population.name for population in network.compute) == (joins == "distribute")
    check(network, x)


def check(network: Network, x: IntArray, steps: int = STEPS) -> None:
    result = compare(network, x, steps, ReferenceEngine(), InProcessLavaEngine())
    assert result.passed, result.first
    trace = ReferenceEngine().run(network, x, steps)
    silent = [p.label for p in network.compute if trace.counts.spikes[p.name] == 0]
    assert len(silent) <= len(network.compute) // 4, f"silent layers prove nothing: {silent}"


def test_a_distributed_stage_of_bottlenecks_needs_relays() -> None:
    """The first addend waits for 69 layers, longer than a synapse can; no relay is graded."""
    network, _ = deepnets.compiled(deepnets.bottleneck_stage(), STEPS, "distribute")
    lines = [p for p in network.compute if ".delay" in p.name]
    assert lines
    assert max(projection.delay for projection in network.projections) == 62
    assert not any(isinstance(p.neuron, GradedRelay) for p in network.compute)
    longest = max(network[p.target].time - network[p.source].time for p in network.projections)
    assert longest == 63
    assert network.depth > 69


def test_a_narrow_7b_net_equals_lava() -> None:
    """At full width in the command of ``deepnets``."""
    net = zoo.NETWORKS["7b-net"].build(size=32, width=0.125)
    check(*deepnets.compiled(net, 2, "relay", samples=1), steps=2)


@pytest.mark.parametrize("delay", [0, 2])
def test_wide_depthwise_layers_have_fewer_groups_in_lava(delay: int) -> None:
    """Lava's Conv cannot have 160 groups; only what is delayed is written out."""
    feature = next(one for one in features.FEATURES if one.name == "depthwise, 160 channels")
    network = features.by(delay)(feature.network())
    (part,) = lower(network, feature.samples(network), features.STEPS).synapses
    assert (part.process, part.groups) == (("DelaySparse", 1) if delay else ("Conv", 80))
