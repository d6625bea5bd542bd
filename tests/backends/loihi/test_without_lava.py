"""What the Lava engines do where Lava is not; runs on every Python."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest
import tinynet

from nmc import extras
from nmc.backends.loihi import run
from nmc.backends.loihi.inprocess import InProcessLavaEngine
from nmc.backends.loihi.lower import lower
from nmc.backends.loihi.run import LavaEngine
from nmc.errors import NmcError


@pytest.mark.parametrize("engine", [LavaEngine(), InProcessLavaEngine()], ids=lambda engine: engine.name)
def test_the_wrong_python_is_said(
    engine: LavaEngine | InProcessLavaEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "LAVA_PYTHON", (3, 0))
    with pytest.raises(NmcError, match=r"NMC-E01 lava: .* needs Python 3.10.*there: pip install") as caught:
        engine.run(tinynet.network(), tinynet.X, tinynet.STEPS)
    assert caught.value.exit_status == 5


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "LAVA_PYTHON", sys.version_info[:2])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NmcError, match=r"NMC-E01 lava: package lava-nc is not installed; pip install"):
        LavaEngine().run(tinynet.network(), tinynet.X, tinynet.STEPS)


def test_the_time_limit_follows_the_work() -> None:
    network = tinynet.network()
    programs = (lower(network, tinynet.X.repeat(n, axis=0), tinynet.STEPS) for n in (1, 1000))
    short, long = (run.time_limit_s(program) for program in programs)
    assert 60 < short < long


def test_importing_the_engines_imports_no_lava() -> None:
    program = (
        "import sys, nmc.backends.loihi.run, nmc.backends.loihi.inprocess, nmc.backends.loihi.lower\n"
        "sys.exit(any(name.split('.')[0] in {'lava', 'scipy', 'torch'} for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
