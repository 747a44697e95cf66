"""The folder of one Job: created atomically, read with limits, trusted by its owner.

Any user who can write to the volume can put a folder there. A Job's folder belongs to the user who created
it, and no other user may read it (mode 0700): a launcher follows and continues only its own user's Jobs.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from jobrelay.errors import BadInput, JobRelayError
from jobrelay.executors.local import layout, liveness
from jobrelay.kube.objects import Job, Object
from jobrelay_runner.volume import safe_read

#: The state of a Job with hundreds of Pods, each with a full termination message, takes a few MB.
STATE_BYTES: Final = 16 * 2**20
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)
OTHER_FOLDER: Final = "choose another folder with --volume"


@contextlib.contextmanager
def on_volume(root: Path) -> Iterator[None]:
    """Report the volume's OSErrors in this block as errors that name the cause. Raises JobRelayError."""
    try:
        yield
    except FileNotFoundError:
        raise  # something was deleted meanwhile: the caller handles it
    except OSError as error:
        raise refusal(root, error) from error


def refusal(root: Path, error: OSError) -> JobRelayError:
    """The error that explains why the volume could not be used."""
    if is_full(error):
        return JobRelayError(
            f"the volume {root} has no room left: {error.strerror}",
            "make room on it and run the same command again; what is there is kept",
        )
    where = Path(os.fsdecode(error.filename)) if error.filename else root
    if error.errno in (errno.EACCES, errno.EPERM):
        why = f"{where} belongs to {owner_name(where)}, and you may not use it"
        return BadInput(f"the volume {root} cannot be used: {why}", _for_another_user(where))
    return BadInput(f"the volume {root} cannot be used: {where}: {error.strerror}", OTHER_FOLDER)


def is_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in _NO_ROOM


def unwritable(root: Path) -> str:
    """Why a run cannot keep its files on this volume; empty if it can."""
    nearest = next(path for path in (root, *root.parents) if os.access(path, os.F_OK))
    for folder in (nearest, *(root / name for name in (layout.JOBS, "runs"))):
        if not os.access(folder, os.F_OK):  # does not exist, or cannot be seen in the folder just checked
            continue
        if not folder.is_dir():
            return f"{folder} is not a directory"
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            return f"{folder} cannot be written: it belongs to {owner_name(folder)}"
    return ""


def owner_name(path: Path) -> str:
    """The owner of a file, for people; if the path cannot be read, the owner of the nearest folder."""
    for known in (path, *path.parents):
        try:
            uid = known.lstat().st_uid
        except OSError:
            continue
        try:
            return f"user {pwd.getpwuid(uid).pw_name}"
        except KeyError:
            return f"the user with id {uid}"
    return "another user"


def require_own(folder: Path) -> None:
    """Raise BadInput unless the folder is this user's. Raises FileNotFoundError if it does not exist."""
    if folder.lstat().st_uid != os.geteuid():
        raise not_yours(folder)


def not_yours(folder: Path) -> BadInput:
    """The error for a Job that another user created."""
    return BadInput(
        f"{folder.name} in {folder.parent} belongs to {owner_name(folder)}, who alone may look into it",
        "choose another --run, or another folder with --volume",
    )


def unreadable(folder: Path, error: OSError | JobRelayError) -> JobRelayError:
    """The error for a Job whose state cannot be read."""
    if isinstance(error, JobRelayError):
        return error
    if isinstance(error, PermissionError):
        return not_yours(folder)
    return JobRelayError(
        f"the state of Job {folder.name} cannot be read: {safe_read.why(error)}", f"look at {folder}"
    )


def owner_to_end(folder: Path) -> int:
    """The user whose processes a Job has started, if you are that user or root. Raises BadInput."""
    owner = folder.lstat().st_uid
    if os.geteuid() not in (owner, 0):
        raise not_yours(folder)
    return owner


def create(folder: Path, job: Job) -> bool:
    """Create the Job's folder atomically; False if the name is taken. Raises OSError."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    metadata = {**job["metadata"], "uid": layout.uid(), "creationTimestamp": layout.now()}
    state = {"job": {**job, "metadata": metadata, "status": {}}, "pods": []}
    incoming = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    try:
        (incoming / layout.STATE).write_text(json.dumps(state), encoding="utf-8")
        liveness.prepare(incoming)
        return _renamed(incoming, folder)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)  # already moved if the Job was created


def read_state(folder: Path) -> Object:
    """{"job": …, "pods": […]}. Raises FileNotFoundError, other OSErrors and JobRelayError."""
    content = safe_read.read_bytes(folder / layout.STATE, STATE_BYTES)
    try:
        state: Object = json.loads(content)
        state["job"]["metadata"]["uid"], state["pods"]
    except (ValueError, LookupError, TypeError) as error:
        raise JobRelayError(
            f"{folder / layout.STATE} is damaged", f"remove {folder} once nothing of that Job runs"
        ) from error
    return state


def is_torn(folder: Path) -> bool:
    """Whether a Job's folder has no state: a launcher was killed while it removed the folder."""
    return folder.is_dir() and not (folder / layout.STATE).exists()


def folders(root: Path) -> list[Path]:
    """The folders of all Jobs on the volume, including those of other users."""
    try:
        names = sorted(os.listdir(root / layout.JOBS))  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [root / layout.JOBS / name for name in names if not name.startswith(".") and name != layout.CONFIG]


def _renamed(incoming: Path, folder: Path) -> bool:
    """Rename the folder to its final name; False if a non-empty folder has that name."""
    try:
        incoming.rename(folder)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            return False
        raise
    return True


def _for_another_user(where: Path) -> str:
    return (
        f"choose another folder with --volume, or let its owner give your group the right to write: {where}"
    )
