"""``nmc export`` of models: NIR files and NIR test vectors."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import nir
import nirfiles
import numpy as np
import pytest
from smallmodels import LINEAR_FILE
from tensorfiles import safetensors

import nmc
from nmc import api
from nmc.cli import main
from nmc.frontend.float_engine import run
from nmc.frontend.profiles import PROFILES


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    with np.load(nirfiles.CALIBRATION) as file:
        np.savez(tmp_path / "x.npz", x=file["x"][:5])
    return tmp_path / "x.npz"


def written(arguments: list[Any], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*map(str, arguments), "--format", "json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def refused(arguments: list[Any], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of a refusal."""
    capsys.readouterr()
    assert main([*map(str, arguments)]) in (2, 3)
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


# --- NIR files --------------------------------------------------------------------------------------


def test_an_exported_file_compiles_to_the_same_bundle(
    tmp_path: Path, samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "again.nir"
    document = written(["export", nirfiles.DIGITS, "--to", "nir", "-o", out], capsys)
    assert (document["schema"], document["files"]) == ("nmc.export/1", [str(out)])
    assert isinstance(nir.read(out), nir.NIRGraph)
    for model, name in ((nirfiles.DIGITS, "one"), (out, "two")):
        command = ["compile", model, "--calibration", samples, "-o", tmp_path / f"{name}.nmc"]
        assert main([*map(str, command)]) == 0
    one, two = (nmc.read(tmp_path / f"{name}.nmc") for name in ("one", "two"))
    assert one.build_id == two.build_id


def test_weights_of_a_builder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    (tmp_path / "module.py").write_text(LINEAR_FILE)
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    file = safetensors(tmp_path / "w.safetensors", {"fc.weight": weight, "fc.bias": np.ones(2, np.float32)})
    model, out = f"{tmp_path / 'module.py'}:build", tmp_path / "model.nir"
    written(["export", model, "--weights", file, "--steps", "4", "--to", "nir", "-o", out], capsys)
    graph = nir.read(out)
    (layer,) = (node for node in graph.nodes.values() if isinstance(node, nir.Affine))
    np.testing.assert_array_equal(layer.weight, weight)
    assert api.load(out).steps == 4
    wrong = ["export", nirfiles.DIGITS, "--weights", file, "--to", "nir", "-o", out, "--force"]
    assert "NMC-U02 weights" in refused(wrong, capsys)


def foreign(path: Path) -> Path:
    """A file that does not say whose it is."""
    nodes = {
        "input": nir.Input(input_type={"input": np.array([3])}),
        "fc": nir.Affine(np.eye(3) / 2, np.zeros(3)),
        "lif": nir.LIF(np.full(3, 5e-4), np.full(3, 5.0), np.zeros(3), np.ones(3)),
        "output": nir.Output(output_type={"output": np.array([3])}),
    }
    nir.write(path, nir.NIRGraph(nodes=nodes, edges=[("input", "fc"), ("fc", "lif"), ("lif", "output")]))
    return path


@pytest.mark.parametrize("command", ["compile", "export"])
@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_is_taken(
    tmp_path: Path, profile: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a profile excludes is refused for its numbers, never for its name."""
    out = tmp_path / ("out.nir" if command == "export" else "out.nmc")
    to = ["--to", "nir"] if command == "export" else ["--steps", "4", "--stop-after", "balance"]
    dt = [] if profile == "sinabs" else ["--dt", "1e-4"]
    status = main([command, str(foreign(tmp_path / "x.nir")), *to, "--profile", profile, *dt, "-o", str(out)])
    error = capsys.readouterr().err
    assert "NMC-U03" not in error
    assert (status, "NMC-G07" in error) in ((0, False), (3, True), (4, False))
    if profile in ("nir", "snntorch-zero", "spikingjelly"):
        assert status == 0


def test_the_help_lists_every_profile(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    for command in ("compile", "fit", "sweep", "export"):
        capsys.readouterr()
        main([command, "--help"])
        shown = capsys.readouterr().out
        assert all(f" {name}" in shown for name in PROFILES), command


def test_a_file_without_profile_asks_for_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = foreign(tmp_path / "x.nir")
    line = refused(["export", path, "--to", "nir", "-o", tmp_path / "out.nir"], capsys)
    assert "NMC-G06" in line
    assert "--profile" in line


# --- test vectors -----------------------------------------------------------------------------------


def test_vectors_of_a_model(tmp_path: Path, samples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What nir reads back is what the float network does; every node is one of the exported file."""
    out, file = tmp_path / "vectors.h5", tmp_path / "model.nir"
    document = written(["export", nirfiles.DIGITS, "--to", "nirdata", "-i", samples, "-o", out], capsys)
    written(["export", nirfiles.DIGITS, "--to", "nir", "-o", file], capsys)
    data, graph = nir.read_data(str(out)), api.load(nirfiles.DIGITS)
    assert set(data.nodes) == set(document["nodes"]) <= set(nir.read(file).nodes)
    with np.load(samples) as arrays:
        x = arrays["x"][:3]
    expected = run(graph, x, graph.steps).values
    fired = 0
    for name, node in data.nodes.items():
        ((kind, found),) = node.observables.items()
        assert (found.n_samples, found.n_time_steps, found.dt) == (3, graph.steps, 1e-4)
        np.testing.assert_array_equal(found.data, expected[name].reshape(3, graph.steps, -1))
        fired += int(found.data.sum()) if kind == "spikes" else 0
        assert kind == "input" or found.data.dtype == bool or kind == "v"
    assert fired > 100


def test_vectors_of_a_bundle(tmp_path: Path, samples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = nmc.compile(nirfiles.DIGITS, "loihi2", np.load(samples)["x"])
    bundle.save(tmp_path / "m.nmc")
    out = tmp_path / "vectors.h5"
    written(
        ["export", tmp_path / "m.nmc", "--to", "nirdata", "-i", samples, "--samples", "2", "-o", out], capsys
    )
    data = nir.read_data(str(out))
    trace = nmc.run(bundle, np.load(samples)["x"][:2], "reference", record=("all",))
    names = [population.name for population in bundle.network.compute]
    assert set(data.nodes) == {bundle.network.inputs[0].label, *names}
    for name in names:
        ((kind, found),) = data.nodes[name].observables.items()
        recorded = trace.spikes if kind == "spikes" else trace.v
        np.testing.assert_array_equal(found.data, recorded[name].reshape(2, trace.steps, -1))
    written(["export", tmp_path / "m.nmc", "--to", "nirdata", "-o", out, "--force"], capsys)
    golden = bundle.golden["x"][:3].reshape(3, 1, -1)
    shown = nir.read_data(str(out)).nodes[bundle.network.inputs[0].label].observables["input"].data
    np.testing.assert_array_equal(shown, np.repeat(golden, trace.steps, axis=1))


def test_vectors_are_whole_or_not_there(
    tmp_path: Path, samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "vectors.h5"
    command = ["export", nirfiles.DIGITS, "--to", "nirdata", "-i", samples, "-o", out]
    written(command, capsys)
    first = out.read_bytes()
    capsys.readouterr()
    assert main([*map(str, command)]) == 6, "never replaced without --force"
    assert "NMC-W01" in capsys.readouterr().err
    written([*command, "--force"], capsys)
    assert out.read_bytes() == first, "the same bytes again"
    assert [name for name in os.listdir(tmp_path) if "vectors" in name] == ["vectors.h5"]


def test_what_does_not_go_together(tmp_path: Path, samples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    nmc.compile(nirfiles.DIGITS, stop_after="prove-ranges").save(tmp_path / "m.nmc")
    for arguments, expected in (
        ([nirfiles.DIGITS, "--to", "nirdata"], "NMC-U01 nmc export: --input is missing"),
        ([nirfiles.DIGITS, "--to", "nirdata", "-i", samples, "--samples", "0"], "NMC-U02 samples"),
        ([tmp_path / "m.nmc", "--to", "nir"], "is a bundle"),
        ([tmp_path / "m.nmc", "--to", "nirdata", "--profile", "nir"], "is a bundle"),
        ([tmp_path / "m.nmc", "--profile", "nir"], "NMC-U02 profile: given with --to lava"),
        ([tmp_path / "m.nmc", "--to", "net", "--dt", "1"], "NMC-U02 dt: given with --to net"),
        ([tmp_path / "m.nmc", "--to", "nirdata", "--dt", "-1"], "NMC-U02 dt: -1 s"),
    ):
        assert expected in refused(["export", *arguments, "-o", out], capsys)
        assert not out.exists()
