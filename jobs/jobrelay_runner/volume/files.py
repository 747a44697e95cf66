"""Atomic writes: after a crash, a file is either the old one or the new one, complete; and locks."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def cannot_be_listed(error: OSError) -> None:
    """Raise `error` unless the folder has vanished; for os.walk, which otherwise skips unreadable folders."""
    if not isinstance(error, FileNotFoundError):
        raise error


def write_atomically(
    path: Path, content: bytes | str | Iterable[bytes], temporary: Path | None = None
) -> None:
    """Write a file: temporary name, fsync, rename, fsync of the folder.

    temporary: a path in the same file system; None for a name in the same folder. Raises OSError; then the
    old file is untouched and nothing is left behind.
    """
    temporary = temporary or path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with temporary.open("wb") as file:
            if isinstance(content, str):
                content = content.encode()
            for block in [content] if isinstance(content, bytes) else content:
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Create a folder for a run's files if it is missing. Raises OSError.

    A link in its place raises FileExistsError: writes and removals would happen somewhere else.
    """
    path.mkdir(exist_ok=True)
    if path.is_symlink():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))


def sync_folder(path: Path) -> None:
    """Make renames in a folder durable (POSIX: the entry is data of the folder, not of the file)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def json_text(tree: Any) -> str:
    """Return `tree` as readable JSON. Raises ValueError for what JSON cannot express (NaN)."""
    return json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, tree: Any) -> None:
    """Write `tree` as readable JSON, atomically."""
    write_atomically(path, json_text(tree))


@contextlib.contextmanager
def one_at_a_time(lock: Path) -> Iterator[bool]:
    """Hold this file's lock; wait until it is free. Yields False where the volume has no locks."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # some network file systems
            yield False
        else:
            yield True
