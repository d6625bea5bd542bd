"""Runs one contender in an environment of its own; compare.py starts it and says when to run.

    python worker.py contenders/brian2_small.py problem.npz spikes.npz

Writes the spikes once, then one JSON line. For every line that it reads it runs once and writes the seconds.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import interleave
import numpy as np
import small


def main(module: str, problem: str, spikes: str) -> None:
    with contextlib.redirect_stdout(sys.stderr):
        contender = interleave.load(Path(module))
        runner = contender.Contender(small.read(Path(problem)))
        np.savez(spikes, **runner.spikes())
        runner.run()
    print(json.dumps({"name": contender.NAME}), flush=True)
    for _ in sys.stdin:
        with contextlib.redirect_stdout(sys.stderr):
            seconds = interleave.timed(runner.run)
        print(json.dumps(seconds), flush=True)
    if hasattr(runner, "close"):
        runner.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
