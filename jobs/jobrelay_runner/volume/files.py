"""Files that are, after a crash at any moment, the old one or the new one, whole."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def cannot_be_listed(error: OSError) -> None:
    """For os.walk, which else leaves out what it may not look into. Raises `error` unless it is just gone."""
    if not isinstance(error, FileNotFoundError):
        raise error


def write_atomically(
    path: Path, content: bytes | str | Iterable[bytes], temporary: Path | None = None
) -> None:
    """Temporary name, fsync, rename, fsync of the folder.

    temporary: in the same file system; None for a name beside it. Raises OSError; then the old file is
    untouched and nothing is left behind.
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
    """Make a folder for files of a run, if it is not there. Raises OSError.

    A link in its place is a FileExistsError: what is written to the folder, or removed, would be elsewhere.
    """
    path.mkdir(exist_ok=True)
    if path.is_symlink():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))


def sync_folder(path: Path) -> None:
    """Make renames in a folder last (POSIX: the entry is data of the folder, not of the file)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def json_text(tree: Any) -> str:
    """`tree` as readable JSON. Raises ValueError for what JSON cannot say (NaN)."""
    return json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, tree: Any) -> None:
    """Write `tree` as readable JSON, atomically."""
    write_atomically(path, json_text(tree))
