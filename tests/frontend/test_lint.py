from __future__ import annotations

from importlib import resources
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from nmc.errors import NmcError
from nmc.frontend import opgraph as og
from nmc.frontend.lint import check_file, lint

DIGITS = Path(str(resources.files("nmc") / "data" / "digits_sew.nir"))


def small(**nodes: og.Op) -> og.OpGraph:
    chain = {"input": og.Input((3,)), **nodes, "output": og.Output()}
    names = list(chain)
    return og.OpGraph(chain, tuple(pairwise(names)))


FC = og.Linear(np.eye(3))


def test_the_packaged_network_has_no_finding():
    assert check_file(DIGITS) == []


@pytest.mark.parametrize(
    ("nodes", "severity", "code", "who"),
    [
        ({"fc": og.Linear(np.zeros((3, 3))), "s": og.Neuron(1.0)}, "warning", "NMC-F04", "fc"),
        ({"fc": FC, "s": og.Neuron(1.0, keep_v=1 - 1e-6)}, "warning", "NMC-G07", "s"),
        ({"fc": FC, "s": og.Neuron(1.0, gain=1e-4)}, "warning", "NMC-G07", "s"),
        ({"fc": FC, "s": og.Neuron(1.0, keep_v=0.5, keep_u=1.0)}, "warning", "NMC-Q03", "s"),
        ({"fc": FC, "s": og.Neuron(1.0, multi_spike=True)}, "error", "NMC-Q03", "s"),
        ({"fc": FC, "relu": og.ReLU()}, "error", "NMC-G05", "relu"),
        ({"fc": FC, "li": og.Neuron(None), "s": og.Neuron(1.0)}, "error", "NMC-G05", "li"),
        ({"fc": FC, "s": og.Neuron(1.0)}, None, "", ""),
    ],
)
def test_findings(nodes, severity, code, who):
    findings = lint(small(**nodes))
    assert [(f.severity, f.code, f.who) for f in findings] == (
        [] if severity is None else [(severity, code, who)]
    )


def test_one_outlier_takes_the_resolution_of_a_layer():
    weight = np.full((200, 3), 0.1)
    weight[0, 0] = 1e6
    (finding,) = lint(small(fc=og.Linear(weight), s=og.Neuron(1.0)))
    assert (finding.severity, finding.code) == ("warning", "NMC-Q02")
    assert "1e+06" in finding.problem


def test_several_refusals_are_all_listed():
    nodes = {
        "relu": og.ReLU(),
        "fc": FC,
        "a": og.Neuron(1.0, multi_spike=True),
        "b": og.Neuron(1.0, keep_v=2.0),
    }
    assert [f.who for f in lint(small(**nodes))] == ["relu", "a", "b"]


def test_options_are_not_findings():
    with pytest.raises(NmcError, match="NMC-U03"):
        check_file(DIGITS, profile="spiky")
