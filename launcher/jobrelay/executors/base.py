"""The three roles of an executor. The relay uses nothing else of Kubernetes or of processes."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from jobrelay.executors.adoption import Replace
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
    """A Job that exists now, and whether it was created, adopted or replaced."""

    job: Job
    how: Literal["created", "early", "adopted", "replaced"]

    @property
    def name(self) -> str:
        return str(self.job["metadata"]["name"])

    @property
    def finished(self) -> bool:
        """Whether the Job had already ended when this launcher adopted it."""
        return self.how == "adopted" and finished_condition(self.job) is not None


@dataclass(frozen=True)
class Finding:
    """One check of `doctor`. state: ok; warn (a run may still work); fail (it cannot)."""

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
        """Wait for a change after `seen`, for `seconds` at most. Raises ApiLost."""
        ...

    def refresh(self) -> None:
        """List everything again instead of trusting what the watches reported. Raises ApiLost."""
        ...


class Place(Protocol):
    """Where Jobs run. Every method of an executor raises a JobRelayError that says what to do."""

    #: whether a stage's resource requests and limits take effect here
    limits_resources: bool

    def place(self) -> str:
        """A name of the place, for people."""
        ...


class JobRunner(Place, Protocol):
    """Runs rendered Jobs."""

    def check(self, plan: Plan) -> None:
        """Check that the plan can be carried out, before anything is created."""
        ...

    def share(self, shared: Sequence[Object]) -> None:
        """Create the objects that all runs share, including the volume; keep those that exist."""
        ...

    def configure(self, config_map: Object) -> None:
        """Create the run's configuration; an equal one may exist."""
        ...

    def name_pods(self, service: Object) -> None:
        """Give a stage's Pods the names by which they find each other; an equal Service may exist."""
        ...

    def watch(self, plan: Plan) -> AbstractContextManager[Updates]: ...

    def submit(self, job: Job, replace: Replace = "if-later") -> Submission:
        """Create the Job, adopt an equal one, or replace another (adoption.adopt). Raises Conflict."""
        ...

    def resume(self, job: Job) -> None:
        """See to it that a Job that exists is being run: on this machine, its runner may have been killed."""
        ...

    def start_early(self, job: Job, before: Job, beside: Pod | None) -> Submission | None:
        """Create the Job, which itself waits for the end of `before` (manifests.started_early).

        beside: the Pod that works now; the Job is created only if its node has room for the Job's requests
        (None: do not check). Returns None if the Job was not created, for whatever reason: `submit` reports
        that later.
        """
        ...

    def withdraw(self, job: Job) -> None:
        """Delete the Job if it was started early and has not ended."""
        ...

    def stop(self, submission: Submission, verdict: Verdict) -> None:
        """End a Job that cannot succeed; its Pod and the verdict remain readable."""
        ...


class JobReader(Place, Protocol):
    """Reads the state of runs: Jobs, logs, the volume."""

    def find_run(self, plan_hash: str) -> str | None:
        """The newest run with that plan hash; None if there is none."""
        ...

    def jobs(self, run: str | None = None) -> list[tuple[Job, Sequence[Pod]]]:
        """Every Job of a run (None: of all runs), oldest first, with its Pods."""
        ...

    def read_log(self, pod: Pod, container: str, sink: Sink) -> None:
        """Pass all output of a container to `sink` until the container has ended."""
        ...

    def log_tail(self, pod: Pod, container: str, lines: int | None, follow: bool, sink: Sink) -> None:
        """The last lines of a container's log; `follow`: also new ones. Raises LookupError if it is gone."""
        ...

    def volume(self, run: str | None = None) -> AbstractContextManager[Volume]:
        """The volume, as a context manager. run: the run whose files you need, if only one."""
        ...


class JobAdmin(Protocol):
    """Examines the place and removes what runs left there."""

    def examine(self, manifests: Manifests) -> list[Finding]:
        """Check everything that a run needs here, item by item."""
        ...

    def cancel(self, run: str) -> list[str]:
        """Delete the run's Jobs that have not ended; returns their names."""
        ...

    def expire(self, run: str, seconds: int) -> bool:
        """Have the run's Jobs removed `seconds` after their end; False if nothing here would remove them."""
        ...

    def delete(self, run: str) -> list[str]:
        """Delete everything of the run except its data; returns the names of what was deleted."""
        ...


class Executor(JobRunner, JobReader, JobAdmin, Protocol):
    """All three roles. Functions take only the role that they need."""


class Volume(Protocol):
    """The shared volume, while it is open."""

    def runs(self) -> list[Object]:
        """The runs on the volume and their records (see jobrelay_runner.volume.serve)."""
        ...

    def send(self, folder: str, *, everything: bool) -> Iterator[bytes]:
        """`runs/RUN` as an archive (jobrelay_runner.volume.archive)."""
        ...

    def receive(self, files: Mapping[str, Path], folder: str, *, replace: bool = False) -> None:
        """Store local files as `data/NAME`, under the given names: all of them or none.

        replace: overwrite existing files, in one step. Raises OSError if a local file cannot be read.
        """
        ...

    def data_sets(self) -> list[DataSet]:
        """The data sets in `data/`."""
        ...

    def exists(self, path: str) -> bool:
        """Whether the folder `data/NAME` or `runs/RUN`, or a file in one, exists."""
        ...

    def check(self, run: str) -> list[Check]:
        """Check everything that a complete run has left."""
        ...

    def changed(self, run: str) -> Mapping[Stage, list[str]]:
        """By stage, names of the data that the run read and that has changed since."""
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
        """Report that no more changes can come; a waiting follower raises `error`."""
        with self._condition:
            self._failure = error
            self._condition.notify_all()

    def seen(self) -> int:
        with self._condition:
            return self._count

    def refresh(self) -> None:
        """Do nothing: right for sources whose data is never out of date."""

    def wait(self, seen: int, seconds: float | None) -> None:
        with self._condition:
            self._condition.wait_for(lambda: self._count > seen or self._failure, seconds)
            if self._failure:
                raise self._failure


def last_lines(log: bytes, count: int | None) -> bytes:
    """The last `count` lines of a log (None: all). Only a newline ends a line, as in kubectl."""
    if count is None:
        return log
    lines = re.findall(rb"[^\n]*\n|[^\n]+$", log)
    return b"".join(lines[max(len(lines) - count, 0) :])
