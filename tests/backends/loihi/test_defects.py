"""What is wrong or missing in Lava and nmc lives with; each test fails on the day Lava mends it.

What ``quirks.py`` works around is in ``test_quirks.py``. The table of both is ``docs/lava-defects.md``.
"""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
from importlib.metadata import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lava.magma.compiler.compiler_graphs import ProcGroupDiGraphs
from lava.magma.compiler.exceptions import NoProcessModelFound
from lava.magma.core.decorator import implements
from lava.magma.core.run_configs import Loihi2HwCfg, Loihi2SimCfg
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.conv.process import Conv
from lava.proc.dense.process import DelayDense, Dense
from lava.proc.lif.models import PyLifModelBitAcc
from lava.proc.lif.process import LIF, LIFRefractory
from lava.utils import slurm

from nmc.backends.loihi import run
from nmc.backends.loihi.models import Wire, model_of, step

PAGE = Path(__file__).parents[3] / "docs" / "lava-defects.md"


def sums(process: Any, message: Any, steps: int = 2) -> list[Any]:
    """What a synapse process sends in each step when ``message`` arrives in the first one."""
    wire, out = Wire("s_in"), Wire("a_out")
    model = model_of(process, {"s_in": [wire], "a_out": [out]})
    found = []
    for index in range(steps):
        wire.send(np.asarray(message) * (index == 0))
        step(model)
        found.append(out.message)
    return found


# --- arithmetic -------------------------------------------------------------------------------------


def conv(weight: int) -> Conv:
    return Conv(weight=np.array([[[[weight]]]]), input_shape=(1, 1, 1), num_message_bits=24)


def test_conv_wraps_in_24_bits_where_dense_does_not() -> None:
    assert sums(conv(1 << 23), [[[1]]])[1].item() == -(1 << 23)
    dense = Dense(weights=np.array([[254]]), num_message_bits=24)
    assert sums(dense, [1 << 16])[1].item() == 254 << 16


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
def test_conv_loses_sums_beyond_32_bits() -> None:
    """A cast from float64 that C++ leaves undefined, before the wrap to 24 bits."""
    assert sums(conv(1 << 20), [[[15]]])[1].item() == (15 << 20) - (1 << 24)
    assert sums(conv(1 << 20), [[[(1 << 12) + 1]]])[1].item() != 1 << 20


def test_a_negative_weight_exponent_floors_the_sum_and_each_delay_slot() -> None:
    """So fan-in cut into two processes, or into two delays, gives another sum; nmc uses exponent 0 only."""
    both = Dense(weights=np.array([[2, 2]]), weight_exp=-2)
    assert sums(both, [1, 1])[1].item() == 1
    parts = [sums(Dense(weights=np.array([[2]]), weight_exp=-2), [1])[1].item() for _ in range(2)]
    assert sum(parts) == 0
    slots = DelayDense(weights=np.array([[2, 2]]), delays=np.array([[0, 1]]), max_delay=1, weight_exp=-2)
    assert [one.item() for one in sums(slots, [1, 1], 4)] == [0, 0, 0, 0]


# --- what is missing --------------------------------------------------------------------------------


def test_no_fixed_point_refractory_neuron() -> None:
    process = LIFRefractory(shape=(1,), refractory_period=2)
    models = ProcGroupDiGraphs._find_proc_models(process)
    with pytest.raises(AssertionError):
        Loihi2SimCfg(select_tag="fixed_pt").select(process, models)


def test_ports_cannot_be_concatenated() -> None:
    one, two, target = LIF(shape=(2,)), LIF(shape=(2,)), LIF(shape=(4,))
    one.s_out.concat_with(two.s_out, 0).connect(target.a_in)
    with pytest.raises(Exception, match="ConcatPorts are not yet supported"):
        one.compile(Loihi2SimCfg(select_tag="fixed_pt"))


def test_the_fixed_point_lif_model_cannot_be_derived_from() -> None:
    class Another(LIF):
        pass

    with pytest.raises(AssertionError, match="already implements a Process"):

        @implements(proc=Another, protocol=LoihiProtocol)
        class _Model(PyLifModelBitAcc):
            pass


# --- discovery of models ----------------------------------------------------------------------------

QUIET = """
from lava.magma.core.process.process import AbstractProcess

class Quiet(AbstractProcess):
    pass
"""
CLASH = """
import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

class Clash(AbstractProcess):
    def __init__(self):
        super().__init__()
        self.run_spk = Var(shape=(1,), init=7)

@implements(proc=Clash, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyClash(PyLoihiProcessModel):
    run_spk: int = LavaPyType(int, np.int32)
"""


def module_of(folder: Path, name: str, text: str) -> Any:
    """A module in a folder of its own: Lava finds models by the file of their process."""
    (folder / f"{name}.py").write_text(text)
    return importlib.import_module(name)


def test_looking_for_models_executes_the_files_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    module = module_of(tmp_path, "quiet_process", QUIET)
    (tmp_path / "neighbour.py").write_text(f"open({str(tmp_path / 'was here')!r}, 'w').close()")
    with pytest.raises(NoProcessModelFound):
        ProcGroupDiGraphs._find_proc_models(module.Quiet())
    assert (tmp_path / "was here").exists()


def test_a_var_replaces_the_method_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``run`` or ``start`` as a Var's name would make the runtime wait for ever."""
    monkeypatch.syspath_prepend(tmp_path)
    assert model_of(module_of(tmp_path, "clash_process", CLASH).Clash(), {}).run_spk == 7


# --- installation and boards ------------------------------------------------------------------------


def test_lava_installs_a_package_called_tests() -> None:
    """So pytest must not import the project's tests by that name (--import-mode=importlib)."""
    assert "tests/__init__.py" in {str(one) for name in ("lava-nc", "lava-dl") for one in files(name) or ()}


def test_asking_for_slurm_fails_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError):
        slurm.is_available()


@pytest.mark.skipif(os.environ.get("NMC_LOIHI") == "1", reason="a board may be here")
def test_the_configuration_for_boards_dies_without_one() -> None:
    with pytest.raises(NameError, match="CLoihiProcessModel"):
        LIF(shape=(1,)).compile(Loihi2HwCfg())


def optimize_weight_bits(weight: list[list[int]]) -> tuple[Any, int, int]:
    """netx's function without netx, which imports torch: (weights, bits, exponent)."""
    found = importlib.util.find_spec("lava.lib.dl")
    assert found is not None
    (folder, *_) = found.submodule_search_locations or ()
    spec = importlib.util.spec_from_file_location("netx_utils", Path(folder) / "netx" / "utils.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    weights, bits, exponent, _ = module.optimize_weight_bits(np.array(weight, float))
    return weights, bits, exponent


def test_netx_cannot_shift_a_matrix_of_zeros() -> None:
    with pytest.raises(OverflowError), np.errstate(all="ignore"):
        optimize_weight_bits([[0, 0]])


def test_netx_shifts_negative_powers_of_two_out_of_range() -> None:
    """-4 becomes -256, which a purely inhibitory weight cannot be: Dense clips it to -255."""
    weights, _, _ = optimize_weight_bits([[-2, -4]])
    assert weights.min() == -256


# --- the runtime ------------------------------------------------------------------------------------

RAW = """
import numpy as np
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.dense.models import PyDenseModelBitAcc
from lava.proc.dense.process import Dense
from lava.proc.io.source import RingBuffer
from lava.proc.lif.process import LIF
from nmc.backends.loihi.child import own_shared_memory

own_shared_memory()  # so that the test can remove it

def fail(self):
    print("fails", flush=True)
    raise ValueError("planted")

if FAILS:
    PyDenseModelBitAcc.run_spk = fail
source = RingBuffer(data=np.ones((1, 4), np.int32))
synapse = Dense(weights=np.array([[2]]))
cell = LIF(shape=(1,), du=4095, dv=0, vth=10)
source.s_out.connect(synapse.s_in)
synapse.a_out.connect(cell.a_in)
try:
    cell.run(condition=RunSteps(num_steps=4), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
    print("ran", flush=True)
finally:
    if FAILS:
        cell.stop()
"""
DOES_NOT_END_S = 10
"""Where Lava ends, it ends in less than a second."""


@pytest.mark.runtime
@pytest.mark.parametrize(("fails", "said"), [(False, "ran"), (True, "fails")], ids=["no stop", "a failure"])
def test_lava_never_ends_by_itself(fails: bool, said: str) -> None:
    """Neither at the interpreter's exit without ``stop()``, nor with it when a worker has failed."""
    child = subprocess.Popen(
        [sys.executable, "-c", RAW.replace("FAILS", str(fails))],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert child.stdout is not None
    try:
        assert child.stdout.readline().strip() == said
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(timeout=DOES_NOT_END_S)
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        run._remove_shared_memory(child.pid)


# --- the table --------------------------------------------------------------------------------------


def test_the_page_names_a_test_for_every_defect() -> None:
    """docs/lava-defects.md: every row names tests that exist, and every test here stands in it."""
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][1:]
    named = [re.findall(r"`(test_\w+)`", row.split("|")[-2]) for row in rows]
    assert all(named)
    exist = {
        name
        for file in ("test_defects.py", "test_quirks.py")
        for name in re.findall(r"^def (test_\w+)", (Path(__file__).parent / file).read_text(), re.MULTILINE)
    }
    listed = {name for names in named for name in names}
    assert listed <= exist
    mine = set(re.findall(r"^def (test_\w+)", Path(__file__).read_text(), re.MULTILINE))
    assert mine - listed == {"test_the_page_names_a_test_for_every_defect"}
