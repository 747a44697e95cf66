"""Files as a tar stream with digests: how folders travel between the volume and a user's machine.

`.jobrelay-proofs.json` comes last, with the size and SHA-256 of every file: a damaged stream leaves nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import stat
import tarfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final, cast

from jobrelay_runner.text.counting import counted
from jobrelay_runner.volume import folders
from jobrelay_runner.volume.files import cannot_be_listed, sync_folder
from jobrelay_runner.volume.record import FileDigest
from jobrelay_runner.volume.safe_read import open_regular

PROOFS_NAME: Final = ".jobrelay-proofs.json"
_BLOCK: Final = 1024 * 1024
#: Largest JSON entry of one file's digest: its name has up to 1024 characters, of at most 12 bytes escaped.
_PROOF_BYTES: Final = 16 * 1024
#: Largest header of a member that only describes the next one: its name, a few figures.
_HEADER_BYTES: Final = 64 * 1024
_HEADERS: Final = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip
_ODD: Final = {
    r"[\ud800-\udfff]": "bytes that are not UTF-8",
    r"[\x00-\x1f\x7f]": "a control character",
    r"\\": "a backslash",
    r"[\u202a-\u202e\u2066-\u2069]": "a character that turns the direction of writing",
}
#: What file systems accept.
_NAME_CHARACTERS: Final = 1024
_PART_BYTES: Final = 255


class ArchiveError(ValueError):
    """The stream was not made by `pack`, was truncated, or would write outside its folder."""


@dataclass(frozen=True)
class Limits:
    """The most that an archive may hold."""

    files: int = 1_000_000
    bytes: int = 1 << 40


def pack(folder: Path, out: IO[bytes], leave_out: Callable[[str], bool] = lambda name: False) -> int:
    """Write the regular files below `folder` to `out`; return how many.

    Names are relative to `folder`. Left out are links and devices, every file or folder for whose relative
    name `leave_out` returns True, and what a stage is still writing (`.NAME.partial`). Raises OSError.
    """
    return pack_files({name: folder / name for name in _regular_files(folder, leave_out)}, out)


def pack_files(files: Mapping[str, Path], out: IO[bytes]) -> int:
    """Write files to `out` under the given names; return how many. Raises OSError.

    A file that has shrunk, or is no longer a regular file, when its turn comes is an error.
    """
    digests: dict[str, dict[str, Any]] = {}
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for name, path in sorted(files.items()):
            with open_regular(path) as file:
                member = tarfile.TarInfo(name)
                member.size = os.fstat(file.fileno()).st_size
                member.mtime = int(os.fstat(file.fileno()).st_mtime)
                hashing = _Hashing(file)
                tar.addfile(member, cast("IO[bytes]", hashing))
                digests[name] = {"sha256": hashing.hexdigest(), "bytes": member.size}
        text = json.dumps(digests).encode()
        member = tarfile.TarInfo(PROOFS_NAME)
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text))
    return len(digests)


def packed(folder: Path, leave_out: Callable[[str], bool] = lambda name: False) -> Iterator[bytes]:
    """Yield what `pack` writes, as chunks. Raises OSError."""
    return streamed(lambda out: pack(folder, out, leave_out))


def packed_files(files: Mapping[str, Path]) -> Iterator[bytes]:
    """Yield what `pack_files` writes, as chunks. Raises OSError."""
    return streamed(lambda out: pack_files(files, out))


def streamed(write: Callable[[IO[bytes]], int]) -> Iterator[bytes]:
    """Yield, as chunks, what `write` writes in a thread of its own. Raises what it raises."""
    read_end, write_end = os.pipe()
    failure: list[BaseException] = []

    def fill() -> None:
        try:
            with os.fdopen(write_end, "wb") as writer:
                write(writer)
        except BrokenPipeError:
            pass  # the reader has gone
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=fill, daemon=True)
    thread.start()
    with os.fdopen(read_end, "rb", buffering=0) as reader:
        while chunk := reader.read(256 * 1024):
            yield chunk
    thread.join()
    if failure:
        raise failure[0]


def unpack(
    stream: IO[bytes], folder: Path, limits: Limits = Limits(), *, replace: bool = False
) -> dict[str, FileDigest]:
    """Read what `pack` wrote into the new folder `folder`; return the digest of every file.

    `folder` appears, or is replaced, only after the whole stream has arrived and every digest matches.
    Raises ArchiveError, FileExistsError if the folder exists and `replace` is False, OSError.
    """
    folders.restore(folder)
    if folder.exists() and not replace:
        raise FileExistsError(f"{folder} already exists")
    with folders.temporary_beside(folder) as incoming:
        digests = _extract(stream, incoming, limits)
        incoming.chmod(0o755)  # a temporary folder is private; other runs' users read data too
        if replace:
            folders.replace(incoming, folder)
        else:
            incoming.rename(folder)
    sync_folder(folder.parent)
    return digests


@contextlib.contextmanager
def received(
    stream: IO[bytes], folder: Path, limits: Limits = Limits()
) -> Iterator[tuple[Path, dict[str, FileDigest]]]:
    """Yield a temporary folder with what `pack` wrote, next to `folder`, and the digest of every file.

    The whole stream has arrived, and every digest matches. What you do not move out of the temporary
    folder is removed. Raises as `unpack` does.
    """
    with folders.temporary_beside(folder) as incoming:
        yield incoming, _extract(stream, incoming, limits)


def _regular_files(folder: Path, leave_out: Callable[[str], bool]) -> Iterator[str]:
    for here, inner, files in os.walk(folder, onerror=cannot_be_listed):
        base = Path(here).relative_to(folder).as_posix()
        prefix = "" if base == "." else f"{base}/"
        inner[:] = [f for f in inner if not leave_out(prefix + f) and not _is_unfinished(f)]
        for file in files:
            if leave_out(prefix + file) or _is_unfinished(file):
                continue
            if stat.S_ISREG(os.lstat(Path(here) / file).st_mode):
                yield prefix + file


def _is_unfinished(name: str) -> bool:
    """Whether this is a stage's name for an unfinished file: `.NAME.partial`. `NAME.partial` is a user's."""
    return name.startswith(".") and name.endswith(".partial")


class _Member(tarfile.TarInfo):
    """A member with small headers, as `pack` makes them; `tarfile` reads headers of any size into memory."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:  # its hook for subclasses
        if self.type in _HEADERS and self.size > _HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        member: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc]
        return member


def _extract(stream: IO[bytes], folder: Path, limits: Limits) -> dict[str, FileDigest]:
    found: dict[str, FileDigest] = {}
    promised: dict[str, Any] | None = None
    total = 0
    try:
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as tar:
            for member in tar:
                if promised is not None:
                    raise ArchiveError(f"{member.name!r} comes after the end")
                content = tar.extractfile(member) if member.isreg() and not member.issparse() else None
                if content is None:
                    raise ArchiveError(f"{member.name!r} is not a regular file")
                if member.name == PROOFS_NAME:
                    if member.size > _PROOF_BYTES * (len(found) + 1):
                        raise ArchiveError(
                            f"its digests are {member.size} bytes, for {counted(len(found), 'file')}"
                        )
                    promised = json.loads(content.read())
                    continue
                total += member.size
                if len(found) >= limits.files or total > limits.bytes:
                    raise ArchiveError(f"more than {limits.files:,} files or {limits.bytes:,} bytes")
                target = folder / safe_name(member.name)
                target.parent.mkdir(parents=True, exist_ok=True)
                found[member.name] = _write(content, target)
    except ArchiveError:
        raise
    except (tarfile.TarError, EOFError, ValueError, RecursionError) as error:
        raise ArchiveError(f"the stream was cut or is not an archive: {error}") from error
    except (FileExistsError, NotADirectoryError) as error:
        raise ArchiveError(f"{error.filename} is there twice") from error
    if promised is None:
        raise ArchiveError(f"the stream was cut after {counted(len(found), 'file')}")
    if promised != {name: digest.to_dict() for name, digest in found.items()}:
        raise ArchiveError("a file differs from what was sent")
    # Before the folder was locked, another process may have taken it for a killed one's and removed it.
    gone = sum(not (folder / safe_name(name)).is_file() for name in found)
    if gone:
        raise ArchiveError(f"{counted(gone, 'file')} disappeared in the meantime")
    return found


def _write(content: IO[bytes], target: Path) -> FileDigest:
    hashing = _Hashing(content)
    with target.open("xb") as file:
        shutil.copyfileobj(cast("IO[bytes]", hashing), file, _BLOCK)
        file.flush()
        os.fsync(file.fileno())
        return FileDigest(sha256=hashing.hexdigest(), bytes=file.tell())


def safe_name(name: str) -> PurePosixPath:
    """Return `name` as a path that stays below the folder it is joined to. Raises ArchiveError."""
    if why := why_odd(name):
        raise ArchiveError(f"{name!r} cannot be the name of a file: {why}")
    return PurePosixPath(name)


def why_odd(name: str) -> str | None:
    """Return why a file of an archive must not have this relative name; None if it may."""
    path = PurePosixPath(name)
    for characters, what in _ODD.items():
        if re.search(characters, name):
            return f"its name has {what}"
    if len(name) > _NAME_CHARACTERS or any(len(part.encode()) > _PART_BYTES for part in path.parts):
        return (
            f"its name is longer than {_NAME_CHARACTERS} characters, or a part of it than {_PART_BYTES} bytes"
        )
    if path.is_absolute() or ".." in path.parts or not path.parts:
        return "its name leads out of the folder"
    return None


class _Hashing:
    """A reader that hashes what passes through it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hasher = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(size)
        self._hasher.update(block)
        return block

    def hexdigest(self) -> str:
        return self._hasher.hexdigest()


def stream_of(chunks: Iterable[bytes]) -> IO[bytes]:
    """A reader over chunks of bytes that come from elsewhere (a socket, a generator)."""
    return io.BufferedReader(_ByteStream(chunks))


class _ByteStream(io.RawIOBase):
    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            try:
                self._rest = next(self._chunks)
            except StopIteration:
                return 0
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size
