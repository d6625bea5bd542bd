"""Progress on stderr: a bar on a terminal, a line now and then elsewhere, nothing for what is quick."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from nmc.errors import one_line

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

QUIET_SECONDS = 2.0
"""Nothing is shown before this, so that quick commands and their errors stay one line."""
LINE_SECONDS = 10.0
"""Where there is no terminal, one line per stage and not more often than this."""


class Reporter:
    """A context manager; ``show`` says how far things are, ``hook`` fixes the stage for ``api.Progress``.

    Args:
        stream: where to show; stderr by default. A bar needs a terminal.
        clock: seconds, monotonic.
    """

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._started = self._said = clock()
        self._stage = ""
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Reporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def hook(self, stage: str) -> Callable[[int, int], None]:
        """A function of (done, total)."""
        return lambda done, total: self.show(stage, done, total)

    def show(self, stage: str, done: int, total: int) -> None:
        """``done`` of ``total`` parts of ``stage`` are done."""
        now = self._clock()
        if now - self._started < QUIET_SECONDS:
            return
        if self._stream.isatty():
            self._draw(stage, done, total)
        elif stage != self._stage or now - self._said >= LINE_SECONDS:
            print(f"{one_line(stage)}: {done} of {total}", file=self._stream, flush=True)
            self._said = now
        self._stage = stage

    def _draw(self, stage: str, done: int, total: int) -> None:
        if self._bar is None:
            self._bar = _bar(self._stream)
            self._bar.start()
        if self._task is None or stage != self._stage:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(one_line(stage), total=total)
        self._bar.update(self._task, completed=done, total=total)


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
