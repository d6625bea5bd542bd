"""Checks as JUnit XML, which every build server reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from nmc.errors import one_line


@dataclass(frozen=True)
class Case:
    """One check. failure: why it failed, "" where it passed."""

    group: str
    name: str
    failure: str = ""


def render(suite: str, cases: Sequence[Case]) -> str:
    """One suite with a case for each check."""
    failed = sum(bool(one.failure) for one in cases)
    counts = {"tests": str(len(cases)), "failures": str(failed), "errors": "0", "skipped": "0"}
    root = ElementTree.Element("testsuites")
    element = ElementTree.SubElement(root, "testsuite", {"name": suite, **counts})
    for one in cases:
        names = {"classname": one_line(one.group), "name": one_line(one.name)}
        case = ElementTree.SubElement(element, "testcase", names)
        if one.failure:
            text = one_line(one.failure)
            ElementTree.SubElement(case, "failure", {"message": text}).text = text
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, "unicode") + "\n"
