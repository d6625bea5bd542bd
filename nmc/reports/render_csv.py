"""A document's records as CSV: a line of names, then a line for each, numbers without separators or units."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from nmc.errors import NmcError, one_line
from nmc.reports.document import Document


def render(document: Document) -> str:
    """RFC 4180, but with plain line feeds. Raises NmcError NMC-U02 for a result without records."""
    records: Any = document.data
    for key in document.records:
        records = records[key]
    if not document.records or not records:
        raise NmcError("NMC-U02", "format", f"{document.kind} has no records for CSV", "use json or md")
    names = list(dict.fromkeys(name for one in records for name in one))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_cell(one, name) for name in names] for one in records)
    return out.getvalue()


def _cell(record: Mapping[str, Any], name: str) -> str:
    value = record.get(name)
    if value is None:
        return ""
    text = one_line("x".join(map(str, value)) if isinstance(value, list | tuple) else str(value))
    # A spreadsheet would run a name that starts like a formula.
    return f"'{text}" if isinstance(value, str) and text[:1] in ("=", "+", "-", "@") else text
