"""SLAYER's ``.net`` files: what they mean, and what is refused, by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import netfiles
import numpy as np
import pytest

import nmc
from nmc import api
from nmc.backends import encode
from nmc.backends.sim.reference import ReferenceEngine
from nmc.errors import NmcError
from nmc.frontend.slayer import inspect_net, load_net
from nmc.ir import Encoding, FixedNeuron, Network, Stage
from nmc.rules import verify


def run(network: Network, x: np.ndarray) -> dict[str, np.ndarray]:
    """Spikes of every layer, (T, ...), of one sample."""
    names = [population.name for population in network.compute]
    trace = ReferenceEngine().run(network, encode.encode(network, x[None]), network.steps, names)
    return {name: trace.spikes[name][0] for name in names}


def train(*shape: int, seed: int = 1) -> np.ndarray:
    return (np.random.default_rng(seed).random(shape) < 0.5).astype(int)


# --- what a file means ------------------------------------------------------------------------------


def test_the_integers_are_kept(tmp_path: Path) -> None:
    layers = netfiles.chain()
    network = load_net(netfiles.write(tmp_path / "x.net", layers))
    verify(network, Stage.QUANTIZED)
    assert network.steps == 8
    assert [p.name for p in network.populations] == [
        *("layer0.input", "layer1.conv", "layer3.dense", "layer4.dense")
    ]
    assert [p.time for p in network.populations] == [0, 1, 2, 3]
    for projection, index in zip(network.projections, (1, 3, 4), strict=True):
        np.testing.assert_array_equal(projection.integer_weight, layers[index]["weight"])
    neuron, bias = network["layer1.conv"].neuron, network["layer1.conv"].bias
    assert isinstance(neuron, FixedNeuron)
    assert neuron.vth is not None
    assert (int(neuron.du.mant), int(neuron.dv.mant), int(neuron.vth.mant)) == (1023, 128, 80)
    np.testing.assert_array_equal(bias.value.ravel(), 64 * np.array([6, -2, 0, 10]))
    assert network.readout == "potential"


def test_it_compiles_without_quantizing_again(tmp_path: Path) -> None:
    path = netfiles.write(tmp_path / "x.net", netfiles.chain())
    passes: list[str] = []
    bundle = nmc.compile(path, "loihi2", observe=lambda done: passes.append(done.name))
    assert "quantize" not in passes
    assert passes[-1] == "check-mapping"
    x = train(3, 8, 2, 5, 6)
    trace = nmc.run(bundle, x, "reference", record=("all",))
    assert all(trace.spikes[name].any() for name in ("layer1.conv", "layer3.dense"))
    assert nmc.compile(path, "loihi2", steps=3).network.steps == 3
    assert nmc.check(path) == []


def test_frames_enter_as_bias(tmp_path: Path) -> None:
    """An input layer with neurons: mantissa = weight * x + bias, rounded."""
    layers = netfiles.chain()
    layers[0] |= {"weight": [36.0], "bias": [34.0], "neuron": netfiles.NEURON}
    network = load_net(netfiles.write(tmp_path / "x.net", layers))
    assert network.inputs[0].neuron.encoding is Encoding.CURRENT
    assert network["layer0.input"].time == 0
    x = np.random.default_rng(0).uniform(-1, 2, (2, 2, 5, 6))
    mantissas = encode.host_mantissas(network, network["layer0.input"], encode.encode(network, x))
    np.testing.assert_array_equal(mantissas, np.rint(36 * x + 34))
    largest = encode.encode(network, np.full((1, 2, 5, 6), 1e9))
    assert 4000 < encode.host_mantissas(network, network["layer0.input"], largest).max() <= 4095
    bundle = nmc.compile(tmp_path / "x.net", "loihi1", data=x)
    assert nmc.run(bundle, x, "stepwise").output.shape == (2, 3)


@pytest.mark.parametrize("delays", [3, [0.0, 2.0, 1.0, 2.0, 5.0]])
def test_a_delay_shifts_what_a_neuron_receives(tmp_path: Path, delays: Any) -> None:
    layers = netfiles.chain()[:4]
    plain = run(load_net(netfiles.write(tmp_path / "plain.net", layers)), x := train(8, 2, 5, 6))
    layers[3]["delay"] = delays
    late = run(load_net(netfiles.write(tmp_path / "late.net", layers)), x)
    expected = np.zeros_like(plain["layer3.dense"])
    for neuron, delay in enumerate(np.broadcast_to(np.array(delays, int), 5)):
        expected[delay:, neuron] = plain["layer3.dense"][: 8 - delay, neuron]
    np.testing.assert_array_equal(late["layer3.dense"], expected)
    assert expected.any()


def test_delays_of_a_convolution_count(tmp_path: Path) -> None:
    layers = netfiles.chain()[:2]
    del layers[1]["bias"]  # which acts from the first step, delay or not
    plain = run(load_net(netfiles.write(tmp_path / "plain.net", layers)), x := train(8, 2, 5, 6))
    layers[1]["delay"] = [0.0, 3.0, 1.0, 0.0]
    late = run(load_net(netfiles.write(tmp_path / "late.net", layers)), x)
    for channel, delay in enumerate((0, 3, 1, 0)):
        expected = plain["layer1.conv"][: 8 - delay, channel]
        np.testing.assert_array_equal(late["layer1.conv"][delay:, channel], expected)


def test_pools_and_averages(tmp_path: Path) -> None:
    layers = netfiles.chain()[:2]
    pool = {"type": "pool", "kernelSize": [2, 2], "stride": [2, 2], "padding": [0, 0], "dilation": [1, 1]}
    cell = netfiles.NEURON | {"iDecay": 4096, "vDecay": 0, "vThMant": 15}
    layers.append(pool | {"shape": [4, 1, 2], "weight": np.full((1, 1, 2, 2, 1), 8.0), "neuron": cell})
    layers.append({"type": "average", "shape": [2, 1, 1]})
    network = load_net(netfiles.write(tmp_path / "x.net", layers))
    spikes = run(network, x := train(8, 2, 5, 6))
    conv, pooled = spikes["layer1.conv"], spikes["layer2.pool"]
    v = np.zeros((4, 1, 2), int)
    for t in range(8):
        v += 8 * conv[t, :, :2, :4].reshape(4, 1, 2, 2, 2).sum(axis=(2, 4))
        np.testing.assert_array_equal(pooled[t], v > 15)
        v[v > 15] = 0
    output = ReferenceEngine().run(network, x[None], 8).output[0]
    np.testing.assert_array_equal(output, 64 * pooled.sum(axis=0).reshape(2, 4).sum(axis=1))
    layers[2]["weight"][0, 0, 0, 1] = 4.0  # not one number any more: a depthwise convolution
    assert not np.array_equal(
        run(load_net(netfiles.write(tmp_path / "y.net", layers)), x)["layer2.pool"], pooled
    )


def test_a_layer_without_neurons_adds_up(tmp_path: Path) -> None:
    network = load_net(netfiles.write(tmp_path / "x.net", netfiles.chain()))
    trace = ReferenceEngine().run(network, train(1, 8, 2, 5, 6), 8, ["layer3.dense", "layer4.dense"])
    weight = network.projections[-1].integer_weight
    total = np.cumsum(trace.spikes["layer3.dense"][0] @ weight.T, axis=0)
    np.testing.assert_array_equal(trace.v["layer4.dense"][0], 64 * total)


def test_a_file_without_input_layer(tmp_path: Path) -> None:
    """lava-dl needs none; the shape follows from a dense layer or a convolution of stride 1."""
    dense = load_net(netfiles.write(tmp_path / "x.net", netfiles.chain()[3:]))
    assert dense.inputs[0].shape == (60,)
    conv = netfiles.chain()[1] | {"stride": [1, 1], "shape": [4, 5, 5]}
    assert load_net(netfiles.write(tmp_path / "y.net", [conv])).inputs[0].shape == (2, 5, 6)
    with pytest.raises(NmcError, match=r"NMC-F04 layer0.conv: .*what shape it reads.*input layer"):
        load_net(netfiles.write(tmp_path / "z.net", netfiles.chain()[1:2]))


# --- what is refused --------------------------------------------------------------------------------

Change = Callable[[list[netfiles.Layer]], Any]


def neuron(index: int, **fields: Any) -> Change:
    return lambda layers: layers[index].update(neuron=layers[index]["neuron"] | fields)


def put(index: int, **fields: Any) -> Change:
    return lambda layers: layers[index].update(fields)


def drop(index: int, key: str) -> Change:
    return lambda layers: layers[index].pop(key)


ODD = np.where(np.arange(24).reshape(4, 1, 3, 2) % 2, 3.0, -2.0)
REFUSED: dict[str, tuple[Change, str, str]] = {
    "unknown layer": (put(2, type="attention"), "NMC-F05", "layer2.*unknown layer type 'attention'"),
    "misspelt layer": (put(1, type="convv"), "NMC-F05", "layer1.*did you mean conv"),
    "transposed": (put(1, type="convT"), "NMC-G05", "layer1.convT.*transposed"),
    "unpool": (put(2, type="unpool"), "NMC-G05", "layer2.unpool"),
    "concat": (put(2, type="concat"), "NMC-G05", "layer2.concat"),
    "complex layer": (put(3, type="dense_comp"), "NMC-G05", "layer3.dense_comp.*complex"),
    "sigma-delta": (neuron(1, type="SDNN"), "NMC-G05", "layer1.conv.*'SDNN'.*CUBA"),
    "resonator": (neuron(3, type="RF_PHASE"), "NMC-G05", "layer3.dense.*'RF_PHASE'"),
    "second input": (put(2, type="input"), "NMC-F04", "layer2.input.*not the first"),
    "no weight": (drop(1, "weight"), "NMC-F04", "layer1.conv.*'weight'.*missing"),
    "no decay": (lambda layers: layers[1]["neuron"].pop("vDecay"), "NMC-F04", "layer1.conv.*neuron/vDecay"),
    "no neuron": (drop(1, "neuron"), "NMC-F04", "layer1.conv.*no neuron"),
    "float weights": (put(1, weight=np.full((4, 1, 3, 2), 0.3)), "NMC-F04", "24 of 24 .* no whole numbers"),
    "NaN": (put(1, bias=[1.0, np.nan, 0.0, 0.0]), "NMC-G04", "layer1.conv.*'bias' has 1 of 4"),
    "text": (put(1, weight="many"), "NMC-F04", "layer1.conv.*'weight'"),
    "odd weights": (put(1, weight=ODD), "NMC-Q02", "layer1.conv.*odd weights"),
    "large weights": (put(1, weight=ODD * 200), "NMC-Q02", "layer1.conv.*-400..600"),
    "large bias": (put(1, bias=[5000.0, 0.0, 0.0, 0.0]), "NMC-Q02", "layer1.conv.*bias 5000"),
    "wrong bias": (put(1, bias=[1.0, 2.0]), "NMC-G03", "layer1.conv.*bias of shape"),
    "wrong shape": (put(1, shape=[4, 3, 6]), "NMC-G03", r"gives \(4, 3, 5\), the file says \(4, 3, 6\)"),
    "two axes": (put(1, shape=[4, 3]), "NMC-F04", "layer1.conv.*shape"),
    "wrong groups": (put(1, groups=3), "NMC-G03", "layer1.conv"),
    "no stride": (put(1, stride=[0, 1]), "NMC-F04", "layer1.conv.*stride"),
    "three strides": (put(1, stride=[1, 1, 1]), "NMC-F04", "'stride' has 3 numbers"),
    "wrong kernel": (put(1, kernelSize=[3, 3]), "NMC-G03", r"kernel \(3, 2\).*\(3, 3\)"),
    "wrong channels": (put(1, inChannels=3), "NMC-G03", "inChannels"),
    "wrong features": (put(3, inFeatures=61), "NMC-G03", "inFeatures"),
    "wrong matrix": (put(3, weight=np.zeros((4, 60))), "NMC-G03", r"\(4, 60\) for 5 neurons"),
    "wrong source": (put(3, weight=np.zeros((5, 61)), inFeatures=61), "NMC-G03", "layer3.dense"),
    "no flatten": (lambda layers: layers.pop(2), "NMC-G03", "layer2.dense.*flatten"),
    "flat size": (put(2, shape=[61, 1, 1]), "NMC-G03", "layer2.flatten"),
    "long delay": (put(3, delay=[63.0] * 5), "NMC-T01", "layer3.dense.*63 steps.*62"),
    "negative delay": (put(3, delay=[-1.0] * 5), "NMC-T01", "delay of -1"),
    "input delays": (put(3, delay=np.arange(60.0)), "NMC-G05", "delays per input"),
    "synapse delays": (put(3, delay=np.arange(300.0).reshape(5, 60) % 7), "NMC-G05", "delays of shape"),
    "refractory": (neuron(1, refDelay=3), "NMC-Q03", "refractory period of 3"),
    "graded": (neuron(1, gradedSpike=True), "NMC-Q03", "graded spikes"),
    "exponent": (neuron(1, wgtExp=2), "NMC-Q03", "weight exponent of 2"),
    "endless current": (neuron(1, iDecay=0), "NMC-Q02", "iDecay = 0, the chip holds 1 to 4096"),
    "no memory": (neuron(1, vDecay=4096), "NMC-Q02", "vDecay = 4096, the chip holds 0 to 4095"),
    "threshold": (neuron(1, vThMant=200_000), "NMC-Q02", "vThMant = 200000"),
    "average inside": (put(2, type="average", shape=[2, 1, 1]), "NMC-G05", "layer2.average.*last layer"),
    "readout inside": (drop(3, "neuron"), "NMC-Q02", "layer3.dense.*iDecay = 0"),
    "weighted spikes": (put(0, weight=[36.0]), "NMC-F04", "layer0.input.*no neuron"),
    "neuron of a flatten": (put(2, neuron=netfiles.NEURON), "NMC-F04", "layer2.flatten.*has a neuron"),
    "input too strong": (put(0, weight=[9000.0], neuron=netfiles.NEURON), "NMC-Q02", "9000 x"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_name_layer_reason_and_remedy(name: str, tmp_path: Path) -> None:
    change, code, message = REFUSED[name]
    layers = netfiles.chain()
    change(layers)
    path = netfiles.write(tmp_path / "x.net", layers)
    with pytest.raises(NmcError, match=f"{code} .*{message}") as caught:
        load_net(path)
    assert caught.value.code == code
    assert any(finding.code == code and finding.severity == "error" for finding in api.check(path))


def test_recurrent_layers_need_square_weights_and_no_delay(tmp_path: Path) -> None:
    layers = netfiles.chain()[:4]
    layers[3] |= {"type": "dense_rec", "weight_rec": np.zeros((5, 4))}
    with pytest.raises(NmcError, match=r"NMC-G03 layer3.dense_rec: recurrent weights"):
        load_net(netfiles.write(tmp_path / "x.net", layers))
    layers[3] |= {"weight_rec": np.zeros((5, 5)), "delay": [1.0] * 5}
    with pytest.raises(NmcError, match=r"NMC-G05 layer3.dense_rec: delays"):
        load_net(netfiles.write(tmp_path / "x.net", layers))


def test_everything_at_once(tmp_path: Path) -> None:
    layers = netfiles.chain()
    for name in ("sigma-delta", "long delay", "flat size"):
        REFUSED[name][0](layers)
    layers[4] |= {"inFeatures": 6, "surprise": 1}
    found = api.check(netfiles.write(tmp_path / "x.net", layers))
    errors = [(f.code, f.who) for f in found if f.severity == "error"]
    assert errors == [
        ("NMC-G05", "layer1.conv"),
        ("NMC-G03", "layer2.flatten"),
        ("NMC-T01", "layer3.dense"),
        ("NMC-G03", "layer4.dense"),
    ]
    assert [f.problem for f in found if f.severity == "warning"] == [
        "field 'surprise' is unknown and ignored"
    ]


def test_what_is_no_net_file(tmp_path: Path) -> None:
    (tmp_path / "text.net").write_text("layers")
    with h5py.File(tmp_path / "other.net", "w") as file:
        file["x"] = 1
    path = netfiles.write(tmp_path / "gap.net", netfiles.chain())
    with h5py.File(path, "r+") as file:
        file.move("layer/2", "layer/7")
    for name, code in (("text", "NMC-F01"), ("other", "NMC-F01"), ("gap", "NMC-F04"), ("none", "NMC-F01")):
        (finding,) = api.check(tmp_path / f"{name}.net")
        assert finding.code == code


def test_links_and_huge_data_are_not_followed(tmp_path: Path) -> None:
    for name, code in (("link", "NMC-F02"), ("huge", "NMC-F03")):
        path = netfiles.write(tmp_path / f"{name}.net", netfiles.chain())
        with h5py.File(path, "r+") as file:
            del file["layer/3/weight"]
            if name == "link":
                file["layer/3/weight"] = h5py.ExternalLink("other.h5", "/secret")
            else:
                file.create_dataset("layer/3/weight", (1 << 17, 1 << 17), "f4", chunks=(1024, 1024))
        with pytest.raises(NmcError, match=code):
            load_net(path)


def test_nobody_says_how_many_steps(tmp_path: Path) -> None:
    path = netfiles.write(tmp_path / "x.net", netfiles.chain(), {"Ts": 1})
    with pytest.raises(NmcError, match=r"NMC-U02 steps: .*--steps"):
        nmc.compile(path)
    assert nmc.compile(path, steps=5, stop_after="prove-ranges").network.steps == 5
    assert api.check(path) == []


@pytest.mark.parametrize("option", [{"profile": "nir"}, {"dt": 1e-3}, {"weights": "w.safetensors"}])
def test_options_that_do_not_belong(tmp_path: Path, option: dict[str, Any]) -> None:
    path = netfiles.write(tmp_path / "x.net", netfiles.chain())
    with pytest.raises(NmcError, match=f"NMC-U02 {next(iter(option))}: given for a .net file"):
        nmc.compile(path, **option)
    with pytest.raises(NmcError, match=r"NMC-U02 .*chip's integers.*nmc compile"):
        nmc.load(path)


VALUES: tuple[object, ...] = (
    np.nan, -1, 0, 1 << 40, "text", [], np.zeros((0, 3)), [1.5, 2.0], np.ones((2, 2, 2)), True, 1e300
)  # fmt: skip


def test_random_edits_are_findings_never_other_exceptions(tmp_path: Path) -> None:
    refused = 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        layers = netfiles.chain()
        if seed % 3 == 0:
            layers[0] |= {"weight": [36.0], "bias": [34.0], "neuron": dict(netfiles.NEURON)}
        path = netfiles.write(tmp_path / "x.net", layers)
        with h5py.File(path, "r+") as file:
            names: list[str] = []
            file.visit(names.append)
            for name in rng.choice(names, 2):
                if name in file:
                    leaf = isinstance(file[name], h5py.Dataset)
                    del file[name]
                    if leaf and rng.random() < 0.8:
                        file[name] = VALUES[rng.integers(len(VALUES))]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            findings = api.check(path)
            if any(finding.severity == "error" for finding in findings):
                refused += 1
                continue
            network, _ = inspect_net(path)
        assert network is not None
        verify(network, Stage.QUANTIZED)
    assert refused > 80
