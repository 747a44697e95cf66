"""One container as a process group: starts it, keeps its output, ends it on request or at its deadline."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final, Literal, TypeAlias

from jobrelay.executors.local import configs, layout, liveness
from jobrelay.executors.local.pod.process import Process, process_of
from jobrelay.executors.local.pod.state import JobState
from jobrelay.kube.objects import Container as ContainerSpec
from jobrelay.kube.objects import ContainerState, ContainerStatus, Pod, TerminatedState
from jobrelay_runner.volume import safe_read
from jobrelay_runner.volume.paths import ENV_TERMINATION

#: The key of a container's status in its Pod's status.
StatusGroup: TypeAlias = Literal["initContainerStatuses", "containerStatuses"]

#: Seconds after a container's end to read the rest of its output.
_STRAGGLER_SECONDS: Final = 5.0
_LEFT_ALONE: Final = b"a process that outlived the container still holds its output; left alone\n"
#: The kubelet's limits, for a termination message and for FallbackToLogsOnError.
_MESSAGE_BYTES: Final = 4096
_FALLBACK_BYTES: Final = 2048
_FALLBACK_LINES: Final = 80


class Container:
    """Runs one container of a Pod, once or repeatedly, and keeps its status.

    group: initContainerStatuses or containerStatuses. is_over: whether the Pod no longer needs it; code
    that changes the result must notify `state.changed`.
    """

    def __init__(
        self,
        state: JobState,
        pod: Pod,
        group: StatusGroup,
        container: ContainerSpec,
        scratch: Path,
        deadline: float | None,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        self.name = str(container["name"])
        self._state = state
        self._pod = pod
        self._group = group
        self._container = container
        self._scratch = scratch
        self._deadline = deadline
        self._is_over = is_over
        self._status: ContainerStatus = {"name": self.name, "restartCount": -1, "state": {}}

    def run(self, started: Callable[[], None] = lambda: None) -> int:
        """Start it and wait for its end; returns the exit code, 128 if it could not start. Raises OSError.

        started: called once it runs.
        """
        process = self._process()
        message_file = self._scratch / f"{self.name}.message"
        process.environment[ENV_TERMINATION] = str(message_file)
        since = layout.now()
        log_path = self._state.folder / layout.log_name(self._pod, self.name)
        log_path.touch()  # it must exist before a follower learns that the container runs
        try:
            child = subprocess.Popen(
                process.arguments, env=process.environment, cwd=process.folder, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            self._enter(terminated(since, 128, "StartError", _why_not(process, error)))
            return 128
        self._enter({"running": {"startedAt": since}}, child.pid)
        started()
        assert child.stdout
        left_alone = threading.Event()
        pump = threading.Thread(target=self._pump, args=(child.stdout, log_path, left_alone), daemon=True)
        pump.start()
        late = self._wait(child)
        kill(child.pid, signal.SIGKILL)  # any processes it left
        pump.join(_STRAGGLER_SECONDS)
        if pump.is_alive():
            # the process left the group and holds the pipe open: it cannot be found
            left_alone.set()
            with contextlib.suppress(OSError), log_path.open("ab", buffering=0) as log:
                _keep(log, _LEFT_ALONE)
        code = child.returncode if child.returncode >= 0 else 128 - child.returncode
        code = code or (143 if late else 0)
        message = _tail(message_file, _MESSAGE_BYTES)
        if (
            not message
            and code
            and self._container.get("terminationMessagePolicy") == "FallbackToLogsOnError"
        ):
            message = "\n".join(_tail(log_path, _FALLBACK_BYTES).splitlines()[-_FALLBACK_LINES:])
        with self._state.changing():
            if late:
                status = self._pod["status"]
                status["reason"] = "DeadlineExceeded"
                status["message"] = "Pod was active on the node longer than the specified deadline"
            self._status["state"] = terminated(since, code, "Error" if code else "Completed", message)
        return code

    def _process(self) -> Process:
        root = self._state.folder.parent.parent
        config_maps = configs.kept(root, configs.named_in(self._pod["spec"]))
        process = process_of(self._container, self._pod, root, self._scratch, config_maps)
        for folder in process.made:
            if not folder.is_file():  # a file may be mounted, too
                folder.mkdir(parents=True, exist_ok=True)
        return process

    def _enter(self, state: ContainerState, pid: int | None = None) -> None:
        with self._state.changing():
            if self._status not in self._pod["status"][self._group]:
                self._pod["status"][self._group].append(self._status)
            self._status["state"] = state
            self._status["restartCount"] += 1
            if pid is not None:
                self._status["pid"], self._status["started"] = pid, liveness.started(pid) or ""

    def _wait(self, child: subprocess.Popen[bytes]) -> bool:
        """Wait for the child's end; True if it was ended at its deadline."""
        state = self._state
        grace = self._pod["spec"].get("terminationGracePeriodSeconds", 30)

        def reap() -> None:
            child.wait()
            with state.changed:
                state.changed.notify_all()

        threading.Thread(target=reap, daemon=True).start()
        late = False
        kill_at: float | None = None
        with state.changed:
            while child.returncode is None:
                now = time.monotonic()
                over = state.ended_early or self._is_over()
                if kill_at is None and (over or (self._deadline is not None and now >= self._deadline)):
                    late = not over
                    kill(child.pid, signal.SIGTERM)
                    kill_at = now + grace
                elif kill_at is not None and now >= kill_at:
                    kill(child.pid, signal.SIGKILL)
                    kill_at = now + grace
                until = self._deadline if kill_at is None else kill_at
                state.changed.wait(None if until is None else max(until - now, 0))
        return late

    def _pump(self, source: IO[bytes], log_path: Path, left_alone: threading.Event) -> None:
        """Read all output, even what is not kept, so that the program never blocks on a full pipe."""
        with source, contextlib.ExitStack() as stack:
            log: IO[bytes] | None = None
            with contextlib.suppress(OSError):
                log = stack.enter_context(log_path.open("ab", buffering=0))
            while chunk := os.read(source.fileno(), 65536):
                if log and not left_alone.is_set():
                    _keep(log, chunk)
                    self._state.has_printed(self._pod)


def terminated(started: str, code: int, reason: str, message: str = "") -> ContainerState:
    """The state of a container that ended just now."""
    ended: TerminatedState = {
        "exitCode": code,
        "reason": reason,
        "startedAt": started,
        "finishedAt": layout.now(),
    }
    if message:
        ended["message"] = message[-_MESSAGE_BYTES:]
    return {"terminated": ended}


def kill(group: int, number: signal.Signals) -> None:
    """Send a signal to a container's processes, if they still exist."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _why_not(process: Process, error: OSError | ValueError) -> str:
    """Why a container's start failed."""
    if isinstance(error, OSError) and error.filename == process.folder:
        return f"workingDir {process.folder}: {error.strerror}"
    return f"{process.arguments[0]}: {error.strerror if isinstance(error, OSError) else error}"


def _keep(log: IO[bytes], content: bytes) -> None:
    """Write as much as there is room for; the stage's own count of its output reveals a gap."""
    left = memoryview(content)
    with contextlib.suppress(OSError):
        while left:
            left = left[log.write(left) :]


def _tail(path: Path, count: int) -> str:
    """The last `count` bytes of a file as text; empty if there is none. The container may have created it."""
    try:
        with safe_read.open_regular(path) as file:
            file.seek(max(os.fstat(file.fileno()).st_size - count, 0))
            return file.read(count).decode("utf-8", "replace")
    except OSError:
        return ""
