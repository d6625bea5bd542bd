"""``nmc.convert`` and ``compile --convert``: what a chip has not got is replaced, or refused if asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from anns import frames, residual, unit, value
from tensorfiles import safetensors

import nmc
from nmc.cli import main
from nmc.errors import NmcError
from nmc.frontend import opgraph as og
from nmc.frontend.conversion.activations import ClipFloor
from nmc.frontend.conversion.method import METHODS, for_chip
from nmc.frontend.convert import convert
from nmc.frontend.opgraph import ResetRule

BUILDER = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.relu = nn.Conv2d(3, 3, 3, 1, 1), nn.BatchNorm2d(3), nn.ReLU()

    def forward(self, x):
        return self.relu(self.bn(self.conv(x)) + x)

def build():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3, 1, 1), nn.ReLU(), Block(), nn.Flatten(), nn.Linear(108, 4))
    net.input_shape = (1, 6, 6)
    return net
"""


def neurons(graph: og.OpGraph) -> list[og.Neuron]:
    return [op for op in graph.nodes.values() if isinstance(op, og.Neuron)]


def qcfs(levels: int) -> og.OpGraph:
    ann = residual(3)
    clips = {name: ClipFloor(og.constant([1.5]), levels).as_op() for name in ann.named(og.ReLU)}
    return ann.with_(nodes={**ann.nodes, **clips})


# --- what a chip has ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize(("chip", "choices"), [("loihi1", {}), ("loihi2", {"reset": "hard"})])
def test_every_method_gives_what_the_chip_can_run(method: str, chip: str, choices: dict) -> None:
    """Frames of ``loihi1`` enter as a bias, which the loop of a soft reset would not add up."""
    x = frames(12, 3)
    snn = nmc.convert(residual(3), x, 4, method, chip=chip, **choices)
    assert {op.reset for op in neurons(snn)} == {ResetRule.VALUE}
    assert not any(op.v0.any() for op in neurons(snn))
    assert nmc.compile(snn, chip, x).network.chip == chip


@pytest.mark.parametrize("method", sorted(METHODS))
def test_soft_resets_and_start_values_are_loops_and_biases(method: str) -> None:
    x = frames(12, 3)
    snn = nmc.convert(residual(3), x, 4, method, chip="loihi2")
    soft = METHODS[method].reset == "soft"
    assert {op.reset for op in neurons(snn)} == {ResetRule.SUBTRACT if soft else ResetRule.VALUE}
    assert any(op.v0.any() for op in neurons(snn)) == (soft and METHODS[method].v0 > 0)
    assert nmc.compile(snn, "loihi2", x).network.remembers == soft


def test_qcfs_runs_on_a_chip_without_start_values() -> None:
    x = frames(12, 3)
    snn = nmc.convert(qcfs(4), x, 4, reset="hard")
    assert not any(op.v0.any() for op in neurons(snn))
    assert nmc.compile(snn, "loihi2", x).network.steps == 4


@pytest.mark.parametrize("chip", ["lava-cpu", "loihi2"])
def test_where_there_is_a_soft_reset_and_a_start_value_both_are_used(chip: str) -> None:
    snn = nmc.convert(residual(3), frames(12, 3), 4, chip=chip)
    assert {op.reset for op in neurons(snn)} == {ResetRule.SUBTRACT}
    assert all(op.v0.all() for op in neurons(snn))


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        ({"chip": "loihi1", "reset": "soft"}, "NMC-Q03 reset: soft, loihi1 has hard"),
        ({"chip": "loihi1", "method": METHODS["auto"]}, "NMC-Q03 reset: soft"),
        (
            {"reset": "hard", "starts": True},
            "NMC-Q03 starts: neurons would start from other potentials than 0",
        ),
        ({"reset": "hard", "correction": "potential"}, "NMC-Q03 correction: neurons would start"),
    ],
)
def test_what_is_asked_for_and_not_there_is_refused(choices: dict, says: str) -> None:
    with pytest.raises(NmcError, match=says):
        nmc.convert(residual(3), frames(12, 3), 4, **choices)


def test_a_chosen_reset_stays_where_the_chip_has_both() -> None:
    chip = nmc.api.load_chip("lava-cpu")
    assert for_chip("auto", chip, reset="hard").reset == "hard"
    assert for_chip("auto", chip) == METHODS["auto"]


# --- v0 as a bias -------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [2, 4, 8])
def test_half_a_threshold_in_the_bias_counts_the_same_spikes(steps: int) -> None:
    """For a steady input both have added up to the same after T steps, so soft resets leave equal counts."""
    data, x = np.array([[0.0], [2.0]]), np.arange(-64, 161)[:, None] / 64
    start, bias = (convert(unit(), data, steps, "max", v0=0.5, starts=s) for s in (True, False))
    assert bias.nodes["relu"].v0.item() == 0
    assert bias.nodes["first"].bias.item() == pytest.approx(0.5 / steps)
    assert start.nodes["first"].bias is None
    np.testing.assert_array_equal(value(bias, x, steps), value(start, x, steps))
    assert len(np.unique(value(start, x, steps))) == steps + 1


def test_the_bias_is_that_of_the_branch_which_has_one() -> None:
    snn = convert(residual(3), frames(12, 3), 4, "max", v0=0.5, starts=False, place="thresholds")
    plain = convert(residual(3), frames(12, 3), 4, "max", starts=False, place="thresholds")
    theta = plain.nodes["a.relu2"].threshold.item()
    moved = snn.nodes["a.conv2"].bias - plain.nodes["a.conv2"].bias
    np.testing.assert_allclose(moved, theta / 2 / 4)


# --- modules and the command line ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a builder, its weights and calibration frames."""
    torch = pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("made")
    (folder / "net.py").write_text(BUILDER)
    space: dict = {}
    exec(BUILDER, space)
    module = space["build"]()
    torch.nn.init.normal_(module[0].weight)
    tensors = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    integers = {name: "I64" for name in tensors if name.endswith("num_batches_tracked")}
    safetensors(folder / "net.safetensors", tensors, integers)
    np.savez(folder / "x.npz", x=frames(12, shape=(1, 6, 6)))
    return folder


def test_the_command_line_compiles_the_same_bytes_as_python(made: Path, tmp_path: Path) -> None:
    model, weights, x = f"{made}/net.py:build", made / "net.safetensors", made / "x.npz"
    out = tmp_path / "net.nmc"
    command = ["compile", model, "--weights", str(weights), "--convert", "auto", "--steps", "4"]
    assert main([*command, "--calibration", str(x), "-o", str(out)]) == 0
    data = np.load(x)["x"]
    snn = nmc.convert(model, data, 4, weights=weights)
    nmc.compile(snn, data=data).save(tmp_path / "python.nmc")
    assert out.read_bytes() == (tmp_path / "python.nmc").read_bytes()
    other = nmc.convert(model, data, 4)
    assert not np.array_equal(other.nodes["0"].weight, snn.nodes["0"].weight)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--steps", "4"], "NMC-U01 nmc compile: --convert without --calibration"),
        (["--calibration", "x.npz"], "NMC-U01 nmc compile: --convert without --steps"),
        (
            ["--calibration", "x.npz", "--steps", "4", "--convert", "best"],
            "NMC-U03 best: is no conversion method",
        ),
    ],
)
def test_what_conversion_needs_is_asked_for(
    made: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    arguments: list,
    says: str,
) -> None:
    monkeypatch.chdir(made)
    out = tmp_path / "net.nmc"
    assert main(["compile", "net.py:build", "--convert", "auto", "-o", str(out), *arguments]) == 2
    assert says in capsys.readouterr().err
    assert not out.exists()


def test_what_is_no_ann_is_refused(made: Path) -> None:
    with pytest.raises(NmcError, match=r"NMC-U02 model\.nir: is no ANN"):
        nmc.convert("model.nir", frames(4), 4)
    with pytest.raises(NmcError, match="NMC-U02 weights: given without a builder"):
        nmc.convert(residual(3), frames(4), 4, weights=made / "net.safetensors")
