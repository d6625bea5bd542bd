"""Findings as SARIF 2.1.0 (OASIS standard), which code hosts show beside the files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import PurePath
from urllib.parse import quote

from nmc import __version__
from nmc.errors import CATALOGUE, one_line
from nmc.frontend.raw import Finding

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {"error": "error", "warning": "warning"}


def render(findings: Sequence[tuple[str, Finding]]) -> str:
    """One run of nmc; ``findings``: (file, finding) in any order. The layer is a logical location."""
    codes = sorted({finding.code for _, finding in findings})
    run = {
        "tool": {
            "driver": {
                "name": "nmc",
                "version": __version__,
                "rules": [
                    {
                        "id": code,
                        "shortDescription": {"text": CATALOGUE[code].title},
                        "fullDescription": {"text": CATALOGUE[code].explanation},
                    }
                    for code in codes
                ],
            }
        },
        "results": [_result(file, finding, codes.index(finding.code)) for file, finding in findings],
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _result(file: str, finding: Finding, rule: int) -> dict[str, object]:
    remedy = f"; {finding.remedy}" if finding.remedy else ""
    return {
        "ruleId": finding.code,
        "ruleIndex": rule,
        "level": LEVELS.get(finding.severity, "note"),
        "message": {"text": one_line(f"{finding.who}: {finding.problem}{remedy}")},
        "locations": [
            {
                "physicalLocation": {"artifactLocation": {"uri": quote(PurePath(file).as_posix())}},
                "logicalLocations": [{"name": one_line(finding.who), "kind": "member"}],
            }
        ],
    }
