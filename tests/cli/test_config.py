"""The command line wins over the environment, that over the file, that over defaults; mistakes are named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nirfiles
import pytest

from nmc import api
from nmc.cli import app, main
from nmc.config import KEYS
from nmc.errors import CATALOGUE


def compiled(folder: Path, text: str, *arguments: str) -> int:
    (folder / "nmc.toml").write_text(text)
    command = ["compile", str(nirfiles.DIGITS), "-o", str(folder / "out.nmc")]
    return main([*command, "--config", str(folder / "nmc.toml"), *arguments])


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    text = '[compile]\nchip = "loihi1"\nsteps = 5\nweight-bits = 6\nseed = 3\n'
    assert compiled(tmp_path, text, "--steps", "4") == 0
    bundle = api.read(tmp_path / "out.nmc")
    assert bundle.network.chip == "loihi1"
    assert (bundle.config["steps"], bundle.config["weight_bits"], bundle.config["seed"]) == (4, 6, 3)


def test_the_file_gives_what_the_command_line_would(tmp_path: Path) -> None:
    shutil.copyfile(nirfiles.CALIBRATION, tmp_path / "x.npz")
    text = '[compile]\nchip = "loihi1"\ncalibration = "x.npz"\njoins = "distribute"\n'
    assert compiled(tmp_path, text) == 0
    from_file = (tmp_path / "out.nmc").read_bytes()
    arguments = ["--chip", "loihi1", "--calibration", str(nirfiles.CALIBRATION), "--joins", "distribute"]
    assert compiled(tmp_path, "# nothing\n", *arguments) == 0
    assert (tmp_path / "out.nmc").read_bytes() == from_file


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("[compile", "NMC-F04", "TOML"),
        ("[run]\nsteps = 1\n", "NMC-U01", "run"),
        ("compile = 3\n", "NMC-F04", "compile"),
        ("[compile]\nstep = 1\n", "NMC-U01", "did you mean steps?"),
        ('[compile]\nsteps = "many"\n', "NMC-U02", "--steps"),
        ("[compile]\nsteps = [1]\n", "NMC-F04", "steps"),
        ("[compile]\nsteps = 0\n", "NMC-U02", "T = 0"),
        ('[compile]\njoins = "both"\n', "NMC-U02", "--joins"),
        ('[compile]\nchip = "loihi9"\n', "NMC-C01", "loihi9"),
    ],
)
def test_mistakes_in_the_file_are_named(
    text: str, code: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compiled(tmp_path, text) == CATALOGUE[code].exit_status
    err = capsys.readouterr().err
    assert err.startswith(f"error: {code} ")
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out.nmc").exists()


def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compile", str(nirfiles.DIGITS), "-o", str(tmp_path / "out.nmc")]
    assert main([*command, "--config", str(tmp_path / "nmc.toml")]) == 3
    assert capsys.readouterr().err.startswith("error: NMC-F01 ")


# --- where options come from ------------------------------------------------------------------------


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, tuple[Any, str]]:
    assert main(["config", "show", "--format", "json", *arguments]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "nmc.config/1"
    return {one["option"]: (one["value"], one["origin"]) for one in document["options"]}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: one of a repository, its options two folders above."""
    inside = tmp_path / "project" / "nets" / "small"
    inside.mkdir(parents=True)
    (tmp_path / "project" / ".git").mkdir()
    (tmp_path / "nmc.toml").write_text('[compile]\nchip = "out of the repository"\n')
    monkeypatch.chdir(inside)
    return tmp_path / "project"


def test_option_wins_over_environment_over_file_over_default(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shown(capsys)["steps"] == (None, "default")
    assert shown(capsys)["chip"] == ("loihi2", "default")
    file = project / "nmc.toml"
    file.write_text("[compile]\nsteps = 3\nseed = 4\nweight-bits = 5\n")
    monkeypatch.setenv("NMC_COMPILE_SEED", "6")
    monkeypatch.setenv("NMC_COMPILE_WEIGHT_BITS", "7")
    found = shown(capsys, "--weight-bits", "2")
    assert found["steps"] == (3, f"{file} [compile]")
    assert found["seed"] == (6, "environment NMC_COMPILE_SEED")
    assert found["weight-bits"] == (2, "option")
    assert found["chip"] == ("loihi2", "default")
    # What is shown is what nmc compile does.
    assert main(["compile", str(nirfiles.DIGITS), "-o", "out.nmc", "--weight-bits", "2"]) == 0
    config = api.read("out.nmc").config
    assert (config["steps"], config["seed"], config["weight_bits"]) == (3, 6, 2)


def test_an_option_that_says_the_default_is_an_option(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "nmc.toml").write_text('[compile]\nchip = "loihi1"\n')
    assert shown(capsys, "--chip", "loihi2")["chip"] == ("loihi2", "option")


def test_pyproject_counts_where_it_has_the_table(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = project / "pyproject.toml"
    file.write_text('[project]\nname = "x"\n[tool.nmc.compile]\nchip = "loihi1"\ncalibration = "x.npz"\n')
    found = shown(capsys)
    assert found["chip"] == ("loihi1", f"{file} [compile]")
    assert found["calibration"] == (str(project / "x.npz"), f"{file} [compile]")
    # The nearest file wins, and nmc.toml over its neighbour.
    (project / "nets" / "pyproject.toml").write_text('[tool.other]\nchip = "no"\n')
    assert shown(capsys)["chip"][0] == "loihi1"
    (project / "nmc.toml").write_text('[compile]\nchip = "lava-cpu"\n')
    assert shown(capsys)["chip"][0] == "lava-cpu"
    (project / "nets" / "nmc.toml").write_text("")
    assert shown(capsys)["chip"] == ("loihi2", "default")
    assert shown(capsys, "--config", str(file))["chip"][0] == "loihi1"


def test_outside_of_a_repository_only_the_folder_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "nmc.toml").write_text('[compile]\nchip = "loihi1"\n')
    monkeypatch.chdir(tmp_path)
    assert shown(capsys)["chip"][0] == "loihi1"
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    assert shown(capsys)["chip"][0] == "loihi2"


def test_gates_of_the_project_hold(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for bits in ("8", "4"):
        assert main(["compile", str(nirfiles.DIGITS), "-o", f"{bits}.nmc", "--weight-bits", bits]) == 0
    assert main(["diff", "4.nmc", "8.nmc"]) == 0
    (project / "pyproject.toml").write_text('[tool.nmc.gates]\nmemory = "+1%"\n')
    assert main(["config", "show"]) == 0
    assert "memory=+1%" in capsys.readouterr().out
    assert main(["diff", "4.nmc", "8.nmc"]) == 1
    assert "memory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text", "code", "said"),
    [
        ("pyproject.toml", "[tool]\nnmc = 3\n", "NMC-F04", "tool.nmc"),
        ("pyproject.toml", "[tool.nmc.run]\nx = 1\n", "NMC-U01", "tool.nmc.run"),
        ("pyproject.toml", "[tool\n", "NMC-F04", "TOML"),
        ("nmc.toml", "[compile]\nstep = 1\n", "NMC-U01", "did you mean steps?"),
        ("nmc.toml", "[gates]\nenergy = 5\n", "NMC-F04", "energy"),
    ],
)
def test_mistakes_in_a_found_file_are_named(
    name: str, text: str, code: str, said: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / name).write_text(text)
    assert main(["config", "show"]) == CATALOGUE[code].exit_status
    err = capsys.readouterr().err
    assert err.startswith(f"error: {code} ")
    assert said in err


def test_mistakes_in_the_environment_are_named(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NMC_COMPILE_CHPI", "loihi1")
    assert main(["config", "show"]) == 2
    assert "NMC_COMPILE_CHPI: belongs to no option; did you mean chip?" in capsys.readouterr().err
    monkeypatch.delenv("NMC_COMPILE_CHPI")
    monkeypatch.setenv("NMC_COMPILE_STEPS", "many")
    assert main(["config", "show"]) == 2
    err = capsys.readouterr().err
    assert "--steps" in err
    assert "; mend environment NMC_COMPILE_STEPS" in err
    assert main(["compile", "x.nir", "-o", "x.nmc", "--steps", "many"]) == 2
    assert "mend" not in capsys.readouterr().err
    monkeypatch.delenv("NMC_COMPILE_STEPS")
    (project / "nmc.toml").write_text('[compile]\njoins = "both"\n')
    assert main(["compile", "x.nir", "-o", "x.nmc"]) == 2
    assert f"; mend {project / 'nmc.toml'} [compile]" in capsys.readouterr().err
    assert main(["config", "show", "--chip"]) == 2
    assert "--chip" in capsys.readouterr().err


def test_origins_are_shown_where_they_are_asked_for(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "show"]) == 0
    assert "default" not in capsys.readouterr().out
    assert main(["config", "show", "--origin"]) == 0
    assert "default" in capsys.readouterr().out


def test_every_key_is_an_option_of_compile() -> None:
    import typer

    command = typer.main.get_command(app).commands["compile"]  # type: ignore[attr-defined]
    assert set(KEYS) <= {one.name for one in command.params}
