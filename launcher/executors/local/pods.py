"""One Pod as processes: its containers one after the other, their logs, signals, deadlines and ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

from jobs.contract.volume import ENV_TERMINATION
from launcher.executors.local import layout
from launcher.executors.local.state import JobState

Object = dict[str, Any]

#: Seconds in which what a container has printed before its end is read.
_STRAGGLER_SECONDS: Final = 5.0
_LEFT_ALONE: Final = b"a process that outlived the container still holds its output; left alone\n"


class PodRunner:
    """Runs one Pod to its end."""

    def __init__(self, state: JobState, pod: Object) -> None:
        self._state = state
        self._pod = pod
        self._root = state.folder.parent.parent

    def run(self) -> None:
        """Its containers one after the other; it has succeeded if every one of them has."""
        spec = self._pod["spec"]
        seconds = spec.get("activeDeadlineSeconds")
        deadline = time.monotonic() + seconds if seconds else None
        containers = [("initContainerStatuses", c) for c in spec.get("initContainers") or ()]
        containers += [("containerStatuses", c) for c in spec["containers"]]
        with _scratch(self._pod) as scratch:
            for group, container in containers:
                if group == "containerStatuses":
                    self._pod["status"]["phase"] = "Running"
                if self._run_container(group, container, scratch, deadline) != 0:
                    self._enter("Failed")
                    return
        self._enter("Succeeded")

    def _enter(self, phase: str) -> None:
        with self._state.changing():
            self._pod["status"]["phase"] = phase

    def _run_container(self, group: str, container: Object, scratch: Path, deadline: float | None) -> int:
        status: Object = {"name": container["name"], "state": {}}
        process = layout.process_of(container, self._pod, self._root, scratch)
        message_file = scratch / f"{container['name']}.message"
        process.environment[ENV_TERMINATION] = str(message_file)
        started = layout.now()
        log_path = self._state.folder / layout.log_name(self._pod, container["name"])
        log_path.touch()  # there before anybody is told that the container runs
        try:
            child = subprocess.Popen(
                process.arguments, env=process.environment, cwd=process.folder, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            with self._state.changing():
                self._pod["status"][group].append(status)
                what = f"{process.arguments[0]}: {error.strerror}"
                status["state"] = terminated(started, 128, "StartError", what)
            return 128
        with self._state.changing():
            self._pod["status"][group].append(status)
            status.update(pid=child.pid, state={"running": {"startedAt": started}})
        assert child.stdout
        left_alone = threading.Event()
        pump = threading.Thread(target=self._pump, args=(child.stdout, log_path, left_alone), daemon=True)
        pump.start()
        late = self._wait(child, deadline)
        kill(child.pid, signal.SIGKILL)  # whatever it left behind
        pump.join(_STRAGGLER_SECONDS)
        if pump.is_alive():
            # it left the process group and holds the pipe open: not ours to find
            left_alone.set()
            with log_path.open("ab", buffering=0) as log:
                _keep(log, _LEFT_ALONE)
        code = child.returncode if child.returncode >= 0 else 128 - child.returncode
        code = code or (143 if late else 0)
        message = layout.read_text(message_file) or (
            _last_lines(log_path)
            if code and container.get("terminationMessagePolicy") == "FallbackToLogsOnError"
            else ""
        )
        with self._state.changing():
            if late:
                self._pod["status"].update(
                    reason="DeadlineExceeded",
                    message="Pod was active on the node longer than the specified deadline",
                )
            status["state"] = terminated(started, code, "Error" if code else "Completed", message)
        return code

    def _wait(self, child: subprocess.Popen[bytes], deadline: float | None) -> bool:
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
                if kill_at is None and (state.ended_early or (deadline is not None and now >= deadline)):
                    late = not state.ended_early
                    kill(child.pid, signal.SIGTERM)
                    kill_at = now + grace
                elif kill_at is not None and now >= kill_at:
                    kill(child.pid, signal.SIGKILL)
                    kill_at = now + grace
                until = deadline if kill_at is None else kill_at
                state.changed.wait(None if until is None else max(until - now, 0))
        return late

    def _pump(self, source: IO[bytes], log_path: Path, left_alone: threading.Event) -> None:
        """Read all that is printed, also what is not kept: who prints must not wait for room in the pipe."""
        with source, log_path.open("ab", buffering=0) as log:
            while chunk := os.read(source.fileno(), 65536):
                if not left_alone.is_set():
                    _keep(log, chunk)
                    self._state.has_printed(self._pod)


def terminated(started: str, code: int, reason: str, message: str = "") -> Object:
    """The state of a container that has ended now."""
    ended = {"exitCode": code, "reason": reason, "startedAt": started, "finishedAt": layout.now()}
    return {"terminated": {**ended, "message": message[-4096:]} if message else ended}


def kill(group: int, number: signal.Signals) -> None:
    """Send a signal to a container's processes, if they are still there."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


@contextlib.contextmanager
def _scratch(pod: Object) -> Iterator[Path]:
    """The Pod's emptyDir volumes and termination messages."""
    with tempfile.TemporaryDirectory(prefix=f"{pod['metadata']['name']}-") as name:
        yield Path(name)


def _keep(log: IO[bytes], content: bytes) -> None:
    """Write all of it, as far as there is room; a gap is found by the count that the stage itself has."""
    left = memoryview(content)
    with contextlib.suppress(OSError):
        while left:
            left = left[log.write(left) :]


def _last_lines(path: Path) -> str:
    """As the kubelet's FallbackToLogsOnError: 80 lines or 2048 bytes."""
    text = path.read_bytes()[-2048:].decode("utf-8", "replace")
    return "\n".join(text.splitlines()[-80:])
