"""Pages with blocks that need an SNN framework; ``tests/test_docs.py`` runs all others."""

from __future__ import annotations

from pathlib import Path

import pytest
from docblocks import PAGES, ROOT, blocks, needs, run_page

pytestmark = pytest.mark.frameworks
FRAMEWORKS = {"spikingjelly", "snntorch", "norse", "sinabs", "tensorboard"}
"""What only the frameworks' environment has; TensorBoard comes with one of them."""


def named(page: Path) -> set[str]:
    return {name for _, code in blocks(page) for name in needs(code)} & FRAMEWORKS


@pytest.mark.parametrize(
    "page", [page for page in PAGES if named(page)], ids=lambda page: str(page.relative_to(ROOT))
)
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not run_page(page, tmp_path) & FRAMEWORKS
