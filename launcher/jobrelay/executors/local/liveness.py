"""Who is alive: a process by its number and start, a Job's runner by the lock that it holds.

The runner of a Job locks `lock` in the Job's folder for as long as it lives; the kernel releases it
when the runner ends, however it ends. In the file the runner writes who it is and where it listens, so
that everybody who may read the folder finds it, whatever their TMPDIR. The file has its full size from
the start, so that this works on a volume that is full.
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
    """The process that has a Job's lock, or had it last."""

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
        """Whether it runs on another machine, which shares this volume."""
        return self.node != platform.node() and self.boot != _boot()


def started(pid: int) -> str | None:
    """When a process started, as this machine tells it; None where no such process runs.

    Number and start together name one process for ever. What has ended and was not waited for is gone.
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
    """Whether that very process still runs."""
    return bool(since) and started(pid) == since


def signal_process(pid: int, since: str, owner: int, number: signal.Signals, group: bool = False) -> None:
    """Send a signal to that very process (or its group), if it belongs to `owner`. Raises PermissionError.

    pid and since may come from a file that somebody else wrote: nothing but a process of theirs is hit.
    """
    if pid <= 1 or not lives(pid, since):
        return
    if owner != os.geteuid() and _owner(pid) != owner:
        raise PermissionError(errno.EPERM, f"process {pid} belongs to another user")
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if group else os.kill)(pid, number)


def ends_within(pid: int, since: str, seconds: float) -> bool:
    """Whether a process that is no child of this one ends in that time."""
    deadline = time.monotonic() + seconds
    while lives(pid, since):
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_SECONDS)
    return True


@contextlib.contextmanager
def held(folder: Path) -> Iterator[int | None]:
    """Hold a Job's lock in this block (a descriptor), unless its runner has it (None).

    Raises FileNotFoundError where there is no such Job, and OSError.
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
    """Make a Job's lock, with all the room that it will ever need."""
    (folder / layout.LOCK).write_bytes(b" " * _LOCK_BYTES)


def write_holder(descriptor: int, holder: Holder) -> None:
    """Say in a lock that is held who holds it. Raises OSError."""
    content = json.dumps(asdict(holder)).encode().ljust(_LOCK_BYTES)
    if os.pwrite(descriptor, content, 0) != len(content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.ftruncate(descriptor, len(content))


def holder_of(folder: Path) -> Holder | None:
    """Who has, or had last, a Job's lock; None where nobody has said so."""
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
    """What differs after the machine was started again; empty where it does not tell."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
