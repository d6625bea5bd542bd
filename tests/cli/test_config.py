"""``--config``: the command line wins over the file, the file over defaults; mistakes are named."""

from __future__ import annotations

import shutil
from pathlib import Path

import nirfiles
import pytest

from nmc import api
from nmc.cli import main
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
