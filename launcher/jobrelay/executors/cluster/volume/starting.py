"""Wait for the Pod that reads the volume; it is judged as a stage's Pod is, and reported."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from jobrelay.executors.base import ChangeCounter, Submission
from jobrelay.executors.cluster import limits
from jobrelay.executors.cluster.api import Api
from jobrelay.executors.cluster.watch import Watch
from jobrelay.figures import clock, in_one_line
from jobrelay.kube.objects import Event, Job, Pod
from jobrelay.verdicts import JobView, Patience, Verdict, Waiting

Say = Callable[[str], None]

PATIENCE: Final = Patience(start=limits.START_SECONDS)


class PodRuns(Exception):
    """The Pod runs: stop waiting."""


class StartReporter:
    """Reports what the Pod waits for and until when, each cause once. Use it as a context manager."""

    def __init__(self, say: Say, name: str) -> None:
        self._say = say
        self._name = name
        self._reported: set[str] = set()
        self._since: dict[str, datetime] = {}  # timed as in jobrelay.executors.follow
        until = datetime.now(UTC) + timedelta(seconds=PATIENCE.start)
        self._timer = threading.Timer(limits.SILENCE_SECONDS, self._report, ("it has not started yet", until))
        self._timer.daemon = True

    def notice(self, view: JobView, judged: Verdict | Waiting) -> None:
        if not isinstance(judged, Waiting):
            return
        if judged.phase == "running":
            raise PodRuns
        now = datetime.now(UTC)
        self._since = {limit.key: self._since.get(limit.key, now) for limit in judged.deadlines}
        ends = [self._since[limit.key] + timedelta(seconds=limit.seconds) for limit in judged.deadlines]
        if judged.detail:
            self._report(judged.detail, min(ends, default=None))

    def _report(self, cause: str, until: datetime | None = None) -> None:
        self._timer.cancel()
        if cause not in self._reported:
            self._reported.add(cause)
            end = f"until {clock(until)} " if until else ""
            self._say(f"  waiting {end}for Pod {self._name}, which reads the volume: {in_one_line(cause)}")

    def __enter__(self) -> StartReporter:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()


class PodUpdates(ChangeCounter):
    """Updates on a Pod without a Job, so that it is judged as a stage's Pod is."""

    def __init__(self, api: Api, pods: str, events: str, created: Pod) -> None:
        super().__init__()
        name = created["metadata"]["name"]
        self._created = created
        self._pod: Watch[Pod] = Watch(api, pods, {"fieldSelector": f"metadata.name={name}"}, self)
        self._events: Watch[Event] = Watch(
            api, events, {"fieldSelector": f"involvedObject.name={name}"}, self
        )
        stands_for: Job = {"metadata": created["metadata"], "spec": {"template": {"spec": created["spec"]}}}
        self.submission = Submission(stands_for, "created")

    def view(self, submission: Submission) -> JobView:
        uid = self._created["metadata"]["uid"]
        gone = self._pod.is_deleted(self._created)
        pod = self._pod.get(uid) or self._created
        return JobView(None if gone else submission.job, [pod], self._events.objects())

    def refresh(self) -> None:
        self._pod.refresh()
        self._events.refresh()

    def __enter__(self) -> PodUpdates:
        self._pod.start()
        self._events.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._pod.stop()
        self._events.stop()
