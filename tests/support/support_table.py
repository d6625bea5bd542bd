"""What is imported spike by spike, as a table made of test results.

    python tests/support/support_table.py PYTHON...

runs the tests that fill it with every given interpreter (the SNN frameworks and lava-dl need different
Pythons) and prints Markdown. Tests call ``note_cell`` and ``note_network``; without that command they note
nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

VARIABLE = "NMC_SUPPORT_TABLE"
TESTS = ("tests/frameworks", "tests/frontend/test_trace_slayer.py")
ROOT = Path(__file__).parents[2]


def note_cell(framework: str, architecture: str, exact: Any, ties: Any) -> None:
    """One cell: two ``Match`` of one network, framework in float64 and in float32; None for a refusal."""
    text = "refused" if exact is None else f"{_verdict(exact)}; {ties.differing} of {ties.spikes:,}"
    _note({"framework": framework, "architecture": architecture, "text": text})


def note_network(name: str, samples: int, exact: Any, ties: Any) -> None:
    """One network of a model zoo."""
    cells = [samples, len(exact.layers), f"{exact.spikes:,}", _verdict(exact), ties.differing]
    _note({"network": name, "cells": cells})


def _verdict(match: Any) -> str:
    if match.differing or match.output.differing:
        return f"{match.differing} DIFFER"
    return f"{len(match.silent)} layers silent" if match.silent else "equal"


def _note(entry: dict[str, Any]) -> None:
    path = os.environ.get(VARIABLE)
    if path:
        with Path(path).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")


def tables(entries: list[dict[str, Any]]) -> str:
    """Both tables in Markdown."""
    cells = {(e["framework"], e["architecture"]): e["text"] for e in entries if "framework" in e}
    frameworks = list(dict.fromkeys(framework for framework, _ in cells))
    lines = [
        "Every cell: the framework in float64 against the float engine, all neuron layers, 100 samples;",
        "then the spikes that differ when the framework computes in float32 (ties).",
        "",
        "| | " + " | ".join(frameworks) + " |",
        "|---" * (len(frameworks) + 1) + "|",
    ]
    for architecture in dict.fromkeys(architecture for _, architecture in cells):
        row = [cells.get((framework, architecture), "-") for framework in frameworks]
        lines.append(f"| {architecture} | " + " | ".join(row) + " |")
    lines += ["", "| SpikingJelly's own | samples | neuron layers | spikes | float64 | float32 differs |"]
    lines.append("|---" * 6 + "|")
    lines += [
        f"| {e['network']} | " + " | ".join(map(str, e["cells"])) + " |" for e in entries if "network" in e
    ]
    return "\n".join(lines)


def main(interpreters: list[str]) -> int:
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cells"
        path.touch()
        for interpreter in interpreters:
            command = [interpreter, "-m", "pytest", "-q", *TESTS]
            done = subprocess.run(
                command, cwd=ROOT, env={**os.environ, VARIABLE: str(path)}, stdout=sys.stderr, check=False
            )
            failed += done.returncode != 0
        entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    print(tables(entries))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or [sys.executable]))
