"""The sample repository of examples/ci does what its README says, and its pipelines' commands work."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import h5py
import numpy as np
import pytest

import nmc
from nmc.chip import load_chip
from nmc.cli import main

SAMPLE = Path(__file__).parent.parent / "examples" / "ci"
PIPELINES = (".github/workflows/nmc.yml", ".gitlab-ci.yml")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return Path(
        shutil.copytree(SAMPLE, tmp_path / "repository", ignore=shutil.ignore_patterns("__pycache__"))
    )


def run_pytest(folder: Path, *options: str) -> tuple[bool, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.returncode == 0, done.stdout


def test_the_sample_passes_as_it_is(repository: Path) -> None:
    assert run_pytest(repository)[0]


def test_a_changed_weight_fails_with_its_layer_until_it_is_accepted(repository: Path) -> None:
    graph = nmc.load(repository / "model.nir")
    conv = graph.nodes["layer2.0.1.conv"]
    weight = conv.weight.copy()
    # An outlying one, so that rounding cannot hide it.
    weight[0, 0, 0, 0] = 1.5 * np.abs(weight).max()
    nodes = {**graph.nodes, "layer2.0.1.conv": replace(conv, weight=weight)}
    nmc.export(replace(graph, nodes=nodes), repository / "model.nir")
    passed, out = run_pytest(repository, "-k", "same_network")
    assert not passed
    assert re.search(r"layer2\.0\.1\.sn: weights from \S+: \S+ values -> \d+ of them differ", out)
    assert re.search(r"layer2\.0\.1\.sn: sample \d+, step \d+, neuron \(.*\): spike expected \d, got \d", out)
    assert run_pytest(repository, "--nmc-update-golden")[0]
    assert run_pytest(repository, "-k", "same_network")[0]


def test_energy_that_rises_by_six_per_cent_fails_a_gate_of_five(repository: Path) -> None:
    toml = load_chip("loihi1").toml.decode()
    start = toml.index("[[energy]]")
    prices = re.split(r"(?<=J = )([\d.e-]+)", toml[start : toml.index("[[energy]]", start + 1)])
    limits = load_chip("loihi2").toml.decode().partition("[[energy]]")[0]
    test = (repository / "test_network.py").read_text()
    (repository / "test_network.py").write_text(test.replace('"loihi2"', 'str(HERE / "chip.toml")'))
    for rise, passes in ((1.04, True), (1.06, False)):
        # The same network on a chip whose events cost more.
        dearer = [str(float(one) * rise) if index % 2 else one for index, one in enumerate(prices)]
        (repository / "chip.toml").write_text(limits + "".join(dearer))
        passed, out = run_pytest(repository, "-k", "expensive")
        assert passed is passes, out
    assert re.search(r"energy went from .* \(\+6\.00%\), allowed is \+5%; most by layer\S+: ", out)


def test_another_golden_spike_fails_with_its_layer(repository: Path) -> None:
    path = repository / "golden" / "network.nmc"
    accepted = nmc.read(path)
    label = "layer3.0.sn"
    name = next(one.name for one in accepted.network.compute if one.label == label)
    spikes = accepted.golden[f"spikes/{name}"].copy()
    spikes[1, 3, 0, 0, 0] ^= 1
    replace(accepted, golden={**accepted.golden, f"spikes/{name}": spikes}).save(path)
    passed, out = run_pytest(repository, "-k", "same_network")
    assert not passed
    assert f"{label}: sample 1, step 3, neuron (0, 0, 0): spike expected" in out
    assert main(["verify", str(path), "--against", "golden"]) == 1


def test_without_an_accepted_build_or_a_gate_a_test_says_what_to_do(repository: Path) -> None:
    (repository / "nmc.toml").unlink()
    passed, out = run_pytest(repository, "-k", "expensive")
    assert not passed
    assert "no gate: give one to nmc_gate" in out
    assert run_pytest(repository, "-k", "expensive", "--nmc-gate", "energy=+0%")[0]
    shutil.rmtree(repository / "golden")
    passed, out = run_pytest(repository, "-k", "same_network")
    assert not passed
    assert "--nmc-update-golden" in out


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_the_commands_of_a_pipeline_work(
    pipeline: str, repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(repository)
    commands = re.findall(r"^\s*- (?:run: )?(nmc .*)$", Path(pipeline).read_text(), re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        assert main(shlex.split(command.partition(" >> ")[0])[1:]) == 0, command
    for name in ("check.xml", "gates.xml"):
        if Path(name).exists():
            suite = ElementTree.parse(name).getroot()[0]
            assert int(suite.attrib["tests"]) == len(suite) > 0
            assert suite.attrib["failures"] == "0"
    if Path("findings.sarif").exists():
        assert json.loads(Path("findings.sarif").read_text())["version"] == "2.1.0"


def test_findings_as_sarif_and_junit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = SAMPLE / "model.nir", tmp_path / "<script>.nir"
    shutil.copy(good, bad)
    with h5py.File(bad, "r+") as file:
        file["node/nodes/layer2.0.1.conv/weight"][0, 0, 0, 0] = np.nan
    outputs = ["--sarif", str(tmp_path / "f.sarif"), "--junit", str(tmp_path / "f.xml")]
    assert main(["check", str(good), str(bad), *outputs, "--format", "json"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert document["files"] == [str(good), str(bad)]
    found = document["findings"]
    assert {one["file"] for one in found} == {str(bad)}
    (run,) = json.loads((tmp_path / "f.sarif").read_text())["runs"]
    assert [one["ruleId"] for one in run["results"]] == [one["code"] for one in found]
    rules = [one["id"] for one in run["tool"]["driver"]["rules"]]
    assert all(rules[one["ruleIndex"]] == one["ruleId"] for one in run["results"])
    assert "layer2.0.1.conv" in run["results"][0]["message"]["text"]
    suite = ElementTree.parse(tmp_path / "f.xml").getroot()[0]
    assert [case.attrib["name"] for case in suite] == [str(good), str(bad)]
    assert [len(case) for case in suite] == [0, 1]
    assert suite.attrib["failures"] == "1"


def test_refusals_become_annotations_on_github(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    assert main(["check", "100%\nno.nir"]) == 3
    assert "::" not in capsys.readouterr().err
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert main(["run", "100%\nno.nir", "-i", "x.npz"]) == 3
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("::error title=nmc::NMC-F01 100%25")


def test_the_pre_commit_hook_checks_model_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = (SAMPLE.parents[1] / ".pre-commit-hooks.yaml").read_text()
    (hook,) = re.findall(r"^- id: (.+)$", manifest, re.MULTILINE)
    said = dict(re.findall(r"^  (\w+): (.+)$", manifest, re.MULTILINE))
    # What the sample repository asks for is what nmc offers, at the version that it has.
    wanted = (SAMPLE / ".pre-commit-config.yaml").read_text()
    assert re.findall(r"- id: (.+)$", wanted, re.MULTILINE) == [hook]
    assert f"rev: v{nmc.__version__}" in wanted
    takes = [
        name for name in ("a/b.nir", "c.net", "d.nmc", "e.nirx", "f.py") if re.search(said["files"], name)
    ]
    assert takes == ["a/b.nir", "c.net", "d.nmc"]
    # pre-commit calls the entry with the names of all files that are committed.
    program, *arguments = shlex.split(said["entry"])
    assert program == "nmc"
    bad = tmp_path / "bad.nir"
    bad.write_text("no model")
    assert main([*arguments, str(SAMPLE / "model.nir")]) == 0
    assert main([*arguments, str(SAMPLE / "model.nir"), str(bad)]) == 3
    assert "bad.nir" in capsys.readouterr().out
