"""One stage from its submission to its report.

    current.follow()                      wait for its verdict; the next stage may start early meanwhile
    with current.log_kept(): ...          submit the next stage, so that it loses no time
    reports.append(current.settle())      then finish this one

A stage may need several Jobs: if only disruptions failed its Job, the launcher starts another to resume it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jobrelay.errors import Exit, JobRelayError
from jobrelay.executors.base import Executor, Submission, Updates
from jobrelay.executors.follow import follow
from jobrelay.figures import in_one_line
from jobrelay.kube.objects import Job
from jobrelay.kube.read import finished_condition, has_runner, main_container, pod_phase, pods_of
from jobrelay.manifests import Plan, with_disruptions
from jobrelay.manifests.adapting import lacks_shell, without_runner
from jobrelay.runs.events import Progress
from jobrelay.runs.report import StageReport
from jobrelay.runs.request import RunRequest
from jobrelay.runs.stage.attempts import AttemptReporter
from jobrelay.runs.stage.early_start import EarlyStart
from jobrelay.runs.stage.log_copies import LogCollector
from jobrelay.runs.stage.reporting import stage_report
from jobrelay.runs.timeline import now
from jobrelay.verdicts import JobView, Verdict, Waiting, judge, lost_pods, may_resume
from jobrelay_runner.stages import Stage

_SETTLE_SECONDS: float = 2.0
#: Seconds without a new byte, after the end of the Job, until a log counts as cut: longer than it takes to
#: detect that the stream is dead, and then that the request about it is, too.
_LOG_SECONDS: Final = 65.0


@dataclass(frozen=True)
class StageContext:
    """What all stages of one run share."""

    executor: Executor
    plan: Plan
    request: RunRequest
    console: Progress
    updates: Updates
    logs: Path
    on_step: Callable[[str, Stage], None]


class RunningStage:
    """A stage whose Job exists. next_job: of the next stage, which may start early."""

    # set once a Job was followed
    _verdict: Verdict
    _view: JobView
    _seen: str  # when the launcher got the verdict

    def __init__(
        self, context: StageContext, stage: Stage, submission: Submission, next_job: Job | None
    ) -> None:
        self._context = context
        self.stage = stage
        self._next_job = next_job
        self._patience = context.request.patience.of(context.plan.placements[stage])
        self._take(submission)

    @property
    def succeeded(self) -> bool:
        return self._verdict.exit_code == Exit.SUCCEEDED

    @property
    def started_early(self) -> Submission | None:
        """The Job of the next stage, if it was started early."""
        return self._early.submission

    def follow(self) -> None:
        """Wait until the stage has succeeded or can no longer succeed. Raises ApiLost."""
        while True:
            self._follow_job()
            if self.succeeded:
                return
            with self.log_kept():
                self._give_up()
            self._settle_job()
            if plain := self._without_shell():
                why = "its image has no shell: the program runs alone, without its code and a record"
                self._context.console.say(f"  {self.stage}: {why}")
                self._take(self._context.executor.submit(plain))
            elif may_resume(self._view, self._verdict, self._patience):
                self._resume()
            else:
                return

    @contextlib.contextmanager
    def log_kept(self) -> Iterator[None]:
        """If the block raises, still read the log of this stage to its end."""
        try:
            yield
        except JobRelayError:
            self._collector.finish(_LOG_SECONDS, self._context.console.say)
            raise

    def settle(self) -> StageReport:
        """Wait for the last state of the Pods and the rest of the log; return the report."""
        if not self._settled:
            self._settle_job()
        return stage_report(
            self.stage, self._submission, self._verdict, self._view, self._collector, self._seen,
            self._context.executor.limits_resources,
        )  # fmt: skip

    # --- one Job of the stage ---

    def _take(self, submission: Submission) -> None:
        """Start over with a new Job."""
        context = self._context
        self._submission = submission
        self._settled = False
        self._early = EarlyStart(
            context.executor, context.plan.jobs[self.stage], self._next_job, context.request.early
        )
        container = main_container(submission.job)["name"]
        show_as = _heard_too(context.console.log_of, self._early)
        self._collector = LogCollector(context.executor, self.stage, container, context.logs, show_as)
        self._reporter = AttemptReporter(context.console.say, self.stage, self._patience)

    def _follow_job(self) -> None:
        context = self._context
        how = "complete" if self._submission.finished else self._submission.how
        context.console.submitted(self.stage, self._submission.name, how)
        with self._early:
            self._verdict, self._view = follow(
                context.updates, self._submission, self._patience, self._notice
            )
        self._seen = now()
        context.on_step("verdict", self.stage)

    def _notice(self, view: JobView, judged: Verdict | Waiting) -> None:
        console = self._context.console
        self._early.notice(
            view, judged
        )  # before its log is read, which may immediately report that the end is near
        if not self._submission.finished:  # the log of a Job that had finished before comes from the volume
            self._collector.notice(view)
            self._reporter.notice(view, judged)
        if isinstance(judged, Verdict) or (judged.phase == "running" and not judged.detail):
            console.running()
        else:
            detail = f"{judged.phase}: {judged.detail}" if judged.detail else judged.phase
            console.waiting(self.stage, detail)

    def _give_up(self) -> None:
        """Withdraw the next stage, and stop the Job if it has not finished by itself."""
        self._early.withdraw()
        if self._view.job and not finished_condition(self._view.job):
            self._context.executor.stop(self._submission, self._verdict)

    def _settle_job(self) -> None:
        """Wait for the Pods and the log, and judge again: a stage given up may still have succeeded."""
        self._view = _settled(self._context.updates, self._submission)
        self._verdict = _judged_again(self._verdict, self._view)
        if not self._submission.finished:
            self._collector.notice(self._view)  # a Pod may have started and ended unseen
        # the Pods of a deleted Job may end at any time
        seconds = _LOG_SECONDS if self._view.job else _SETTLE_SECONDS
        self._collector.finish(seconds, self._context.console.say)
        self._context.on_step("log", self.stage)
        self._settled = True

    def _without_shell(self) -> Job | None:
        """The Job as it can run in an image that has no shell; None if that is not what is wrong."""
        tried = not has_runner(main_container(self._submission.job))
        if tried or not lacks_shell(self._verdict.reason, self._verdict.message):
            return None
        return without_runner(self._context.plan.jobs[self.stage])

    def _resume(self) -> None:
        context = self._context
        context.console.say(f"  {self.stage}: {in_one_line(self._verdict.cause)}; a new Job resumes it")
        job = with_disruptions(context.plan.jobs[self.stage], lost_pods(self._view))
        self._take(context.executor.submit(job))


def _heard_too(
    log_of: Callable[[str], Callable[[bytes], None]], early: EarlyStart
) -> Callable[[str], Callable[[bytes], None]]:
    """Sinks that pass logs to those of `log_of` and to EarlyStart, which picks the time to start."""

    def sink_of(name: str) -> Callable[[bytes], None]:
        show, hear = log_of(name), early.listener()

        def sink(chunk: bytes) -> None:
            show(chunk)
            hear(chunk)

        return sink

    return sink_of


def _settled(updates: Updates, submission: Submission) -> JobView:
    """Wait until the Pods agree with the Job, whose watch is a different one; return the view.

    On a busy API server one watch may lag by seconds; after 2 s everything is read again.
    """
    deadline = time.monotonic() + _SETTLE_SECONDS
    while True:
        seen = updates.seen()
        view = updates.view(submission)
        if _agrees_with_its_pods(view):
            return view
        left = deadline - time.monotonic()
        if left <= 0:
            updates.refresh()
            return updates.view(submission)
        updates.wait(seen, left)


def _agrees_with_its_pods(view: JobView) -> bool:
    phases = [pod_phase(pod) for pod in view.pods]
    if not all(phase in ("Succeeded", "Failed") for phase in phases):
        return False
    condition = finished_condition(view.job) if view.job else None
    if view.job and condition and condition["type"] == "Complete":
        return phases.count("Succeeded") >= pods_of(view.job)
    return not condition or "Failed" in phases


def _judged_again(verdict: Verdict, view: JobView) -> Verdict:
    """The verdict from the final state of the Pods: which one succeeded, why one failed."""
    judged = judge(view)
    # a finished Job counts even if it was deleted afterwards
    return judged if view.job and finished_condition(view.job) and isinstance(judged, Verdict) else verdict
