"""How launchers and a Job's runner reach each other: a socket that no other user can replace.

The runner makes a folder for it, with a name that cannot be guessed and mode 0700, and writes its path into
the Job's lock (see liveness). Messages are lines of JSON, limited in length.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from jobrelay.errors import Exit, JobRelayError, StageEnded
from jobrelay.executors.local import job_folder, layout, liveness
from jobrelay.kube.objects import Object
from jobrelay.kube.read import finished_condition
from jobrelay_runner.volume import safe_read

#: Seconds before another runner is started if the last one could not be followed.
_RESTART_SECONDS: Final = 1.0
#: The limit for a socket's path is 103 characters on macOS, 107 on Linux.
_PATH_LENGTH: Final = 103
_LINE_BYTES: Final = job_folder.STATE_BYTES
_LOG_BYTES: Final = 64 * 1024
_PREFIX: Final = "jobrelay-"

#: `-m` needs the checkout on the path, and PYTHONSAFEPATH removes it from there.
_RUNNER: Final = (
    f"import sys; sys.path[:0] = {[str(layout.LAUNCHER_FOLDER), str(layout.WORKING_FOLDER)]!r}; "
    "from jobrelay.executors.local.pod.runner import main; sys.exit(main(sys.argv[1:]))"
)


def listen() -> socket.socket:
    """A listening socket in a new folder of its own; `close` removes both. Raises OSError."""
    folder = _private_folder()
    path = folder / "s"
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(16)
    except OSError:
        listener.close()
        remove_socket(str(path), os.geteuid())
        raise
    return listener


def remove_socket(path: str, owner: int) -> None:
    """Remove a socket and the folder made for it, if it belongs to `owner`."""
    folder = Path(path).parent
    if path and folder.name.startswith(_PREFIX) and _is_private(folder, owner) and owner == os.geteuid():
        with contextlib.suppress(OSError):
            Path(path).unlink(missing_ok=True)
            folder.rmdir()


def lines_of(connection: socket.socket, limit: int) -> Iterator[Object]:
    """JSON objects, one per line, until the other side closes or sends something else."""
    with connection.makefile("rb") as lines:
        while (line := lines.readline(limit)).endswith(b"\n"):  # else it was cut, or is too long
            try:
                tree = json.loads(line)
            except ValueError:
                return
            if not isinstance(tree, dict):
                return
            yield tree


def messages(folder: Path) -> Iterator[Object]:
    """The Job's state now and at every change, and {"log": POD} when that Pod has printed.

    Ends with the final state. If the runner was killed, it is started again. Raises FileNotFoundError when
    the Job is deleted, StageEnded if no runner can be started.
    """
    in_vain = False
    while True:
        finished = False
        with contextlib.suppress(OSError), _connect(folder) as connection:
            in_vain = False
            for message in lines_of(connection, _LINE_BYTES):
                # on a full volume, only this message may show the end
                finished = "job" in message and finished_condition(message["job"]) is not None
                yield message
        if finished:
            return
        state = job_folder.read_state(folder)
        if finished_condition(state["job"]):
            yield state
            return
        if in_vain:  # the runner ends before it listens, another is about to end, or its socket was removed
            time.sleep(_RESTART_SECONDS)
            yield state
        start_runner(folder)
        in_vain = True  # until a connection succeeds


def request(folder: Path, asked: Object, seconds: float | None = None) -> bool:
    """Send a request to a Job's runner and wait for the runner's end; False if it cannot be reached.

    seconds: how long to wait for its end; None: as long as it takes.
    """
    try:
        with _connect(folder) as connection:
            connection.sendall(json.dumps(asked).encode() + b"\n")
            deadline = None if seconds is None else time.monotonic() + seconds
            while deadline is None or time.monotonic() < deadline:
                connection.settimeout(None if deadline is None else max(deadline - time.monotonic(), 0.01))
                if not connection.recv(65536):
                    break
    except TimeoutError:
        return True
    except OSError:
        return False
    return True


def start_runner(folder: Path) -> None:
    """Start a Job's runner in a session of its own and wait until it can be followed.

    Does nothing if another runner works. Raises JobRelayError with the cause if the runner cannot start.
    """
    job_folder.require_own(folder)
    read_end, write_end = os.pipe()
    arguments = [sys.executable, "-c", _RUNNER, str(folder), str(write_end)]
    with _open_log(folder) as log:
        before = os.fstat(log).st_size
        try:
            process = subprocess.Popen(
                arguments, cwd=layout.WORKING_FOLDER, pass_fds=[write_end], start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, "PYTHONUTF8": "1"},  # a Job's arguments are text in any locale
            )  # fmt: skip
        except OSError as error:
            os.close(read_end)
            raise _could_not_start(folder, f"{sys.executable}: {error}") from error
        finally:
            os.close(write_end)
    with os.fdopen(read_end, "rb") as ready:
        answer = ready.read(_LOG_BYTES)  # the stream ends when the runner listens, or has ended
    if answer in (b"listens", b"busy"):
        # It outlives this process; if this process outlives it, the thread leaves no zombie.
        threading.Thread(target=process.wait, name="runner", daemon=True).start()
        return
    process.wait()
    folder.lstat()  # FileNotFoundError: the Job was deleted meanwhile
    cause = answer.decode("utf-8", "replace") or _last_line(folder / layout.RUNNER_LOG, before)
    raise _could_not_start(folder, cause or f"it ended with exit code {process.returncode}")


def ensure_runner(folder: Path) -> None:
    """Start a Job's runner unless one can be reached. Raises as `start_runner` does."""
    try:
        _connect(folder).close()
    except OSError:
        start_runner(folder)


def peer_user(connection: socket.socket) -> int | None:
    """The user ID of the other end; None if the system does not report it."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    credentials = connection.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


def _connect(folder: Path) -> socket.socket:
    """A connection to the Job's runner and to no other user's program. Raises OSError."""
    owner = folder.lstat().st_uid
    holder = liveness.holder_of(folder)
    if holder is None or not holder.socket or not _is_private(Path(holder.socket).parent, owner):
        raise ConnectionRefusedError(f"no runner of {folder.name} listens")
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(holder.socket)
        if peer_user(connection) not in (None, owner):
            raise ConnectionRefusedError(f"another user's program listens at {holder.socket}")
    except OSError:
        connection.close()
        raise
    return connection


def _private_folder() -> Path:
    """A new folder for a socket, in a place where the path is short enough. Raises OSError."""
    failure: OSError | None = None
    # XDG_RUNTIME_DIR is removed with the user's last session, and a runner outlives that: use it last
    for place in (tempfile.gettempdir(), "/tmp", "/var/tmp", os.environ.get("XDG_RUNTIME_DIR")):  # noqa: S108
        if not place or len(os.fsencode(place)) + len(f"/{_PREFIX}12345678/s") > _PATH_LENGTH:
            continue
        try:
            return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
        except OSError as error:
            failure = failure or error
    raise failure or OSError("there is no folder for a socket")


def _is_private(folder: Path, owner: int) -> bool:
    """Whether only `owner` can have put anything there."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == owner and not stat.S_IMODE(found.st_mode) & 0o077


@contextlib.contextmanager
def _open_log(folder: Path) -> Iterator[int]:
    """The log for a runner's own output; /dev/null if the volume has no room for a file."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        log = os.open(folder / layout.RUNNER_LOG, flags, 0o600)
    except FileNotFoundError:
        raise  # the Job is gone
    except OSError:
        log = os.open(os.devnull, os.O_WRONLY)
    try:
        yield log
    finally:
        os.close(log)


def _last_line(path: Path, start: int) -> str:
    """The last line written to a log after offset `start`."""
    try:
        with safe_read.open_regular(path) as log:
            log.seek(max(start, os.fstat(log.fileno()).st_size - _LOG_BYTES))
            lines = log.read(_LOG_BYTES).decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _could_not_start(folder: Path, cause: str) -> JobRelayError:
    what = f"Job {folder.name} could not start: its runner ended immediately: {cause}"
    if "[Errno 28]" in cause or "[Errno 122]" in cause:  # the same hint as for a stage with a full volume
        return JobRelayError(what, "make room and run the same command again; what is there is kept")
    log = folder / layout.RUNNER_LOG
    return StageEnded(
        Exit.COULD_NOT_START, what, f"remove the cause and run the same command again; more may be in {log}"
    )
