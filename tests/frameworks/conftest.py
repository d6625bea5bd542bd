"""Collects what the tests of this folder found and prints it as the support table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

ZOO = pytest.StashKey[list[str]]()
ROWS = pytest.StashKey[dict[tuple[str, str], str]]()


def verdict(exact: Any) -> str:
    if exact.differing or exact.output.differing:
        return f"{exact.differing} DIFFER"
    return f"{len(exact.silent)} layers silent" if exact.silent else "equal"


@pytest.fixture
def support_table(request: pytest.FixtureRequest) -> Callable[..., None]:
    """support_table(row, column, exact, float32): notes a cell; None for a refusal."""
    rows = request.config.stash.setdefault(ROWS, {})

    def note(row: str, column: str, exact: Any, ties: Any) -> None:
        if exact is None:
            rows[row, column] = "refused"
        else:
            rows[row, column] = f"{verdict(exact)}, {ties.differing} of {ties.spikes:,}"

    return note


@pytest.fixture
def zoo_table(request: pytest.FixtureRequest) -> Callable[..., None]:
    """zoo_table(name, samples, exact, float32): notes a row."""
    rows = request.config.stash.setdefault(ZOO, [])

    def note(name: str, samples: int, exact: Any, ties: Any) -> None:
        counts = f"{samples} | {len(exact.layers)} | {exact.spikes:,}"
        rows.append(f"| {name} | {counts} | {verdict(exact)} | {ties.differing} |")

    return note


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    rows = config.stash.get(ZOO, [])
    if rows:
        terminalreporter.section("SpikingJelly's model zoo")
        head = "| network | samples | neuron layers | spikes | float64 | float32: spikes that differ |"
        for line in (head, "|---" * 6 + "|", *rows):
            terminalreporter.write_line(line)
    cells = config.stash.get(ROWS, {})
    if not cells:
        return
    terminalreporter.section("what is imported spike by spike")
    columns = list(dict.fromkeys(row for row, _ in cells))
    write = terminalreporter.write_line
    write("Cells: float64 framework against float engine; then spikes that differ when the framework runs in")
    write("float32 (ties), of all spikes in all layers.")
    write("")
    write("| | " + " | ".join(columns) + " |")
    write("|---" * (len(columns) + 1) + "|")
    for name in dict.fromkeys(column for _, column in cells):
        write("| " + " | ".join([name, *(cells.get((column, name), "-") for column in columns)]) + " |")
