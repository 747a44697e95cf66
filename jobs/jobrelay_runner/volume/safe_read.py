"""Safe reading of files that others may have written: on the volume, or copied from it.

Anyone who can write to the volume chooses what lies under a name: a device that never ends, a FIFO that
blocks, a link that leads elsewhere, a file of any size. Every such file is read through this module.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import IO, Final

#: For records, histories and other JSON of a stage; the largest seen have a few MB.
RECORD_BYTES: Final = 16 * 1024 * 1024

_BLOCK: Final = 1024 * 1024
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
#: O_PATH where it exists: some folders may be traversed but not listed.
_FOLDER: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_KINDS: Final = {
    stat.S_IFDIR: "is a directory", stat.S_IFIFO: "is a FIFO", stat.S_IFSOCK: "is a socket",
    stat.S_IFCHR: "is a device", stat.S_IFBLK: "is a device", stat.S_IFLNK: "is a symbolic link",
}  # fmt: skip


class UnsafeFile(OSError):
    """The file must not be read: it is not a regular file, behind a link, outside its folder, or too large.

    `strerror` says which ("is a FIFO"), `filename` names the file. A missing or unreadable file is an
    ordinary OSError.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(errno.EINVAL, reason, str(path))

    def __str__(self) -> str:
        return f"{self.filename} {self.strerror}"


def why(error: Exception) -> str:
    """Return an error's text without `[Errno …]` and the path, which the surrounding message names."""
    if isinstance(error, OSError) and not isinstance(error, UnsafeFile) and error.strerror:
        return error.strerror
    return str(error)


class TooLarge(UnsafeFile):
    """The file holds more than `limit` bytes."""

    def __init__(self, path: Path, limit: int) -> None:
        super().__init__(path, f"is larger than {limit:,} bytes")


def open_regular(path: Path, *, root: Path | None = None) -> IO[bytes]:
    """Open a regular file for reading, without following a link and without blocking.

    root: `path` must lie below it, and nothing between the two may be a link; the way to `root` itself is
    not checked. None: only the last name of `path` must not be a link.
    Raises UnsafeFile, OSError, and ValueError for a name with a NUL.
    """
    descriptor = _open(path, _FILE) if root is None else _open_below(root, path, _FILE)
    try:
        kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
        if kind != stat.S_IFREG:
            raise UnsafeFile(path, _KINDS.get(kind, "is not a regular file"))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_bytes(path: Path, limit: int, *, root: Path | None = None) -> bytes:
    """Read a whole regular file of at most `limit` bytes, opened as `open_regular` does.

    The limit applies to the bytes read, not to the size that the file system reports. Raises TooLarge, and
    as `open_regular` does.
    """
    with open_regular(path, root=root) as file:
        return read_at_most(file, path, limit)


def read_text(path: Path, limit: int, *, root: Path | None = None, errors: str = "strict") -> str:
    """As `read_bytes`, decoded as UTF-8. Also raises UnicodeDecodeError."""
    return read_bytes(path, limit, root=root).decode("utf-8", errors)


def regular_files(folder: Path, *, root: Path) -> list[str]:
    """Return the sorted names of the regular files in `folder`; none if it does not exist.

    Raises UnsafeFile for a folder that is, or is behind, a link, and for anything else that is not a folder.
    As elsewhere, the way to `root` itself is not checked.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        descriptor = (
            os.open(root, flags) if folder == root else _open_below(root, folder, flags | os.O_NOFOLLOW)
        )
    except FileNotFoundError:
        return []
    except NotADirectoryError as error:
        raise UnsafeFile(folder, "is not a directory") from error
    try:
        with os.scandir(descriptor) as entries:
            return sorted(entry.name for entry in entries if entry.is_file(follow_symlinks=False))
    finally:
        os.close(descriptor)


def read_named(path: Path, limit: int) -> bytes:
    """Read a whole file that the user named or Kubernetes mounted; links and pipes are allowed.

    A ConfigMap's files are links, and a shell's `<(…)` is a pipe. Raises TooLarge, OSError.
    """
    with path.open("rb") as file:
        return read_at_most(file, path, limit)


def read_at_most(file: IO[bytes], path: Path, limit: int) -> bytes:
    """Read the rest of an open file, at most `limit` bytes. Raises TooLarge, OSError.

    path: used only in the message.
    """
    size = os.fstat(file.fileno()).st_size
    if size > limit:
        raise TooLarge(path, limit)
    content = file.read(size + 1)  # one call for a file that does not grow
    if len(content) <= size:
        return content
    blocks = [content]
    read = len(content)
    while read <= limit and (block := file.read(min(_BLOCK, limit + 1 - read))):
        blocks.append(block)
        read += len(block)
    if read > limit:
        raise TooLarge(path, limit)
    return b"".join(blocks)


def _open(path: Path, flags: int, folder: int | None = None) -> int:
    """Open `path` and return the descriptor; if `folder` is an open folder, only the last name is used."""
    name = path if folder is None else path.name
    try:
        return os.open(name, flags, dir_fd=folder)
    except OSError as error:
        # For a link, the BSDs return EMLINK; and if a folder is requested, Linux returns ENOTDIR.
        if error.errno in (errno.ELOOP, errno.EMLINK) or _is_link(name, folder):
            raise UnsafeFile(path, _KINDS[stat.S_IFLNK]) from error
        if error.errno in (errno.ENXIO, errno.EOPNOTSUPP):
            raise UnsafeFile(path, _KINDS[stat.S_IFSOCK]) from error
        raise type(error)(error.errno, error.strerror, str(path)) from error


def _open_below(root: Path, path: Path, flags: int) -> int:
    """Open `path` folder by folder from `root`, so that a rename in the meantime cannot lead elsewhere."""
    try:
        parts = path.relative_to(root).parts
    except ValueError as error:
        raise UnsafeFile(path, f"is not below {root}") from error
    if not parts:
        raise UnsafeFile(path, _KINDS[stat.S_IFDIR])
    if ".." in parts:
        raise UnsafeFile(path, f"is not below {root}")
    here = os.open(root, _FOLDER)
    try:
        for number in range(1, len(parts)):
            passed = root.joinpath(*parts[:number])
            try:
                inner = _open(passed, _FOLDER | os.O_NOFOLLOW, here)
            except UnsafeFile as error:
                raise UnsafeFile(path, f"is behind {passed}, which {error.strerror}") from error
            except OSError as error:
                raise type(error)(error.errno, error.strerror, str(path)) from error
            os.close(here)
            here = inner
        return _open(path, flags, here)
    finally:
        os.close(here)


def _is_link(name: Path | str, folder: int | None) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except (OSError, ValueError):
        return False
