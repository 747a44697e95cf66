"""What an executor can do, in three roles. The relay knows nothing else of Kubernetes or of processes."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from jobrelay.hints import Hint
from jobrelay.kube.objects import Job, Object, Pod
from jobrelay.kube.read import finished_condition
from jobrelay.manifests import Manifests, Plan
from jobrelay.verdicts import JobView, Verdict
from jobrelay_runner.stages import Stage
from jobrelay_runner.volume.datasets import DataSet
from jobrelay_runner.volume.verify import Check

Sink = Callable[[bytes], None]


@dataclass(frozen=True)
class Submission:
    """A Job that is there now, and how it came to be."""

    job: Job
    how: Literal["created", "early", "adopted", "replaced"]

    @property
    def name(self) -> str:
        return str(self.job["metadata"]["name"])

    @property
    def finished(self) -> bool:
        """Whether it was there and had ended, before this launcher came."""
        return self.how == "adopted" and finished_condition(self.job) is not None


@dataclass(frozen=True)
class Finding:
    """One check of `doctor`. state: ok; warn: a run may still work; fail: it cannot."""

    check: str
    state: Literal["ok", "warn", "fail"]
    found: str
    todo: Hint = ""


class Updates(Protocol):
    """What is known of the Jobs of a run, kept up to date by watches."""

    def view(self, submission: Submission) -> JobView: ...

    def seen(self) -> int:
        """A number that grows with every change."""
        ...

    def wait(self, seen: int, seconds: float | None) -> None:
        """Return when something has changed since `seen`, or after `seconds`. Raises ApiLost."""
        ...

    def refresh(self) -> None:
        """Look at everything again, and do not trust what the watches have reported. Raises ApiLost."""
        ...


class Place(Protocol):
    """Where Jobs run. Every method of an executor raises a JobRelayError that says what to do."""

    #: whether what a stage asks for and is limited to has an effect here
    limits_resources: bool

    def place(self) -> str:
        """Where this is, for people."""
        ...


class JobRunner(Place, Protocol):
    """Runs rendered Jobs."""

    def check(self, plan: Plan) -> None:
        """Look whether the plan can be carried out, before anything is created."""
        ...

    def share(self, shared: Sequence[Object]) -> None:
        """Create what all runs share, the volume among it; what is there already stays."""
        ...

    def configure(self, config_map: Object) -> None:
        """Create the run's configuration; the same one may be there."""
        ...

    def name_pods(self, service: Object) -> None:
        """Give the Pods of a stage names by which they find each other; the same Service may be there."""
        ...

    def watch(self, plan: Plan) -> AbstractContextManager[Updates]: ...

    def submit(self, job: Job) -> Submission:
        """Create the Job, or adopt the equal one that is there. Raises Conflict on another."""
        ...

    def start_early(self, job: Job, before: Job, beside: Pod | None) -> Submission | None:
        """Create the Job, which waits for the end of `before` by itself (manifests.started_early).

        beside: the Pod that works now; the Job is not created if what it asks for is not free there
        (None: do not look). None if it was not created, for whatever reason: `submit` reports it in its turn.
        """
        ...

    def withdraw(self, job: Job) -> None:
        """Delete the Job if somebody has started it early and it has not ended."""
        ...

    def stop(self, submission: Submission, verdict: Verdict) -> None:
        """End a Job that cannot come to a good end; its Pod and the verdict stay to be read."""
        ...


class JobReader(Place, Protocol):
    """Reads what there is of runs: Jobs, logs, the volume."""

    def find_run(self, plan_hash: str) -> str | None:
        """The newest run of that plan, if there is one."""
        ...

    def jobs(self, run: str | None = None) -> list[tuple[Job, Sequence[Pod]]]:
        """Every Job of a run (or of all), oldest first, with its Pods."""
        ...

    def read_log(self, pod: Pod, container: str, sink: Sink) -> None:
        """Give all that a container prints to `sink`, until it has ended."""
        ...

    def log_tail(self, pod: Pod, container: str, lines: int | None, follow: bool, sink: Sink) -> None:
        """The last lines of a container's log; `follow`: and what comes. Raises LookupError if gone."""
        ...

    def volume(self, run: str | None = None) -> AbstractContextManager[Volume]:
        """The volume. run: whose files are wanted, if they are one run's."""
        ...


class JobAdmin(Protocol):
    """Examines the place, and removes what runs have left there."""

    def examine(self, manifests: Manifests) -> list[Finding]:
        """Look at everything that a run needs here, one by one."""
        ...

    def cancel(self, run: str) -> list[str]:
        """Delete the run's Jobs that have not ended; returns their names."""
        ...

    def expire(self, run: str, seconds: int) -> bool:
        """Let the run's Jobs be removed `seconds` after their end; False where nothing would remove them."""
        ...

    def delete(self, run: str) -> list[str]:
        """Delete everything of the run but its data; returns what was deleted."""
        ...


class Executor(JobRunner, JobReader, JobAdmin, Protocol):
    """All three roles. A function asks for the one that it needs."""


class Volume(Protocol):
    """The shared volume, while it is open."""

    def runs(self) -> list[Object]:
        """The runs on it and their records (see jobrelay_runner.volume.serve)."""
        ...

    def send(self, folder: str, *, everything: bool) -> Iterator[bytes]:
        """`runs/RUN` as an archive (jobrelay_runner.volume.archive)."""
        ...

    def receive(self, files: Mapping[str, Path], folder: str, *, replace: bool = False) -> None:
        """Local files become `data/NAME`, by the names that they are given, all of them or none.

        replace: in place of what is there, in one step. Raises OSError for a local file that cannot be read.
        """
        ...

    def data_sets(self) -> list[DataSet]:
        """What is below `data/`."""
        ...

    def exists(self, path: str) -> bool:
        """Whether a folder `data/NAME` or `runs/RUN`, or a file in one, is there."""
        ...

    def check(self, run: str) -> list[Check]:
        """Look at all that a complete run has left."""
        ...

    def changed(self, run: str) -> Mapping[Stage, list[str]]:
        """By stage, the data that a run has read, as far as it is another now."""
        ...

    def remove(self, folder: str) -> None: ...


class ChangeCounter:
    """The waiting half of Updates: watches call `changed`, the follower waits."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._count = 0
        self._failure: Exception | None = None

    def changed(self) -> None:
        with self._condition:
            self._count += 1
            self._condition.notify_all()

    def failed(self, error: Exception) -> None:
        """No more changes can come; a follower that waits gets `error`."""
        with self._condition:
            self._failure = error
            self._condition.notify_all()

    def seen(self) -> int:
        with self._condition:
            return self._count

    def refresh(self) -> None:
        """Nothing, where what is known cannot be out of date."""

    def wait(self, seen: int, seconds: float | None) -> None:
        with self._condition:
            self._condition.wait_for(lambda: self._count > seen or self._failure, seconds)
            if self._failure:
                raise self._failure


def last_lines(log: bytes, count: int | None) -> bytes:
    """The last `count` lines of a log (None: all). Only a newline ends a line, as for kubectl."""
    if count is None:
        return log
    lines = re.findall(rb"[^\n]*\n|[^\n]+$", log)
    return b"".join(lines[max(len(lines) - count, 0) :])
