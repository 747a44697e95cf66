"""Absolute paths for a program without a container: mounts that only its own process sees (Linux)."""

from __future__ import annotations

import ctypes
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Dict, Final, Optional, Set

from jobrelay_runner.errors import BadInput

_CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWUSER: Final = 0x10000000
_MS_BIND: Final = 4096
_MS_REC: Final = 16384
_MS_PRIVATE: Final = 1 << 18
_MNT_DETACH: Final = 2


def bind_all(text: Optional[str]) -> None:
    """Mount the folders in `text`, JSON {absolute path: folder}, in a mount namespace of this process.

    The machine's own folders stay as they are: where a path does not exist, its nearest existing parent is
    replaced, for this process, by a temporary file system with the same entries. Raises BadInput where the
    system does not allow it.
    """
    binds: Dict[str, str] = json.loads(text) if text else {}
    if not binds:
        return
    paths = ", ".join(binds)
    if not sys.platform.startswith("linux"):
        raise BadInput(f"the program needs {paths}, which only Linux can provide without a container")
    try:
        _enter_namespace()
        ours: Set[int] = set()
        for path in sorted(binds):  # a parent comes before what is nested in it
            _make_target(Path(path), ours, is_file=Path(binds[path]).is_file())
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


def _make_target(path: Path, ours: Set[int], *, is_file: bool) -> None:
    """Create a mount's target, if it is missing, on a temporary file system over its nearest parent.

    ours: devices of the temporary file systems that this process has mounted.
    """
    if path.exists():
        return
    parent = next(each for each in path.parents if each.is_dir())
    if parent.stat().st_dev not in ours:
        ours.add(_cover(parent))
    (path.parent if is_file else path).mkdir(parents=True, exist_ok=True)
    if is_file:
        path.touch()


def _cover(folder: Path) -> int:
    """Put a temporary file system with the same entries in the place of a folder; return its device."""
    there = Path(tempfile.mkdtemp(prefix="jobrelay-"))
    _mount("tmpfs", str(there), "tmpfs", 0)
    for entry in os.scandir(folder):
        target = there / entry.name
        if entry.is_symlink():
            target.symlink_to(os.readlink(entry.path))
            continue
        target.mkdir() if entry.is_dir() else target.touch()
        _mount(entry.path, str(target), None, _MS_BIND | _MS_REC)
    there.chmod(0o755)
    if folder == Path("/"):
        os.chroot(there)
    else:
        _mount(str(there), str(folder), None, _MS_BIND | _MS_REC)
    _checked(_libc().umount2(os.fsencode(there), _MNT_DETACH), f"umount {there}")
    there.rmdir()
    return folder.stat().st_dev


def _mount(source: Optional[str], target: str, kind: Optional[str], flags: int) -> None:
    arguments = [None if each is None else os.fsencode(each) for each in (source, target, kind)]
    _checked(_libc().mount(*arguments, ctypes.c_ulong(flags), None), f"mount {target}")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
