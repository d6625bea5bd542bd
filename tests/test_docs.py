"""Every block of code in README and docs runs, in order, in a folder of its own; pages and links exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from docblocks import PAGES, ROOT, RUN, blocks, run_page

from nmc.cli import main


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lacking = run_page(page, tmp_path)
    if lacking:
        pytest.skip(f"all blocks ran but those that need {', '.join(sorted(lacking))}")


def test_blocks_have_a_known_kind() -> None:
    kinds = {kind for page in PAGES for kind, _ in blocks(page)}
    assert kinds <= {"", "text", "toml", "yaml", *RUN}


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_pages_of_the_site_exist() -> None:
    named = re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(named) > 8
    assert [name for name in named if not (ROOT / "docs" / name).exists()] == []


def test_every_error_stands_on_its_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--format", "md"]) == 0
    assert capsys.readouterr().out in (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
