"""Every framework's single neuron, written out by hand, against what its profile makes of its file.

The formulas and the numbers in the files are those that each framework and its NIR exporter use; the
reference below is scalar Python and shares no code with nmc.
"""

from __future__ import annotations

import math

import nir
import numpy as np
import pytest

from nmc.errors import NmcError
from nmc.frontend.float_engine import run
from nmc.frontend.nir_read import load_nir
from nmc.frontend.profiles import PROFILES

T = 200
X = np.random.default_rng(3).normal(0.2, 0.5, (T, 3))


def f32(value: float) -> np.ndarray:
    """A full-shape float32 parameter, as exporters store it."""
    return np.full(3, value, np.float32)


def snntorch_leaky(x, beta=0.9, threshold=1.0, zero=False):
    """mem = beta mem + x, fires at >, reset one step later by subtraction or (zero) before the decay."""
    mem, out = 0.0, []
    for value in x:
        reset = mem > threshold
        if zero and reset:
            mem = 0.0
        mem = beta * mem + value - (threshold if reset and not zero else 0.0)
        out.append(float(mem > threshold))
    return out


def snntorch_synaptic(x, alpha=0.5, beta=0.8, threshold=1.0, zero=False):
    """syn = alpha syn + x; mem = beta mem + syn; zero: the whole next update of mem is lost."""
    syn = mem = 0.0
    out = []
    for value in x:
        reset = mem > threshold
        syn = alpha * syn + value
        mem = beta * mem + syn
        if reset:
            mem = 0.0 if zero else mem - threshold
        out.append(float(mem > threshold))
    return out


def norse_lif_box(x, tau_inv=100.0, dt=1e-3, v_leak=0.05, threshold=0.2, v_reset=-0.1):
    v, out = v_leak, []
    for value in x:
        v = v + dt * tau_inv * (v_leak - v + value)
        out.append(float(v > threshold))
        if out[-1]:
            v = v_reset
    return out


def norse_lif(x, tau_mem_inv=100.0, tau_syn_inv=200.0, dt=1e-3, threshold=0.3):
    """The input jumps into the current before the membrane reads it; the current decays after."""
    v = i = 0.0
    out = []
    for value in x:
        i = i + value
        v = v + dt * tau_mem_inv * (i - v)
        i = i - dt * tau_syn_inv * i
        out.append(float(v > threshold))
        if out[-1]:
            v = 0.0
    return out


def norse_iaf(x, threshold=1.0):
    v, out = 0.0, []
    for value in x:
        v += value
        out.append(float(v > threshold))
        v = 0.0 if out[-1] else v
    return out


def sinabs_iaf(x, threshold=1.0):
    v, out = 0.0, []
    for value in x:
        v += value
        out.append(float(max(math.floor(v / threshold), 0)))
        v -= out[-1] * threshold
    return out


def sinabs_lif(x, tau=20.0, threshold=0.1):
    v, a, out = 0.0, math.exp(-1 / tau), []
    for value in x:
        v = a * v + (1 - a) * value
        out.append(float(max(math.floor(v / threshold), 0)))
        v -= out[-1] * threshold
    return out


def sj_if(x, threshold=1.0, v_reset=-0.25):
    v, out = v_reset, []
    for value in x:
        v += value
        out.append(float(v >= threshold))
        v = v_reset if out[-1] else v
    return out


def sj_lif(x, tau=3.0, threshold=0.3, v_reset=0.1, decay_input=True):
    v, out = v_reset, []
    for value in x:
        v = v + (value - (v - v_reset)) / tau if decay_input else v - (v - v_reset) / tau + value
        out.append(float(v >= threshold))
        v = v_reset if out[-1] else v
    return out


def sj_cubalif(x, c_decay=0.5, v_decay=0.75, threshold=1.0):
    c = v = 0.0
    out = []
    for value in x:
        c = c_decay * c + value
        v = v_decay * v + c
        out.append(float(v >= threshold))
        v = 0.0 if out[-1] else v
    return out


def euler_lif(x, tau=2.5e-3, dt=1e-4, r=4.0, v_leak=0.1, threshold=0.5, v_reset=0.05):
    """NIR's own equation, forward Euler, as in the NIR paper's reference implementations."""
    v, out = 0.0, []
    for value in x:
        v = v + dt / tau * (v_leak - v + r * value)
        out.append(float(v > threshold))
        v = v_reset if out[-1] else v
    return out


def leaky(beta: float, dt: float = 1e-4) -> nir.LIF:
    tau = dt / (1 - beta)
    return nir.LIF(tau=f32(tau), r=f32(tau / dt), v_leak=f32(0), v_threshold=f32(1))


def synaptic(alpha: float, beta: float, dt: float = 1e-4) -> nir.CubaLIF:
    syn, mem = dt / (1 - alpha), dt / (1 - beta)
    return nir.CubaLIF(
        tau_syn=f32(syn),
        tau_mem=f32(mem),
        r=f32(mem / dt),
        v_leak=f32(0),
        v_threshold=f32(1),
        w_in=f32(syn / dt),
    )


CASES = {
    "snntorch Leaky": ("snntorch", None, leaky(0.9), snntorch_leaky),
    "snntorch Leaky zero": ("snntorch-zero", None, leaky(0.9), lambda x: snntorch_leaky(x, zero=True)),
    "snntorch Synaptic": ("snntorch", None, synaptic(0.5, 0.8), snntorch_synaptic),
    "snntorch Synaptic zero": (
        "snntorch-zero",
        None,
        synaptic(0.5, 0.8),
        lambda x: snntorch_synaptic(x, zero=True),
    ),
    "norse LIFBox": (
        "norse",
        1e-3,
        nir.LIF(tau=f32(1e-2), r=f32(1), v_leak=f32(0.05), v_threshold=f32(0.2), v_reset=f32(-0.1)),
        norse_lif_box,
    ),
    "norse LIF": (
        "norse",
        1e-3,
        nir.CubaLIF(
            tau_syn=f32(5e-3), tau_mem=f32(1e-2), r=f32(1), v_leak=f32(0), v_threshold=f32(0.3), w_in=f32(1)
        ),
        norse_lif,
    ),
    "norse IAF": ("norse", None, nir.IF(r=f32(1), v_threshold=f32(1)), norse_iaf),
    "sinabs IAF": ("sinabs", None, nir.IF(r=f32(1), v_threshold=f32(1)), sinabs_iaf),
    "sinabs LIF": (
        "sinabs",
        None,
        nir.LIF(tau=f32(20), r=f32(1), v_leak=f32(0), v_threshold=f32(0.1)),
        sinabs_lif,
    ),
    "spikingjelly IF": (
        "spikingjelly",
        None,
        nir.IF(r=f32(1e4), v_threshold=f32(1), v_reset=f32(-0.25)),
        sj_if,
    ),
    "spikingjelly LIF": (
        "spikingjelly",
        1e-4,
        nir.LIF(tau=f32(3e-4), r=f32(1), v_leak=f32(0.1), v_threshold=f32(0.3), v_reset=f32(0.1)),
        sj_lif,
    ),
    "spikingjelly LIF, input not decayed": (
        "spikingjelly",
        None,
        nir.LIF(tau=f32(3e-4), r=f32(3), v_leak=f32(0), v_threshold=f32(1), v_reset=f32(0)),
        lambda x: sj_lif(x, threshold=1.0, v_reset=0.0, decay_input=False),
    ),
    "spikingjelly CUBALIF": ("spikingjelly", None, synaptic(0.5, 0.75), sj_cubalif),
    "nir": (
        "nir",
        1e-4,
        nir.LIF(tau=f32(2.5e-3), r=f32(4), v_leak=f32(0.1), v_threshold=f32(0.5), v_reset=f32(0.05)),
        euler_lif,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_neuron_does_what_its_framework_does(case, one_neuron):
    profile, dt, node, formula = CASES[case]
    graph = load_nir(one_neuron(node), profile, dt)
    got = run(graph, X[None], T).values["n"][0]
    expected = np.array([formula(X[:, neuron]) for neuron in range(3)]).T
    np.testing.assert_array_equal(got, expected)
    assert expected.sum() > 20
    assert profile in graph.profile


@pytest.mark.parametrize("case", [name for name in CASES if name != "nir"])
def test_another_profile_gives_other_spikes_or_is_refused(case, one_neuron):
    profile, dt, node, _ = CASES[case]
    path = one_neuron(node)
    right = run(load_nir(path, profile, dt), X[None], T).values["n"]
    silent = []
    for other in PROFILES:
        try:
            graph = load_nir(path, other, dt)
        except NmcError as error:
            refused = error.code in ("NMC-G06", "NMC-G07")
        else:
            refused = not np.array_equal(run(graph, X[None], T).values["n"], right)
        if other != profile and not refused:
            silent.append(other)
    # Conventions that differ only in > and >=, or in v before the first step, these data cannot tell apart.
    alike = {
        "snntorch Leaky zero": ["spikingjelly"],
        "norse IAF": ["nir"],
        "spikingjelly LIF, input not decayed": ["snntorch-zero"],
        "norse LIFBox": ["nir"],
        "spikingjelly LIF": ["nir", "norse"],
    }
    assert silent == alike.get(case, [])


@pytest.mark.parametrize(
    ("profile", "dt", "node", "potential"),
    [
        # Sinabs' ExpLeak does not scale its input (norm_input is off), unlike its LIF
        ("sinabs", None, nir.LI(tau=f32(20), r=f32(1), v_leak=f32(0)), 1 + math.exp(-1 / 20)),
        ("norse", 1e-3, nir.LI(tau=f32(1e-2), r=f32(1), v_leak=f32(0)), 0.1 + 0.9 * 0.1),
        ("snntorch", None, nir.LI(tau=f32(1e-3), r=f32(10), v_leak=f32(0)), 1 + 0.9),
        ("nir", 1e-3, nir.LI(tau=f32(1e-2), r=f32(5), v_leak=f32(1)), 0.6 + 0.9 * 0.6),
        ("nir", 1e-3, nir.I(r=f32(500)), 1.0),
    ],
)
def test_readouts_that_never_fire(profile, dt, node, potential, one_neuron):
    graph = load_nir(one_neuron(node), profile, dt)
    np.testing.assert_allclose(run(graph, np.ones((1, 3)), 2).output[0], [potential] * 3, rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "profile", "dt", "fires"),
    [
        ("IF", "spikingjelly", None, [0, 1, 0, 1]),  # a tie fires
        ("IF", "nir", 1e-4, [0, 0, 1, 0]),  # a tie does not
    ],
)
def test_a_tie_with_the_threshold(kind, profile, dt, fires, one_neuron):
    path = one_neuron(nir.IF(r=f32(1e4), v_threshold=f32(1)))
    x = np.full((1, 4, 3), 0.5)
    np.testing.assert_array_equal(run(load_nir(path, profile, dt), x, 4).values["n"][0, :, 0], fires)


def test_float32_noise_in_tau_does_not_move_a_tie(one_neuron):
    """0.0002 stored as float32 is 0.00019999999494757503; SpikingJelly's tau was 2."""
    node = nir.LIF(tau=f32(2e-4), r=f32(1), v_leak=f32(0), v_threshold=f32(0.5), v_reset=f32(0))
    graph = load_nir(one_neuron(node), "spikingjelly", 1e-4)
    neuron = graph.nodes["n"]
    assert (neuron.keep_v == 0.5).all()
    assert (neuron.gain == 0.5).all()
    assert run(graph, np.ones((1, 3)), 1).output.all()


# --- detection --------------------------------------------------------------------------------------


def refusal(path, profile=None, dt=None) -> NmcError:
    with pytest.raises(NmcError) as caught:
        load_nir(path, profile, dt)
    return caught.value


def test_r_of_1_over_dt_everywhere_is_spikingjelly(one_neuron):
    graph = load_nir(one_neuron(nir.IF(r=f32(1e4), v_threshold=f32(1))))
    assert graph.profile.startswith("spikingjelly (dt = 0.0001 s, detected)")
    assert ">=" in graph.profile


@pytest.mark.parametrize(
    ("node", "choices"),
    [
        (nir.IF(r=f32(1), v_threshold=f32(1)), "nir, norse, sinabs"),
        (leaky(0.9), "nir, snntorch, snntorch-zero, spikingjelly"),
        (nir.LIF(tau=f32(1e-2), r=f32(1), v_leak=f32(0), v_threshold=f32(1)), "nir, norse, spikingjelly"),
        (
            nir.LIF(tau=f32(20), r=f32(1), v_leak=f32(0), v_threshold=f32(1)),
            "nir, norse, sinabs, spikingjelly",
        ),
    ],
)
def test_where_the_file_does_not_tell_the_choices_are_named(node, choices, one_neuron):
    error = refusal(one_neuron(node))
    assert error.code == "NMC-G06"
    assert error.remedy == f"give --profile; its numbers fit {choices}"
    assert error.who == "model.nir"


def test_metadata_tell(one_neuron):
    metadata = {"nmc": {"profile": "sinabs", "steps": 6}}
    graph = load_nir(one_neuron(nir.IF(r=f32(1), v_threshold=f32(1)), metadata))
    assert graph.profile.startswith("sinabs (dt = one step, from the file's metadata)")
    assert graph.steps == 6
    assert refusal(one_neuron(nir.IF(r=f32(1), v_threshold=f32(1)), metadata), "norse").code == "NMC-G07"


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        ({"profile": "brian"}, "NMC-G06"),
        ({"profile": 3}, "NMC-G06"),
        ({"profile": "sinabs", "steps": 0}, "NMC-F04"),
        ({"profile": "sinabs", "steps": 1.5}, "NMC-F04"),
        ({"profile": "sinabs", "dt": 1e-3}, "NMC-G07"),
    ],
)
def test_broken_metadata_are_refused(metadata, code, one_neuron):
    assert refusal(one_neuron(nir.IF(r=f32(1), v_threshold=f32(1)), {"nmc": metadata})).code == code


@pytest.mark.parametrize(
    ("profile", "hint"),
    [("norse", "default is 0.001"), ("spikingjelly", "default is 0.0001"), ("nir", "--dt")],
)
def test_a_time_step_that_the_file_lacks_is_asked_for(profile, hint, one_neuron):
    node = nir.LIF(tau=f32(1e-2), r=f32(1), v_leak=f32(0), v_threshold=f32(1))
    error = refusal(one_neuron(node), profile)
    assert error.code == "NMC-G06"
    assert hint in error.remedy


def test_a_file_without_such_neurons_needs_no_profile(one_neuron):
    graph = load_nir(one_neuron(nir.Threshold(f32(0.5))))
    np.testing.assert_array_equal(run(graph, np.array([[0.5, 0.6, 0]]), 2).output, [[0, 2, 0]])


@pytest.mark.parametrize(
    ("node", "profile", "dt", "problem"),
    [
        # Norse's default export: tau = dt / tau_mem_inv, a thousand times too small
        (nir.LIF(tau=f32(1e-5), r=f32(1), v_leak=f32(0), v_threshold=f32(1)), "norse", 1e-3, "tau = 1e-05"),
        (nir.LIF(tau=f32(1e-2), r=f32(1), v_leak=f32(0), v_threshold=f32(1)), "sinabs", None, "tau = 0.01"),
        (nir.LIF(tau=f32(1e-3), r=f32(1), v_leak=f32(0), v_threshold=f32(1)), "nir", 1e-3, "tau = 0.001"),
        (nir.IF(r=f32(1), v_threshold=f32(1)), "spikingjelly", None, "r = 1 instead of 1/dt"),
        (nir.IF(r=f32(1), v_threshold=f32(1)), "spikingjelly", 1e-4, "r = 1 instead of 1/dt = 10000"),
        (nir.IF(r=f32(1e4), v_threshold=f32(1)), "sinabs", None, "r = 10000 instead of 1"),
        (nir.IF(r=f32(1e4), v_threshold=f32(1)), "spikingjelly", 1.0, "r = 10000 instead of 1/dt = 1"),
        (nir.IF(r=f32(1e4), v_threshold=f32(1)), "nir", 1.0, "r * dt = 10000"),
        (nir.IF(r=f32(1), v_threshold=f32(1)), "nir", 1e-4, "r * dt = 0.0001"),
        (nir.IF(r=f32(1), v_threshold=f32(1)), "sinabs", 1e-4, "--dt says dt = 0.0001"),
        (leaky(0.9), "snntorch", 1e-3, "r = 10 instead of tau/dt = 1"),
        (leaky(0.95), "snntorch", 2e-4, "r = 20 instead of tau/dt = 10"),
        (leaky(0.9), "norse", 1e-4, "r = 10 instead of 1"),
        (
            nir.IF(r=f32(1), v_threshold=f32(1), v_reset=f32(0.25)),
            "sinabs",
            None,
            "v_reset = 0.25 instead of 0",
        ),
        (
            nir.LIF(tau=f32(2e-4), r=f32(1), v_leak=f32(0.5), v_threshold=f32(1), v_reset=f32(0)),
            "spikingjelly",
            1e-4,
            "v_leak = 0.5 differs from v_reset = 0",
        ),
    ],
)
def test_a_profile_that_the_numbers_contradict_is_refused_with_the_number(
    node, profile, dt, problem, one_neuron
):
    error = refusal(one_neuron(node), profile, dt)
    assert error.code == "NMC-G07"
    assert problem in error.problem


def test_one_neuron_of_many_is_enough(one_neuron):
    r = np.array([1e4, 1e4, 1.0], np.float32)
    error = refusal(one_neuron(nir.IF(r=r, v_threshold=f32(1))), "spikingjelly", 1e-4)
    assert (error.code, error.who) == ("NMC-G07", "n")
    assert "1..10000" in error.problem


def test_norses_own_mistake_is_explained(one_neuron):
    node = nir.LIF(tau=f32(1e-5), r=f32(1), v_leak=f32(0), v_threshold=f32(1))
    assert "dt=1.0" in refusal(one_neuron(node), "norse", 1e-3).remedy


@pytest.mark.parametrize(
    ("profile", "dt", "code"),
    [
        ("snntroch", None, "NMC-U03"),
        ("nir", 0.0, "NMC-U02"),
        ("nir", -1.0, "NMC-U02"),
        ("nir", math.nan, "NMC-U02"),
    ],
)
def test_bad_options(profile, dt, code, one_neuron):
    error = refusal(one_neuron(nir.IF(r=f32(1), v_threshold=f32(1))), profile, dt)
    assert error.code == code
    assert profile != "snntroch" or "snntorch" in error.remedy
