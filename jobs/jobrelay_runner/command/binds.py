"""Absolute paths for a program without a container: mounts that only its own process sees (Linux)."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import stat
import sys
from pathlib import Path
from typing import Dict, Final, Optional, Set

from jobrelay_runner.errors import BadInput

_CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWUSER: Final = 0x10000000
_MS_NOSUID_NODEV: Final = 2 | 4
_MS_BIND: Final = 4096
_MS_REC: Final = 16384
_MS_PRIVATE: Final = 1 << 18
#: Opens a file or folder as a place alone, whatever is mounted over it later.
_PLACE: Final = getattr(os, "O_PATH", 0) | os.O_CLOEXEC
#: Where a new root is put together; some of these are in every file system.
_MOUNT_POINTS: Final = ("/mnt", "/media", "/srv", "/opt", "/tmp")  # noqa: S108


def bind_all(text: str) -> None:
    """Mount the folders in `text`, JSON {absolute path: folder}, in a mount namespace of this process.

    The machine's own folders stay as they are: where a path does not exist, its nearest existing parent is
    replaced, for this process, by a temporary file system with the same entries. Raises BadInput where the
    system does not allow it.
    """
    binds: Dict[str, str] = json.loads(text)
    if not binds:
        return
    paths = ", ".join(binds)
    if not sys.platform.startswith("linux"):
        raise BadInput(f"the program needs {paths}, which only Linux can provide without a container")
    try:
        _enter_namespace()
        ours: Set[int] = set()
        for path in sorted(binds):  # a parent comes before what is nested in it
            is_nested = any(str(parent) in binds for parent in Path(path).parents)
            _make_target(Path(path), ours, is_file=Path(binds[path]).is_file(), is_nested=is_nested)
            _mount(binds[path], path, None, _MS_BIND | _MS_REC)
    except OSError as error:
        raise BadInput(
            f"the program needs {paths}, and this system refuses them: {error}; run it on a cluster"
        ) from error


def _enter_namespace() -> None:
    user, group = os.geteuid(), os.getegid()
    flags = _CLONE_NEWNS if user == 0 else _CLONE_NEWNS | _CLONE_NEWUSER
    _checked(_libc().unshare(flags), "unshare")
    if user != 0:  # keep the identity: files belong to the same user as outside
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE)  # nothing of what follows reaches the machine


def _make_target(path: Path, ours: Set[int], *, is_file: bool, is_nested: bool) -> None:
    """Create a mount's target, if it is missing, on a temporary file system over its nearest parent.

    ours: devices of the temporary file systems that this process has mounted. is_nested: it is in a folder
    that is mounted here, and is created there.
    """
    if path.exists():
        return
    parent = next(each for each in path.parents if each.is_dir())
    if not is_nested and parent.stat().st_dev not in ours:
        ours.add(_cover_root() if parent == Path("/") else _cover(parent, parent))
    (path.parent if is_file else path).mkdir(parents=True, exist_ok=True)
    if is_file:
        path.touch()


def _cover(folder: Path, there: Path) -> int:
    """Mount a temporary file system with the entries of `folder` on `there`; return its device."""
    status = folder.stat()
    place, hidden = os.open(folder, _PLACE), os.open(there, _PLACE)
    entries = list(os.scandir(folder))
    _mount("tmpfs", str(there), "tmpfs", _MS_NOSUID_NODEV)
    for entry in entries:
        target = there / entry.name
        is_hidden = folder / entry.name == there
        source = f"/proc/self/fd/{hidden}" if is_hidden else f"/proc/self/fd/{place}/{entry.name}"
        with contextlib.suppress(FileNotFoundError):  # it has just been removed, as happens in /tmp
            if entry.is_symlink():
                target.symlink_to(os.readlink(source))
                continue
            target.mkdir() if entry.is_dir() else target.touch()
            _mount(source, str(target), None, _MS_BIND | _MS_REC)
    there.chmod(stat.S_IMODE(status.st_mode) | stat.S_IRWXU)
    if os.geteuid() == 0:
        os.chown(there, status.st_uid, status.st_gid)
    os.close(place)
    os.close(hidden)
    return there.stat().st_dev


def _cover_root() -> int:
    there = next(path for path in map(Path, _MOUNT_POINTS) if path.is_dir())
    device = _cover(Path("/"), there)
    os.chroot(there)
    return device


def _mount(source: Optional[str], target: str, kind: Optional[str], flags: int) -> None:
    arguments = [None if each is None else os.fsencode(each) for each in (source, target, kind)]
    _checked(_libc().mount(*arguments, ctypes.c_ulong(flags), None), f"mount {target}")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
