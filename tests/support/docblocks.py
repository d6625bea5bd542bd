"""The blocks of code in README and docs, and how each kind is run.

``python`` blocks share a namespace per page, ``sh`` blocks hold nmc commands. A first line "# needs NAME"
says which packages a block needs, "# file PATH" that the block is that file. Blocks of other kinds (``text``,
none) are for reading.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

from nmc.cli import main

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES += sorted((ROOT / "examples").rglob("README.md"))
BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# file (\S+)\n")
RUN = ("python", "sh")
LINKED = ("nmc", "examples", "docs", "tests")


def blocks(page: Path) -> list[tuple[str, str]]:
    """(kind, code) of every block of a page."""
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def needs(code: str) -> list[str]:
    """The packages that a block says it needs."""
    found = re.match(r"# needs ([\w, ]+)\n", code)
    return [] if found is None else [name.strip() for name in found[1].split(",")]


def run_page(page: Path, folder: Path) -> set[str]:
    """Run the blocks of a page in ``folder``, the current one; the packages that were missing for some."""
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    names: dict[str, object] = {"__name__": "__main__"}
    lacking: set[str] = set()
    for kind, code in blocks(page):
        missing = [name for name in needs(code) if importlib.util.find_spec(name) is None]
        lacking.update(missing)
        shown = FILE.match(code)
        if shown is not None:
            text = (ROOT / shown[1]).read_text(encoding="utf-8")
            assert code[shown.end() :] == text, f"{page.name} shows another {shown[1]}"
        elif not missing and kind in RUN:
            _run(kind, code, names)
    return lacking


def _run(kind: str, code: str, names: dict[str, object]) -> None:
    if kind == "python":
        exec(compile(code, "block", "exec"), names)  # the pages are this repository's own
        return
    for line in code.splitlines():
        words = shlex.split(line, comments=True)
        if words:
            assert words[0] == "nmc", line
            assert main(words[1:]) == 0, line
