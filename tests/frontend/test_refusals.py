"""Every refusal and finding of the front end says what to do."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import nmc

FRONTEND = Path(nmc.__file__).parent / "frontend"
FILES = sorted(FRONTEND.rglob("*.py"))
BEFORE_REMEDY = {"NmcError": 3, "Finding": 4}
"""Arguments in front of the remedy."""


def refusals(path: Path) -> Iterator[tuple[int, ast.expr | None]]:
    """Line and remedy of every refusal, None where it has none."""
    for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        name = getattr(call.func, "id", "") if isinstance(call, ast.Call) else ""
        if name not in BEFORE_REMEDY or any(isinstance(one, ast.Starred) for one in call.args):
            continue
        remedies = [one.value for one in call.keywords if one.arg == "remedy"]
        remedies += call.args[BEFORE_REMEDY[name] :]
        yield call.lineno, remedies[0] if remedies else None


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(FRONTEND)) for path in FILES])
def test_every_refusal_has_a_remedy(path: Path) -> None:
    empty = [
        line
        for line, remedy in refusals(path)
        if remedy is None or (isinstance(remedy, ast.Constant) and not remedy.value)
    ]
    assert empty == [], f"{path.name}: no remedy in the lines {empty}"


def test_there_are_refusals_to_look_at() -> None:
    assert sum(1 for path in FILES for _ in refusals(path)) > 200
