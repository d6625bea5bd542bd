"""The checkout itself: what an import pulls in, what ships, and that the documents name real commands."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "nmc").rglob("*.py"))


def test_import_is_light() -> None:
    """torch, Lava and the SNN frameworks come in only when something that needs them is called."""
    code = "import sys, nmc; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    heavy = {"torch", "lava", "scipy", "sklearn", "matplotlib", "dask", "spikingjelly", "snntorch", "norse"}
    assert heavy.isdisjoint(done.stdout.split())


@pytest.mark.parametrize(
    ("name", "samples"),
    [("digits_test.npz", 360), ("digits_calibration.npz", 128)],
    ids=["test", "calibration"],
)
def test_demo_images_ship(name: str, samples: int) -> None:
    with (files("nmc") / "data" / name).open("rb") as stream, np.load(stream, allow_pickle=False) as data:
        x, y = data["x"], data["y"]
    assert x.shape == (samples, 1, 8, 8)
    assert x.dtype == np.float32
    assert y.shape == (samples,)
    assert set(y.tolist()) == set(range(10))
    # Sixteenths of 0..1, so that nothing is lost when a chip reads them as integers.
    assert np.array_equal(x * 16, np.clip(np.rint(x * 16), 0, 16))


def test_calibration_images_are_not_test_images() -> None:
    rows = [
        {image.tobytes() for image in np.load(ROOT / "nmc" / "data" / name)["x"]}
        for name in ("digits_test.npz", "digits_calibration.npz")
    ]
    assert not rows[0] & rows[1]


def test_demo_data_name_source_and_licence() -> None:
    text = (files("nmc") / "data" / "ATTRIBUTION.md").read_text(encoding="utf-8")
    for needed in (
        "Alpaydin",
        "UCI",
        "CC BY 4.0",
        "digits_sew.nir",
        "digits_test.npz",
        "digits_calibration.npz",
    ):
        assert needed in text


def test_make_targets_in_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for name in ("README.md", "CONTRIBUTING.md"):
        # Only where "make" starts a line or a code span: prose may say "make sure".
        named = set(
            re.findall(r"(?:^|`)make ([a-z]+)", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
        )
        assert named, name
        assert named <= targets, name
    assert {"demo", "test"} <= targets


def test_files_in_the_readme_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:nmc|examples|docs|tests|hw_tests|benchmarks)/[\w./*-]+)`", text))
    assert named
    assert [path for path in sorted(named) if not list(ROOT.glob(path.rstrip("/")))] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_loader_that_runs_code(path: Path) -> None:
    """Files come from strangers: nothing in nmc may unpickle, evaluate or unpack them unguarded."""
    text = path.read_text(encoding="utf-8")
    for pattern in (
        r"allow_pickle\s*=\s*True",
        r"\bimport pickle\b|\bfrom pickle\b|\bpickle\.loads?\(",
        r"(?<![\w.])(?:eval|exec)\(",
        r"yaml\.(?:load|unsafe_load)\(",
        r"\.extract(?:all)?\(",
        r"torch\.load\((?![^)]*weights_only=True)",
    ):
        assert not re.search(pattern, text), pattern
