"""Ctrl-C during a run leaves no thread and no process behind, and the engine goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nmc.backends.engines import engine
from nmc.errors import NmcError

SUPPORT = Path(__file__).parents[2] / "support"
CHILD = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever was inherited
import gen
from nmc import timing
from nmc.backends.engines import engine
from same import differences

network = gen.quantize(timing.balance(gen.float_network(2, 6), 62))
x = gen.stimulus(network, 4, 6, 2)
chosen = engine(sys.argv[1])
truth = chosen.run(network, x, 6)
threads = len(os.listdir("/proc/self/task"))
try:
    print("running", flush=True)
    while True:
        chosen.run(network, x, 6)
except KeyboardInterrupt:
    pass
assert len(os.listdir("/proc/self/task")) <= threads, "a thread is left"
children = [pid for task in os.listdir("/proc/self/task") for pid in open(f"/proc/self/task/{task}/children")]
assert not children, "a process is left"
assert not differences(truth, chosen.run(network, x, 6))
print("done")
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
@pytest.mark.parametrize("name", ["reference", "native", "torch:cpu"])
def test_an_interrupt_leaves_nothing_behind(name: str) -> None:
    try:
        engine(name)
    except NmcError as error:
        pytest.skip(str(error))
    # Threads that wait would otherwise spin, which takes long where others use the CPUs too.
    environment = os.environ | {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, name, str(SUPPORT)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as child:
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == "running\n"
            child.send_signal(signal.SIGINT)
            out, errors = child.communicate(timeout=120)
        finally:
            child.kill()
    assert (out, child.returncode) == ("done\n", 0), errors
