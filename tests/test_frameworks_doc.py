"""``docs/frameworks.md`` says what the tests test: the same cells, the same networks, the same text."""

from __future__ import annotations

import ast
from pathlib import Path

import support_table

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs/frameworks.md").read_text(encoding="utf-8")


def names(path: str, variable: str) -> list[str]:
    """Keys of a dictionary, or members of a tuple, that a test module defines; without importing torch."""
    for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(one, ast.Name) and one.id == variable for one in targets):
            value = node.value  # type: ignore[attr-defined]
            members = value.keys if isinstance(value, ast.Dict) else value.elts
            return [ast.literal_eval(member) for member in members]
    raise KeyError(variable)


def rows(heading: str) -> list[list[str]]:
    """Cells of the table behind a heading, its own heads first."""
    text = DOCUMENT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|---")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_tested_cell_stands_there_and_no_other() -> None:
    table = rows("Architectures")
    frameworks = table[0][1:]
    told = {
        (framework, row[0])
        for row in table[1:]
        for framework, cell in zip(frameworks, row[1:], strict=True)
        if cell != "-"
    }
    architectures = names("tests/support/snn_nets.py", "ARCHITECTURES")
    kits = names("tests/support/snn_nets.py", "KITS")
    lacks = names("tests/support/snn_nets.py", "SLAYER_LACKS")
    tested = {(kit, architecture) for kit in kits for architecture in architectures}
    tested |= {
        ("lava-dl SLAYER", architecture) for architecture in architectures if architecture not in lacks
    }
    assert told == tested
    cells = [cell for row in table[1:] for cell in row[1:] if cell != "-"]
    assert [cell for cell in cells if not cell.startswith("equal; ")] == []


def test_every_network_of_the_zoo_stands_there() -> None:
    table = rows("SpikingJelly's model zoo")
    assert [row[0] for row in table[1:]] == names("tests/frameworks/test_spikingjelly_zoo.py", "ZOO")
    assert {row[4] for row in table[1:]} == {"equal"}


def test_the_text_is_the_commands() -> None:
    for part in (support_table.HEAD, support_table.CELLS, support_table.NETWORKS, support_table.FILES):
        assert part in DOCUMENT
    for name in ("sew_resnet18", "sew_resnet34", "sew_resnet50", "spiking_resnet18", "ms_resnet18"):
        assert name in DOCUMENT
