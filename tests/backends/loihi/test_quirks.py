"""One test per quirk of Lava: each fails on the day Lava mends it, and ``quirks.py`` can lose an entry."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tinynet
from lava.proc.conv.process import Conv
from lava.proc.dense.process import DelayDense, Dense
from lava.proc.graded.process import GradedVec
from lava.proc.lif import process as lif
from lava.utils.weightutils import SignMode

from nmc import neuron as spec
from nmc.backends.loihi import quirks
from nmc.backends.loihi.models import Wire, model_of, step
from nmc.errors import NmcError
from nmc.ir import (
    Conv2d,
    Encoding,
    Fixed,
    FixedNeuron,
    GradedRelay,
    Identity,
    InputNeuron,
    Population,
    Projection,
    Reset,
    frozen,
)

pytestmark = pytest.mark.filterwarnings("ignore:NumPy will stop:DeprecationWarning")
"""NumPy, too, is unhappy about Lava's int8 and int16 fields."""


def synapse_output(process: Any, *messages: Any) -> Any:
    """What a synapse process gives for spikes of one step (several messages: several senders)."""
    wires, out = [Wire("s_in") for _ in messages], Wire("a_out")
    model = model_of(process, {"s_in": wires, "a_out": [out]})
    for _ in range(2):
        for wire, message in zip(wires, messages, strict=True):
            wire.send(np.asarray(message))
        step(model)
    return out.message


def neuron_step(process: Any, current: Any, steps: int = 1, **state: Any) -> tuple[Any, Any]:
    """Model and last output of a neuron process after steps of constant input."""
    wire, out = Wire("a_in"), Wire("s_out")
    model = model_of(process, {"a_in": [wire], "s_out": [out]})
    for name, value in state.items():
        getattr(model, name)[:] = value
    for _ in range(steps):
        wire.send(np.asarray(current))
        step(model)
    return model, out.message


def conv(weight: Any, shape: tuple[int, ...] = (1, 1, 1), **more: Any) -> Conv:
    return Conv(weight=np.asarray(weight), input_shape=shape, **more)


# --- convolutions -----------------------------------------------------------------------------------


def test_conv_is_a_true_convolution_in_whc_order() -> None:
    kernel = np.arange(6).reshape(1, 1, 2, 3)  # (C_out, C_in, K_h, K_w)
    image = np.zeros((4, 4, 1), int)  # (W, H, C)
    image[2, 1] = 1
    out = synapse_output(conv(quirks.conv_kernel(kernel), (4, 4, 1)), image)
    # Correlation puts tap (y, x) of the kernel where the window starts (y, x) before the one.
    assert out.shape == (2, 3, 1)
    assert out[:, :, 0].T.tolist() == [[5, 4], [2, 1], [0, 0]]


def test_conv_ignores_weight_exponent_and_width() -> None:
    """lava issue 803."""
    for more in ({"weight_exp": 3}, {"num_weight_bits": 2}):
        assert synapse_output(conv([[[[1001]]]], **more), [[[1]]]).item() == 1001
    assert synapse_output(Dense(weights=np.array([[7]]), weight_exp=3), [1]).item() == 56


def test_conv_of_128_groups_is_silently_zero() -> None:
    ones, image = np.ones((128, 1, 1, 1), int), np.ones((1, 1, 128), int)
    assert not synapse_output(conv(ones, (1, 1, 128), groups=128), image).any()
    assert synapse_output(conv(ones[:127], (1, 1, 127), groups=127), image[..., :127]).all()


def test_conv_of_129_groups_raises() -> None:
    ones, image = np.ones((129, 1, 1, 1), int), np.ones((1, 1, 129), int)
    with pytest.raises(Exception, match="group"):
        synapse_output(conv(ones, (1, 1, 129), groups=129), image)


def test_conv_fails_on_a_kernel_of_128() -> None:
    with pytest.raises(ValueError, match=r"negative dimensions|could not broadcast"):
        synapse_output(conv(np.ones((1, 128, 1, 1), int), (130, 1, 1)), np.ones((130, 1, 1), int))


def test_conv_fits_only_int8_geometry() -> None:
    assert quirks.fits_conv(Conv2d(), (3, 3), 127)
    assert quirks.fits_conv(Conv2d(), (3, 3), 128)
    assert not quirks.fits_conv(Conv2d(), (3, 3), 131)
    assert not quirks.fits_conv(Conv2d(), (3, 128), 1)
    assert not quirks.fits_conv(Conv2d(padding=(0, 128)), (3, 3), 1)


@pytest.mark.parametrize(
    ("groups", "merged"),
    [
        (1, 1),
        (127, 1),
        (128, 2),
        (129, 3),
        (131, 1),
        (160, 2),
        (254, 2),
        (256, 4),
        (672, 6),
        (960, 8),
        (2048, 1),
    ],
)
def test_groups_are_made_one_as_rarely_as_possible(groups: int, merged: int) -> None:
    assert quirks.groups_in_one(groups) == merged
    assert quirks.fits_conv(Conv2d(), (3, 3), groups) == (groups // merged <= 127)


def test_conv_has_no_delays() -> None:
    parameters = inspect.signature(Conv.__init__).parameters
    assert "weight" in parameters
    assert not [name for name in parameters if "delay" in name]


# --- weights ----------------------------------------------------------------------------------------


def test_mixed_weights_lose_their_lowest_bit_and_clip() -> None:
    weights = np.array([[3, -3, 255, 300, -300, 254, -256]])
    found = [
        synapse_output(Dense(weights=weights, sign_mode=SignMode.MIXED), row).item()
        for row in np.eye(7, dtype=int)
    ]
    assert found == [2, -4, 254, 254, -256, 254, -256]


def test_the_sign_mode_is_guessed_per_process() -> None:
    """The same odd weight counts 7 in an all-positive tile and 6 in the whole layer."""
    whole, tile = np.array([[3, -5], [7, 9]]), np.array([[7, 9]])
    assert synapse_output(Dense(weights=whole), [1, 0]).tolist() == [2, 6]
    assert synapse_output(Dense(weights=tile), [1, 0]).tolist() == [7]


def projection(weight: Fixed) -> Projection:
    return Projection("w", "a", "b", Identity(), weight, origin=("conv1",))


@pytest.mark.parametrize("weight", [Fixed(np.array([2, 3]), 0, 8, True), Fixed(np.array(127), 9, 8, True)])
def test_unrepresentable_weights_are_refused(weight: Fixed) -> None:
    with pytest.raises(NmcError, match=r"NMC-Q02 conv1: weight (3|65024) is not one of -256, -254"):
        quirks.representable(projection(weight))
    with pytest.raises(NmcError, match=r"NMC-Q02 conv1: weight 508"):
        quirks.representable(projection(Fixed(np.array(127), 2, 8, True)), most=0)


def test_representable_weights_pass() -> None:
    for weight in (Fixed(np.array([-128, 127]), 1, 8, True), Fixed(np.array([0, 255]), 0, 8, False)):
        values, exponent = quirks.representable(projection(weight))
        assert np.array_equal(values, weight.value)
        assert exponent == 0


@pytest.mark.parametrize(
    "weight", [Fixed(np.array([-3, 127]), 8, 8, True), Fixed(np.array([1, 255]), 3, 8, False)]
)
def test_larger_weights_have_an_exponent(weight: Fixed) -> None:
    """And Lava computes with it what the integers say."""
    values, exponent = quirks.representable(projection(weight))
    mode = SignMode[quirks.sign_mode(weight.signed)]
    found = synapse_output(Dense(weights=values.reshape(-1, 1), weight_exp=exponent, sign_mode=mode), [1])
    assert np.array_equal(np.reshape(found, -1), weight.value)


def test_sign_modes() -> None:
    assert (quirks.sign_mode(True), quirks.sign_mode(False)) == ("MIXED", "EXCITATORY")


# --- payloads ---------------------------------------------------------------------------------------


def test_without_message_bits_payloads_become_one_and_senders_are_ored() -> None:
    def make(bits: int) -> Dense:
        return Dense(weights=np.array([[2]]), num_message_bits=bits)

    assert synapse_output(make(0), [-5]).item() == 2
    assert synapse_output(make(8), [-5]).item() == -10
    assert synapse_output(make(0), [1], [1]).item() == 2
    assert synapse_output(make(8), [1], [1]).item() == 4


def test_message_bits_are_zero_for_binary_spikes_only() -> None:
    zero = Fixed(np.array(0), -12, 12, False)
    assert quirks.message_bits(Population("n", (1,), FixedNeuron(None, zero, zero))) == 0
    assert quirks.message_bits(Population("i", (1,), InputNeuron(Encoding.SPIKES))) == 0
    signed = InputNeuron(Encoding.SPIKES, lowest=-1)
    assert quirks.message_bits(Population("i", (1,), signed)) == 1
    assert quirks.message_bits(Population("g", (1,), GradedRelay(), max_payload=1)) == 1
    assert quirks.message_bits(Population("g", (1,), GradedRelay(), max_payload=5)) == 3


def test_graded_vectors_drop_ones_by_default() -> None:
    current = [1, -1, 2]
    assert neuron_step(GradedVec(shape=(3,)), current)[1].tolist() == [0, 0, 2]
    kept = GradedVec(shape=(3,), vth=quirks.GRADED_THRESHOLD)
    assert neuron_step(kept, current)[1].tolist() == [1, -1, 2]


# --- neurons ----------------------------------------------------------------------------------------


def test_lif_reset_knows_no_start_value_and_no_soft_reset() -> None:
    reset = lif.LIFReset(shape=(1,), v=500, reset_interval=9, reset_offset=1, vth=100)
    assert neuron_step(reset, [0])[0].v.item() == 0
    assert not [name for name in dir(lif) if "soft" in name.lower() or "subtract" in name.lower()]
    zero = Fixed(np.array(0), -12, 12, False)
    vth = Fixed(np.array(1), 6, 17, False)
    one = frozen(1, np.int64)
    assert quirks.stock_lif(FixedNeuron(vth, zero, zero))
    assert not quirks.stock_lif(FixedNeuron(vth, zero, zero, v0=one))
    assert not quirks.stock_lif(FixedNeuron(vth, zero, zero, Reset.SUBTRACT, drop=one))


def test_lif_reset_counts_its_first_step_as_one() -> None:
    reset = lif.LIFReset(shape=(1,), reset_interval=5, reset_offset=quirks.reset_offset(0), du=4095, vth=99)
    model, _ = neuron_step(reset, [1], steps=5)
    assert model.v.item() == 5 * 64
    model, _ = neuron_step(reset, [1], steps=6)
    assert model.v.item() == 64


def test_a_bias_of_17_bits_wraps_without_a_word() -> None:
    model, _ = neuron_step(lif.LIF(shape=(1,), bias_mant=40_000, du=4095), [0])
    assert model.v.item() == 40_000 - 65_536


def test_biases_beyond_13_bits_are_refused() -> None:
    assert quirks.checked_bias(np.array([-4096, 4095]), "l").tolist() == [-4096, 4095]
    for mantissa in (-4097, 4096):
        with pytest.raises(NmcError, match=rf"NMC-Q01 l: bias mantissa {abs(mantissa)}, allowed"):
            quirks.checked_bias(np.array([0, mantissa]), "l")


def test_lava_checks_no_width_of_thresholds() -> None:
    """So that a threshold out of v's reach can stand for none; the largest legal one is within it."""
    for vth, fires in ((quirks.NEVER - 1, True), (quirks.NEVER, False)):
        _, spikes = neuron_step(lif.LIF(shape=(1,), vth=vth, du=4095), [0], v=spec.V_LIMIT)
        assert bool(spikes.item()) is fires


def test_u_leaves_24_bits_when_one_fold_is_not_enough() -> None:
    model, _ = neuron_step(lif.LIF(shape=(2,), du=4095), [262_144, 300_000])
    assert model.u.tolist() == [0, 2_422_784]


# --- delays -----------------------------------------------------------------------------------------


def test_a_delay_of_64_fails_at_the_first_step_only() -> None:
    process = DelayDense(weights=np.array([[2]]), delays=quirks.MAX_DELAY + 1)
    with pytest.raises(ValueError, match="between 0 and 63"):
        synapse_output(process, [1])


def test_delays_beyond_the_field_are_refused() -> None:
    assert quirks.checked_delay(63, "s") == 63
    with pytest.raises(NmcError, match="NMC-T01 s: delay of 64 steps"):
        quirks.checked_delay(64, "s")


# --- the runtime ------------------------------------------------------------------------------------


def test_lava_insists_on_the_start_method() -> None:
    """Importing Lava sets fork, and fails where something is set; the engine says what to do instead."""
    program = (
        f"import sys; sys.path.insert(0, {str(Path(tinynet.__file__).parent)!r})\n"
        "import multiprocessing, tinynet\n"
        "from nmc.backends.loihi.inprocess import InProcessLavaEngine\n"
        "multiprocessing.set_start_method('spawn')\n"
        "InProcessLavaEngine().run(tinynet.network(), tinynet.X, tinynet.STEPS)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (
        "NMC-E01 lava-inprocess: Lava refuses to be imported here: context has already been set"
        in done.stderr
    )
