"""pytest fixtures for people who keep a compiled network in their tests.

    def test_the_network(nmc_golden, nmc_gate):
        bundle = nmc.compile("model.nir", chip="loihi2", data=calibration)
        nmc_golden(bundle)                    # same numbers, same spikes as the committed bundle
        nmc_gate(bundle, "energy=+5%")        # not worse than it by more than that

What was accepted lies in ``golden/<name>.nmc`` beside the test file; ``pytest --nmc-update-golden`` writes
it anew. ``--nmc-gate``, and [gates] of the nearest ``nmc.toml`` above the test (or [tool.nmc.gates]
of ``pyproject.toml``), add gates to every ``nmc_gate``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from nmc.bundle import Bundle
    from nmc.reports.changes import Diff

FOLDER = "golden"
SHOWN = 8


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("nmc", "compiled spiking networks")
    group.addoption(
        "--nmc-update-golden", action="store_true", help="accept what nmc_golden gets, and write it"
    )
    group.addoption(
        "--nmc-gate",
        action="append",
        default=[],
        metavar="METRIC=LIMIT",
        help="a gate for every nmc_gate, such as energy=+5%%; repeatable",
    )


class Golden:
    """Where a test's accepted bundle lies, and whether it is to be replaced."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._folder = request.path.parent / FOLDER
        self._test = request.node.name
        self.update: bool = request.config.getoption("--nmc-update-golden")

    def path(self, name: str | None) -> Path:
        """``golden/<name>.nmc``; the test's name by default, in letters that every file system takes."""
        return self._folder / (re.sub(r"[^\w.-]+", "-", name or self._test).strip("-.") + ".nmc")

    def read(self, name: str | None) -> Bundle:
        """The accepted bundle; the test fails where there is none."""
        import nmc

        path = self.path(name)
        if not path.exists():
            pytest.fail(
                f"{path} does not exist; accept this build with pytest --nmc-update-golden", pytrace=False
            )
        return nmc.read(path)

    def write(self, bundle: Bundle, name: str | None) -> None:
        path = self.path(name)
        path.parent.mkdir(exist_ok=True)
        bundle.save(path)


@pytest.fixture
def nmc_golden(request: pytest.FixtureRequest) -> Callable[..., None]:
    """``nmc_golden(bundle, name=None, engine="auto")``: fails where a build is not the accepted one.

    Compares every number that an engine reads, and the spikes of the accepted golden samples,
    run by today's engine on the new build; the message says which layer differs first.
    """
    store = Golden(request)

    def check(bundle: Bundle, name: str | None = None, engine: str = "auto") -> None:
        from nmc import api, golden
        from nmc.backends.engines import engine as engine_by_name
        from nmc.errors import NmcError
        from nmc.running import runnable

        if store.update:
            store.write(bundle, name)
            return
        accepted = store.read(name)
        found = [_changes(api.diff(accepted, bundle))]
        try:
            found.append(golden.replay(accepted.golden, runnable(bundle), engine_by_name(engine)).first)
        except NmcError as error:
            found.append(str(error))
        text = "\n".join(one for one in found if one)
        if text:
            pytest.fail(f"not the build that {store.path(name)} holds:\n{text}", pytrace=False)

    return check


@pytest.fixture
def nmc_gate(request: pytest.FixtureRequest) -> Callable[..., Diff | None]:
    """``nmc_gate(bundle, *gates, name=None)``: fails where a build is worse than the accepted one by more.

    Returns the comparison, or None while golden files are written.
    """
    store = Golden(request)
    more: list[str] = request.config.getoption("--nmc-gate")

    def check(bundle: Bundle, *gates: str, name: str | None = None) -> Diff | None:
        from nmc import api
        from nmc.config import find, read_gates

        if store.update:
            store.write(bundle, name)
            return None
        config = find(request.path.parent, request.config.rootpath)
        stated = [*gates, *more, *(() if config is None else read_gates(config))]
        if not stated:
            pytest.fail(
                "no gate: give one to nmc_gate, to --nmc-gate or in [gates] of nmc.toml", pytrace=False
            )
        found = api.diff(store.read(name), bundle, stated)
        if not found.passed:
            pytest.fail(found.failure, pytrace=False)
        return found

    return check


def _changes(diff: Diff) -> str:
    """What is built otherwise, a line for each; activity is left to gates."""
    lines = [f"{one.layer or 'network'}: {one.what}: {one.old} -> {one.new}" for one in diff.changes]
    if len(lines) > SHOWN:
        lines = [*lines[:SHOWN], f"and {len(lines) - SHOWN} more"]
    return "\n".join(lines)
