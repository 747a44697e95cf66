"""Whether the volume still holds the data that a run was made from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from jobrelay_runner.stages import Stage
from jobrelay_runner.volume.files import cannot_be_listed
from jobrelay_runner.volume.paths import RunFolder
from jobrelay_runner.volume.record import FileDigest, Record, matches
from jobrelay_runner.volume.records import read_records
from jobrelay_runner.volume.safe_read import open_regular

#: If a file was last changed this long before a stage started, it is the file that the stage read: the kernel
#: sets `ctime`, no program can. The margin allows for a difference between the node's and the volume's clock.
_MARGIN_SECONDS: Final = 120.0
#: Room for an input's name, escaped, and its digest.
_LINE_BYTES: Final = 64 * 1024


def listings(root: Path, folders: Iterable[str]) -> dict[str, str]:
    """Return the `listing` of each folder below the volume's root in which every file counts."""
    return {name: listing(root / name) for name in folders}


def listing(folder: Path) -> str:
    """Return the SHA-256 (hex) of the names and sizes of all files in a folder; hidden ones do not count."""
    hasher = hashlib.sha256()
    for name, size in sorted(_files(folder)):
        hasher.update(f"{size} {name}\0".encode("utf-8", "surrogateescape"))
    return hasher.hexdigest()


def changed(run: RunFolder, record: Record, *, hash_all: bool = True) -> list[str]:
    """Return the stage's inputs that have changed, relative to the volume: data/mnist/…, data/clothes/.

    They include files that an earlier stage wrote. hash_all: False skips files whose size and time of last
    change show that they are the same.
    """
    found = []
    for name, digest in _inputs(run, record):
        path = Path(os.path.normpath(run.path / name))
        if not (_is_older(path, digest, record) and not hash_all) and not matches(
            path, digest, root=run.root
        ):
            found.append(os.path.relpath(path, run.root))
    found += [
        f"{name}/ (files were added or removed)"
        for name, before in record.listings.items()
        if not any(each.startswith(f"{name}/") for each in found) and _listing(run.root, name) != before
    ]
    return found


def as_lines(inputs: Mapping[str, FileDigest]) -> Iterator[bytes]:
    """Yield what `changed` reads in place of Record.inputs when the data has too many files for a record."""
    for name, digest in inputs.items():
        yield json.dumps([name, digest.sha256, digest.bytes]).encode() + b"\n"


def changed_since(run: RunFolder) -> dict[Stage, list[str]]:
    """Return, by stage, the data of a run that has changed since; see `changed`."""
    found: dict[Stage, list[str]] = {}
    for stage, record in read_records(run.path, root=run.root).items():
        if isinstance(record, Record) and record.status == "succeeded":
            others = changed(run, record, hash_all=False)
            found[stage] = [name for name in others if name.startswith("data/")]
    return {stage: names for stage, names in found.items() if names}


def _inputs(run: RunFolder, record: Record) -> Iterator[tuple[str, FileDigest]]:
    yield from record.inputs.items()
    path = run.inputs(record.stage)
    if path.name not in record.outputs:
        return
    # a damaged list differs from the output in the record, which is reported there
    with contextlib.suppress(OSError, ValueError, TypeError), open_regular(path, root=run.root) as lines:
        while line := lines.readline(_LINE_BYTES):
            name, sha256, size = json.loads(line)
            yield str(name), FileDigest(sha256=sha256, bytes=size)


def _files(folder: Path) -> Iterator[tuple[str, int]]:
    for here, folders, files in os.walk(folder, onerror=cannot_be_listed):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith("."):
                path = Path(here, name)
                yield path.relative_to(folder).as_posix(), path.lstat().st_size


def _listing(root: Path, name: str) -> str:
    parts = Path(name).parts
    if len(parts) != 2 or parts[0] != "data" or ".." in parts:  # a record may hold any text
        return ""
    try:
        return listing(root / name)
    except OSError:
        return ""


def _is_older(path: Path, digest: FileDigest, record: Record) -> bool:
    try:
        status = path.lstat()
        started = datetime.fromisoformat(record.started).timestamp()
    except (OSError, ValueError):
        return False
    return status.st_size == digest.bytes and status.st_ctime < started - _MARGIN_SECONDS
