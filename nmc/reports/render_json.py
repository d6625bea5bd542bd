"""A document as strict JSON; ``"schema"`` comes first."""

from __future__ import annotations

import json

from nmc.reports.document import Document


def render(document: Document) -> str:
    """One JSON object and a line break. Raises ValueError for NaN and infinity: they are not JSON."""
    members = {"schema": f"nmc.{document.kind}/1", **document.data}
    return json.dumps(members, indent=2, allow_nan=False) + "\n"
