"""From the user's data to integers: what is taken as it is, and what is refused instead of rounded."""

from __future__ import annotations

import numpy as np
import pytest

import nmc
from nmc.backends import encode
from nmc.bundle import Bundle
from nmc.frontend import opgraph as og

FEATURES, STEPS = 6, 4
RNG = np.random.default_rng(0)
FRAMES = RNG.random((8, FEATURES))
TRAINS = RNG.integers(0, 2, (8, STEPS, FEATURES))


def model() -> og.OpGraph:
    nodes = {
        "in": og.Input((FEATURES,)),
        "fc": og.Linear(np.random.default_rng(1).normal(size=(5, FEATURES))),
        "n": og.Neuron(1.0),
        "out": og.Output(),
    }
    return og.OpGraph(nodes, (("in", "fc"), ("fc", "n"), ("n", "out")), steps=STEPS)


@pytest.fixture(scope="module")
def frames() -> Bundle:
    return nmc.compile(model(), data=FRAMES)


@pytest.fixture(scope="module")
def trains() -> Bundle:
    return nmc.compile(model(), data=TRAINS)


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (np.array([["a"] * FEATURES]), "data of type <U1"),
        (FRAMES.astype(object), "data of type object"),
        (FRAMES + 1j, "data of type complex128"),
        (None, "data of type object"),
        ([[1, 2], [3]], "data that are no array"),
        (FRAMES[0], "data of shape"),
    ],
)
def test_data_that_are_no_samples(frames: Bundle, x: object, said: str) -> None:
    with pytest.raises(nmc.NmcError, match=f"NMC-D02 in: {said}"):
        nmc.run(frames, x)


@pytest.mark.parametrize("give", ["compile", "aware", "run_float", "neurobench", "convert"])
def test_no_function_takes_texts(give: str) -> None:
    texts = np.array([["a"] * FEATURES])
    calls = {
        "compile": lambda: nmc.compile(model(), data=texts),
        "aware": lambda: nmc.aware(model(), "loihi2", texts),
        "run_float": lambda: nmc.run_float(model(), texts),
        "neurobench": lambda: nmc.neurobench(model(), texts),
        "convert": lambda: nmc.convert(model(), texts, STEPS),
    }
    with pytest.raises(nmc.NmcError, match=r"NMC-D02 .* data of type <U1; give numbers"):
        calls[give]()


@pytest.mark.parametrize("kind", ["f2", "f4", ">f8", "?", "i1", ">i4", "u8", "longdouble"])
def test_every_number_type_means_the_same(frames: Bundle, kind: str) -> None:
    whole = np.array([[0, 1, 0, 1, 1, 0]])
    typed = np.asfortranarray(np.repeat(whole, 2, axis=0).astype(kind))[::2]
    np.testing.assert_array_equal(encode.encode(frames.network, typed), encode.encode(frames.network, whole))


def test_frames_beyond_the_calibration_data_are_clipped(frames: Bundle) -> None:
    lowest, highest = (encode.encode(frames.network, np.full((1, FEATURES), end)) for end in (-9.0, 9.0))
    neuron = frames.network.inputs[0].neuron
    assert neuron.lowest == 0
    assert 1 < neuron.highest < 9 / neuron.scale
    assert (lowest == 0).all()
    assert (highest == neuron.highest).all()


@pytest.mark.parametrize("value", [0.25, 0.5, 0.999, -0.5, 1.5])
def test_trains_are_never_rounded(trains: Bundle, value: float) -> None:
    x = TRAINS.astype(float)
    x[3, 2, 1] = value
    with pytest.raises(nmc.NmcError, match="NMC-D02 in: 1 values of the trains are no whole numbers"):
        nmc.run(trains, x)
    with pytest.raises(nmc.NmcError, match="NMC-D03 in: trains hold values that are no whole numbers"):
        nmc.compile(model(), data=x)


def test_whole_trains_are_sent_as_they_are(trains: Bundle) -> None:
    np.testing.assert_array_equal(encode.encode(trains.network, TRAINS.astype(np.float32)), TRAINS)
    with pytest.raises(nmc.NmcError, match=r"NMC-D02 in: spike payloads 0\.\.2, allowed 0\.\.1"):
        nmc.run(trains, 2 * TRAINS)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"joins": "Relay"}, "NMC-U03 Relay: is no lowering of joins; known are: auto, distribute, relay"),
        ({"encoding": "frames"}, "NMC-U03 frames: is no encoding; known are: spikes, graded, current"),
        ({"optimize": "core"}, "NMC-U03 core: is no objective"),
        ({"seed": -1}, "NMC-U02 seed: is -1"),
        ({"weight_bits": 4.5}, "NMC-U02 weight_bits: is 4.5 bits"),
        ({"layer_bits": {"n": "4"}}, "NMC-U02 n: is '4' bits"),
        ({"steps": 4.0}, "NMC-U02 steps: is 4.0; give a whole number"),
        ({"steps": "4"}, "NMC-U02 steps: is '4'; give a whole number"),
    ],
)
def test_options_that_mean_nothing(options: dict[str, object], said: str) -> None:
    with pytest.raises(nmc.NmcError) as caught:
        nmc.compile(model(), data=FRAMES, **options)
    assert str(caught.value).startswith(said)


def test_an_encoding_may_be_given_by_its_name() -> None:
    assert nmc.compile(model(), data=TRAINS, encoding="spikes").config["encoding"] == "spikes"
    assert nmc.compile(model(), encoding="spikes").golden["x"].shape == (1, STEPS, FEATURES)


def test_one_layer_may_be_recorded_by_its_name(frames: Bundle) -> None:
    assert list(nmc.run(frames, FRAMES, record="n").spikes) == ["n"]
    with pytest.raises(nmc.NmcError, match="NMC-U03 small: is no layer"):
        nmc.run(frames, FRAMES, record="small")  # which holds the word "all"


def test_a_report_on_another_networks_run_is_refused(frames: Bundle) -> None:
    nodes = {"in": og.Input((FEATURES,)), "other": og.Neuron(1.0), "out": og.Output()}
    graph = og.OpGraph(nodes, (("in", "other"), ("other", "out")), steps=STEPS)
    other = nmc.compile(graph, data=FRAMES)
    with pytest.raises(nmc.NmcError, match="NMC-D02 network: the run's spikes are of another network"):
        nmc.report(frames, nmc.run(other, FRAMES))


def test_data_whose_squares_no_float_holds() -> None:
    with pytest.raises(nmc.NmcError, match=r"NMC-D03 in: values of up to \d.*, whose squares"):
        nmc.compile(model(), data=FRAMES * 1e300)


@pytest.mark.parametrize("batch", [0, -1])
def test_a_batch_holds_a_sample(frames: Bundle, batch: int) -> None:
    with pytest.raises(nmc.NmcError, match="NMC-U02 batch: is"):
        nmc.run(frames, FRAMES, batch=batch)


def test_a_graph_with_two_inputs_has_no_float_answer() -> None:
    nodes = {"a": og.Input((3,)), "b": og.Input((3,)), "n": og.Neuron(1.0), "out": og.Output()}
    graph = og.OpGraph(nodes, (("a", "n"), ("b", "n"), ("n", "out")), steps=2)
    with pytest.raises(nmc.NmcError, match="NMC-G05 network: 2 nodes of type Input"):
        nmc.run_float(graph, np.ones((2, 3)))


def test_labels_of_neurobench() -> None:
    with pytest.raises(nmc.NmcError, match="NMC-D02 labels: y is float64"):
        nmc.neurobench(model(), FRAMES, RNG.random(8))
    with pytest.raises(nmc.NmcError, match=r"NMC-D02 labels: y is int64 of shape \(3,\)"):
        nmc.neurobench(model(), FRAMES, [0, 1, 2])
