"""``nmc export``: what it writes, what it refuses, what it never replaces."""

from __future__ import annotations

import json
from pathlib import Path

import networkx
import nirfiles
import numpy as np
import pytest

from nmc import api
from nmc.cli import main


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "model.nmc"
    compiled = ["compile", str(nirfiles.DIGITS), "--calibration", str(nirfiles.CALIBRATION)]
    assert main([*compiled, "-o", str(path)]) == 0
    return path


def test_a_script_with_its_arrays(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "for-lava"
    command = ["export", str(bundle), "--samples", "2", "--steps", "3", "-o", str(out)]
    capsys.readouterr()
    assert main([*command, "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "nmc.export/1"
    assert {Path(file) for file in document["files"]} == {path for path in out.rglob("*") if path.is_file()}
    with np.load(out / "expected.npz") as expected:
        assert {expected[name].shape[:2] for name in expected.files} == {(2, 3)}
    assert main(command) == 0, "an earlier export may be replaced"


def test_nothing_else_is_replaced(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "precious").write_text("mine")
    command = ["export", str(bundle), "--samples", "1", "--steps", "1"]
    assert main([*command, "-o", str(tmp_path)]) == 6
    assert main([*command, "-o", str(tmp_path / "precious")]) == 6
    assert main([*command, "--to", "net", "-o", str(tmp_path / "precious")]) == 6
    assert (tmp_path / "precious").read_text() == "mine"
    assert main([*command, "-o", str(tmp_path), "--force"]) == 0
    assert (tmp_path / "precious").read_text() == "mine"
    assert "NMC-W01" in capsys.readouterr().err


def test_a_residual_network_is_no_net_file(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(bundle), "--to", "net", "-o", str(tmp_path / "no.net")]) == 4
    assert "NMC-Q03" in capsys.readouterr().err
    assert not (tmp_path / "no.net").exists()


def test_samples_must_be_positive(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(bundle), "--samples", "0", "-o", str(tmp_path / "out")]) == 2
    assert "NMC-U02 samples" in capsys.readouterr().err


def test_the_core_graph(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = tmp_path / "cores.json", tmp_path / "cores.graphml"
    assert main(["export", str(bundle), "--to", "cores", "-o", str(one)]) == 0
    assert main(["export", str(bundle), "--to", "cores", "-o", str(two)]) == 0
    document, graph = json.loads(one.read_text()), networkx.read_graphml(two)
    assert document["schema"] == "nmc.coregraph/1"
    assert {str(core["core"]) for core in document["cores"]} == set(graph.nodes)
    weights = {(str(a), str(b)): spikes for a, b, spikes in document["edges"]}
    assert weights == {(a, b): data["weight"] for a, b, data in graph.edges(data=True)}
    assert sum(weights.values()) > 0
    assert main(["export", str(bundle), "--to", "cores", "-o", str(tmp_path / "cores.txt")]) == 2
    assert "ends neither in .json nor in .graphml" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("last", "arguments", "said"),
    [
        ("quantize", ["--to", "cores"], "has no mapping, and so no cores"),
        ("balance", ["--to", "net"], "is only compiled to TIMED"),
        ("balance", [], "is only compiled to TIMED"),
    ],
)
def test_bundles_that_are_not_compiled_fully(
    last: str, arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    api.compile(nirfiles.DIGITS, stop_after=last).save(tmp_path / "part.nmc")
    out = tmp_path / "out.json"
    assert main(["export", str(tmp_path / "part.nmc"), *arguments, "-o", str(out)]) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_the_html_report_shows_the_mapping(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    assert main(["report", str(bundle), "--format", "html", "-o", str(out)]) == 0
    page = out.read_text()
    # The core map, the load of the links, and one chart of the layers, which is made of boxes.
    assert page.count("<svg") == page.count("</svg>") == 2
    assert page.count("<figure>") == page.count("</figure>") == 3
    assert page.index("Time on the chip") < page.index("Core map") < page.index("Links: ")
    assert "busiest link" in page
    assert "<script" not in page
    assert main(["report", str(bundle), "--format", "md", "-o", str(tmp_path / "report.md")]) == 0
    assert "<svg" not in (tmp_path / "report.md").read_text()
