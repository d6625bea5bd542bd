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


def test_readme_lists_every_command() -> None:
    from typer.main import get_command

    from nmc.cli import app

    rows = re.findall(r"^\| `nmc ([a-z]+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted(get_command(app).commands)  # type: ignore[attr-defined]


def test_python_example_in_the_readme_runs(tmp_path: Path) -> None:
    (block,) = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    code = block.replace('"nmc/data/', f'"{(ROOT / "nmc" / "data").as_posix()}/')
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[1]) >= 0.97
    assert (tmp_path / "digits.nmc").stat().st_size > 0


def executable(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ("3.10", "pyenv/versions/3.10.99/bin/python"),
        ("3.12 3.10", "pyenv/versions/3.10.99/bin/python"),
        ("3.12", "3.12"),
    ],
    ids=["pyenv", "second choice", "left to uv"],
)
def test_python_that_only_pyenv_knows_is_found(tmp_path: Path, wanted: str, chosen: str) -> None:
    executable(tmp_path / "bin" / "uv", '[ "$1" = --version ] || exit 2')
    executable(tmp_path / "pyenv" / "versions" / "3.10.99" / "bin" / "python", "exit 0")
    executable(tmp_path / "pyenv" / "versions" / "3.12.1" / "bin" / "python", "exit 1")
    done = subprocess.run(
        ["sh", "-euc", f'. .ci/env.sh; use_python {wanted}; echo "$UV_PYTHON"'],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "PYENV_ROOT": str(tmp_path / "pyenv")},
    )
    expected = tmp_path / chosen if "/" in chosen else chosen
    assert done.stdout.strip() == str(expected)


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


def test_remedies_name_the_packages_of_the_extras() -> None:
    from nmc import extras

    toml = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli", reason="ships with nmc")
    declared = toml.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    optional = declared["project"]["optional-dependencies"]
    plain = {extra: tuple(one.split(";")[0] for one in packages) for extra, packages in optional.items()}
    assert plain == extras.PACKAGES
    assert extras.install("torch") == "pip install 'torch>=2.3' 'safetensors>=0.4'"
