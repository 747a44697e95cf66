"""The workspace of a run: the folder in which every stage works, and what each stage changes there."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Final, List, Mapping, Optional, Tuple

from jobrelay_runner.context import StageContext
from jobrelay_runner.errors import BadInput
from jobrelay_runner.volume.paths import PASSING_ERRORS, RunFolder
from jobrelay_runner.volume.record import FileDigest, Record
from jobrelay_runner.volume.records import Found, redone_since
from jobrelay_runner.volume.safe_read import RECORD_BYTES, read_bytes

#: What programs leave in passing: no result, and different each time.
_PASSING: Final = ("__pycache__", ".git", ".ipynb_checkpoints", ".pytest_cache")
#: Names in a record, which is always read as a whole (RECORD_BYTES), and what each takes beside the name.
_MOST_BYTES: Final = 12 * 2**20
_PER_NAME: Final = 128

#: Size and time of last change of each file, by its name relative to the run's folder.
State = Dict[str, Tuple[int, int]]
#: Differs from the state of every file.
_UNKNOWN: Final = (-1, -1)


@dataclass(frozen=True)
class Changes:
    """What a stage did to the workspace. left_out: how many more, unreadable or too many."""

    written: Dict[str, FileDigest]
    removed: List[str]
    left_out: int = 0


def link(folder: RunFolder, path: str, target: str) -> None:
    """Make data/NAME, or a folder of the workspace, appear at a path relative to the workspace.

    Raises BadInput if something else is there, or the path leads out of the run's folder.
    """
    place = Path(os.path.normpath(folder.workspace / path))
    source = folder.root / target if target.startswith("data/") else folder.workspace / target
    if folder.path not in place.parents or place == folder.workspace:
        raise BadInput(f"the mount {path} leads out of the folder of the run")
    if not place.is_symlink():
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(os.path.relpath(source, place.parent))
        except FileExistsError as error:
            raise BadInput(f"the mount {path}: the run has a file or folder of that name") from error


def has_code(folder: RunFolder, digest: str) -> bool:
    """Whether this code has been put into the workspace. A stage may have changed it since."""
    try:
        return read_bytes(folder.code, len(digest), root=folder.root) == digest.encode()
    except OSError:
        return False


def state_of(folder: RunFolder) -> State:
    """Return the state of every file in the workspace. Raises OSError if the volume does not answer."""
    state: State = {}
    for here, folders, files in os.walk(folder.workspace, onerror=_raise_if_passing):
        folders[:] = [name for name in folders if name not in _PASSING]
        prefix = os.path.relpath(here, folder.path)
        for name in files:
            try:
                status = os.lstat(os.path.join(here, name))  # noqa: PTH118 (there may be many)
            except FileNotFoundError:
                continue
            if stat.S_ISREG(status.st_mode):
                state[f"{prefix}/{name}"] = (status.st_size, status.st_mtime_ns)
    return state


def state_before(
    context: StageContext[Any], previous: Optional[Record], found: Found, unpacked: List[str]
) -> State:
    """Return the state before the first attempt of this stage, for this attempt and those after it.

    What an attempt without success has left belongs to the stage. previous: the record of the attempt before
    this one. unpacked: files of the code that have just been put there.
    """
    path = context.folder.before(context.stage)
    state = None
    if previous and redone_since(previous, found):
        previous = None  # what it left is from before
    if previous and previous.status != "succeeded":
        try:
            tree = json.loads(read_bytes(path, 4 * RECORD_BYTES, root=context.folder.root))
            state = {str(name): (int(size), int(changed)) for name, (size, changed) in tree.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            state = None
    now = state_of(context.folder)
    if state is None:
        state = dict(now)
        if previous:  # what this stage has made of the files of others, and may leave so
            theirs = {
                name
                for record in found.values()
                if isinstance(record, Record) and record.stage != context.stage
                for name in record.outputs
            }
            state.update(
                (name, _UNKNOWN) for name in (*previous.outputs, *previous.removed) if name in theirs
            )
    state.update((name, now[name]) for name in unpacked if name in now)
    context.fence.write(path, json.dumps(state))
    return state


def changes_since(before: Mapping[str, Tuple[int, int]], folder: RunFolder) -> Changes:
    """Return what was written or removed since `before`, with the digests of the files as they are now."""
    after = state_of(folder)
    changed = sorted(name for name, state in after.items() if before.get(name) != state)
    missing = sorted(name for name in before if name not in after and not _is_file(folder, name))
    written: Dict[str, FileDigest] = {}
    removed: List[str] = []
    room, left_out = _MOST_BYTES, 0
    for name in (*changed, *missing):
        room -= _PER_NAME + len(name.encode(errors="surrogateescape"))
        if room < 0:
            left_out += 1
        elif name not in after:
            removed.append(name)
        else:
            try:
                written[name] = FileDigest.of(folder.path / name, root=folder.root)
            except FileNotFoundError:  # a process that the stage left behind removed it
                continue
            except OSError as error:
                _raise_if_passing(error)
                left_out += 1
    return Changes(written, removed, left_out)


def _is_file(folder: RunFolder, name: str) -> bool:
    """Whether it is still a file; True if that cannot be known, as in a folder that nobody may enter."""
    try:
        return stat.S_ISREG(os.lstat(folder.path / name).st_mode)
    except OSError as error:
        return not isinstance(error, (FileNotFoundError, NotADirectoryError))


def _raise_if_passing(error: OSError) -> None:
    """Raise `error` if a network volume does not answer; what nobody may read is left out."""
    if error.errno in PASSING_ERRORS:
        raise error
