"""Decode the image files of a folder once, into a cache on the volume for every stage of every run.

    data/NAME/.cache/files.json    size, times and SHA-256 of every file
    data/NAME/.cache/KEY.pixels    the images of all usable files, as a model takes them
    data/NAME/.cache/KEY.json      which files those are, why others are not, and the digest of KEY.pixels

KEY is derived from the names and hashes of all files and the size that they are scaled to: other content has
another key. A file is hashed again when its size or one of its times has changed, as in git; the kernel sets
the time of the last change (ctime), no program can.

KEY.json is written last: pixels without it are incomplete. The pixels are mapped, so that the kernel holds as
many as fit, once for all processes. cache_bound limits how many KEYs are kept.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from jobrelay_runner.errors import BadInput, Failed, passing_trouble
from jobrelay_runner.text.counting import counted
from jobrelay_runner.volume.files import one_at_a_time, write_atomically
from jobrelay_runner.volume.record import FileDigest, matches
from jobrelay_runner.volume.safe_read import read_bytes
from jobrelay_train.config.schema import tree_hash
from jobrelay_train.data.images import cache_bound
from jobrelay_train.data.images.decoding import FILE_BYTES, Unreadable, Unusable, is_safe, read_image, threads
from jobrelay_train.data.images.image_files import shown

#: Increment this when the same files give different pixels.
_FORMAT: Final = 2
#: A file that changed this shortly before it was hashed may have changed again within one tick of the file
#: system's clock.
_TICK_NS: Final = 2_000_000_000
#: For a million files, files.json has some 200 MB.
_INDEX_BYTES: Final = 256 * 1024 * 1024


@dataclass(frozen=True)
class Decoded:
    """Decoded images: uint8 (N, 3, size, size), of the files `names`, in the given order.

    digests: of the files that were hashed; skipped: the reason for each file that is not in `names`.
    """

    images: Tensor
    names: tuple[str, ...]
    digests: Mapping[str, FileDigest]
    skipped: Mapping[str, str]


class _Hashed(BaseModel):
    """A file's state when it was hashed."""

    model_config = ConfigDict(frozen=True)

    bytes: int
    mtime_ns: int
    ctime_ns: int
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class _Hashes(BaseModel):
    """files.json"""

    hashed_ns: int  # when the hashing started
    files: dict[str, _Hashed]


@dataclass(frozen=True)
class _Index(FileDigest):
    """KEY.json: the digest of KEY.pixels, and the files of its images."""

    names: list[str]
    skipped: dict[str, str]


def decoded(folder: Path, names: Sequence[str], size: int) -> Decoded:
    """Return the images of these files, decoding them if no process has yet. Raises StageError, OSError."""
    cache = folder / ".cache"
    cache.mkdir(exist_ok=True)
    usable, skipped = _looked_at(folder, names)
    with one_at_a_time(cache / "lock") as alone:
        if alone:
            for remains in cache.glob("*.partial"):  # left by a killed process
                remains.unlink(missing_ok=True)
        hashed = _hashed(folder, usable, cache / "files.json")
        hashes = {name: known.sha256 for name, known in hashed.items()}
        key = tree_hash({"format": _FORMAT, "size": size, "files": hashes})[:32]
        pixels, path = cache / f"{key}.pixels", cache / f"{key}.json"
        index = _read(path, pixels, hashed, size)
        if index is None:
            if alone:
                cache_bound.make_room(cache, key, len(hashed) * size * size * 3)
            index = _decode(folder, hashed, size, pixels, path)
        if alone:
            cache_bound.hold(cache, key)
    if not index.names:
        first = "; ".join(f"{shown(n)}: {why}" for n, why in list((skipped | index.skipped).items())[:3])
        raise BadInput(f"{folder}: no usable image in {counted(len(names), 'file')} ({first})")
    values = torch.from_file(str(pixels), size=index.bytes, dtype=torch.uint8)
    images = values.view(len(index.names), size, size, 3).permute(0, 3, 1, 2)
    digests = {name: FileDigest(sha256=known.sha256, bytes=known.bytes) for name, known in hashed.items()}
    return Decoded(images, tuple(index.names), digests, {**skipped, **index.skipped})


def _looked_at(folder: Path, names: Iterable[str]) -> tuple[dict[str, os.stat_result], dict[str, str]]:
    """Return the files that are worth reading, and why the others are not."""
    usable, skipped = {}, {}
    for name in names:
        status = (folder / name).lstat()
        if not is_safe(name):
            skipped[name] = "`put` would not copy a file of this name"
        elif status.st_size == 0:
            skipped[name] = "it is empty"
        elif status.st_size > FILE_BYTES:
            skipped[name] = f"it has {status.st_size:,} bytes, and at most {FILE_BYTES:,} are read"
        else:
            usable[name] = status
    return usable, skipped


def _hashed(folder: Path, files: Mapping[str, os.stat_result], path: Path) -> dict[str, _Hashed]:
    """Return the hash of each file, the earlier one for an unchanged file. Raises OSError."""
    now = time.time_ns()
    before = _Hashes(hashed_ns=0, files={})
    with suppress(OSError, ValidationError):  # the earlier hashes only save time
        before = _Hashes.model_validate_json(read_bytes(path, _INDEX_BYTES))

    def known(name: str, status: os.stat_result) -> _Hashed | None:
        old = before.files.get(name)
        if old is None or status.st_ctime_ns > before.hashed_ns - _TICK_NS:
            return None
        is_now = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        return old if (old.bytes, old.mtime_ns, old.ctime_ns) == is_now else None

    def hashed(name: str) -> _Hashed:
        status = files[name]
        try:
            digest = FileDigest.of(folder / name)
        except OSError as error:
            raise passing_trouble(error, folder / name) or BadInput(
                f"{folder / name} cannot be read: {error.strerror}"
            ) from error
        return _Hashed(
            bytes=digest.bytes, mtime_ns=status.st_mtime_ns, ctime_ns=status.st_ctime_ns, sha256=digest.sha256
        )

    found = {name: known(name, status) for name, status in files.items()}
    new = [name for name, old in found.items() if old is None]
    with ThreadPoolExecutor(threads()) as pool:
        fresh = dict(zip(new, pool.map(hashed, new), strict=True))
    all_of_them = {name: old or fresh[name] for name, old in found.items()}
    if new or len(before.files) != len(all_of_them):
        _write(path, [_Hashes(hashed_ns=now, files=all_of_them).model_dump_json().encode()])
    return all_of_them


def _read(path: Path, pixels: Path, files: Mapping[str, _Hashed], size: int) -> _Index | None:
    """Return the cache's index if the entry is complete and of these files."""
    try:
        index = _Index.from_json(read_bytes(path, _INDEX_BYTES))
    except (OSError, ValueError):
        return None
    fits = index.bytes == len(index.names) * size * size * 3
    whole = fits and {*index.names, *index.skipped} == set(files) and matches(pixels, index)
    return index if whole else None


def _decode(folder: Path, files: Mapping[str, _Hashed], size: int, pixels: Path, path: Path) -> _Index:
    names: list[str] = []
    skipped: dict[str, str] = {}
    hasher = hashlib.sha256()

    def blocks() -> Iterator[bytes]:
        for name, image in _read_all(folder, list(files), size):
            if isinstance(image, str):
                skipped[name] = image
            else:
                names.append(name)
                block = image.permute(1, 2, 0).contiguous().numpy().tobytes()
                hasher.update(block)
                yield block

    print(
        f"decoding {counted(len(files), 'file')} of {folder.name}, once, to {size} x {size} pixels",
        flush=True,
    )
    started = time.perf_counter()
    _write(pixels, blocks())
    for name, known in files.items():  # make sure that the hashed files are the decoded ones
        status = (folder / name).lstat()
        if (status.st_size, status.st_mtime_ns, status.st_ctime_ns) != (
            known.bytes, known.mtime_ns, known.ctime_ns,
        ):  # fmt: skip
            raise Failed(f"{folder / name} was changed while it was read; start the stage again")
    index = _Index(
        sha256=hasher.hexdigest(), bytes=len(names) * size * size * 3, names=names, skipped=skipped
    )
    _write(path, [index.to_json().encode()])
    print(f"decoded {counted(len(names), 'image')} in {time.perf_counter() - started:.1f} s", flush=True)
    return index


def _read_all(folder: Path, names: Sequence[str], size: int) -> Iterator[tuple[str, Tensor | str]]:
    """Yield each file's name with its image, or why it has none. Raises Failed if the machine is at fault."""

    def read(name: str) -> Tensor | str:
        try:
            return read_image(folder, name, (3, size, size))
        except Unreadable as error:  # never to be remembered
            raise Failed(f"{folder / shown(name)}: {error}") from error
        except Unusable as error:
            return str(error)

    with ThreadPoolExecutor(threads()) as pool:
        left = iter(names)
        while some := list(islice(left, 64)):
            yield from zip(some, pool.map(read, some), strict=True)


def _write(path: Path, blocks: Iterable[bytes]) -> None:
    # a random name: two Pods may have processes with the same number
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.partial")
    write_atomically(path, blocks, temporary)
