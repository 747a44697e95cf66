"""Bound the space of decoded images on a volume: the least recently used entries that are not in use go.

    data/NAME/.cache/KEY.lock    every process that maps KEY.pixels holds a lock on it until it ends

Besides the current entry, a few entries for other sizes or earlier files are kept; fewer if the volume has
no room for the current one. On a volume without locks it is unknown which entries are in use, so nothing is
removed.

The lock has its own file: on a network file system, a process that closes a file anywhere loses its locks
on that file.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

#: Entries kept for one data set, including the current one.
MOST_ENTRIES: Final = 4

#: Descriptors of the locks, which this process holds until it ends.
_held: dict[Path, int] = {}


def hold(cache: Path, key: str) -> None:
    """Mark an entry as in use while this process lives. Call it under the lock (volume.files)."""
    with suppress(OSError):  # the time only determines which entry is removed first
        os.utime(cache / f"{key}.json")
    lock = cache / f"{key}.lock"
    if lock in _held:
        os.close(_held.pop(lock))  # it may belong to a folder that was replaced
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return
    _held[lock] = descriptor


def make_room(cache: Path, key: str, size: int) -> None:
    """Remove entries until `key`, of `size` bytes, fits. Call it under the lock (volume.files)."""
    others = {path.stem for suffix in (".json", ".pixels") for path in cache.glob(f"*{suffix}")}
    others -= {key, "files"}  # files.json holds the hashes of the files
    oldest_first = sorted(others, key=lambda other: _used(cache, other))
    removed = freed = 0
    for other in oldest_first:
        many = len(oldest_first) - removed >= MOST_ENTRIES
        if not many and shutil.disk_usage(cache).free >= size:
            break
        if (bytes_freed := _remove(cache, other)) is not None:
            removed, freed = removed + 1, freed + bytes_freed
    if removed:
        what = "entry" if removed == 1 else f"{removed} entries"
        print(f"removed the least recently used {what} of the image cache, {freed:,} bytes", flush=True)


def _used(cache: Path, key: str) -> float:
    """Return when an entry was last used; an incomplete one counts as never used."""
    try:
        return (cache / f"{key}.json").stat().st_mtime
    except OSError:
        return 0.0


def _remove(cache: Path, key: str) -> int | None:
    """Remove an entry, its JSON first, which marks it as complete; None if in use or another user's."""
    lock = cache / f"{key}.lock"
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            pixels = cache / f"{key}.pixels"
            size = pixels.stat().st_size if pixels.exists() else 0
            for path in (cache / f"{key}.json", pixels, lock):
                path.unlink(missing_ok=True)
            return size
        finally:
            os.close(descriptor)
    except OSError:
        return None
