"""Float against integers, layer by layer: nothing lost shows as nothing, and the culprit is found."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import quantnet

from nmc import timing
from nmc.backends.sim.reference import ReferenceEngine
from nmc.ir import Fixed, Network, frozen
from nmc.quantize import calibrate, inputs
from nmc.quantize.network import Quantizer
from nmc.quantize.precision import Precision
from nmc.reports import fidelity, render_json, render_markdown, render_text


def both(
    network: Network, x: np.ndarray, precision: Precision, *, host: bool = False
) -> tuple[Network, Network]:
    timed = timing.balance(inputs.host_input(network) if host else network, 62)
    profiles = 1 if precision.granularity == "layer" else None
    return timed, Quantizer(precision, calibrate.measure(timed, x), x, profiles)(timed)


def compared(timed: Network, integer: Network, x: np.ndarray) -> dict[str, fidelity.LayerFit]:
    return {row.layer: row for row in fidelity.compare_layers(timed, integer, x, ReferenceEngine())}


def test_a_network_on_the_grid_loses_nothing() -> None:
    network, x = quantnet.network(bias=None), quantnet.images()
    rng = np.random.default_rng(0)
    projections = []
    for projection in network.projections:
        whole = rng.integers(-127, 128, projection.weight.shape) / 64.0
        whole.flat[0] = 127 / 64
        projections.append(replace(projection, weight=frozen(whole, np.float64)))
    network = network.with_(projections=tuple(projections))
    for row in compared(*both(network, x, Precision()), x).values():
        assert (row.snr_db, row.own_snr_db, row.unequal) == (None, None, 0.0)
        assert row.cosine == 1.0
        assert row.float_rate == row.integer_rate > 0


def test_the_worst_layer_comes_first_and_its_own_error_is_told_from_what_it_inherits() -> None:
    network, x = quantnet.network(), quantnet.images()
    timed, integer = both(network, x, Precision(8, layer_bits={"conv1": 2}))
    rows = fidelity.compare_layers(timed, integer, x, ReferenceEngine())
    assert [row.snr_db for row in rows] == sorted(row.snr_db for row in rows)
    found = {row.layer: row for row in rows}
    assert found["conv1"].own_snr_db < 20
    assert found["fc"].own_snr_db > 35
    assert found["fc"].snr_db < 20


def test_the_host_s_current_and_own_scales_count_as_they_should() -> None:
    for host in (False, True):
        network, x = quantnet.network(spread=30.0), quantnet.images()
        found = compared(*both(network, x, Precision(8, "channel"), host=host), x)
        assert found["conv1"].snr_db > 35
        assert found["conv1"].cosine > 0.98


def test_a_readout_has_a_current_but_no_spikes() -> None:
    network, x = quantnet.network(threshold=None), quantnet.images()
    found = compared(*both(network, x, Precision()), x)
    assert found["fc"].cosine is None
    assert found["fc"].float_rate is None
    assert found["fc"].snr_db > 15


def test_a_threshold_that_is_wrong_shows_as_a_shifted_rate() -> None:
    network, x = quantnet.network(), quantnet.images()
    timed, integer = both(network, x, Precision())
    neuron = integer["a"].neuron
    low = replace(neuron, vth=Fixed(neuron.vth.mant // 2, 6, 17, signed=False))
    broken = integer.with_(populations=integer.map_populations({"a": replace(integer["a"], neuron=low)}))
    row = compared(timed, broken, x)["conv1"]
    assert row.integer_rate > 1.2 * row.float_rate
    assert row.u_seen <= row.u_proven


def test_it_renders_as_text_markdown_and_json() -> None:
    network, x = quantnet.network(), quantnet.images()
    rows = fidelity.compare_layers(*both(network, x, Precision(4)), x, ReferenceEngine())
    document = fidelity.document(rows)
    (chart,) = document.pictures
    assert [chart.index(f">{row.layer}<") for row in rows] == sorted(
        chart.index(f">{row.layer}<") for row in rows
    )
    assert f"{rows[0].snr_db:.1f} dB" in chart
    told = json.loads(render_json.render(document))
    assert told["schema"] == "nmc.fidelity/1"
    assert [row["layer"] for row in told["layers"]] == [row.layer for row in rows]
    for text in (render_text.render(document, 120), render_markdown.render(document)):
        assert "own SNR dB" in text
        assert "conv1" in text
