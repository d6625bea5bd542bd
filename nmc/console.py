"""The edge of the command line: what goes to stdout, and how every failure becomes one line and a status."""

from __future__ import annotations

import contextlib
import difflib
import enum
import errno
import io
import os
import select
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any

import typer

from nmc.errors import EXIT_INTERRUPTED, EXIT_OK, NmcError
from nmc.reports.document import Document

PLAIN_WIDTH = 160
"""Characters per line where nobody says how wide the reader's screen is."""

ORIGINS = "nmc.origins"
"""Where the parser's context keeps, by option, where values from files and the environment come from."""

UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""The command-line parser's own complaint; newer typer carries its parser inside, older ones use click's."""


class Format(str, enum.Enum):
    """How a result is printed."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "md"
    HTML = "html"
    CSV = "csv"


def nearest(wrong: str, known: Iterable[str]) -> str:
    """A remedy for a misspelt name: the closest known one, or all of them."""
    names = list(known)
    close = difflib.get_close_matches(wrong, names, n=1)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(names)}"


# --- stdout -----------------------------------------------------------------------------------------


def render(document: Document, how: Format, encoding: str = "utf-8") -> str:
    """A document as plain text in one of the formats."""
    from nmc.reports import render_csv, render_html, render_json, render_markdown, render_text

    if how is Format.JSON:
        return render_json.render(document)
    if how is Format.MARKDOWN:
        return render_markdown.render(document)
    if how is Format.HTML:
        return render_html.page(document)
    if how is Format.CSV:
        return render_csv.render(document)
    return render_text.render(document, PLAIN_WIDTH, encoding)


def emit(document: Document, how: Format) -> None:
    """Print a result on stdout. Raises NmcError NMC-W01 when it cannot be written (a full disk behind it)."""
    try:
        if how is Format.TEXT and (sys.stdout.isatty() or "COLUMNS" in os.environ):
            from rich.console import Console

            from nmc.reports import render_text

            width = shutil.get_terminal_size().columns
            render_text.write(document, Console(file=sys.stdout, width=width))
        else:
            sys.stdout.write(render(document, how, sys.stdout.encoding or "utf-8"))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise NmcError("NMC-W01", "standard output", error.strerror or str(error)) from error


def _nobody_reads() -> bool:
    """Whether stdout is a pipe whose reader has gone."""
    try:
        sys.stdout.flush()
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(sys.stdout.fileno(), 0)
            return any(event & select.POLLERR for _, event in poll.poll(0))
    except BrokenPipeError:
        return True
    except (OSError, ValueError):
        pass
    return False


def _silence_stdout() -> None:
    """Point stdout at nothing, so that the flush at exit cannot fail again."""
    with contextlib.suppress(OSError, ValueError):
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        os.close(devnull)


# --- failures ---------------------------------------------------------------------------------------


def run_guarded(command: Callable[[], object], *, show_traceback: bool = False) -> int:
    """Run a command and return its exit status; a failure is one line on stderr.

    Args:
        command: returns the exit status, or None for success.
        show_traceback: print the traceback of a failure before its line.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with _terminable():
            status = command()
            sys.stdout.flush()
    except SystemExit as done:
        if isinstance(done.__context__, BrokenPipeError):
            return EXIT_OK  # rich saw that the reader has gone, and left
        raise
    except BaseException as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            _silence_stdout()
            return EXIT_OK
        if show_traceback:
            import traceback

            traceback.print_exc()
        return _explain(error)
    return status if isinstance(status, int) else EXIT_OK


def _explain(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        _say("interrupted; nothing half-written is left")
        return EXIT_INTERRUPTED
    known = _as_nmc_error(error)
    _say(str(known))
    return known.exit_status


def _as_nmc_error(error: BaseException) -> NmcError:
    if isinstance(error, NmcError):
        return error
    if isinstance(error, UsageError):
        return _usage(error)
    if isinstance(error, MemoryError):
        return NmcError(
            "NMC-W02", "nmc", str(error) or "out of memory", "use fewer samples or a larger machine"
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NmcError(
            "NMC-W01", str(error.filename or "output"), error.strerror or "disk full", "free the disk"
        )
    problem = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return NmcError("NMC-I01", "nmc", problem, "run again with --traceback and report it")


def _usage(error: Exception) -> NmcError:
    """The parser's complaint in nmc's words. Uses what every version of the parser has."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "nmc"
    help_hint = f"see {command} --help"
    message = str(getattr(error, "message", error)).rstrip(".").removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    possible = getattr(error, "possibilities", None)
    option = getattr(error, "option_name", None)
    if option is not None and hasattr(error, "possibilities"):
        remedy = f"did you mean {possible[0]}?" if possible else help_hint
        return NmcError("NMC-U01", command, f"unknown option {option}", remedy)
    if not isinstance(error, typer.BadParameter):
        return NmcError("NMC-U01", command, message, help_hint)
    parameter = getattr(error, "param", None)
    who = _spelling(parameter) if parameter is not None else command
    if type(error) is typer.BadParameter:
        return NmcError("NMC-U02", who, message, _origin(context, parameter) or help_hint)
    return NmcError("NMC-U01", command, f"{who} is missing", help_hint)


def _origin(context: Any, parameter: Any) -> str:
    """What to mend where the value was not given on the command line; "" where it was."""
    source = None if context is None or parameter is None else context.get_parameter_source(parameter.name)
    if source is None or source.name != "DEFAULT_MAP":
        return ""
    return f"mend {context.meta[ORIGINS][parameter.name]}"


def _spelling(parameter: Any) -> str:
    """How a user writes a parameter: the long form of an option, the metavar of an argument."""
    options = [one for one in parameter.opts if one.startswith("-")]
    return max(options, key=len) if options else str(parameter.metavar or parameter.name.upper())


def _say(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(f"error: {text}", file=sys.stderr, flush=True)
        if os.environ.get("GITHUB_ACTIONS") == "true":
            # An annotation; "%" first, as it escapes the others (docs.github.com: workflow commands).
            plain = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
            print(f"::error title=nmc::{plain}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C, so that temporary files are removed and child processes are ended."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
