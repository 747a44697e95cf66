"""The writer fence: of two processes of one stage, the later one wins and the earlier stops writing.

Kubernetes may start a Job's program twice, and may have two Pods of one stage alive at once. So each
process makes its own folder next to the run's files,

    runs/RUN/.train-00000002-9f86d081884c7d65.partial/

writes every file there first and then moves it into place. To remove a file, it first moves the file into
that folder. A later process takes the next number and removes the folders with lower numbers: every move
that their owners then try has a source or a target that no longer exists.

The file system decides in a single step, the rename. There is no lock, which some volumes do not support
and a frozen process would hold forever, and no gap between check and move in which another process could
interfere. The name ends in .partial, so that the folder is never sent to the launcher (volume.archive).
"""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from jobrelay_runner.errors import BadInput, Superseded, in_the_way
from jobrelay_runner.stages import Stage
from jobrelay_runner.usage.clock import now
from jobrelay_runner.volume.files import make_folder, write_atomically
from jobrelay_runner.volume.paths import RunFolder
from jobrelay_runner.volume.record import RecordError, read_record
from jobrelay_runner.volume.safe_read import read_bytes
from jobrelay_runner.volume.typed_json import Typed

_OWNER: Final = "owner.json"
#: The largest number that fits in a folder's name.
_LAST_NUMBER: Final = 99_999_999
#: The file holds a Pod's name and a time; a larger one is not read.
_OWNER_BYTES: Final = 64 * 1024
#: Attempts to remove a folder, because its owner may be writing to it at this moment.
_REMOVALS: Final = 20


@dataclass(frozen=True)
class Owner(Typed):
    """Who made a folder; a superseded process names it in its log."""

    pod: str
    since: str


@dataclass(frozen=True)
class WriterFence:
    """One process's right to change the files of a stage. The processes that it forks inherit it."""

    run: RunFolder
    stage: Stage
    folder: Path

    @classmethod
    def claim(cls, run: RunFolder, stage: Stage, pod: str) -> WriterFence:
        """Take over from the process that writes this stage of this run; the run's folder must exist.

        Raises OSError, for example on a full volume; then the previous process keeps the right. Raises
        Superseded if another process claimed at the same time and won.
        """
        number = 1 + _last_number(run, stage)
        if number > _LAST_NUMBER:
            # No count of starts gets this far: somebody made the folder by hand. Remove all folders, so
            # that their owners lose the right, and count from 1 again.
            for folder in _folders(run, stage):
                _remove(folder)
            number = 1 + _last_number(run, stage)
        fence = cls(run, stage, run.path / f".{stage}-{number:08}-{secrets.token_hex(8)}.partial")
        fence.folder.mkdir()
        try:
            fence.write(fence.folder / _OWNER, Owner(pod=pod, since=now()).to_json() + "\n")
        except OSError:
            fence.release()
            raise
        # List again only now: of two processes that claim at once, at least one sees the other, and both
        # see the same order.
        there = _folders(run, stage)
        if fence.folder != max(there, default=None):
            fence.release()
            fence._give_up()
        for folder in [*there, *run.path.glob(f".{stage}-*.gone.partial")]:
            if folder != fence.folder:
                _remove(folder)
        return fence

    def write(self, path: Path, content: bytes | str | Iterable[bytes]) -> None:
        """Write a file atomically (jobrelay_runner.volume.files). Raises Superseded, OSError."""
        try:
            write_atomically(path, content, temporary=self.folder / f"{path.name}.new")
        except OSError as error:
            if self.is_lost():
                self._give_up(error)
            # Name the file that people know: a full disk gives no name, a rename the wrong one.
            raise OSError(error.errno, error.strerror, str(path)) from error

    def make_folder(self, path: Path) -> None:
        """Create a folder of the run if it is missing. Raises BadInput for a link in its place, OSError."""
        try:
            make_folder(path)
        except FileExistsError as error:
            raise BadInput(in_the_way(path)) from error

    def remove(self, path: Path) -> None:
        """Remove a file if it exists. Raises Superseded, OSError."""
        taken = self.folder / path.name
        try:
            path.rename(taken)
            taken.unlink(missing_ok=True)
        except OSError as error:
            if self.is_lost():
                self._give_up(error)
            if not isinstance(error, FileNotFoundError):
                raise

    def check(self) -> None:
        """Raise Superseded if another process has taken over."""
        if self.is_lost():
            self._give_up()

    def release(self) -> None:
        """Give up the right to write."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def is_lost(self) -> bool:
        """Whether another process has taken over."""
        # A run that was deleted as a whole is a different case: the next write fails and reports it.
        try:
            return not self.folder.is_dir() and self.run.path.is_dir()
        except OSError:  # a network volume does not answer now; every write is still guarded by its rename
            return False

    def _give_up(self, cause: OSError | None = None) -> NoReturn:
        raise Superseded(
            f"another process of this stage has taken over ({self._successor()}); "
            "this one stops writing and ends"
        ) from cause

    def _successor(self) -> str:
        """Name the process that took over: from its folder, or from the record if it has already ended."""
        for folder in sorted(_folders(self.run, self.stage), reverse=True):
            with contextlib.suppress(OSError, ValueError):
                owner = Owner.from_json(read_bytes(folder / _OWNER, _OWNER_BYTES, root=self.run.root))
                return f"{owner.pod}, since {owner.since}"
        with contextlib.suppress(RecordError):
            if record := read_record(self.run.record(self.stage), root=self.run.root):
                return f"{record.pod}, since {record.started}"
        return "it has ended without a record"


@dataclass(frozen=True)
class ClosedFence(WriterFence):
    """The fence of a process that may not write: in a stage of several Pods, every Pod except index 0.

    It claims nothing, so it can never take over from Pod 0.
    """

    @classmethod
    def around(cls, run: RunFolder, stage: Stage) -> ClosedFence:
        return cls(run, stage, run.path)

    def write(self, path: Path, content: bytes | str | Iterable[bytes]) -> None:
        raise AssertionError(f"{path.name}: only the Pod with index 0 writes")

    def make_folder(self, path: Path) -> None:
        raise AssertionError(f"{path.name}: only the Pod with index 0 writes")

    def remove(self, path: Path) -> None:
        raise AssertionError(f"{path.name}: only the Pod with index 0 removes")

    def release(self) -> None:
        """Do nothing: there is nothing to release."""

    def is_lost(self) -> bool:
        return False


def _folders(run: RunFolder, stage: Stage) -> list[Path]:
    """Return the folders of all processes that claimed this stage; the last in sorted order has the right."""
    name = re.compile(rf"\.{stage}-[0-9]{{8}}-[0-9a-f]{{16}}\.partial")
    return [path for path in run.path.iterdir() if name.fullmatch(path.name)]


def _last_number(run: RunFolder, stage: Stage) -> int:
    return max((int(folder.name.split("-")[1]) for folder in _folders(run, stage)), default=0)


def _remove(folder: Path) -> None:
    """Remove a folder from under its owner, which after the rename finds nothing at its path."""
    gone = folder.with_name(f"{folder.name.removesuffix('.partial').removesuffix('.gone')}.gone.partial")
    with contextlib.suppress(FileNotFoundError):  # another process was quicker
        try:
            folder.rename(gone)
        except FileNotFoundError:
            raise
        except OSError:  # that name is taken
            gone = folder.with_name(f"{folder.name.split('-')[0]}-{secrets.token_hex(8)}.gone.partial")
            folder.rename(gone)
    # One attempt fails if the owner is creating a file in it at this moment. And an owner on another node,
    # whose network file system still holds a handle to the folder, is kept out only once the folder is gone.
    for _ in range(_REMOVALS):
        if gone.is_symlink() or gone.is_file():  # not the folder of a process
            gone.unlink(missing_ok=True)
        shutil.rmtree(gone, ignore_errors=True)
        if not gone.exists():
            return
