"""What an executor can do. The pipeline knows nothing else of Kubernetes or of processes."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from jobs.contract.check import Check
from jobs.contract.config import Stage
from jobs.contract.datasets import DataSet
from launcher.errors import Conflict
from launcher.hints import Command, Hint
from launcher.manifests import (
    ANNOTATION_EARLY,
    ANNOTATION_HASH,
    ANNOTATION_WORK,
    LABEL_COMPONENT,
    LABEL_RUN,
    Manifests,
    Plan,
    differing_keys,
)
from launcher.verdicts import JobView, Verdict, finished_condition

Object = dict[str, Any]
Sink = Callable[[bytes], None]


@dataclass(frozen=True)
class Submission:
    """A Job that is there now, and how it came to be."""

    job: Object
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
        """Look at everything anew, and do not trust what the watches have told. Raises ApiLost."""
        ...


class Executor(Protocol):
    """Runs rendered Jobs. Every method raises a JobRelayError that says what to do."""

    #: whether what a stage asks for and is limited to has an effect here
    limits_resources: bool

    def place(self) -> str:
        """Where this is, for people."""
        ...

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

    def find_run(self, plan_hash: str) -> str | None:
        """The newest run of that plan, if there is one."""
        ...

    def watch(self, plan: Plan) -> AbstractContextManager[Updates]: ...

    def submit(self, job: Object) -> Submission:
        """Create the Job, or adopt the equal one that is there. Raises Conflict on another."""
        ...

    def start_early(self, job: Object, before: Object, beside: Object | None) -> Submission | None:
        """Create the Job, which waits for the end of `before` by itself (manifests.started_early).

        beside: the Pod that works now; not if what the Job asks for is not free there (None: do not
        look). None if it was not created, for whatever reason that `submit` will tell in its turn.
        """
        ...

    def withdraw(self, job: Object) -> None:
        """Delete the Job if somebody has started it early and it has not ended."""
        ...

    def stop(self, submission: Submission, verdict: Verdict) -> None:
        """End a Job that cannot come to a good end; its Pod and the verdict stay to be read."""
        ...

    def read_log(self, pod: Object, container: str, sink: Sink) -> None:
        """Give all that a container prints to `sink`, until it has ended."""
        ...

    def jobs(self, run: str | None = None) -> list[tuple[Object, Sequence[Object]]]:
        """Every Job of a run (or of all), oldest first, with its Pods."""
        ...

    def log_tail(self, pod: Object, container: str, lines: int | None, follow: bool, sink: Sink) -> None:
        """The last lines of a container's log; `follow`: and what comes. Raises LookupError if gone."""
        ...

    def volume(self, run: str | None = None) -> AbstractContextManager[Volume]:
        """The volume. run: whose files are wanted, if they are one run's."""
        ...

    def examine(self, manifests: Manifests) -> list[Finding]:
        """Look at everything that a run needs here, one by one."""
        ...

    def cancel(self, run: str) -> list[str]:
        """Delete the run's Jobs that have not ended; returns their names."""
        ...

    def expire(self, run: str, seconds: int) -> bool:
        """Let the run's Jobs be removed so long after their end; False where nobody would do it."""
        ...

    def delete(self, run: str) -> list[str]:
        """Delete everything of the run but its data; returns what was deleted."""
        ...


class Volume(Protocol):
    """The shared volume, while it is open."""

    def runs(self) -> list[Object]:
        """The runs on it and their records (see jobs.transfer)."""
        ...

    def send(self, folder: str, *, everything: bool) -> Iterator[bytes]:
        """`runs/RUN` as an archive (jobs.contract.archive)."""
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
        """No more changes can come; whoever waits gets `error`."""
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


def adopt(wanted: Object, live: Object) -> bool:
    """Whether the Job that has the name is the one that is wanted: same content, not failed.

    False: it has failed, and may be replaced. Raises Conflict if it is another one.
    """
    run, stage = (wanted["metadata"]["labels"][label] for label in (LABEL_RUN, LABEL_COMPONENT))
    name = wanted["metadata"]["name"]
    annotations = live["metadata"].get("annotations") or {}
    condition = finished_condition(live)
    if (
        condition
        and condition["type"] == "Failed"
        and live["metadata"].get("labels", {}).get(LABEL_RUN) == run
    ):
        return False
    asked = wanted["metadata"]["annotations"]
    if annotations.get(ANNOTATION_HASH) == asked[ANNOTATION_HASH]:
        return True
    if (
        condition
        and condition["type"] == "Complete"
        and annotations.get(ANNOTATION_WORK) == asked[ANNOTATION_WORK]
    ):
        return True  # it has done this work; how much it might use for it matters no more
    if ANNOTATION_HASH not in annotations:
        raise Conflict(
            f"Job {name} exists and was not created by this launcher",
            "choose another --run",
        )
    differences = "".join(f"\n    {key}" for key in differing_keys(wanted, live))
    state = "has finished" if condition else "is still running"
    stops = "" if condition else f" (it stops {stage})"
    raise Conflict(
        f"Job {name} exists with other content, and {state}:{differences}\n"
        f"  choose another --run; or delete the Jobs of this one{stops} and run the same command again: "
        "it resumes from what is on the volume",
        Command("delete", run),
    )


def waits_early(live: Object) -> bool:
    """Whether a Job was started early and has not ended."""
    return ANNOTATION_EARLY in (live["metadata"].get("annotations") or {}) and not finished_condition(live)


def last_lines(log: bytes, count: int | None) -> bytes:
    """The last `count` lines of a log (None: all). Only a newline ends a line, as for kubectl."""
    if count is None:
        return log
    lines = re.findall(rb"[^\n]*\n|[^\n]+$", log)
    return b"".join(lines[max(len(lines) - count, 0) :])
