"""What every exported script holds around the processes; ``export.py`` fills in the @NAMES@."""

TEMPLATE = '''\
"""@TITLE@ Needs lava-nc 0.10, not nmc.

    python run_lava.py                run the samples in arrays/, compare the outputs with expected.npz
    python run_lava.py --record all   also write spikes.npz: per population (samples, steps, *shape)

Exit status 0: equal, 1: different. Axes are torch's, (channels, height, width); Conv wants (x, y, channels).
@NOTE@
"""

import sys
from pathlib import Path

import numpy as np
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.conv.process import Conv
from lava.proc.dense.process import DelayDense, Dense
from lava.proc.graded.process import GradedVec
from lava.proc.io.source import RingBuffer
from lava.proc.lif.process import LIFReset
from lava.proc.monitor.process import Monitor
from lava.proc.sparse.process import DelaySparse, Sparse
from lava.utils.weightutils import SignMode
from scipy.sparse import csr_matrix
@IMPORTS@

HERE = Path(__file__).resolve().parent
STEPS = @STEPS@  # in all: samples follow each other, then the pipeline drains
INTERVAL = @INTERVAL@  # steps per sample
SAMPLES = @SAMPLES@
OUTPUTS = @OUTPUTS@
READ = @READOUT@  # what is read from the outputs
LEVELS = @LEVELS@  # the step in which a population sees the first data of the first sample


def array(name):
    return np.load(HERE / "arrays" / f"{name}.npy", allow_pickle=False)


def every(weights, delay):
    """The same delay for every synapse of a sparse matrix."""
    rows, columns = weights.nonzero()
    return csr_matrix((np.full(len(rows), delay), (rows, columns)), weights.shape)


def build():
    """All processes, connected; inputs and populations by name."""
    cells = {}
@BUILD@
    return cells


def host_writes():
    """{steps done: [(population, biases)]}: what the host writes before a sample."""
    writes = {}
    for name, biases in @BIASES@.items():
        for sample in range(1, SAMPLES):
            writes.setdefault(sample * INTERVAL + LEVELS[name], []).append((name, biases[sample]))
    return writes


def per_sample(name, data):
    window = np.asarray(data)[LEVELS[name] : LEVELS[name] + SAMPLES * INTERVAL]
    return window.reshape(SAMPLES, INTERVAL, *window.shape[1:]).astype(np.int32)


def run(record):
    """{(population, "s_out" or "v"): (samples, steps, *shape)}."""
    cells = build()
    monitors = {}
    for name, what in record:
        monitors[name, what] = Monitor()
        monitors[name, what].probe(getattr(cells[name], what), STEPS)
    writes = host_writes()
    first = next(iter(cells.values()))
    try:
        done = 0
        for stop in sorted({step for step in writes if step < STEPS} | {STEPS}):
            first.run(condition=RunSteps(num_steps=stop - done), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
            done = stop
            for name, bias in writes.get(stop, []):
                cells[name].bias_mant.set(bias)
        return {
            (name, what): per_sample(name, monitor.get_data()[cells[name].name][what])
            for (name, what), monitor in monitors.items()
        }
    finally:
        first.stop()


def main():
    everything = sys.argv[1:] == ["--record", "all"]
    record = {(name, READ) for name in OUTPUTS}
    if everything:
        record |= {(name, "s_out") for name in LEVELS}
    found = run(sorted(record))
    if everything:
        np.savez(HERE / "spikes.npz", **{name: found[name, "s_out"] for name in LEVELS})
    wrong = 0
    with np.load(HERE / "expected.npz", allow_pickle=False) as expected:
        for name in OUTPUTS:
            wrong += int((found[name, READ] != expected[name]).sum())
            answer = found[name, READ][:, -1] if READ == "v" else found[name, READ].sum(axis=1)
            print(f"{name}: class per sample {answer.reshape(SAMPLES, -1).argmax(axis=1).tolist()}")
    print(f"{wrong} values differ from expected.npz")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
'''
