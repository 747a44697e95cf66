"""The local stand-in for Job controller and kubelet: one process a Job, on its own.

    python -m launcher.executors.local.runner JOB_FOLDER

It outlives the launcher that started it, so that a launcher may be killed and come back. It runs
the Pods of one rendered Job as processes and keeps `state.json` ({"job": …, "pods": […]}, with
the status that Kubernetes would give) and one log file a container in the Job's folder. Whoever connects
to its socket is told of every change (see `state`). A runner that finds Pods of an earlier one counts
them as lost.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from launcher.executors.local import layout
from launcher.executors.local.pods import PodRunner, kill, terminated
from launcher.executors.local.state import JobState
from launcher.manifests import ANNOTATION_INDEX, pods_of
from launcher.verdicts import index_of

Object = dict[str, Any]

#: Seconds before the first retry, doubled for each one after it. Kubernetes begins with 10.
RETRY_SECONDS: Final = 1.0


class JobRunner:
    """Runs one Job to its end."""

    def __init__(self, folder: Path, state: Object) -> None:
        self.state = JobState(folder, state)
        self._job = self.state.job
        self._limit = self._job["spec"].get("backoffLimit", 6)

    def run(self) -> None:
        """Attempt after attempt until the Job is complete, or has failed for good.

        An Indexed Job runs a Pod an index side by side, each with attempts of its own; the limit of
        those that fail is one for all, as in Kubernetes.
        """
        status = self._job.setdefault("status", {})
        if status.get("conditions"):
            return  # an earlier runner has ended it, after whoever started this one had looked
        status.setdefault("startTime", layout.now())
        self._bury_lost_pods()
        count = pods_of(self._job)
        indexes: list[int | None] = list(range(count)) if count > 1 else [None]
        threads = [threading.Thread(target=self._complete, args=(index,)) for index in indexes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if all(self._has_succeeded(index) for index in indexes):
            self._finish("Complete", "CompletionsReached", "")
        elif _failures(self.state.pods) > self._limit:
            self._finish("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
        elif not self.state.deleted:
            self._finish("Failed", "DeadlineExceeded", "Job was given up")

    def _complete(self, index: int | None) -> None:
        """Attempt after attempt at one of the Job's Pods, until one has succeeded or the Job has failed."""
        while not self.state.ended_early and not self._has_succeeded(index):
            if _failures(self.state.pods) > self._limit:
                self.state.end_early()
                return
            failures = _failures(self._pods(index))
            if failures and self.state.ends_within(min(RETRY_SECONDS * 2 ** (failures - 1), 360)):
                return
            PodRunner(self.state, self._new_pod(index)).run()

    def _pods(self, index: int | None) -> list[Object]:
        return [pod for pod in self.state.pods if index_of(pod) == index]

    def _has_succeeded(self, index: int | None) -> bool:
        return any(pod["status"]["phase"] == "Succeeded" for pod in self._pods(index))

    def _new_pod(self, index: int | None) -> Object:
        job, template = self._job["metadata"], self._job["spec"]["template"]
        metadata = {
            **template.get("metadata", {}),
            "name": "-".join(filter(None, [job["name"], _text(index), layout.suffix()])),
            "uid": layout.uid(),
            "creationTimestamp": layout.now(),
            "ownerReferences": [{"kind": "Job", "name": job["name"], "uid": job["uid"]}],
        }
        if index is not None:
            annotations = metadata.get("annotations") or {}
            metadata["annotations"] = {**annotations, ANNOTATION_INDEX: _text(index)}
        pod: Object = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
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
        with self.state.changing():
            self.state.pods.append(pod)
        return pod

    def _bury_lost_pods(self) -> None:
        """Pods that a runner left which was killed: end what lives of them, count them as failed."""
        with self.state.changing():
            for pod in self.state.pods:
                if pod["status"]["phase"] not in ("Pending", "Running"):
                    continue
                for status in [*pod["status"]["initContainerStatuses"], *pod["status"]["containerStatuses"]]:
                    if "running" in status["state"]:
                        if layout.is_ours(status["pid"], pod):
                            kill(status["pid"], signal.SIGKILL)
                        status["state"] = terminated(status["state"]["running"]["startedAt"], 137, "Error")
                pod["status"].update(
                    phase="Failed", reason="NodeLost", message="the process that ran it was killed"
                )

    def _finish(self, kind: str, reason: str, message: str) -> None:
        condition = {"type": kind, "status": "True", "reason": reason, "message": message}
        phase = "Succeeded" if kind == "Complete" else "Failed"
        with self.state.changing():
            status = self._job["status"]
            status.setdefault("conditions", []).append({**condition, "lastTransitionTime": layout.now()})
            status[phase.lower()] = sum(pod["status"]["phase"] == phase for pod in self.state.pods)
            if kind == "Complete":
                status["completionTime"] = layout.now()


def _failures(pods: Sequence[Object]) -> int:
    """Pods that have failed; lost ones are disruptions, which whoever follows the Job counts."""
    return sum(
        pod["status"]["phase"] == "Failed" and pod["status"].get("reason") != "NodeLost" for pod in list(pods)
    )


def _text(index: int | None) -> str:
    return "" if index is None else str(index)


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
        own = path.stat().st_ino
        listener.listen(16)
        threading.Thread(target=runner.state.serve, args=(listener,), daemon=True).start()
        os.close(int(argv[1]))
        try:
            runner.run()
        finally:
            _unlink(path, own)
            if runner.state.deleted:
                layout.remove(folder)
            runner.state.close()
    return 0


def _unlink(path: Path, own: int) -> None:
    """Remove the socket, unless the runner of a later Job of this name has bound its own there."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_ino == own:
            path.unlink()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
