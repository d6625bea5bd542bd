"""Files written whole or not at all, and the check that they can be written, before any long work."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO, TypeAlias

from nmc.errors import NmcError

AnyPath: TypeAlias = str | os.PathLike[str]
Writer: TypeAlias = Callable[[BinaryIO], object]

STALE_SECONDS = 3600


def reason(error: BaseException) -> str:
    """The plain words of an OSError or of a library's exception."""
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


def _cannot_write(path: AnyPath, problem: str, remedy: str = "") -> NmcError:
    return NmcError("NMC-W01", os.fspath(path), problem, remedy)


def _target(path: AnyPath) -> Path:
    """Where a write ends: links are followed; directories, devices and pipes are refused (NMC-W01)."""
    try:
        target = Path(os.path.realpath(path))
        status = target.stat() if os.path.lexists(target) else None
    except (OSError, ValueError) as error:
        raise _cannot_write(path, reason(error)) from error
    if status is not None and stat.S_ISDIR(status.st_mode):
        raise _cannot_write(path, "is a directory", "name a file")
    if status is not None and not stat.S_ISREG(status.st_mode):
        raise _cannot_write(path, "is not a regular file", "name another output")
    return target


def _stem(target: Path) -> str:
    # A file name has at most 255 bytes; the cut leaves room for what is added to it.
    return os.fsdecode(os.fsencode(target.name)[:200])


def _temporary(target: Path) -> Path:
    return target.with_name(f".{_stem(target)}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _sweep(target: Path) -> None:
    """Remove what killed writers of the same file left behind: older than an hour, process gone."""
    pattern = re.compile(rf"\.{re.escape(_stem(target))}\.(?P<pid>\d{{1,10}})-[0-9a-f]{{8}}\.tmp")
    for entry in os.scandir(target.parent):
        match = pattern.fullmatch(entry.name)
        if match is None:
            continue
        with contextlib.suppress(OSError):
            old = time.time() - entry.stat(follow_symlinks=False).st_mtime > STALE_SECONDS
            if old and not _alive(int(match["pid"])):
                os.unlink(entry.path)


def _sync_directory(directory: Path) -> None:
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def atomic_write(path: AnyPath, data: bytes | Writer) -> None:
    """Write a whole file or nothing: temporary file beside it, sync, rename, sync the directory.

    Args:
        path: the output; an existing regular file is replaced and keeps its mode, links are followed.
        data: the content, or a function that writes it to a binary, seekable file.

    Raises:
        NmcError: NMC-W01 when the system refuses (full disk, no permission, missing directory). Whatever
            the writer raises passes through. In both cases the old file stays and no new one is left.
    """
    target = _target(path)
    temporary = _temporary(target)
    try:
        _sweep(target)
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            with open(handle, "w+b") as file:
                if target.exists():
                    os.fchmod(handle, stat.S_IMODE(target.stat().st_mode))
                if callable(data):
                    data(file)
                else:
                    file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        _sync_directory(target.parent)
    except OSError as error:
        raise _cannot_write(path, reason(error), "choose another output or free the disk") from error


def ensure_writable(path: AnyPath, *, force: bool = False, inputs: Iterable[AnyPath] = ()) -> None:
    """Refuse an output before any long work: ``atomic_write`` must be able to succeed there.

    Args:
        path: the output.
        force: allow that an existing file is replaced. Callers pass True where the file is their own
            kind (``bundle.is_bundle``) or the user said ``--force``.
        inputs: files that the output must not be.

    Raises:
        NmcError: NMC-W01 for a missing or read-only directory, a directory or device, an existing file
            without ``force``, and an output that is one of the inputs.
    """
    target = _target(path)
    for source in inputs:
        if os.path.exists(source) and target.exists() and os.path.samefile(source, target):
            raise _cannot_write(path, "is also an input", "name another output")
    if target.exists() and not force:
        raise _cannot_write(path, "exists and was not written by this command", "use --force to replace it")
    probe = _temporary(target)
    try:
        # The only proof on every file system and for every user is to make a file there.
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        os.unlink(probe)
    except OSError as error:
        raise _cannot_write(path, reason(error), "choose another output") from error
