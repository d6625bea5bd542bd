"""What the linter says about NIR files whose exporter lost something, or whose numbers disagree."""

from __future__ import annotations

import nir
import numpy as np
import pytest

from nmc.errors import NmcError
from nmc.frontend.lint import check_file
from nmc.frontend.nir_read import load_nir

DT = 1e-4


def affine(outputs=3, inputs=3):
    return nir.Affine(np.eye(outputs, inputs) / 2, np.zeros(outputs))


def leaky(size=3, tau=5e-4, r=None):
    return nir.LIF(
        np.full(size, tau), np.full(size, tau / DT if r is None else r), np.zeros(size), np.ones(size)
    )


def fire(size=3, r=1 / DT):
    return nir.IF(np.full(size, r), np.ones(size))


@pytest.fixture
def graph(tmp_path):
    """Writes nodes between an Input and an Output of three neurons, joined as ``"a>b b>c"`` says."""

    def make(pairs, shape=(3,), out=(3,), **nodes):
        ends = {
            "input": nir.Input({"input": np.array(shape)}),
            "output": nir.Output({"output": np.array(out)}),
        }
        edges = [tuple(pair.split(">")) for pair in pairs.split()]
        nir.write(tmp_path / "x.nir", nir.NIRGraph({**ends, **nodes}, edges, type_check=False))
        return tmp_path / "x.nir"

    return make


def found(path, profile=None, dt=None):
    return [(f.severity, f.code, f.who) for f in check_file(path, profile, dt)]


def test_a_sound_file_has_no_finding(graph):
    path = graph("input>a a>n n>b b>m m>output", a=affine(), n=leaky(), b=affine(), m=leaky())
    assert found(path, "snntorch-zero", DT) == []
    assert (
        found(
            graph(
                "input>a a>n n>b b>li li>output", a=affine(), n=leaky(), b=affine(), li=nir.I(np.ones(3) / DT)
            ),
            "nir",
            DT,
        )
        == []
    )


@pytest.mark.parametrize("profile", ["snntorch", "snntorch-zero", "norse"])
def test_what_stood_behind_a_sum_is_missed(profile, graph):
    """As snnTorch and Norse cut s1(c1(a) + a): the file ends in c1."""
    cell = leaky(r=1.0) if profile == "norse" else leaky()
    path = graph("input>a a>n n>c1 c1>output", a=affine(), n=cell, c1=affine())
    assert ("error", "NMC-G07", "c1") in found(path, profile, DT)
    with pytest.raises(
        NmcError, match=rf"NMC-G07 c1: .*{profile}'s exporter loses.*'\+'; export the module with nmc"
    ):
        load_nir(path, profile, DT)


@pytest.mark.parametrize(("profile", "dt"), [("nir", DT), (None, None)])
def test_an_end_without_neuron_is_a_warning_elsewhere(profile, dt, graph):
    path = graph(
        "input>a a>n n>c1 c1>flat flat>output",
        a=affine(),
        n=leaky(),
        c1=affine(),
        flat=nir.Flatten({"input": np.array([3])}, 0, -1),
    )
    assert ("warning", "NMC-G07", "c1") in found(path, profile, dt)
    if profile:
        assert load_nir(path, profile, dt).shapes["output"] == (3,)


def test_a_network_without_neurons_may_end_anywhere(graph):
    assert found(graph("input>a a>output", a=affine())) == []


def test_an_output_of_a_layer_and_a_neuron(graph):
    """As Sinabs cuts s1(c1(a) + a): both c1 and the last neuron are outputs, s1 is fed by nothing."""
    pairs = "input>a a>n n>c1 c1>output s1>b b>m m>output"
    path = graph(pairs, a=affine(), n=leaky(), c1=affine(), s1=leaky(), b=affine(), m=leaky())
    errors = [one for one in check_file(path) if one.severity == "error"]
    assert [(one.code, one.who) for one in errors] == [("NMC-G02", "s1"), ("NMC-G05", "output")]
    assert all("'+'" in one.remedy for one in errors)
    assert "c1" in errors[1].problem


def test_a_sum_of_neurons_is_an_output(graph):
    path = graph("input>a a>n n>b b>m m>output n>output", a=affine(), n=leaky(), b=affine(), m=leaky())
    assert found(path, "snntorch-zero", DT) == []


def test_only_real_inputs_are_counted(graph):
    path = graph(
        "input>a a>n n>output input_s1>s1 s1>output",
        a=affine(),
        n=leaky(),
        s1=leaky(),
        input_s1=nir.Input({"input": np.array([3])}),
    )
    assert found(path) == [("error", "NMC-G02", "s1")]


def test_every_neuron_that_contradicts_is_named(graph):
    """tau below dt in one, r = 1 in another, a leak potential in a third."""
    wrong = leaky()
    wrong.v_leak = np.full(3, 0.5)
    path = graph(
        "input>a a>n n>b b>m m>c c>o o>output",
        a=affine(),
        n=leaky(tau=5e-5),
        b=affine(),
        m=leaky(r=1.0),
        c=affine(),
        o=wrong,
    )
    errors = {(one.code, one.who) for one in check_file(path, "snntorch", DT) if one.severity == "error"}
    assert errors == {("NMC-G07", "n"), ("NMC-G07", "m"), ("NMC-G07", "o")}


def test_r_that_differs_from_layer_to_layer(graph):
    path = graph("input>a a>n n>b b>m m>output", a=affine(), n=fire(r=1.0), b=affine(), m=fire())
    (warning,) = [one for one in check_file(path) if one.severity == "warning"]
    assert (warning.code, warning.who) == ("NMC-G07", "n")
    assert "r = 1, m has r = 10000" in warning.problem


def test_norses_tau_is_explained_before_a_profile_is_given(graph):
    path = graph(
        "input>a a>n n>b b>m m>output", a=affine(), n=leaky(tau=1e-5, r=1.0), b=affine(), m=leaky(r=1.0)
    )
    (warning,) = [one for one in check_file(path) if one.severity == "warning"]
    assert warning.who == "n"
    assert "1e-05 s" in warning.problem
    assert "to_nir(..., dt=1.0)" in warning.remedy


@pytest.mark.parametrize(("shape", "out"), [((1, 3), (3,)), ((1, 1, 3), (1, 1, 3)), ((3,), (1, 3))])
def test_a_batch_axis_of_the_exporter_is_left_out(shape, out, graph):
    path = graph("input>a a>n n>output", shape, out, a=affine(), n=leaky())
    with pytest.raises(ValueError, match="mismatch"):
        nir.read(path)
    loaded = load_nir(path, "nir", DT)
    assert (loaded.shapes["input"], loaded.shapes["output"]) == ((3,), (3,))


def test_axes_that_are_no_batch_stay(graph):
    path = graph("input>a a>n n>output", (2, 3), (3,), a=affine(), n=leaky())
    assert ("error", "NMC-G03", "a") in found(path, "nir", DT)
    conv = nir.Conv2d((4, 4), np.ones((1, 1, 3, 3)), 1, 1, 1, 1, np.zeros(1))
    n = nir.IF(np.full((1, 4, 4), 1 / DT), np.ones((1, 4, 4)))
    path = graph("input>a a>n n>output", (1, 4, 4), (1, 4, 4), a=conv, n=n)
    assert load_nir(path, "nir", DT).shapes["n"] == (1, 4, 4)
