"""The same bits where oneDNN and the native kernels may only use AVX2, as on CPUs without VNNI."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nmc.backends.engines import engine
from nmc.errors import NmcError

SUPPORT = Path(__file__).parents[2] / "support"
CHILD = """
import sys
sys.path.insert(0, sys.argv[2])
import gen, layers
from nmc import timing
from nmc.backends.engines import engine
from nmc.backends.sim.reference import ReferenceEngine
from same import differences

chosen = engine(sys.argv[1])
cases = [(case.network, case.x, case.steps) for case in map(layers.case, range(3000, 3200))]
for seed in range(40):
    network = gen.quantize(timing.balance(gen.float_network(seed, 6), 62))
    cases.append((network, gen.stimulus(network, (1, 3, 8)[seed % 3], 6, seed), 6))
for network, x, steps in cases:
    names = [population.name for population in network.populations]
    wrong = differences(ReferenceEngine().run(network, x, steps, names), chosen.run(network, x, steps, names))
    assert not wrong, wrong
print(len(cases), "equal")
"""


@pytest.mark.parametrize("name", ["native", "torch:cpu"])
def test_avx2(name: str) -> None:
    try:
        engine(name)
    except NmcError as error:
        pytest.skip(str(error))
    limits = {"ONEDNN_MAX_CPU_ISA": "AVX2", "NMC_NATIVE_ISA": "avx2", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, name, str(SUPPORT)],
        capture_output=True,
        text=True,
        env=os.environ | limits,
        check=False,
    )
    assert done.stdout == "240 equal\n", done.stderr
