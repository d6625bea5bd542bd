"""What is run on a Loihi board, and what must be read there: golden traces, by the reference engine.

    python tests/support/board.py          writes hw_tests/golden/*.npz anew

Every network gets its input as bias current of one sample, which is there before the first step. So no
host process sends spikes, and nothing but neurons and synapses of the chip takes part.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gen
import numpy as np
from features import GATE, Sketch, neuron, with_host_bias

from nmc import timing
from nmc.backends.sim.reference import ReferenceEngine
from nmc.chip import load_chip
from nmc.ir import Encoding, Identity, IntArray, Network, SumPool2d
from nmc.quantize.support import check_support

STEPS = 16
V_AT_SPIKE = 128
"""On the chip v reads 128 at the step of a spike (a refractory count is kept in it), on the CPU 0."""
GOLDEN = Path(__file__).parents[2] / "hw_tests" / "golden"


def _source() -> Sketch:
    return Sketch(2, 4, 4, encoding=Encoding.CURRENT, lowest=0, highest=15)


def convolution() -> Network:
    """Convolution with stride, leak, bias; dense output."""
    net = _source()
    net.conv("stem", "in", 3, cell=neuron(300.0))
    net.conv("down", "stem", 4, stride=(2, 2), cell=neuron(30.0, keep_v=3500 / 4096), bias=1.0)
    net.dense("out", "down", 5)
    return net.network()


def residual() -> Network:
    """A block whose shortcut arrives a step early and is delayed, with a synaptic filter."""
    net = _source()
    net.conv("stem", "in", 3, cell=neuron(300.0))
    net.conv("a", "stem", 3, cell=neuron(14.0, keep_u=1024 / 4096, keep_v=3000 / 4096))
    net.conv("b", "a", 3)
    net.project("stem", "b", Identity(), 6.0)
    net.dense("out", "b", 5)
    return net.network()


def gates() -> Network:
    """AND of two populations, maximum over windows."""
    net = _source()
    net.conv("stem", "in", 3, cell=neuron(300.0))
    net.conv("a", "stem", 3, cell=neuron(24.0))
    net.add("and", "a", Identity(), 2.0, neuron(4.0, **GATE))
    net.project("stem", "and", Identity(), 2.0)
    net.add("pool", "and", SumPool2d((2, 2), (2, 2)), 2.0, neuron(2.0, **GATE))
    net.dense("out", "pool", 5)
    return net.network()


CASES: dict[str, Callable[[], Network]] = {one.__name__: one for one in (convolution, residual, gates)}


def case(name: str) -> tuple[Network, IntArray]:
    """The quantized network, one that loihi1 and loihi2 support, and its one sample."""
    network = with_host_bias(gen.quantize(timing.balance(CASES[name](), 62)))
    for chip in ("loihi1", "loihi2"):
        check_support(network, load_chip(chip))
    return network, np.random.default_rng(5).integers(0, 16, (1, *network.inputs[0].shape))


def expected(name: str) -> dict[str, np.ndarray]:
    """{"population/kind": (T, *shape) int32} as the chip shows it: v is 128 at a spike."""
    network, x = case(name)
    names = [population.name for population in network.compute]
    trace = ReferenceEngine().run(network, x, STEPS, names)
    found = {}
    for population in names:
        spikes, v = trace.spikes[population][0], trace.v[population][0]
        found[f"{population}/spikes"] = spikes
        found[f"{population}/u"] = trace.u[population][0]
        found[f"{population}/v"] = np.where(spikes > 0, V_AT_SPIKE, v).astype(np.int32)
    return found


def golden(name: str) -> dict[str, np.ndarray]:
    """The stored trace."""
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def models_of(process: Any) -> dict[str, type]:
    """{process: model that Lava chose}, of all processes that are connected with a compiled one."""
    from lava.magma.compiler.compiler_graphs import find_processes

    return {one.name: one.model_class for one in find_processes(process)}


def on_the_cpu(models: dict[str, type]) -> list[str]:
    """Processes that do not run on the chip's cores: Lava takes a CPU model without a word where it finds
    no other. The class that tells chip models is part of lava-loihi, so it is known by its name."""
    chip = "AbstractNcProcessModel"
    return sorted(
        name for name, model in models.items() if chip not in {one.__name__ for one in model.__mro__}
    )


def missing() -> str | None:
    """Why there is no board here; None when there may be one."""
    if os.environ.get("NMC_LOIHI") != "1":
        return "no hardware: set NMC_LOIHI=1 on a machine with a Loihi board"
    if importlib.util.find_spec("lava") is None:
        return "no hardware: lava-nc is not installed"
    from lava.utils import loihi

    # slurm.is_available() raises without sinfo, so only the package is asked for here.
    return None if loihi.is_installed() else "no hardware: the lava-loihi package is not installed"


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for wanted in CASES:
        np.savez_compressed(GOLDEN / f"{wanted}.npz", **expected(wanted))
