"""What a run is told to be, when what is known of Jobs and Pods comes late."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobrelay.console import Console
from jobrelay.errors import ApiLost, BadInput, Exit, JobRelayError
from jobrelay.executors.base import ChangeCounter, Submission
from jobrelay.hints import Command
from jobrelay.runs.relay import run_stages
from jobrelay.runs.report import RunReport
from jobrelay.runs.request import RunRequest
from jobrelay.runs.stage import running
from jobrelay.runs.stage.early_start import EarlyStart
from jobrelay.verdicts import JobView, Patience
from tests.support import objects as o

Object = dict[str, Any]


class Updates(ChangeCounter):
    """Shows `views`, one after each refresh; the last one for ever."""

    def __init__(self, *views: JobView) -> None:
        super().__init__()
        self.views = list(views)

    def view(self, submission: Submission) -> JobView:
        return self.views[0]

    def refresh(self) -> None:
        if len(self.views) > 1:
            self.views.pop(0)


class Executor:
    """Has one Job and its log. `refuse`: what every submission after the first raises."""

    limits_resources = True

    def __init__(self, updates: Updates, refuse: Exception | None = None) -> None:
        self.updates = updates
        self.refuse = refuse
        self.submitted = 0

    def place(self) -> str:
        return "here"

    def check(self, plan: object) -> None: ...

    share = configure = check

    @contextlib.contextmanager
    def watch(self, plan: object) -> Iterator[Updates]:
        yield self.updates

    def start_early(self, job: Object, before: Object, beside: Object | None) -> None:
        """There is no room."""

    def submit(self, job: Object, replace: str = "if-later") -> Submission:
        self.submitted += 1
        if self.refuse and self.submitted > 1:
            raise self.refuse
        return Submission(job, "created")

    def read_log(self, pod: Object, container: str, sink: Any) -> None:
        sink(b"all that it has printed\n")


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_SETTLE_SECONDS", 0.1)


def run(executor: Any, folder: Path, *stages: Any) -> RunReport:
    request = RunRequest(stages=stages, fetch=False, folder=folder)
    return run_stages(executor, o.plan(), request, Console(stderr=io.StringIO()))


COMPLETE = o.job("train", o.condition("Complete"))
SUCCEEDED = o.pod(COMPLETE, "Succeeded", containerStatuses=[o.terminated(0, "Completed")])


@pytest.mark.parametrize(
    "early",
    [[], [o.pending(COMPLETE, o.waiting("ContainerCreating"))], [o.failed(COMPLETE, o.terminated(1))]],
    ids=["row-37-no-pod", "row-37-not-started", "row-37-an-earlier-attempt"],
)
def test_a_pod_that_shows_up_after_its_job_has_its_log_read(tmp_path: Path, early: list[Object]) -> None:
    updates = Updates(JobView(COMPLETE, early), JobView(COMPLETE, [SUCCEEDED]))
    report = run(Executor(updates), tmp_path, "train")

    assert report.exit_code == Exit.SUCCEEDED
    assert report.verdict.pod == SUCCEEDED["metadata"]["name"]
    log = tmp_path / "logs" / f"train-{report.verdict.pod}.log"
    assert log.read_bytes() == b"all that it has printed\n"


def test_row_37_a_pod_that_never_shows_up_is_a_gap(tmp_path: Path) -> None:
    report = run(Executor(Updates(JobView(COMPLETE))), tmp_path, "train")
    assert report.verdict.exit_code == Exit.SUCCEEDED
    assert report.exit_code == Exit.INCOMPLETE
    assert report.incomplete
    assert "the log of train is incomplete" in report.incomplete.what


def test_row_6_a_log_is_kept_when_the_next_stage_cannot_be_submitted(tmp_path: Path) -> None:
    executor = Executor(Updates(JobView(COMPLETE, [SUCCEEDED])), refuse=ApiLost("nobody answers"))
    with pytest.raises(ApiLost):
        run(executor, tmp_path, "train", "eval")
    (log,) = (tmp_path / "logs").iterdir()
    assert log.read_bytes() == b"all that it has printed\n"


def test_row_31_why_a_pod_failed_is_told_though_it_shows_up_after_its_job(tmp_path: Path) -> None:
    job = o.job("train", o.condition("Failed", "True", "BackoffLimitExceeded", "the limit"))
    running = o.pod(job, containerStatuses=[o.running()])
    killed = o.failed(job, o.terminated(137, "OOMKilled"))
    report = run(Executor(Updates(JobView(job, [running]), JobView(job, [killed]))), tmp_path, "train")
    assert (report.exit_code, report.verdict.reason) == (Exit.FAILED, "OOMKilled")
    assert report.verdict.pod == killed["metadata"]["name"]


def test_a_job_that_is_deleted_after_its_end_has_ended_all_the_same(tmp_path: Path) -> None:
    complete = JobView(COMPLETE, [o.pending(COMPLETE, o.waiting("ContainerCreating"))])
    report = run(Executor(Updates(complete, JobView(None, [SUCCEEDED]))), tmp_path, "train")
    assert report.verdict.exit_code == Exit.SUCCEEDED


class GivenUpTooLate(Executor):
    """Its train has lost one Pod too many, and is complete before it can be stopped; so is its eval."""

    def __init__(self) -> None:
        super().__init__(Updates())
        self.updates.view = self._view  # type: ignore[method-assign]
        self.given_up = False

    def _view(self, submission: Submission) -> JobView:
        if submission.name.endswith("eval"):
            complete = o.job("eval", o.condition("Complete"))
            done = o.pod(complete, "Succeeded", containerStatuses=[o.terminated(0, name="eval")])
            return JobView(complete, [done])
        if self.given_up:
            return JobView(COMPLETE, [SUCCEEDED])
        evicted = o.condition("DisruptionTarget", reason="EvictionByEvictionAPI")
        return JobView(o.job(), [o.pod(o.job(), conditions=[evicted], containerStatuses=[o.running()])])

    def stop(self, submission: Submission, verdict: Any) -> None:
        self.given_up = True

    def withdraw(self, job: Object) -> None: ...


def test_row_32_a_stage_that_succeeds_although_it_was_given_up_is_followed_by_the_next(
    tmp_path: Path,
) -> None:
    patience = Patience(disruptions=0)
    request = RunRequest(stages=("train", "eval"), fetch=False, folder=tmp_path, patience=patience)
    plan = o.plan()
    report = run_stages(GivenUpTooLate(), plan, request, Console(stderr=io.StringIO()))  # type: ignore[arg-type]
    assert [stage.stage for stage in report.stages] == ["train", "eval"]


class Early(Executor):
    """Its train says that it is near its end, and ends once eval was started; that one fails at once."""

    def __init__(self) -> None:
        super().__init__(Updates())
        self.started = False
        self.updates.view = self._view  # type: ignore[method-assign]

    def _view(self, submission: Submission) -> JobView:
        job = submission.job
        if submission.how == "early":
            failed = {**job, "status": {"conditions": [o.condition("Failed", reason="BackoffLimitExceeded")]}}
            return JobView(failed, [o.failed(job, o.terminated(65, message="no", name="eval"))])
        if self.started:
            return JobView(COMPLETE, [SUCCEEDED])
        return JobView(o.job(), [o.pod(o.job(), containerStatuses=[o.running()])])

    def read_log(self, pod: Object, container: str, sink: Any) -> None:
        sink(b"epoch 1/1  loss 0.1  acc 0.9  0.1 s  1.0k images/s\n")

    def start_early(self, job: Object, before: Object, beside: Object | None) -> Submission:
        live = {**job, "metadata": {**job["metadata"], "uid": "uid-eval"}}
        self.started = True
        self.updates.changed()
        return Submission(live, "early")


def test_row_26_a_stage_that_was_started_early_and_has_failed_is_not_run_again(tmp_path: Path) -> None:
    report = run(executor := Early(), tmp_path, "train", "eval")
    assert [(stage.stage, stage.how) for stage in report.stages] == [("train", "created"), ("eval", "early")]
    assert report.exit_code == Exit.INCOMPLETE
    assert executor.submitted == 1


@pytest.mark.timeout(60)  # else it hangs
def test_a_pod_is_known_before_its_log_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notice = EarlyStart.notice

    def late(*arguments: Any) -> None:
        time.sleep(0.3)
        notice(*arguments)

    monkeypatch.setattr(EarlyStart, "notice", late)
    report = run(Early(), tmp_path, "train", "eval")
    assert [stage.how for stage in report.stages] == ["created", "early"]


# --- the results --------------------------------------------------------------------------------


class WithoutVolume(Executor):
    """Its train succeeds, and its volume cannot be reached."""

    def __init__(self, error: Exception) -> None:
        super().__init__(Updates(JobView(COMPLETE, [SUCCEEDED])))
        self.error = error

    def volume(self, run: str | None = None) -> Any:
        raise self.error

    def expire(self, run: str, seconds: int) -> bool:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [JobRelayError("the Pod could not be created"), BadInput("no right to exec"), ApiLost("nobody answers")],
    ids=lambda error: type(error).__name__,
)
def test_row_37_results_that_cannot_be_fetched_are_missing_evidence(tmp_path: Path, error: Exception) -> None:
    request = RunRequest(stages=("train",), folder=tmp_path)
    report = run_stages(WithoutVolume(error), o.plan(), request, Console(stderr=io.StringIO()))  # type: ignore[arg-type]
    assert report.exit_code == Exit.INCOMPLETE
    assert [stage.verdict.exit_code for stage in report.stages] == [Exit.SUCCEEDED]
    assert report.incomplete
    assert report.incomplete.what == f"all stages succeeded, and their results could not be fetched: {error}"
    assert report.incomplete.hint == Command("fetch", report.run)


# --- attempts ------------------------------------------------------------------------------------


class Retried(Executor):
    """Its train runs a program of the user's own, and fails as often as there are `ends`."""

    def __init__(self, *pods: Object, last: JobView) -> None:
        super().__init__(Updates())
        self.views = [JobView(o.job(), pods[: count + 1]) for count in range(len(pods))] + [last]
        self.updates.view = self._view  # type: ignore[method-assign]
        self.updates.wait = self._wait  # type: ignore[method-assign]

    def _view(self, submission: Submission) -> JobView:
        return self.views[0]

    def _wait(self, seen: int, seconds: float | None) -> None:
        if len(self.views) > 1:
            self.views.pop(0)

    def withdraw(self, job: Object) -> None: ...


def told(executor: Any, folder: Path) -> tuple[RunReport, list[str]]:
    stderr = io.StringIO()
    request = RunRequest(stages=("train",), fetch=False, folder=folder)
    report = run_stages(executor, o.plan(), request, Console(stderr=stderr))
    return report, [line for line in stderr.getvalue().splitlines() if "│" not in line]


def failure(suffix: str, hour: int, message: str = "") -> Object:
    return o.pod(
        o.job(),
        "Failed",
        suffix,
        f"2026-11-21T{hour}:00:00Z",
        containerStatuses=[o.terminated(1, message=message)],
    )


def test_row_26_every_attempt_that_fails_is_reported_with_its_cause(tmp_path: Path) -> None:
    failed = o.job("train", o.condition("Failed", "True", "BackoffLimitExceeded", "the limit"))
    pods = [failure(suffix, 15 + hour, "NameError: nmae\n") for hour, suffix in enumerate("abc")]
    report, lines = told(Retried(*pods, last=JobView(failed, pods)), tmp_path)
    assert report.exit_code == Exit.FAILED
    assert lines[1:] == [
        "  train: attempt 1 of 3 failed: exit code 1: NameError: nmae; attempt 2 of 3 follows",
        "  train: attempt 2 of 3 failed: exit code 1: NameError: nmae; attempt 3 of 3 follows",
        "✗ train  failed, attempt 3 of 3: exit code 1: NameError: nmae",
    ]


def test_row_26_a_stage_that_succeeds_in_the_end_says_in_which_attempt(tmp_path: Path) -> None:
    pods = [failure("a", 15, "busy"), {**SUCCEEDED, "metadata": {**SUCCEEDED["metadata"], "name": "b"}}]
    report, lines = told(Retried(pods[0], last=JobView(COMPLETE, pods)), tmp_path)
    assert report.verdict.exit_code == Exit.SUCCEEDED
    assert lines[1] == "  train: attempt 1 of 3 failed: exit code 1: busy; attempt 2 of 3 follows"
    assert lines[-2].startswith("✓ train")
    assert lines[-2].endswith("(attempt 2 of 3)")


def test_row_32_a_pod_that_is_lost_is_reported_and_is_no_attempt(tmp_path: Path) -> None:
    lost = o.pod(o.job(), "Failed", "a", reason="Evicted", message="The node was low on resource: memory.")
    report, lines = told(Retried(lost, last=JobView(COMPLETE, [lost, SUCCEEDED])), tmp_path)
    assert report.verdict.exit_code == Exit.SUCCEEDED
    assert lines[1] == (
        "  train: Pod mnist-a-train-a was lost: Evicted: The node was low on resource: memory.; "
        "the Job starts another, which resumes from the last checkpoint (1 of at most 10)"
    )
    assert "attempt" not in lines[-1]


def test_row_26_the_end_of_the_log_says_why_where_the_pod_does_not(tmp_path: Path) -> None:
    failed = o.job(
        "train", o.condition("Failed", "True", "BackoffLimitExceeded", "the limit"), backoffLimit=0
    )
    report, lines = told(Retried(last=JobView(failed, [failure("a", 15)])), tmp_path)
    assert lines[-1] == "✗ train  failed: exit code 1: all that it has printed"
    assert report.verdict.reason == "Error"  # the API's own word stays, for programs
