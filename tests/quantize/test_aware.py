"""The torch forward is the integer engine to the bit, before and after training, and so is its export."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import quantnet

from nmc import api, timing
from nmc.backends import encode
from nmc.backends.base import Engine
from nmc.backends.engines import engine
from nmc.chip import Chip, load_chip
from nmc.errors import NmcError
from nmc.frontend import opgraph as og
from nmc.frontend.lower import lower
from nmc.ir import Encoding, Fixed, Network, Reset
from nmc.quantize import calibrate, inputs
from nmc.quantize.aware import aware
from nmc.quantize.network import Quantizer
from nmc.quantize.precision import Precision

torch = pytest.importorskip("torch")

MODEL = Path(str(files("nmc") / "data" / "digits_sew.nir"))
CALIBRATION = Path(str(files("nmc") / "data" / "digits_calibration.npz"))
VARIANTS: dict[str, dict] = {
    "IF": {},
    "LIF": {"keep_v": 0.7},
    "CUBA": {"keep_v": 0.8, "keep_u": 0.6},
    "soft reset": {"reset": Reset.SUBTRACT},
    "readout": {"threshold": None},
    "trains": {"encoding": Encoding.SPIKES},
    "no bias": {"bias": None},
    "channels": {"spread": 20.0},
}


def data(variant: dict, count: int) -> np.ndarray:
    return quantnet.trains(count) if "encoding" in variant else quantnet.images(count)


def mismatches(module: object, x: np.ndarray, runner: Engine) -> int:
    network = module.export()  # type: ignore[attr-defined]
    names = [population.name for population in network.compute]
    trace = runner.run(network, encode.encode(network, x), network.steps, names)
    found = module.trace(torch.from_numpy(x))  # type: ignore[attr-defined]
    with torch.no_grad():
        output = module(torch.from_numpy(x)).double().numpy()  # type: ignore[operator]
    wrong = sum(int((found[name].numpy() != trace.spikes[name]).sum()) for name in names)
    if network.readout == "count":
        return wrong + int((output != trace.output).sum())
    return wrong + int((output.argmax(axis=1) != trace.classes).sum())


def train(module: object, x: np.ndarray, steps: int = 4) -> None:
    """A few steps towards random labels: whatever the parameters become, the forward must be the engine's."""
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, 3, len(x)))
    optimizer = torch.optim.Adam(module.parameters(), 0.02)  # type: ignore[attr-defined]
    for _ in range(steps):
        loss = torch.nn.functional.cross_entropy(module(torch.from_numpy(x)), labels)  # type: ignore[operator]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def same(one: Network, two: Network) -> None:
    for a, b in zip(one.projections, two.projections, strict=True):
        assert np.array_equal(a.integer_weight, b.integer_weight)
    for a, b in zip(one.populations, two.populations, strict=True):
        for first, second in (
            (getattr(a.neuron, "vth", None), getattr(b.neuron, "vth", None)),
            (a.bias, b.bias),
        ):
            assert (first is None) == (second is None)
            if isinstance(first, Fixed):
                values = np.broadcast_arrays(first.mant << first.exp, second.mant << second.exp)
                assert np.array_equal(*values)


# Trains take no host projection: on loihi1 they would be the same case again.
CASES = [
    (name, chip)
    for name in VARIANTS
    for chip in ("lava-cpu", "loihi1")
    if (name, chip) != ("trains", "loihi1")
]


def test_one_scale_for_a_population_with_soft_resets() -> None:
    network, x = quantnet.network(reset=Reset.SUBTRACT), quantnet.images(24)
    module = aware(network, load_chip("lava-cpu"), x, Precision(4, "layer"))
    assert module.export()["b"].neuron.vth.mant.ndim == 0
    train(module, x)
    assert mismatches(module, x, engine("reference")) == 0


@pytest.mark.parametrize("bits", [8, 2])
@pytest.mark.parametrize(("name", "chip"), CASES)
def test_the_forward_is_the_engine_before_and_after_training(name: str, bits: int, chip: str) -> None:
    variant = VARIANTS[name]
    network, x = quantnet.network(**variant), data(variant, 24)
    module = aware(network, load_chip(chip), x, Precision(bits, "channel"))
    runner = engine("reference")
    before = module.export()
    assert mismatches(module, x, runner) == 0
    train(module, x)
    after = module.export()
    assert mismatches(module, x, runner) == 0
    moved = [
        np.any(a.integer_weight != b.integer_weight)
        for a, b in zip(before.projections, after.projections, strict=True)
    ]
    assert any(moved)


@pytest.mark.parametrize("name", VARIANTS)
def test_it_starts_as_what_the_quantizer_made(name: str) -> None:
    variant = VARIANTS[name]
    network, x = quantnet.network(**variant), data(variant, 24)
    for chip in (load_chip("lava-cpu"), load_chip("loihi1")):
        timed = timing.balance(network if chip.payload_bits else inputs.host_input(network), chip.max_delay)
        precision = Precision(3, "channel")
        wanted = Quantizer.for_chip(chip, precision, calibrate.measure(timed, x), x)(timed)
        same(aware(network, chip, x, precision).export(), wanted)


def demo(chip: Chip, bits: int) -> object:
    graph = api.load(MODEL)
    joins = "relay" if chip.payload_bits else "distribute"
    network = lower(graph, graph.steps or 8, joins, Encoding.GRADED)
    return aware(network, chip, np.load(CALIBRATION)["x"][:32].astype(float), Precision(bits))


@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
def test_a_thousand_samples_of_the_demo_network_without_a_mismatch(chip: str) -> None:
    x = np.random.default_rng(0).integers(0, 17, (1000, 1, 8, 8)) / 16
    assert mismatches(demo(load_chip(chip), 4), x, engine("auto")) == 0


def test_every_parameter_gets_a_gradient() -> None:
    module = aware(quantnet.network(), load_chip("lava-cpu"), quantnet.images(24), Precision(4))
    train(module, quantnet.images(24), steps=1)
    assert len(list(module.parameters())) == 6
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_shared_tensors_stay_shared() -> None:
    """loihi1 lowers SEW ADD to projections that share weights; one parameter, one tensor in the export."""
    module = demo(load_chip("loihi1"), 4)
    network = module.export()  # type: ignore[attr-defined]
    tensors = {id(projection.weight) for projection in network.projections}
    assert len(tensors) == len(list(module.tensors.parameters())) < len(network.projections)  # type: ignore[attr-defined]


def test_training_lowers_the_loss() -> None:
    """Labels of the eight-bit network at two bits: fine-tuning makes up for a third of what is lost."""
    network, x = quantnet.network(threshold=None), quantnet.images(128)
    module = aware(network, load_chip("lava-cpu"), x, Precision(2))
    full = aware(network, load_chip("lava-cpu"), x, Precision(8))
    inputs_ = torch.from_numpy(x)
    with torch.no_grad():
        wanted = full(inputs_)
        labels = wanted.argmax(1)
        least = float(torch.nn.functional.cross_entropy(wanted, labels))
    optimizer = torch.optim.Adam(module.parameters(), 0.01)
    losses = []
    for _ in range(40):
        loss = torch.nn.functional.cross_entropy(module(inputs_), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[0] > least
    assert losses[-1] - least < 0.7 * (losses[0] - least)


def test_an_export_out_of_range_is_refused() -> None:
    """The proof that every network passes is not left out for trained ones."""
    module = aware(quantnet.network(threshold=None), load_chip("lava-cpu"), quantnet.images(24), Precision(8))
    with torch.no_grad():
        for parameter in (*module.biases.values(), *module.tensors.values()):
            parameter.add_(1e6)
    with pytest.raises(NmcError, match="NMC-Q01 fc: readout potential"):
        module.export()


def test_a_trained_export_compiles_to_the_same_integers() -> None:
    x = np.load(CALIBRATION)["x"][:32]
    module = api.aware(MODEL, "loihi2", x, weight_bits=3)
    train(module, x[:16], steps=1)
    bundle = api.compile(module.export(), "loihi2", x)
    same(bundle.network, module.export())
    assert bundle.network.mapping is not None
    with torch.no_grad():
        potential = module(torch.from_numpy(x)).numpy()
    integers = api.run(bundle, x).output
    # The module gives the readout in float units: whole v units times one factor.
    v_units = np.rint(potential * (integers[0, 0] / potential[0, 0]))
    assert np.array_equal(integers, v_units)


def test_a_network_that_is_not_quantized_is_no_model() -> None:
    with pytest.raises(NmcError, match="NMC-U02 small: is a FLOAT network; give a QUANTIZED one"):
        api.compile(quantnet.network(), "loihi2", quantnet.images())


def test_a_network_with_loops_computes_the_integers_and_learns() -> None:
    """Spikes of the chip step by step, and gradients through the loop's weights."""
    rng = np.random.default_rng(5)
    nodes: dict[str, og.Op] = {
        "in": og.Input((6,)),
        "fc": og.Linear(rng.normal(0, 0.5, (8, 6))),
        "rec": og.Linear(rng.normal(0, 0.4, (8, 8))),
        "lif": og.Neuron(og.constant(0.4), og.constant(0.9), keep_u=og.constant(0.5)),
        "previous": og.Delay(),
        "out": og.Linear(rng.normal(0, 0.5, (3, 8))),
        "output": og.Output(),
    }
    edges = (("in", "fc"), ("fc", "lif"), ("rec", "lif"), ("lif", "previous"), ("previous", "rec"))
    graph = og.OpGraph(nodes, (*edges, ("lif", "out"), ("out", "output")))
    free = lower(graph, 10, "distribute", Encoding.SPIKES)
    x = (rng.random((32, 10, 6)) < 0.4).astype(np.float64)
    network = aware(free, load_chip("loihi2"), x, Precision(4))
    network(torch.from_numpy(x)).sum().backward()
    gradients = [p.grad for p in network.tensors.values()]
    assert len(gradients) == 3
    assert all(grad is not None and bool(grad.any()) for grad in gradients)
    trace = engine("reference").run(network.export(), encode.encode(network.export(), x), 10, ["lif"])
    assert trace.spikes["lif"].sum() > 200
    assert mismatches(network, x, engine("reference")) == 0
