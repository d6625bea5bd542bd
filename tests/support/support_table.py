"""``docs/frameworks.md``: what is imported spike by spike, as tables made of test results.

    python tests/support/support_table.py --samples 100 PYTHON... > docs/frameworks.md

runs the tests that fill it with every given interpreter (the SNN frameworks and lava-dl need different
Pythons) and prints the document. ``--samples``: of each network of a model zoo, of which the suite itself
takes a few. Tests call ``note_cell`` and ``note_network``; without that command they note nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

VARIABLE = "NMC_SUPPORT_TABLE"
SAMPLES = "NMC_ZOO_SAMPLES"
TESTS = (
    "tests/frameworks/test_architectures.py",
    "tests/frameworks/test_spikingjelly_zoo.py",
    "tests/frontend/test_trace_slayer.py",
)
ROOT = Path(__file__).parents[2]


def note_cell(framework: str, architecture: str, exact: Any, ties: Any) -> None:
    """One cell: two ``Match`` of one network, framework in float64 and in float32; None for a refusal."""
    text = "refused" if exact is None else f"{_verdict(exact)}; {ties.differing} of {ties.spikes:,}"
    _note({"framework": framework, "architecture": architecture, "text": text})


def note_network(name: str, samples: int, layers: int, spikes: int, ties: int) -> None:
    """One network of a model zoo, all of whose spikes were equal in float64; ties: differing in float32."""
    _note({"network": name, "cells": [samples, layers, f"{spikes:,}", "equal", ties]})


def compared_samples(usual: int) -> int:
    """How many samples of a network of a model zoo are compared: ``usual`` without the command's choice."""
    return int(os.environ.get(SAMPLES, usual))


def _verdict(match: Any) -> str:
    if match.differing or match.output.differing:
        return f"{match.differing} DIFFER"
    return f"{len(match.silent)} layers silent" if match.silent else "equal"


def _note(entry: dict[str, Any]) -> None:
    path = os.environ.get(VARIABLE)
    if path:
        with Path(path).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")


HEAD = """# Frameworks

What a network computes in its framework and what nmc makes of it, compared spike by spike. This page is
printed by one command, which runs the tests and notes what they found:

    python tests/support/support_table.py --samples 100 .venv-frameworks/bin/python .venv/bin/python

Every test traces the framework's module as it is, runs both on the same random input and compares all neuron
layers at every step. *equal*: with the framework in float64 not one spike differs. The numbers behind it: how
many of all spikes differ when the framework computes in float32, where a sum that meets a threshold can be
rounded to its other side (ties).
"""
CELLS = """
## Architectures

100 samples, 8 steps, maps of 2 x 8 x 8; modules of `tests/support/snn_nets.py`, written with each framework's
own layers and neurons. "-": its layers cannot say it.
"""
NETWORKS = """
## SpikingJelly's model zoo

Straight from `spikingjelly.activation_based.model`, at 32 x 32 (DVSGestureNet at 128 x 128).
"""
FILES = """
## Files

- NIR files of SpikingJelly, snnTorch, Norse and Sinabs: `nmc compile x.nir --profile NAME`, where the file
  does not say NAME.
- Residual networks in NIR files of snnTorch, Sinabs and Norse are refused with the cause: their exporters
  lose every functional `+`.
- Norse's NIR files with its default dt are refused with the cause: tau is 1000 times too small, and
  `to_nir(..., dt=1.0)` is right.
- lava-dl's `.net` files: `nmc compile x.net` keeps their integers; PilotNet, tinynet and ntidigits equal
  lava-dl's recordings.
- NIR files that nmc exports: `nir.read` reads all of them, SpikingJelly and Norse run them with equal spikes.
"""


def tables(entries: list[dict[str, Any]]) -> str:
    """The whole document."""
    cells = {(e["framework"], e["architecture"]): e["text"] for e in entries if "framework" in e}
    frameworks = list(dict.fromkeys(framework for framework, _ in cells))
    lines = ["| | " + " | ".join(frameworks) + " |", "|---" * (len(frameworks) + 1) + "|"]
    for architecture in dict.fromkeys(architecture for _, architecture in cells):
        row = [cells.get((framework, architecture), "-") for framework in frameworks]
        lines.append(f"| {architecture} | " + " | ".join(row) + " |")
    zoo = ["| network | samples | neuron layers | spikes | float64 | float32 differs |", "|---" * 6 + "|"]
    zoo += [
        f"| {e['network']} | " + " | ".join(map(str, e["cells"])) + " |" for e in entries if "network" in e
    ]
    return "\n".join([HEAD + CELLS, *lines, NETWORKS, *zoo, FILES])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("interpreters", nargs="*", default=[sys.executable], metavar="PYTHON")
    parser.add_argument("--samples", type=int, help="of each network of a model zoo")
    options = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cells"
        path.touch()
        environment = {**os.environ, VARIABLE: str(path)}
        if options.samples:
            environment[SAMPLES] = str(options.samples)
        for interpreter in options.interpreters:
            command = [interpreter, "-m", "pytest", "-q", *TESTS]
            done = subprocess.run(command, cwd=ROOT, env=environment, stdout=sys.stderr, check=False)
            failed += done.returncode != 0
        entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    print(tables(entries), end="")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
