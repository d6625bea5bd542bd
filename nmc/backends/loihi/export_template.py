"""What every exported script holds around the processes; ``export.py`` fills in the @NAMES@."""

TEMPLATE = '''\
"""@TITLE@ Needs lava-nc 0.10, not nmc.

    python run_lava.py                    run the samples in arrays/, compare the outputs with expected.npz
    python run_lava.py --input x.npy      run other samples: @KIND@
    python run_lava.py --record           also write spikes.npz: per population (samples, steps, *shape)

Exit status 0: equal, or not compared; 1: different. Samples follow each other without a pause.
Axes are torch's, (channels, height, width); Conv wants (x, y, channels).
@NOTE@
"""

import argparse
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
INTERVAL = @INTERVAL@  # steps per sample
CLEARED = @CLEARED@  # steps between two resets of a population
ALONE = @ALONE@  # one sample a run, because loops carry spikes past its end
INPUT_SHAPE = @SHAPE@
TRAIN = @TRAIN@  # samples are spike trains (steps, *INPUT_SHAPE), else frames
SCALE, LOWEST, HIGHEST = @RANGE@  # what enters the chip is clip(round(x / SCALE), LOWEST, HIGHEST)
OUTPUTS = @OUTPUTS@
READ = @READOUT@  # what is read from the outputs
LEVELS = @LEVELS@  # the step in which a population sees the first data of the first sample
WAITS = @WAITS@  # populations whose bias starts with the first data, not with the run


def array(name):
    return np.load(HERE / "arrays" / f"{name}.npy", allow_pickle=False)


def every(weights, delay):
    """The same delay for every synapse of a sparse matrix."""
    rows, columns = weights.nonzero()
    return csr_matrix((np.full(len(rows), delay), (rows, columns)), weights.shape)


def samples_of(path):
    """The user's samples as the integers that enter the chip."""
    x = np.load(path, allow_pickle=False)
    lead = 2 if TRAIN else 1
    fits = x.ndim == lead + len(INPUT_SHAPE) and x.shape[lead:] == INPUT_SHAPE
    if not fits or (TRAIN and x.shape[1] < INTERVAL):
        sys.exit(f"{path} has the shape {x.shape}, expected @KIND@")
    whole = np.rint(x / SCALE)
    if TRAIN and (whole != np.clip(whole, LOWEST, HIGHEST)).any():
        sys.exit(f"{path} holds {whole.min():g} to {whole.max():g}, allowed are {LOWEST} to {HIGHEST}")
    return np.clip(whole, LOWEST, HIGHEST).astype(np.int64)


def train_of(x):
    """(*shape, steps): the samples one after the other, then zeros while the pipeline drains."""
    steps = x[:, :INTERVAL] if TRAIN else np.repeat(x[:, None], INTERVAL, axis=1)
    data = np.zeros((*INPUT_SHAPE, total_steps(x)), np.int32)
    data[..., : len(x) * INTERVAL] = np.moveaxis(steps.reshape(-1, *INPUT_SHAPE), 0, -1)
    return data


def total_steps(x):
    return len(x) * INTERVAL + max(LEVELS.values())


def current(x, matrix, shift):
    """What the host adds to a bias mantissa: a weighted sum of a frame, rounded by ``shift`` bits."""
    return (matrix.dot(x.reshape(len(x), -1).T).T + ((1 << shift) >> 1)) >> shift


def host_biases(x):
    """Bias mantissas that the host writes, (samples, *shape)."""
    biases = {}
@HOST@
    for name, mantissas in biases.items():
        if np.abs(mantissas).max() > 4095:
            sys.exit(f"{name}: a bias mantissa of {np.abs(mantissas).max()}, the chip has 13 bits")
    return biases


def build(x, biases):
    """All processes, connected; inputs and populations by name."""
    cells = {}
@BUILD@
    return cells


def host_writes(biases):
    """{steps done: [(population, mantissas)]}: what the host writes before a sample."""
    writes = {}
    for name, mantissas in biases.items():
        for sample in range(0 if name in WAITS else 1, len(mantissas)):
            writes.setdefault(sample * INTERVAL + LEVELS[name], []).append((name, mantissas[sample]))
    return writes


def per_sample(name, data, samples):
    window = np.asarray(data)[LEVELS[name] : LEVELS[name] + samples * INTERVAL]
    return window.reshape(samples, INTERVAL, *window.shape[1:]).astype(np.int32)


def run(x, record):
    """{(population, "s_out" or "v"): (samples, steps, *shape)}."""
    if not ALONE:
        return session(x, record)
    parts = [session(x[n : n + 1], record) for n in range(len(x))]
    return {key: np.concatenate([part[key] for part in parts]) for key in record}


def session(x, record):
    """All samples in one run."""
    biases = host_biases(x)
    cells, steps = build(x, biases), total_steps(x)
    monitors = {}
    for name, what in record:
        monitors[name, what] = Monitor()
        monitors[name, what].probe(getattr(cells[name], what), steps)
    writes = host_writes(biases)
    first = next(iter(cells.values()))
    try:
        done = 0
        for stop in sorted({step for step in writes if step < steps} | {steps}):
            first.run(condition=RunSteps(num_steps=stop - done), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
            done = stop
            for name, mantissas in writes.get(stop, []):
                cells[name].bias_mant.set(mantissas)
        return {
            (name, what): per_sample(name, monitor.get_data()[cells[name].name][what], len(x))
            for (name, what), monitor in monitors.items()
        }
    finally:
        first.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", metavar="NPY", help="@KIND@")
    parser.add_argument("--record", action="store_true", help="write spikes.npz, all populations")
    options = parser.parse_args()
    x = array("x") if options.input is None else samples_of(options.input)
    record = {(name, READ) for name in OUTPUTS}
    if options.record:
        record |= {(name, "s_out") for name in LEVELS}
    found = run(x, sorted(record))
    if options.record:
        np.savez(HERE / "spikes.npz", **{name: found[name, "s_out"] for name in LEVELS})
    for name in OUTPUTS:
        answer = found[name, READ][:, -1] if READ == "v" else found[name, READ].sum(axis=1)
        print(f"{name}: class per sample {answer.reshape(len(x), -1).argmax(axis=1).tolist()}")
    if options.input is not None:
        return 0
    with np.load(HERE / "expected.npz", allow_pickle=False) as expected:
        wrong = sum(int((found[name, READ] != expected[name]).sum()) for name in OUTPUTS)
    print(f"{wrong} values differ from expected.npz")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
'''
