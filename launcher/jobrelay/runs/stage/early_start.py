"""Start the next stage while this one still works, or when its Pod has succeeded, to lose no time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from jobrelay.errors import JobRelayError
from jobrelay.executors.base import JobRunner, Submission
from jobrelay.kube.objects import Job, Pod
from jobrelay.kube.read import last_pod, pod_phase, pods_of
from jobrelay.manifests import can_wait
from jobrelay.runs.request import When
from jobrelay.verdicts import JobView, Verdict, Waiting
from jobrelay_runner.text.outlook import seconds_left

#: Start the next stage when this one reports that much time left: enough to start a Pod and import PyTorch
#: on a busy node, without holding its memory for long.
_SECONDS: Final = 60.0


class EarlyStart:
    """Starts one Job before its turn, once. Use as a context manager around the wait for the stage before.

    when: auto first checks that there is room for both. A failure here is no error: the launcher then
    submits the Job in its turn.
    """

    def __init__(self, executor: JobRunner, before: Job, job: Job | None, when: When) -> None:
        self._executor = executor
        self._before = before
        self._job = job if job and when != "off" and not job["spec"].get("suspend") else None
        self._can_wait = job is not None and can_wait(job)
        self._look_for_room = when == "auto"
        self._pod: Pod | None = None
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()
        self._may_start = self._job is not None
        self._made_room = False  # the next stage was withdrawn so that the one before can restart
        #: the Job if it was started here; it may have finished when its turn comes
        self.submission: Submission | None = None

    def listener(self) -> Callable[[bytes], None]:
        """A sink for a Pod's output of the stage before, which prints how long it still needs."""
        rest = b""

        def hear(chunk: bytes) -> None:
            nonlocal rest
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines if self._may_start and self._can_wait else ():
                if (left := seconds_left(line)) is not None:
                    self._start_in(max(left - _SECONDS, 0.0))

        return hear

    def notice(self, view: JobView, judged: Verdict | Waiting) -> None:
        """Note the state of the stage before. If it restarts, withdraw the next stage to make room."""
        self._pod = last_pod(view.pods)
        if self._pod and pods_of(self._before) == 1 and pod_phase(self._pod) == "Succeeded":
            # final, and known before the Job controller reports it; if the Job fails for any other reason,
            # the next one is withdrawn
            self._look_for_room = False
            self._start()
        if not isinstance(judged, Waiting) or judged.phase not in ("scheduling", "starting", "queued"):
            return
        if self._timer:  # set from the output of a Pod that is gone
            self._timer.cancel()
        # after a lost Pod, also withdraw a next stage that an earlier launcher may have started
        again = bool(view.lost) or any(pod_phase(pod) == "Failed" for pod in view.pods)
        if self.submission or (again and not self._made_room):
            self._made_room = True
            self.withdraw()

    def stop(self) -> None:
        """Start nothing from now on."""
        with self._lock:
            self._may_start = False
            if self._timer:
                self._timer.cancel()

    def withdraw(self) -> None:
        """Withdraw the next stage, even if another launcher started it: the stage before will not succeed
        soon, and the next one must not wait for it."""
        self.stop()
        if self._job:
            self.submission = None
            self._executor.withdraw(self._job)

    def _start_in(self, seconds: float) -> None:
        with self._lock:
            if self._timer:
                self._timer.cancel()
            if self._may_start:
                self._timer = threading.Timer(seconds, self._start)
                self._timer.daemon = True
                self._timer.start()

    def _start(self) -> None:
        with self._lock:
            if not self._may_start or self._job is None or self._pod is None:
                return
            self._may_start = False  # check for room only once: each check costs four API requests
            try:
                beside = self._pod if self._look_for_room else None
                self.submission = self._executor.start_early(self._job, self._before, beside)
            except JobRelayError:
                return

    def __enter__(self) -> EarlyStart:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
