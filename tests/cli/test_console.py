"""Every way a command can end: status, and at most one line on stderr."""

from __future__ import annotations

import errno
import io
import os
import signal

import pytest

from nmc import console
from nmc.cli import main
from nmc.console import Format, emit, run_guarded
from nmc.errors import CATALOGUE, NmcError
from nmc.reports.document import Document, table_of


def failing(error: BaseException):
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize("code", sorted(CATALOGUE))
def test_a_refusal_has_the_status_of_its_code(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = run_guarded(failing(NmcError(code, "layer1\nx", "is bad", "mend it")))
    out, err = capsys.readouterr()
    assert status == CATALOGUE[code].exit_status
    assert (out, err) == ("", f"error: {code} layer1\\nx: is bad; mend it\n")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (MemoryError("Unable to allocate 64.0 GiB"), 6, "NMC-W02"),
        (OSError(errno.ENOSPC, "No space left on device", "x.nmc"), 6, "NMC-W01"),
        (OSError(errno.EIO, "Input/output error"), 70, "NMC-I01"),
        (ZeroDivisionError("division\nby zero"), 70, "NMC-I01"),
        (RecursionError(), 70, "NMC-I01"),
    ],
)
def test_other_failures_are_one_line(
    error: BaseException, status: int, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_guarded(failing(error)) == status
    _, err = capsys.readouterr()
    assert err.startswith(f"error: {code} ")
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_an_internal_error_tells_how_to_see_more(capsys: pytest.CaptureFixture[str]) -> None:
    run_guarded(failing(ValueError("odd")))
    assert "--traceback" in capsys.readouterr().err
    run_guarded(failing(ValueError("odd")), show_traceback=True)
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("error: NMC-I01 nmc: ValueError: odd")


def test_ctrl_c_and_sigterm_end_with_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_guarded(failing(KeyboardInterrupt())) == 130
    before = signal.getsignal(signal.SIGTERM)
    assert run_guarded(lambda: os.kill(os.getpid(), signal.SIGTERM)) == 130
    assert signal.getsignal(signal.SIGTERM) == before
    assert capsys.readouterr().err.splitlines() == ["error: interrupted; nothing half-written is left"] * 2


def test_status_of_a_command_is_passed_on() -> None:
    assert run_guarded(lambda: 3) == 3
    assert run_guarded(lambda: None) == 0


class Stream(io.StringIO):
    """A stdout whose write fails."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error

    def flush(self) -> None:
        raise self.error


DOCUMENT = Document("x", {"a": 1}, (table_of("t", ("a",), [("1",)]),), (("what", "value"),))


def test_a_closed_pipe_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout", Stream(BrokenPipeError()))
    assert run_guarded(lambda: emit(DOCUMENT, Format.JSON)) == 0
    assert capsys.readouterr().err == ""


def test_another_broken_pipe_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_guarded(failing(BrokenPipeError(errno.EPIPE, "Broken pipe"))) == 70
    assert capsys.readouterr().err.startswith("error: NMC-I01 ")


def test_a_full_disk_behind_stdout_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout", Stream(OSError(errno.ENOSPC, "No space left on device")))
    assert run_guarded(lambda: emit(DOCUMENT, Format.TEXT)) == 6
    assert capsys.readouterr().err == "error: NMC-W01 standard output: No space left on device\n"


@pytest.mark.parametrize("columns", ["1", "20", "80", "400"])
def test_any_width_prints(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    emit(DOCUMENT, Format.TEXT)
    out = capsys.readouterr().out
    assert "what  value" in out
    assert "\x1b" not in out


def test_each_format_prints_itself(capsys: pytest.CaptureFixture[str]) -> None:
    starts = {Format.JSON: "{", Format.MARKDOWN: "### t", Format.HTML: "<!doctype html>", Format.TEXT: "t\n"}
    for how, start in starts.items():
        emit(DOCUMENT, how)
        assert capsys.readouterr().out.startswith(start)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--nope"], "error: NMC-U01 nmc: unknown option --nope; see nmc --help"),
        (
            ["doctor", "--formt", "json"],
            "error: NMC-U01 nmc doctor: unknown option --formt; did you mean --format?",
        ),
        (["verify"], "error: NMC-U01 nmc verify: BUNDLE is missing; see nmc verify --help"),
        (["run", "x.nmc"], "error: NMC-U01 nmc run: --input is missing; see nmc run --help"),
        (["explain", "NMC-P99"], "error: NMC-U03 NMC-P99: is no error code; did you mean NMC-P05?"),
    ],
)
def test_usage_errors_name_option_and_remedy(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", line + "\n")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["nonsense"], "NMC-U01"),
        (["doctor", "extra"], "NMC-U01"),
        (["compile", "x.nir", "--steps"], "NMC-U01"),
        (["compile", "x.nir", "--steps", "many"], "NMC-U02"),
        (["doctor", "--format", "xml"], "NMC-U02"),
        (["compile", "x.nir", "--seed", "1.5"], "NMC-U02"),
        (["compile", "x.nir", "-o", "x.nmc", "--joins", "both"], "NMC-U02"),
    ],
)
def test_usage_errors_are_one_line(
    arguments: list[str], code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {code} ")
    assert err.count("\n") == 1


def test_traceback_is_allowed_anywhere(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--traceback", "explain", "X"], ["explain", "X", "--traceback"]):
        assert main(arguments) == 2
        err = capsys.readouterr().err
        assert "Traceback" in err
        assert err.splitlines()[-1].startswith("error: NMC-U03")


def test_nearest() -> None:
    assert console.nearest("loihi22", ["loihi1", "loihi2"]) == "did you mean loihi2?"
    assert console.nearest("zzz", ["loihi1", "loihi2"]) == "known are loihi1, loihi2"
