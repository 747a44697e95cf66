"""The local stand-in for Job controller and kubelet: one independent process per Job.

It outlives the launcher that started it, so that a launcher may be killed and come back. It runs the Pods
of one rendered Job as processes and keeps `state.json` ({"job": …, "pods": […]}, with the status that
Kubernetes would give) and one log file per container in the Job's folder. Launchers that connect to its
socket receive every change (see `state`). A runner that finds Pods of an earlier one counts them as lost.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from jobrelay.errors import Exit, JobRelayError
from jobrelay.executors.local import contact, ending, job_folder, layout, liveness
from jobrelay.executors.local.pod.container import terminated
from jobrelay.executors.local.pod.pods import NODE_SHUTDOWN, PodRunner
from jobrelay.executors.local.pod.state import JobState
from jobrelay.kube.ends import closing_of
from jobrelay.kube.labels import ANNOTATION_INDEX, ANNOTATION_VERDICT
from jobrelay.kube.objects import Condition, Metadata, Object, Pod
from jobrelay.kube.read import index_of, last_pod, pods_of
from jobrelay.verdicts import Verdict

#: Seconds before the first retry, doubled for each further one. Kubernetes starts with 10.
RETRY_SECONDS: Final = 1.0
_NODE_LOST: Final = "NodeLost"


class JobRunner:
    """Runs one Job to its end."""

    def __init__(self, folder: Path, state: Object) -> None:
        self.state = JobState(folder, state)
        self._job = self.state.job
        self._limit = self._job["spec"].get("backoffLimit", 6)
        self._trouble: Exception | None = None

    def run(self) -> None:
        """Run attempts until the Job is complete or has finally failed.

        An Indexed Job runs one Pod per index in parallel, each with its own attempts; they share one limit
        of failures, as in Kubernetes.
        """
        status = self._job.setdefault("status", {})
        if status.get("conditions"):
            return  # an earlier runner ended it after the launcher that started this one had looked
        status.setdefault("startTime", layout.now())
        try:
            self._bury_lost_pods()
        except Exception as error:
            self._give_up(error)
            return
        count = pods_of(self._job)
        indexes: list[int | None] = list(range(count)) if count > 1 else [None]
        threads = [threading.Thread(target=self._complete, args=(index,)) for index in indexes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if all(self._has_succeeded(index) for index in indexes):
            self._finish("Complete", "CompletionsReached", "")
        elif self._trouble:
            self._give_up(self._trouble)
        elif _failures(self.state.pods) > self._limit:
            if self.state.trouble and not self._says_why():
                self._keep_verdict(self.state.trouble)
            self._finish("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
        elif not self.state.deleted and not self.state.shut_down:
            self._finish("Failed", "DeadlineExceeded", "Job was given up")

    def _complete(self, index: int | None) -> None:
        """Run attempts of one of the Job's Pods until one succeeds or the Job fails."""
        try:
            while not self.state.ended_early and not self._has_succeeded(index):
                if _failures(self.state.pods) > self._limit:
                    self.state.end_early()
                    return
                failures = _failures(self._pods(index))
                if failures and self.state.ends_within(min(RETRY_SECONDS * 2 ** (failures - 1), 360)):
                    return
                PodRunner(self.state, self._new_pod(index)).run()
        except Exception as error:  # else this Pod would be missing without a trace
            traceback.print_exc()
            self._trouble = self._trouble or error
            self.state.end_early()

    def _pods(self, index: int | None) -> list[Pod]:
        return [pod for pod in self.state.pods if index_of(pod) == index]

    def _has_succeeded(self, index: int | None) -> bool:
        return any(pod["status"]["phase"] == "Succeeded" for pod in self._pods(index))

    def _new_pod(self, index: int | None) -> Pod:
        job, template = self._job["metadata"], self._job["spec"]["template"]
        metadata: Metadata = {
            **template.get("metadata", {}),
            "name": "-".join(filter(None, [job["name"], _text(index), layout.suffix()])),
            "uid": layout.uid(),
            "creationTimestamp": layout.now(),
            "ownerReferences": [{"kind": "Job", "name": job["name"], "uid": job["uid"]}],
        }
        if index is not None:
            annotations = metadata.get("annotations") or {}
            metadata["annotations"] = {**annotations, ANNOTATION_INDEX: _text(index)}
        pod: Pod = {
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
        """End what lives of the Pods that a killed runner left, and count them as failed."""
        left = ending.kill_containers(self.state.pods, os.geteuid(), grace=0)
        if left:
            raise JobRelayError(
                f"process {', '.join(map(str, left))} of an earlier attempt cannot be ended",
                "end it, then run the same command again",
            )
        with self.state.changing():
            for left_status in ending.running(self.state.pods):
                left_status["state"] = terminated(left_status["state"]["running"]["startedAt"], 137, "Error")
            for pod in self.state.pods:
                if pod["status"]["phase"] in ("Pending", "Running"):
                    status = pod["status"]
                    status["phase"], status["reason"] = "Failed", _NODE_LOST
                    status["message"] = "the process that ran it was killed"

    def _give_up(self, error: Exception) -> None:
        """Fail the Job for a reason outside it, which the verdict names."""
        verdict = self._keep_verdict(error)
        self._finish("Failed", verdict.reason, verdict.message)

    def _says_why(self) -> bool:
        """Whether the newest Pod's closing message gives a cause."""
        pod = last_pod(self.state.pods)
        closing = closing_of(pod) if pod else None
        return bool(closing and closing.error)

    def _keep_verdict(self, error: Exception) -> Verdict:
        what = error.what if isinstance(error, JobRelayError) else f"{type(error).__name__}: {error}"
        hint = error.hint if isinstance(error, JobRelayError) else ""
        if job_folder.is_full(error):
            verdict = Verdict(
                Exit.FAILED, "failed", "NoSpace", f"the volume is full: {what}",
                hint="make room and run the same command again; what is there is kept",
            )  # fmt: skip
        else:
            verdict = Verdict(Exit.COULD_NOT_START, "could not start", "RunnerError", what, hint=hint)
        self._job["metadata"].setdefault("annotations", {}).setdefault(
            ANNOTATION_VERDICT, verdict.to_annotation()
        )
        return verdict

    def _finish(self, kind: str, reason: str, message: str) -> None:
        phase = "Succeeded" if kind == "Complete" else "Failed"
        with self.state.changing():
            now = layout.now()
            condition: Condition = {
                "type": kind, "status": "True", "reason": reason, "message": message,
                "lastTransitionTime": now,
            }  # fmt: skip
            status = self._job["status"]
            status.setdefault("conditions", []).append(condition)
            count = sum(pod["status"]["phase"] == phase for pod in self.state.pods)
            if kind == "Complete":
                status["succeeded"], status["completionTime"] = count, now
            else:
                status["failed"] = count


def _failures(pods: Sequence[Pod]) -> int:
    """Count failed Pods, except lost ones: those are disruptions, which the launcher counts."""
    lost = (_NODE_LOST, NODE_SHUTDOWN)
    return sum(
        pod["status"]["phase"] == "Failed" and pod["status"].get("reason") not in lost for pod in list(pods)
    )


def _text(index: int | None) -> str:
    return "" if index is None else str(index)


def main(argv: list[str]) -> int:
    """Run a Job. argv: its folder, and a descriptor for a reply: that it listens, or why it cannot run."""
    folder, launcher = Path(argv[0]), os.fdopen(int(argv[1]), "wb")
    try:
        with liveness.held(folder) as lock:
            if lock is None:
                _report(launcher, "busy")
                return 0
            _run(folder, lock, lambda: _report(launcher, "listens"))
    except Exception as error:
        traceback.print_exc()
        _report(
            launcher, error.what if isinstance(error, JobRelayError) else f"{type(error).__name__}: {error}"
        )
        return 1
    return 0


def _run(folder: Path, lock: int, listens: Any) -> None:
    if earlier := liveness.holder_of(folder):
        contact.remove_socket(earlier.socket, os.geteuid())  # the earlier runner was killed
    runner = JobRunner(folder, job_folder.read_state(folder))
    signal.signal(signal.SIGTERM, lambda *_: runner.state.shut_down_early())
    listener = contact.listen()
    path = str(listener.getsockname())
    try:
        liveness.write_holder(lock, liveness.Holder.this_process(path))
        threading.Thread(target=runner.state.serve, args=(listener,), daemon=True).start()
        listens()
        runner.run()
    finally:
        contact.remove_socket(path, os.geteuid())
        if runner.state.deleted:
            layout.remove(folder)
        runner.state.close()


def _report(launcher: Any, word: str) -> None:
    """Reply once to the launcher that started this runner; it may be gone."""
    if not launcher.closed:
        try:
            launcher.write(word.encode("utf-8", "replace"))
            launcher.close()
        except OSError:
            return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
