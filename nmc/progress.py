"""Progress on stderr: a bar on a terminal, a line now and then elsewhere, nothing for what is quick."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from nmc.errors import one_line

if TYPE_CHECKING:
    from rich.progress import Progress

QUIET_SECONDS = 2.0
"""Nothing is shown before this, so that quick commands and their errors stay one line."""
LINE_SECONDS = 10.0
"""Where there is no terminal, one line per stage and not more often than this within one."""


class Reporter:
    """A context manager; ``show`` says how far things are, ``hook`` fixes the stage for ``api.Progress``.

    Args:
        stream: where to show; stderr by default. A bar needs a terminal.
        clock: seconds, monotonic; for lines.
    """

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._started = self._said = clock()
        self._stage = ""
        self._bar: Progress | None = None
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Reporter:
        if self._stream.isatty():
            self._bar = _bar(self._stream)
            # A timer, because a stage that takes long may not call for a while.
            self._timer = threading.Timer(QUIET_SECONDS, self._bar.start)
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None and self._bar is not None:
            self._timer.cancel()
            self._timer.join()
            self._bar.stop()

    def hook(self, stage: str) -> Callable[[int, int], None]:
        """A function of (done, total)."""
        return lambda done, total: self.show(stage, done, total)

    def show(self, stage: str, done: int, total: int | None) -> None:
        """``done`` of ``total`` parts of ``stage`` are done; None: nobody knows how many there are."""
        if self._bar is not None:
            self._draw(self._bar, stage, done, total)
        else:
            self._print(stage, done, total)
        self._stage = stage

    def _draw(self, bar: Progress, stage: str, done: int, total: int | None) -> None:
        if stage != self._stage:
            for task in bar.task_ids:
                bar.remove_task(task)
            bar.add_task(one_line(stage), total=total)
        bar.update(bar.task_ids[-1], completed=done, total=total)

    def _print(self, stage: str, done: int, total: int | None) -> None:
        now = self._clock()
        due = stage != self._stage or now - self._said >= LINE_SECONDS
        if due and now - self._started >= QUIET_SECONDS:
            share = "" if total is None else f": {done} of {total}"
            print(f"{one_line(stage)}{share}", file=self._stream, flush=True)
            self._said = now


def _bar(stream: TextIO) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(file=stream),
        transient=True,
    )
