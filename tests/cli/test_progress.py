"""Progress: silent while things are quick, lines where there is no terminal, a bar where there is one."""

from __future__ import annotations

import io

import nirfiles

import nmc
from nmc.progress import LINE_SECONDS, QUIET_SECONDS, Reporter


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_quick_work_says_nothing() -> None:
    stream, clock = io.StringIO(), Clock()
    with Reporter(stream, clock) as progress:
        for done in range(5):
            clock.now += QUIET_SECONDS / 10
            progress.show("run", done, 5)
    assert stream.getvalue() == ""


def test_slow_work_says_a_line_per_stage_and_now_and_then() -> None:
    stream, clock = io.StringIO(), Clock()
    with Reporter(stream, clock) as progress:
        clock.now += QUIET_SECONDS
        progress.show("compile\x1b", 0, None)
        clock.now += 1
        hook = progress.hook("run")
        hook(1, 9)
        hook(2, 9)
        clock.now += LINE_SECONDS
        hook(3, 9)
    assert stream.getvalue().splitlines() == ["compile\\x1b", "run: 1 of 9", "run: 3 of 9"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_nothing_of_quick_work() -> None:
    terminal = Terminal()
    with Reporter(terminal) as progress:
        progress.show("run", 1, 2)
    assert "run" not in terminal.getvalue()


def test_a_terminal_sees_a_bar() -> None:
    terminal = Terminal()
    with Reporter(terminal) as progress:
        progress._bar.start()
        progress.show("compile", 0, None)
        progress.show("run [x]", 1, 2)
        progress._bar.refresh()
        shown = terminal.getvalue()
    assert "run [x]" in shown
    assert "1/2" in shown


def test_placement_says_how_far_it_is() -> None:
    said: list[tuple[str, int, int]] = []
    nmc.compile(nirfiles.DIGITS, "loihi1", progress=lambda *state: said.append(state))
    assert len(said) > 1
    assert {name for name, _, _ in said} == {"place"}
    assert all(0 <= done <= total for _, done, total in said)
