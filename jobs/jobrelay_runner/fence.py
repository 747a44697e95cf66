"""The writer fence: of two processes of one stage, the later one wins and the earlier stops writing.

Kubernetes may start a Job's program twice, and may have two Pods of one stage alive at once. So each
process makes a folder of its own beside the files of the run,

    runs/RUN/.train-00000002-9f86d081884c7d65.partial/

writes every file there first and then moves it to its place. What is to go, it first moves into that
folder. Whoever comes later takes the next number and removes the folders with lower ones: whatever
their owners then try to move comes from, or goes to, a path that is not there any more.

The file system decides in the one step of a rename. There is no lock, which a volume may not know and
a process that is frozen would hold for ever, and no time between looking and moving in which somebody
else could come. The name ends in .partial, so that nothing of it is ever sent home (volume.archive).
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
#: The largest number that a folder's name has room for.
_LAST_NUMBER: Final = 99_999_999
#: A Pod's name and a time; a larger file in its place is not read.
_OWNER_BYTES: Final = 64 * 1024
#: How often the removal of a folder is tried, into which its owner may be writing at this moment.
_REMOVALS: Final = 20


@dataclass(frozen=True)
class Owner(Typed):
    """Who has made a folder, for the log of those who find themselves superseded."""

    pod: str
    since: str


@dataclass(frozen=True)
class WriterFence:
    """One process's right to change the files of a stage. It holds in the processes that it forks, too."""

    run: RunFolder
    stage: Stage
    folder: Path

    @classmethod
    def claim(cls, run: RunFolder, stage: Stage, pod: str) -> WriterFence:
        """Take over from whoever is writing this stage of this run; the run's folder is there already.

        Raises OSError, as on a full volume; then the one before still has the right. Raises Superseded if
        somebody came at the same time and was later by a hair.
        """
        number = 1 + _last_number(run, stage)
        if number > _LAST_NUMBER:
            # No count of starts comes so far: somebody has made it. All start from 1 again, after whoever
            # has one of these folders has lost it.
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
        # Looked at again only now: of two who come at once, at least one sees the other, and both see
        # the same order.
        there = _folders(run, stage)
        if fence.folder != max(there, default=None):
            fence.release()
            fence._give_up()
        for folder in [*there, *run.path.glob(f".{stage}-*.gone.partial")]:
            if folder != fence.folder:
                _remove(folder)
        return fence

    def write(self, path: Path, content: bytes | str | Iterable[bytes]) -> None:
        """Put a file in place, whole (jobrelay_runner.volume.files). Raises Superseded, OSError."""
        try:
            write_atomically(path, content, temporary=self.folder / f"{path.name}.new")
        except OSError as error:
            if self.is_lost():
                self._give_up(error)
            # By the name that people know: a full disk does not give one, a rename gives the wrong one.
            raise OSError(error.errno, error.strerror, str(path)) from error

    def make_folder(self, path: Path) -> None:
        """Make a folder of the run, if it is not there. Raises BadInput for a link in its place, OSError."""
        try:
            make_folder(path)
        except FileExistsError as error:
            raise BadInput(in_the_way(path)) from error

    def remove(self, path: Path) -> None:
        """Remove a file; it may be gone already. Raises Superseded, OSError."""
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
        """Raises Superseded if another process has taken over."""
        if self.is_lost():
            self._give_up()

    def release(self) -> None:
        """Nothing is written after this."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def is_lost(self) -> bool:
        """Whether another process has taken over."""
        # A run that was deleted as a whole is another matter, and what fails then tells of it.
        try:
            return not self.folder.is_dir() and self.run.path.is_dir()
        except OSError:  # a network's volume cannot tell now; and every write is guarded by its rename
            return False

    def _give_up(self, cause: OSError | None = None) -> NoReturn:
        raise Superseded(
            f"another process of this stage has taken over ({self._successor()}); "
            "this one stops writing and ends"
        ) from cause

    def _successor(self) -> str:
        """Who has taken over: by its folder, or by the record if it has come to its end already."""
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
    """The fence of those who may not write: of a stage of several Pods, all but the one with index 0.

    They claim nothing, and so can never take over from that one.
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
        """There is nothing to give back."""

    def is_lost(self) -> bool:
        return False


def _folders(run: RunFolder, stage: Stage) -> list[Path]:
    """The folders of all who have claimed this stage; the last in their order has the right."""
    name = re.compile(rf"\.{stage}-[0-9]{{8}}-[0-9a-f]{{16}}\.partial")
    return [path for path in run.path.iterdir() if name.fullmatch(path.name)]


def _last_number(run: RunFolder, stage: Stage) -> int:
    return max((int(folder.name.split("-")[1]) for folder in _folders(run, stage)), default=0)


def _remove(folder: Path) -> None:
    """Take a folder from its owner. From the rename on, the owner finds nothing under its name."""
    gone = folder.with_name(f"{folder.name.removesuffix('.partial').removesuffix('.gone')}.gone.partial")
    with contextlib.suppress(FileNotFoundError):  # somebody else was quicker
        try:
            folder.rename(gone)
        except FileNotFoundError:
            raise
        except OSError:  # somebody has put something there
            gone = folder.with_name(f"{folder.name.split('-')[0]}-{secrets.token_hex(8)}.gone.partial")
            folder.rename(gone)
    # A file that is being made in it at this moment makes one attempt fail. And an owner on another
    # node, whose network file system remembers the folder itself, is kept out only once it is gone.
    for _ in range(_REMOVALS):
        if gone.is_symlink() or gone.is_file():  # nobody's folder
            gone.unlink(missing_ok=True)
        shutil.rmtree(gone, ignore_errors=True)
        if not gone.exists():
            return
