"""The diagnosis names every gap with a remedy, and fails only for what the main job needs."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys

import pytest

from nmc import doctor
from nmc.cli import main


def test_everything_required_is_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "nmc.doctor/1"
    checks = {one["what"]: one for one in document["checks"]}
    assert checks["numpy"]["ok"]
    assert checks["engine reference"]["ok"]
    assert all(one["remedy"] for one in document["checks"] if not one["ok"])


def test_missing_packages_come_with_their_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    checks = {one.what: one for one in doctor.diagnose()}
    assert "pip install 'torch" in checks["torch"].remedy
    assert not checks["torch"].required
    assert checks["numpy"].required
    assert main(["doctor"]) == 5
    assert "pip install numpy" in capsys.readouterr().out


def test_lava_on_another_python_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: None)
    monkeypatch.setattr(doctor.sys, "version_info", (3, 13, 1))
    monkeypatch.setattr(doctor.platform, "python_version", lambda: "3.13.1")
    check = doctor._package("lava-nc", "lava")
    assert "3.10" in check.remedy
    assert "3.13.1" in check.remedy


def test_engines_that_cannot_run_keep_their_own_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    from nmc.backends.loihi import run
    from nmc.errors import NmcError

    monkeypatch.setattr(run, "unavailable", lambda: NmcError("NMC-E01", "lava", "is missing", "install it"))
    for name in ("lava", "lava-inprocess"):
        check = doctor._engine(name)
        assert (check.ok, check.found, check.remedy, check.required) == (
            False,
            "is missing",
            "install it",
            False,
        )


def test_the_diagnosis_does_not_load_lava() -> None:
    code = "import sys; from nmc.doctor import diagnose; diagnose(); sys.exit('lava.magma' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd="/")
