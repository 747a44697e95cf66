"""One container as a process group: started, its output kept, ended by request or deadline."""

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

#: Where the status of a container stands in that of its Pod.
StatusGroup: TypeAlias = Literal["initContainerStatuses", "containerStatuses"]

#: Seconds in which what a container has printed before its end is read.
_STRAGGLER_SECONDS: Final = 5.0
_LEFT_ALONE: Final = b"a process that outlived the container still holds its output; left alone\n"
#: As a kubelet's, for a termination message and for FallbackToLogsOnError.
_MESSAGE_BYTES: Final = 4096
_FALLBACK_BYTES: Final = 2048
_FALLBACK_LINES: Final = 80


class Container:
    """Runs one container of a Pod, once or again, and keeps its status.

    group: initContainerStatuses or containerStatuses. is_over: whether the Pod needs it no more; who
    changes that notifies `state.changed`.
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
        log_path.touch()  # there before a follower learns that the container runs
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
        kill(child.pid, signal.SIGKILL)  # whatever it left behind
        pump.join(_STRAGGLER_SECONDS)
        if pump.is_alive():
            # it left the process group and holds the pipe open: not ours to find
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
        """Wait for the child's end; True if its deadline had to end it."""
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
        """Read all that is printed, also what is not kept: a program must not wait for room in the pipe."""
        with source, contextlib.ExitStack() as stack:
            log: IO[bytes] | None = None
            with contextlib.suppress(OSError):
                log = stack.enter_context(log_path.open("ab", buffering=0))
            while chunk := os.read(source.fileno(), 65536):
                if log and not left_alone.is_set():
                    _keep(log, chunk)
                    self._state.has_printed(self._pod)


def terminated(started: str, code: int, reason: str, message: str = "") -> ContainerState:
    """The state of a container that has ended now."""
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
    """Send a signal to a container's processes, if they are still there."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _why_not(process: Process, error: OSError | ValueError) -> str:
    """What a container's start has failed of."""
    if isinstance(error, OSError) and error.filename == process.folder:
        return f"workingDir {process.folder}: {error.strerror}"
    return f"{process.arguments[0]}: {error.strerror if isinstance(error, OSError) else error}"


def _keep(log: IO[bytes], content: bytes) -> None:
    """Write all of it, as far as there is room; a gap is found by the count that the stage itself has."""
    left = memoryview(content)
    with contextlib.suppress(OSError):
        while left:
            left = left[log.write(left) :]


def _tail(path: Path, count: int) -> str:
    """The last `count` bytes of a file, as text; empty if there is none. The container may have made it."""
    try:
        with safe_read.open_regular(path) as file:
            file.seek(max(os.fstat(file.fileno()).st_size - count, 0))
            return file.read(count).decode("utf-8", "replace")
    except OSError:
        return ""
