"""Folders that appear, are replaced and vanish as a whole.

data/.NAME.XXXX.unpack.partial   the future NAME, or the former one; if it is not locked, its maker was
                                 killed, and the next process removes it
data/.NAME.replaced              the former NAME until the new one has the name, where the file system
                                 cannot exchange two names; restored if the process is killed before that
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from jobrelay_runner.volume.files import sync_folder

_SUFFIX: Final = ".unpack.partial"
#: From linux/fs.h; two names change places in one step.
_RENAME_EXCHANGE: Final = 2
_AT_FDCWD: Final = -100
#: Errors of file systems and kernels that do not support the exchange.
_CANNOT_EXCHANGE: Final = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}


@contextlib.contextmanager
def temporary_beside(folder: Path) -> Iterator[Path]:
    """Yield a new folder for the future contents of `folder`; removed at the end unless it was renamed.

    It is locked while in use: if one is not locked, its maker was killed, and the next process removes it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(f".{folder.name}.*{_SUFFIX}"):
        _remove_abandoned(left)
    incoming = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=_SUFFIX, dir=folder.parent))
    lock = os.open(incoming, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield incoming
    finally:
        shutil.rmtree(incoming, ignore_errors=True)
        os.close(lock)


def replace(incoming: Path, folder: Path) -> None:
    """Give `incoming` the name of `folder`; the old folder becomes `incoming` or is removed. Raises OSError.

    Where the file system can exchange two names, one of the two has the name at every moment. Where it
    cannot, as on most network file systems, neither has it for a moment; `restore` brings the old one back
    if the process is killed right then.
    """
    restore(folder)
    if not os.path.lexists(folder):
        incoming.rename(folder)
    elif not _exchange(incoming, folder):
        old = _replaced(folder)
        folder.rename(old)
        try:
            incoming.rename(folder)
        except BaseException:
            old.rename(folder)
            raise
        old.rename(incoming)
    sync_folder(folder.parent)


def restore(folder: Path) -> None:
    """Bring back the folder that `replace` had put aside when it was killed."""
    old = _replaced(folder)
    if not os.path.lexists(old):
        return
    if os.path.lexists(folder):  # the new folder was in place: only the old one's removal is left
        shutil.rmtree(old, ignore_errors=True)
    else:
        old.rename(folder)


def remove(folder: Path) -> None:
    """Remove a folder with its contents; the name is free at once. Raises OSError, also for a link."""
    restore(folder)
    if folder.is_symlink():
        raise NotADirectoryError(errno.ENOTDIR, "it is a symbolic link, not a folder", str(folder))
    gone = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}{_SUFFIX}")
    folder.rename(gone)
    sync_folder(folder.parent)
    shutil.rmtree(gone)


def _replaced(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.replaced")


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step; return False where that is not possible. Raises OSError."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), str(other))


def _remove_abandoned(left: Path) -> None:
    try:
        lock = os.open(left, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return  # a file, or gone already
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return  # in use
    else:
        shutil.rmtree(left, ignore_errors=True)
    finally:
        os.close(lock)
