"""Whether a process lives: identified by PID and start time, a Job's runner by the lock that it holds.

A Job's runner locks `lock` in the Job's folder for as long as it lives; the kernel releases the lock when
the runner ends, however it ends. The runner writes its identity and its socket's path into the file, so
every process that may read the folder finds it, whatever its TMPDIR. The file has its full size from the
start, so this works on a full volume.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import platform
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Final

from jobrelay.executors.local import layout
from jobrelay_runner.volume import safe_read

_PROC: Final = Path("/proc")
_LOCK_BYTES: Final = 4096
_LOOK_SECONDS: Final = 0.05


@dataclass(frozen=True)
class Holder:
    """The process that holds a Job's lock, or held it last."""

    pid: int
    started: str
    node: str
    boot: str
    socket: str = ""

    @classmethod
    def this_process(cls, socket: str = "") -> Holder:
        return cls(os.getpid(), started(os.getpid()) or "", platform.node(), _boot(), socket)

    @property
    def elsewhere(self) -> bool:
        """Whether it runs on another machine that shares this volume."""
        return self.node != platform.node() and self.boot != _boot()


def started(pid: int) -> str | None:
    """The start time of a process, as this machine reports it; None if no such process runs.

    PID and start time together identify one process for good. An ended process that has not been waited for
    does not count.
    """
    try:
        if (_PROC / "self/stat").exists():
            fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
            state, since = fields[0].decode(), f"{_boot()} {fields[19].decode()}"
        else:
            shown = subprocess.run(
                ["/bin/ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)],
                capture_output=True, text=True, check=False, env={"LC_ALL": "C"},
            )  # fmt: skip
            state, _, since = shown.stdout.strip().partition(" ")
    except (OSError, IndexError):
        return None
    return since.strip() if since and state[:1] not in ("Z", "X") else None


def lives(pid: int, since: str) -> bool:
    """Whether the process with this PID and start time still runs."""
    return bool(since) and started(pid) == since


def signal_process(pid: int, since: str, owner: int, number: signal.Signals, group: bool = False) -> None:
    """Signal that exact process (or its group), if it belongs to `owner`. Raises PermissionError.

    pid and since may come from a file that another user wrote, so no other process is signalled.
    """
    if pid <= 1 or not lives(pid, since):
        return
    if owner != os.geteuid() and _owner(pid) != owner:
        raise PermissionError(errno.EPERM, f"process {pid} belongs to another user")
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if group else os.kill)(pid, number)


def ends_within(pid: int, since: str, seconds: float) -> bool:
    """Whether a process that is not a child of this one ends within `seconds`."""
    deadline = time.monotonic() + seconds
    while lives(pid, since):
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_SECONDS)
    return True


@contextlib.contextmanager
def held(folder: Path) -> Iterator[int | None]:
    """Hold a Job's lock in this block (a descriptor), unless its runner holds it (None).

    Raises FileNotFoundError if there is no such Job, and OSError.
    """
    descriptor = os.open(folder / layout.LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield descriptor
    finally:
        os.close(descriptor)


def prepare(folder: Path) -> None:
    """Create a Job's lock at the full size it will ever need."""
    (folder / layout.LOCK).write_bytes(b" " * _LOCK_BYTES)


def write_holder(descriptor: int, holder: Holder) -> None:
    """Write the holder into a lock that is held. Raises OSError."""
    content = json.dumps(asdict(holder)).encode().ljust(_LOCK_BYTES)
    if os.pwrite(descriptor, content, 0) != len(content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.ftruncate(descriptor, len(content))


def holder_of(folder: Path) -> Holder | None:
    """The holder of a Job's lock, or the last one; None if the lock names none."""
    try:
        return Holder(**json.loads(safe_read.read_bytes(folder / layout.LOCK, 2 * _LOCK_BYTES)))
    except (OSError, ValueError, TypeError):
        return None


def _owner(pid: int) -> int | None:
    try:
        if (_PROC / "self").exists():
            return (_PROC / str(pid)).stat().st_uid
        shown = subprocess.run(
            ["/bin/ps", "-o", "uid=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
        return int(shown.stdout)
    except (OSError, ValueError):
        return None


@cache
def _boot() -> str:
    """A value that changes when the machine restarts; empty if the machine does not report one."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
