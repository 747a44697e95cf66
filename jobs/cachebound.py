"""What decoded images may take of a volume: entries that were not used for longest go, none in use.

    data/NAME/.cache/KEY.lock    whoever maps KEY.pixels holds a lock on it, until its process ends

Beside the entry that is wanted, so many others of other sizes, or of the files as they were, are kept; and
fewer where the volume has no room for the one that is wanted. Where the volume knows no locks, nobody can say
what is in use, and nothing is removed.

The lock has a file of its own: on a network's file system, a process that closes a file in any place
gives up its locks on it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

#: Entries that are kept for one data set, with the one that is wanted.
MOST_ENTRIES: Final = 4

#: Descriptors of the locks that this process holds, until it ends.
_held: dict[Path, int] = {}


def hold(cache: Path, key: str) -> None:
    """Say that an entry is in use, as long as this process lives. Call it alone (jobs.locks)."""
    with suppress(OSError):  # what its time says only decides which entry goes first
        os.utime(cache / f"{key}.json")
    lock = cache / f"{key}.lock"
    if lock in _held:
        os.close(_held.pop(lock))  # of a folder that was there before, perhaps
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return
    _held[lock] = descriptor


def make_room(cache: Path, key: str, size: int) -> None:
    """Remove entries until there is room for another, `key` of `size` bytes. Call it alone (jobs.locks)."""
    others = {path.stem for suffix in (".json", ".pixels") for path in cache.glob(f"*{suffix}")}
    others -= {key, "files"}  # the latter is the hashes of the files
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
    """When an entry was last used; one that is not whole was never."""
    try:
        return (cache / f"{key}.json").stat().st_mtime
    except OSError:
        return 0.0


def _remove(cache: Path, key: str) -> int | None:
    """Remove an entry, first what says that it is whole; None if it is in use, or somebody else's."""
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
