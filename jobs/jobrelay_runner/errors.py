"""Why a stage ends without success, and the exit code that says so.

    StageError       exit code
    ├── BadInput         78   configuration, data or volume cannot work; a retry would not help
    ├── BadEvidence      65   an earlier stage's output is missing or does not match its record
    ├── Failed            1   the stage itself could not do its work; another attempt might
    ├── NotBegun         69   started early, and the previous stage has failed
    ├── Superseded       75   another process of this stage has taken over and reports its outcome
    ├── PeerLost         76   a process that this one trains with was lost; that loss is the cause
    └── Terminated      143   SIGTERM; the work done so far is saved

A StageError is printed as one `stage: message` without a traceback: the message is written for
the person who reads the log, and says what to do next. Any other exception is a defect: it is shown
with its traceback and ends the stage with exit code 1.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import ClassVar, Final

from jobrelay_runner import exit_codes
from jobrelay_runner.text.redaction import redacted
from jobrelay_runner.volume.paths import PASSING_ERRORS

_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN: Final = {errno.EACCES, errno.EPERM, errno.EROFS}


class StageError(Exception):
    """Base of all errors that a stage expects; see the tree in the module's docstring."""

    exit_code: ClassVar[int] = exit_codes.FAILED

    def __init__(self, message: str) -> None:
        super().__init__(redacted(message))  # it may quote a URL with a password


class BadInput(StageError):
    """The configuration, the data or the volume cannot work."""

    exit_code = exit_codes.BAD_CONFIG


class BadEvidence(StageError):
    """The previous stage's output is missing, unfinished or not the file in its record."""

    exit_code = exit_codes.BAD_EVIDENCE


class Failed(StageError):
    """The stage could not do its work."""

    exit_code = exit_codes.FAILED


class NotBegun(StageError):
    """The previous stage failed; this one, which was started early, did nothing."""

    exit_code = exit_codes.NOT_BEGUN


class Superseded(StageError):
    """Another process of this stage has taken over; this one has nothing more to write."""

    exit_code = exit_codes.SUPERSEDED


class PeerLost(StageError):
    """A process that this one works with, here or in another Pod of the stage, was lost or never appeared."""

    exit_code = exit_codes.PEER_LOST


class Terminated(StageError):
    """The stage was asked to stop, and stopped."""

    exit_code = exit_codes.TERMINATED


def one_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type's name if the message is empty."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def in_the_way(path: Path | str) -> str:
    """Return the message for a link or a file in place of one of the run's folders."""
    kind = "a symbolic link" if Path(path).is_symlink() else "not a folder"
    return f"{path} is in the way: it is {kind}, and a folder is expected there; remove it"


def passing_trouble(error: BaseException | None, path: Path | str) -> Failed | None:
    """Return the error to raise if a network volume did not answer for `path`; None for any other error."""
    if isinstance(error, OSError) and error.errno in PASSING_ERRORS:
        return Failed(
            f"cannot use {error.filename or path}: {error.strerror}; this may pass: start the stage again"
        )
    return None


def from_os_error(error: OSError, folder: Path) -> StageError | None:
    """Return what an OSError below `folder` (the volume) means to the user; None if nothing special."""
    where = error.filename or folder
    if passing := passing_trouble(error, where):
        return passing
    if error.errno in _FULL:
        return Failed(
            f"cannot write {where}: {error.strerror}; what was written before is intact; "
            "make room on the volume and start the stage again"
        )
    if error.errno in _FORBIDDEN:
        return BadInput(
            f"cannot write {where} as uid {os.getuid()}, gid {os.getgid()}: {error.strerror}; make the "
            f"volume writable for them (on a cluster, securityContext.fsGroup: {os.getgid()} does it)"
        )
    if error.errno == errno.ENOENT and not folder.exists():
        return Failed(
            f"{folder} is gone from the volume: it was deleted, or the volume was emptied, while this stage "
            "was running; start the run again"
        )
    return None
