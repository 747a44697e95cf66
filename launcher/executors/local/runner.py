"""The local stand-in for Job controller and kubelet: one process a Job, on its own.

    python -m launcher.executors.local.runner JOB_FOLDER

It outlives the launcher that started it, so that a launcher may be killed and come back. It runs
the Pods of one rendered Job as processes and keeps `state.json` ({"job": …, "pods": […]}, with
the status that Kubernetes would give) and one log file a container in the Job's folder. Whoever connects
to its socket gets the state as a JSON line, and again at every change; a line sent to it is a
request (see `_serve`). A runner that finds Pods of an earlier one counts them as lost.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from jobs.contract.files import write_atomically
from jobs.contract.volume import ENV_TERMINATION
from launcher.executors.local import layout

Object = dict[str, Any]

#: Seconds before the first retry, doubled for each one after it. Kubernetes begins with 10.
RETRY_SECONDS: Final = 1.0


class JobRunner:
    """Runs one Job to its end."""

    def __init__(self, folder: Path, state: Object) -> None:
        self._folder = folder
        self._job: Object = state["job"]
        self._pods: list[Object] = state["pods"]
        self._root = folder.parent.parent
        self._subscribers: list[socket.socket] = []
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._ended_early = False  # stop or delete was asked for
        self._deleted = False

    def run(self) -> None:
        """Attempt after attempt until the Job is complete, or has failed for good."""
        status = self._job.setdefault("status", {})
        if status.get("conditions"):
            return  # an earlier runner has ended it, after whoever started this one had looked
        status.setdefault("startTime", layout.now())
        self._bury_lost_pods()
        if any(pod["status"]["phase"] == "Succeeded" for pod in self._pods):
            self._finish("Complete", "CompletionsReached", "")
            return
        limit = self._job["spec"].get("backoffLimit", 6)
        # lost ones are disruptions: whoever follows the Job counts those
        failures = sum(
            pod["status"]["phase"] == "Failed" and pod["status"].get("reason") != "NodeLost"
            for pod in self._pods
        )
        while not self._ended_early:
            if failures > limit:
                self._finish("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
                return
            if failures and self._ends_within(min(RETRY_SECONDS * 2 ** (failures - 1), 360)):
                break
            if self._run_pod(self._new_pod()):
                self._finish("Complete", "CompletionsReached", "")
                return
            failures += 1
        if not self._deleted:
            self._finish("Failed", "DeadlineExceeded", "Job was given up")

    def _ends_within(self, seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._ended_early, seconds)

    def serve(self, listener: socket.socket) -> None:
        """Accept followers until the process ends."""
        while True:
            connection, _ = listener.accept()
            with self._lock:
                self._subscribers.append(connection)
                self._tell(connection, self._state())
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def close(self) -> None:
        """Say no more: followers read the end of the stream."""
        with self._lock:
            for connection in self._subscribers:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _serve(self, connection: socket.socket) -> None:
        """Requests: {"verb": "stop", "annotations": {…}} and {"verb": "delete"}."""
        with contextlib.suppress(OSError, ValueError), connection.makefile("rb") as lines:
            for line in lines:
                request = json.loads(line)
                with self._changed:
                    self._deleted |= request["verb"] == "delete"
                    annotations = self._job["metadata"].setdefault("annotations", {})
                    annotations.update(request.get("annotations") or {})
                    self._ended_early = True
                    self._changed.notify_all()

    # --- Pods ---

    def _new_pod(self) -> Object:
        template = self._job["spec"]["template"]
        name = f"{self._job['metadata']['name']}-{layout.suffix()}"
        pod: Object = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                **template.get("metadata", {}),
                "name": name,
                "uid": layout.uid(),
                "creationTimestamp": layout.now(),
                "ownerReferences": [{"kind": "Job", "uid": self._job["metadata"]["uid"]}],
            },
            "spec": template["spec"],
            "status": {
                "phase": "Pending",
                "startTime": layout.now(),
                "conditions": [
                    {"type": "PodScheduled", "status": "True", "lastTransitionTime": layout.now()}
                ],
                "initContainerStatuses": [],
                "containerStatuses": [],
            },
        }
        self._pods.append(pod)
        self._save()
        return pod

    def _run_pod(self, pod: Object) -> bool:
        """Whether every container of the Pod succeeded, one after the other."""
        spec = pod["spec"]
        seconds = spec.get("activeDeadlineSeconds")
        deadline = time.monotonic() + seconds if seconds else None
        containers = [("initContainerStatuses", c) for c in spec.get("initContainers") or ()]
        containers += [("containerStatuses", c) for c in spec["containers"]]
        with _scratch(pod) as scratch:
            for group, container in containers:
                if group == "containerStatuses":
                    pod["status"]["phase"] = "Running"
                code = self._run_container(pod, group, container, scratch, deadline)
                if code != 0:
                    pod["status"]["phase"] = "Failed"
                    self._save()
                    return False
        pod["status"]["phase"] = "Succeeded"
        self._save()
        return True

    def _run_container(
        self, pod: Object, group: str, container: Object, scratch: Path, deadline: float | None
    ) -> int:
        status: Object = {"name": container["name"], "state": {}}
        with self._lock:
            pod["status"][group].append(status)
        process = layout.process_of(container, pod, self._root, scratch)
        message_file = scratch / f"{container['name']}.message"
        process.environment[ENV_TERMINATION] = str(message_file)
        started = layout.now()
        log_path = self._folder / layout.log_name(pod, container["name"])
        log_path.touch()  # there before anybody is told that the container runs
        try:
            child = subprocess.Popen(
                process.arguments, env=process.environment, cwd=process.folder, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            self._terminated(status, started, 128, "StartError", f"{process.arguments[0]}: {error.strerror}")
            return 128
        status["pid"] = child.pid
        status["state"] = {"running": {"startedAt": started}}
        self._save()
        assert child.stdout
        pump = threading.Thread(target=self._pump, args=(child.stdout.fileno(), log_path, pod), daemon=True)
        pump.start()
        late = self._wait(child, deadline, pod["spec"].get("terminationGracePeriodSeconds", 30))
        _kill(child.pid, signal.SIGKILL)  # whatever it left behind
        pump.join()
        child.stdout.close()
        code = child.returncode if child.returncode >= 0 else 128 - child.returncode
        if late:
            pod["status"]["reason"] = "DeadlineExceeded"
            pod["status"]["message"] = "Pod was active on the node longer than the specified deadline"
            code = code or 143
        message = layout.read_text(message_file) or (
            _last_lines(log_path)
            if code and container.get("terminationMessagePolicy") == "FallbackToLogsOnError"
            else ""
        )
        self._terminated(status, started, code, "Completed" if code == 0 else "Error", message)
        return code

    def _wait(self, child: subprocess.Popen[bytes], deadline: float | None, grace: float) -> bool:
        """Wait for the child's end; True if its deadline had to end it."""

        def reap() -> None:
            child.wait()
            with self._changed:
                self._changed.notify_all()

        threading.Thread(target=reap, daemon=True).start()
        late = False
        kill_at: float | None = None
        with self._changed:
            while child.returncode is None:
                now = time.monotonic()
                if kill_at is None and (self._ended_early or (deadline is not None and now >= deadline)):
                    late = not self._ended_early
                    _kill(child.pid, signal.SIGTERM)
                    kill_at = now + grace
                elif kill_at is not None and now >= kill_at:
                    _kill(child.pid, signal.SIGKILL)
                    kill_at = now + grace
                until = deadline if kill_at is None else kill_at
                self._changed.wait(None if until is None else max(until - now, 0))
        return late

    def _pump(self, source: int, log_path: Path, pod: Object) -> None:
        with log_path.open("ab", buffering=0) as log:
            while True:
                chunk = os.read(source, 65536)
                if not chunk:
                    return
                log.write(chunk)
                with self._lock:
                    for connection in list(self._subscribers):
                        self._tell(connection, {"log": pod["metadata"]["name"]})

    def _terminated(self, status: Object, started: str, code: int, reason: str, message: str) -> None:
        ended = {"exitCode": code, "reason": reason, "startedAt": started, "finishedAt": layout.now()}
        if message:
            ended["message"] = message[-4096:]
        status["state"] = {"terminated": ended}
        self._save()

    def _bury_lost_pods(self) -> None:
        """Pods that a runner left which was killed: end what lives of them, count them as failed."""
        for pod in self._pods:
            if pod["status"]["phase"] not in ("Pending", "Running"):
                continue
            for status in [*pod["status"]["initContainerStatuses"], *pod["status"]["containerStatuses"]]:
                if "running" in status["state"]:
                    if layout.is_ours(status["pid"], pod):
                        _kill(status["pid"], signal.SIGKILL)
                    self._terminated(status, status["state"]["running"]["startedAt"], 137, "Error", "")
            pod["status"].update(
                phase="Failed", reason="NodeLost", message="the process that ran it was killed"
            )
        self._save()

    # --- state ---

    def _finish(self, kind: str, reason: str, message: str) -> None:
        status = self._job["status"]
        condition = {"type": kind, "status": "True", "reason": reason, "message": message}
        status.setdefault("conditions", []).append({**condition, "lastTransitionTime": layout.now()})
        status["succeeded" if kind == "Complete" else "failed"] = sum(
            pod["status"]["phase"] == ("Succeeded" if kind == "Complete" else "Failed") for pod in self._pods
        )
        if kind == "Complete":
            status["completionTime"] = layout.now()
        self._save()

    def _state(self) -> Object:
        return {"job": self._job, "pods": self._pods}

    def _save(self) -> None:
        with self._lock:
            if self._deleted:
                return
            write_atomically(self._folder / layout.STATE, json.dumps(self._state()))
            for connection in list(self._subscribers):
                self._tell(connection, self._state())

    def _tell(self, connection: socket.socket, tree: Object) -> None:
        """Send one line; a follower that does not read is let go, it may come again."""
        try:
            connection.settimeout(1)
            connection.sendall(json.dumps(tree).encode() + b"\n")
            connection.settimeout(None)
        except OSError:
            self._subscribers.remove(connection)
            connection.close()

    @property
    def deleted(self) -> bool:
        return self._deleted


@contextlib.contextmanager
def _scratch(pod: Object) -> Iterator[Path]:
    """The Pod's emptyDir volumes and termination messages."""
    with tempfile.TemporaryDirectory(prefix=f"{pod['metadata']['name']}-") as name:
        yield Path(name)


def _kill(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _last_lines(path: Path) -> str:
    """As the kubelet's FallbackToLogsOnError: 80 lines or 2048 bytes."""
    text = path.read_bytes()[-2048:].decode("utf-8", "replace")
    return "\n".join(text.splitlines()[-80:])


def main(argv: list[str]) -> int:
    """argv: the Job's folder, and a descriptor that is closed once followers can connect."""
    folder = Path(argv[0])
    with (folder / layout.LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0  # another runner has it
        runner = JobRunner(folder, json.loads((folder / layout.STATE).read_text()))
        path = layout.socket_path(folder)
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(16)
        threading.Thread(target=runner.serve, args=(listener,), daemon=True).start()
        os.close(int(argv[1]))
        try:
            runner.run()
        finally:
            path.unlink(missing_ok=True)
            if runner.deleted:
                shutil.rmtree(folder, ignore_errors=True)
            runner.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
