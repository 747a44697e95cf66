"""Every byte that a stage prints: copied to the container's log and a file on the volume, counted, hashed."""

from __future__ import annotations

import hashlib
import itertools
import os
from typing import BinaryIO, Final

from jobrelay_runner.stages import Stage
from jobrelay_runner.volume.files import make_folder
from jobrelay_runner.volume.paths import RunFolder
from jobrelay_runner.volume.record import LogDigest

_TAIL_BYTES: Final = 2048
_LINE_CHARACTERS: Final = 300


class StageLog:
    """Copies bytes to a descriptor and to its own log file.

    The bytes are never decoded, so torn UTF-8, carriage returns and a missing last newline arrive
    as they were printed. Neither a closed descriptor nor a full disk stops the stage: the other copy is
    still written, and `problem` says which one was given up.
    """

    def __init__(self, folder: RunFolder, stage: Stage, pod: str, descriptor: int) -> None:
        """Open the log file. Raises OSError."""
        make_folder(folder.logs)
        self.problem: str | None = None
        self._folder = folder
        self._descriptor: int | None = descriptor
        self._file: BinaryIO | None = self._open(folder, stage, pod)
        self._name = self._file.name
        self._hasher = hashlib.sha256()
        self._bytes = 0
        self._newlines = 0
        self._line_is_open = False
        self._tail = b""

    @staticmethod
    def _open(folder: RunFolder, stage: Stage, pod: str) -> BinaryIO:
        """Create STAGE-POD.log, or STAGE-POD-2.log and so on if a Pod of that name has left a log."""
        for number in itertools.count(1):
            try:
                return folder.log(stage, pod if number == 1 else f"{pod}-{number}").open("xb", buffering=0)
            except FileExistsError:
                continue
        raise AssertionError("unreachable")

    def write(self, content: bytes) -> None:
        """Copy bytes to both places; the file comes first, so that it holds all that a follower has seen."""
        if not content:
            return
        self._hasher.update(content)
        self._bytes += len(content)
        self._newlines += content.count(b"\n")
        self._line_is_open = not content.endswith(b"\n")
        self._tail = (self._tail + content[-_TAIL_BYTES:])[-_TAIL_BYTES:]
        if self._file is not None:
            try:
                _write_all(self._file.fileno(), content)
            except OSError as error:
                self._give_up(f"the log file {self._name} ends early: {error.strerror}")
                self._file.close()
                self._file = None
        if self._descriptor is not None:
            try:
                _write_all(self._descriptor, content)
            except OSError as error:
                self._give_up(f"standard output ends early: {error.strerror}")
                self._descriptor = None

    def say(self, line: str) -> None:
        """Write a line of the supervisor's, always on a new line."""
        start = "\n" if self._line_is_open else ""
        self.write(f"{start}{line}\n".encode(errors="backslashreplace"))

    def last_line(self) -> str:
        """Return the last line that is not empty, shortened; of a traceback, the exception."""
        lines = self._tail.decode("utf-8", "replace").strip().splitlines()
        return lines[-1].strip()[:_LINE_CHARACTERS] if lines else ""

    def digest(self) -> LogDigest:
        """Sync the log file and return the digest of everything written so far."""
        if self._file is not None:
            try:
                os.fsync(self._file.fileno())
            except OSError as error:
                self._give_up(f"the log file {self._name} may end early: {error.strerror}")
        return LogDigest(
            file=os.path.relpath(self._name, self._folder.path),
            sha256=self._hasher.hexdigest(),
            bytes=self._bytes,
            lines=self._newlines + self._line_is_open,
        )

    def close(self) -> None:
        """Close the log file."""
        if self._file is not None:
            self._file.close()

    def _give_up(self, problem: str) -> None:
        self.problem = f"{self.problem}; {problem}" if self.problem else problem


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
