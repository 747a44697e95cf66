"""A run: stage after stage to its verdict, the logs kept, the results brought home.

Knows executors by their interface only, and nothing of Kubernetes or of processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from jobs.contract.config import STAGES, RunConfig, Stage
from jobs.contract.counting import listed
from jobs.contract.record import Closing, LogProof, differing
from launcher import artifacts
from launcher.attempts import AttemptReporter
from launcher.autosize import autosized
from launcher.collector import LogCollector
from launcher.console import Console
from launcher.early import EarlyStart, When
from launcher.errors import Conflict, EvidenceIncomplete, Exit, JobRelayError, Terminated
from launcher.executors.base import Executor, Submission, Updates, adopt
from launcher.executors.following import follow
from launcher.hints import Command, Hint, SameAgain, of_run
from launcher.manifests import (
    CONFIG_FILE,
    LABEL_COMPONENT,
    Manifests,
    Plan,
    main_container,
    new_run_id,
    pods_of,
    render,
    with_disruptions,
)
from launcher.runfolder import Owner, claim, training_in
from launcher.timeline import Timeline, now, timeline
from launcher.verdicts import (
    JobView,
    Patience,
    Verdict,
    Waiting,
    attempts_allowed,
    closing,
    failed_attempts,
    finished_condition,
    goes_on_anew,
    index_of,
    judge,
    last_pod,
    lost_pods,
    pod_phase,
    with_last_line,
)
from launcher.wording import accuracy, duration, in_one_line, memory

Object = dict[str, Any]

_SETTLE_SECONDS = 2.0
#: Without a new byte, after the end of the Job, until a log counts as cut: longer than it takes to
#: notice that the stream is dead, and then that the question about it is.
_LOG_SECONDS = 65.0


@dataclass(frozen=True)
class StageReport:
    """How one stage went."""

    stage: Stage
    verdict: Verdict
    how: str  # created | early | adopted | replaced | complete
    closing: Closing | None
    seconds: float | None
    memory_limit: str
    log_complete: bool | None  # None: it ran before, or has not said what it printed
    pods: int
    ran: bool  # some container of it has begun
    timeline: Timeline
    resources: Object | None = field(
        default_factory=dict
    )  # what its container asked for; None: no matter here
    #: what the other Pods of a stage of several say they have printed; None: one that has not said
    peer_logs: tuple[LogProof | None, ...] = ()
    attempt: int = 1  # the one that has decided, of so many that there may be
    attempts: int = 1


@dataclass
class RunReport:
    """How a run went, as far as it got."""

    run: str
    place: str
    folder: Path
    stages: list[StageReport] = field(default_factory=list)
    fetched: artifacts.Fetched | None = None
    incomplete: EvidenceIncomplete | None = None  # all stages succeeded, and yet

    @property
    def verdict(self) -> Verdict:
        return self.stages[-1].verdict

    def has_log(self, stage: StageReport) -> bool:
        """Whether all that a stage has printed is in the folder now, as its record and its Pods prove it."""
        return (
            self.fetched is not None
            and stage.stage in self.fetched.logs
            and all(proof and not differing(self.folder, {proof.file: proof}) for proof in stage.peer_logs)
        )

    @property
    def exit_code(self) -> Exit:
        return self.incomplete.exit_code if self.incomplete else self.verdict.exit_code


class Interrupted(JobRelayError):
    """Ctrl-C or SIGTERM: the launcher goes, the Jobs stay."""

    def __init__(self, what: str, hint: Hint, exit_code: Exit) -> None:
        super().__init__(what, hint)
        self.exit_code = exit_code


@dataclass(frozen=True)
class Options:
    """What is asked of a run, beside its configuration."""

    run: str | None = None
    namespace: str | None = None
    image: str | None = None
    timeout_seconds: int | None = None
    patience: Patience = field(default_factory=Patience)
    stages: Sequence[Stage] = STAGES
    new: bool = False
    fetch: bool = True
    folder: Path | None = None  # where results go; None: runs/RUN
    cancel_on_interrupt: bool = False
    early: When = "auto"  # whether a stage is started before its turn, to import
    ttl_seconds: int | None = None  # of the Jobs, once all that they leave is home
    needs: Sequence[str] = ()  # data/NAME, or files in one, that must be on the volume


def plan_run(
    executor: Executor,
    manifests: Manifests,
    config: RunConfig,
    options: Options,
    say: Callable[[str], None] = lambda text: None,
) -> Plan:
    """Decide the run's id and render it: the one that was asked for, the newest equal one, or new.

    Equal is only one whose data is still what it was made of. Raises Conflict if that was asked for and
    is not. say: where to report why a run is new.
    """

    def rendered(run: str) -> Plan:
        return render(
            manifests, config, run,
            namespace=options.namespace, image=options.image, timeout_seconds=options.timeout_seconds,
        )  # fmt: skip

    if options.run:
        if changed := artifacts.changed_data(executor, options.run, config, options.stages[-1]):
            raise Conflict(
                f"run {options.run} used other data: {listed(changed)} changed since",
                "use another run for the data as it is now (--run NAME); or, if train has not read it, "
                f"delete the Jobs of run {options.run}: it then reads the data again",
            )
        return rendered(options.run)
    plan = rendered(new_run_id())
    if options.new or not (known := executor.find_run(plan.hash)):
        return plan
    if changed := artifacts.changed_data(executor, known, config, options.stages[-1]):
        say(f"run {known} used other data ({listed(changed)} changed since); this is a new run")
        return plan
    return rendered(known)


def run_stages(
    executor: Executor,
    plan: Plan,
    options: Options,
    console: Console,
    on_step: Callable[[str, Stage], None] = lambda step, stage: None,
) -> RunReport:
    """Bring every stage to its verdict, in order, as far as they succeed; then fetch the results.

    Raises ApiLost, Conflict, BadInput, Interrupted. The report of a stage that has failed is the
    last one, and no error; nor is evidence that is incomplete: report.exit_code tells. on_step tells
    a benchmark what happens when.
    """
    report = RunReport(plan.run, executor.place(), options.folder or Path("runs") / plan.run)
    try:
        artifacts.require_place(report.folder)
        executor.check(plan)
        training = training_in(plan.config_map, CONFIG_FILE)
        _claim(executor, plan, options, report.folder, training)
        console.say(f"run {plan.run} on {executor.place()}")
        plan = autosized(executor, plan, options.stages, console)
        executor.share(plan.shared)
        artifacts.require(executor, options.needs)
        executor.configure(plan.config_map)
        for service in plan.services:
            executor.name_pods(service)
        with executor.watch(plan) as updates:
            _run_in_order(executor, plan, options, console, updates, report, on_step)
        on_step("fetch", options.stages[-1])
        if options.fetch:
            _bring_home(executor, report, console)
        elif report.verdict.exit_code == Exit.SUCCEEDED:
            bring = console.complete(Command("fetch", report.run))
            console.say(f"results and logs stay on the volume; to bring them here: {bring}")
        _check_logs(report)
        _expire(executor, report, options, console)
    except (KeyboardInterrupt, Terminated) as interrupt:
        raise _interrupted(executor, plan, options, interrupt) from None
    except JobRelayError as error:
        error.hint = of_run(error.hint, plan.run)
        raise
    return report


def _claim(executor: Executor, plan: Plan, options: Options, folder: Path, training: str | None) -> None:
    """Make the folder that of the run. Raises Conflict, which names the keys where its Jobs tell them."""
    try:
        claim(folder, Owner(run=plan.run, place=executor.place(), training=training))
    except Conflict:
        for live, _ in executor.jobs(plan.run):
            if (stage := live["metadata"]["labels"].get(LABEL_COMPONENT)) in options.stages:
                adopt(plan.jobs[stage], live)
        raise


def _run_in_order(
    executor: Executor,
    plan: Plan,
    options: Options,
    console: Console,
    updates: Updates,
    report: RunReport,
    on_step: Callable[[str, Stage], None],
) -> None:
    waiting = list(options.stages)
    stage = waiting.pop(0)
    on_step("submit", stage)
    submission = executor.submit(plan.jobs[stage])
    while True:
        patience = options.patience.of(plan.placements[stage])
        following = plan.jobs[waiting[0]] if waiting else None
        early = EarlyStart(executor, plan.jobs[stage], following, options.early)
        collector = LogCollector(
            executor, stage, main_container(submission.job)["name"], report.folder / "logs",
            _heard_too(console.log_of, early),
        )  # fmt: skip
        _announce(console, stage, submission)
        with early:
            reporter = AttemptReporter(console.say, stage, patience)
            on_change = _watcher(console, stage, submission, collector, early, reporter)
            verdict, view = follow(updates, submission, patience, on_change)
        seen = now()
        on_step("verdict", stage)
        this, done = submission, stage
        try:
            if verdict.exit_code == Exit.SUCCEEDED and waiting:
                # first the next Job, so that it loses no time; then what is left to do for this one
                stage = waiting.pop(0)
                on_step("submit", stage)
                submission = early.submission or executor.submit(plan.jobs[stage])
            else:
                early.withdraw()
                if view.job and not finished_condition(view.job):
                    executor.stop(this, verdict)
        except JobRelayError:
            # whatever hinders the next one, this one's log is kept
            collector.finish(_LOG_SECONDS, console.say)
            raise
        view = _settled(updates, this)
        verdict = _judged_again(verdict, view)
        if not this.finished:
            collector.notice(view)  # a Pod may have begun and ended before anybody heard of either
        # of a Job that was deleted, the Pods end when they like
        collector.finish(_LOG_SECONDS if view.job else _SETTLE_SECONDS, console.say)
        on_step("log", done)
        if goes_on_anew(view, verdict, patience):
            console.say(f"  {stage}: {in_one_line(verdict.cause)}; a new Job resumes it")
            submission = executor.submit(with_disruptions(plan.jobs[stage], lost_pods(view)))
            continue
        report.stages.append(_report(done, this, verdict, view, collector, seen, executor.limits_resources))
        console.say(stage_line(report.stages[-1]))
        if done != stage:
            continue
        if not (verdict.exit_code == Exit.SUCCEEDED and waiting):
            return
        # it was given up, and succeeded before it could be stopped
        stage = waiting.pop(0)
        on_step("submit", stage)
        submission = executor.submit(plan.jobs[stage])


def _heard_too(
    log_of: Callable[[str], Callable[[bytes], None]], early: EarlyStart
) -> Callable[[str], Callable[[bytes], None]]:
    """Logs go where `log_of` has them go, and are listened to for when the next stage is to be started."""

    def sink_of(name: str) -> Callable[[bytes], None]:
        show, hear = log_of(name), early.listener()

        def sink(chunk: bytes) -> None:
            show(chunk)
            hear(chunk)

        return sink

    return sink_of


def _settled(updates: Updates, submission: Submission) -> JobView:
    """What is known when the Pods say, too, what the Job has said: they come by another watch.

    On a busy API server that may be seconds behind, so in the end all is looked at anew.
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
    """The verdict with all that the Pods say: which one succeeded, why one failed."""
    judged = judge(view)
    # a Job that is deleted after its end has ended all the same
    return judged if view.job and finished_condition(view.job) and isinstance(judged, Verdict) else verdict


def _announce(console: Console, stage: Stage, submission: Submission) -> None:
    if submission.finished:
        console.detail(f"  {stage}: Job {submission.name} is complete already")
    elif submission.how in ("adopted", "replaced"):
        said = "re-attached to" if submission.how == "adopted" else "runs again, replacing the failed"
        console.say(f"  {stage}: {said} Job {submission.name}")


def _watcher(
    console: Console,
    stage: Stage,
    submission: Submission,
    collector: LogCollector,
    early: EarlyStart,
    reporter: AttemptReporter,
) -> Callable[[JobView, Verdict | Waiting], None]:
    def on_change(view: JobView, judged: Verdict | Waiting) -> None:
        early.notice(view, judged)  # before its log is read, which may say at once that it is near its end
        if not submission.finished:  # the log of one that had ended before comes from the volume
            collector.notice(view)
            reporter.notice(view, judged)
        if isinstance(judged, Verdict) or (judged.phase == "running" and not judged.detail):
            console.running()
        else:
            console.waiting(stage, f"{judged.phase}: {judged.detail}" if judged.detail else judged.phase)

    return on_change


def _report(
    stage: Stage,
    submission: Submission,
    verdict: Verdict,
    view: JobView,
    collector: LogCollector,
    seen: str,
    limits_resources: bool,
) -> StageReport:
    pod = next((p for p in view.pods if p["metadata"]["name"] == verdict.pod), last_pod(view.pods))
    said = closing(pod) if pod else None
    succeeded = verdict.exit_code == Exit.SUCCEEDED
    peers = _peers(submission.job, view) if succeeded else []
    complete: bool | None = None
    if not (submission.finished and succeeded):
        checked = [collector.is_complete(each, succeeded) for each in (pod, *peers)]
        complete = False if False in checked else None if None in checked else True
    closings = [closing(each) if each else None for each in peers]
    peer_logs = tuple(each.log if each else None for each in closings)
    resources = main_container(submission.job).get("resources", {}) if limits_resources else None
    how = "complete" if submission.finished else submission.how
    seconds = said.cost.wall_seconds if said else _job_seconds(view.job)
    limit = str((resources or {}).get("limits", {}).get("memory", ""))
    ran = bool(collector.copies) or verdict.exit_code == Exit.SUCCEEDED
    copy = collector.copies.get(pod["metadata"]["name"]) if pod else None
    verdict = with_last_line(verdict, copy.tail() if copy else "")
    failures = len(failed_attempts(view))
    here = {"first_line": copy.since if copy else None, "seen": None if submission.finished else seen}
    when = timeline(view, pod, here)
    return StageReport(
        stage, verdict, how, said, seconds, limit, complete, len(view.pods), ran, when, resources, peer_logs,
        max(failures + succeeded, 1), attempts_allowed(view.job or submission.job),
    )  # fmt: skip


def _peers(job: Object, view: JobView) -> list[Object | None]:
    """Of a stage of several Pods that has succeeded, all but the one that speaks for it; None: it is gone."""
    done = {index_of(pod): pod for pod in view.pods if pod_phase(pod) == "Succeeded"}
    return [done.get(index) for index in range(1, pods_of(job))]


def _job_seconds(job: Object | None) -> float | None:
    status = (job or {}).get("status", {})
    ends = [status.get("startTime"), status.get("completionTime")]
    if not all(ends):
        return None
    start, end = (datetime.fromisoformat(text.replace("Z", "+00:00")) for text in ends)
    return (end - start).total_seconds()


def _bring_home(executor: Executor, report: RunReport, console: Console) -> None:
    """Results and logs to report.folder; a stage that failed leaves what it left."""
    if not any(stage.ran for stage in report.stages):
        return  # there is nothing to fetch
    try:
        report.fetched = artifacts.fetch(executor, report.run, report.folder)
    except JobRelayError as error:
        if report.verdict.exit_code != Exit.SUCCEEDED:
            console.say(f"  nothing was fetched: {error.what}")  # the stage's own verdict says more
        else:  # whatever hinders it: the stages have ended well, and only the evidence is missing here
            report.incomplete = EvidenceIncomplete(
                f"all stages succeeded, and their results could not be fetched: {error.what}",
                Command("fetch", report.run),
            )
        return
    console.say(f"results and logs are in {report.folder}/")
    if report.fetched.problems and report.verdict.exit_code == Exit.SUCCEEDED:
        listed = "".join(f"\n    {problem}" for problem in report.fetched.problems)
        report.incomplete = EvidenceIncomplete(
            f"run {report.run} differs from its records:{listed}\n  once its Jobs are deleted (its files "
            f"stay), the same command with --run {report.run} creates what is missing",
            Command("delete", report.run),
        )


def _check_logs(report: RunReport) -> None:
    """Every log is complete, or its copy from the volume has replaced it; else the gap is told."""
    gaps = [s for s in report.stages if s.log_complete is False and not report.has_log(s)]
    if not gaps or report.incomplete or report.verdict.exit_code != Exit.SUCCEEDED:
        return
    names = ", ".join(s.stage for s in gaps)
    hint = "the volume has no copy of it" if report.fetched else Command("fetch", report.run)
    report.incomplete = EvidenceIncomplete(f"the log of {names} is incomplete", hint)


def _expire(executor: Executor, report: RunReport, options: Options, console: Console) -> None:
    """Only now, with all evidence at home, may the Jobs go by themselves."""
    if options.ttl_seconds is None or not report.fetched or report.exit_code != Exit.SUCCEEDED:
        return
    try:
        removed = executor.expire(report.run, options.ttl_seconds)
    except JobRelayError as error:  # all is here and proven: only what should go stays
        console.say(f"  the launcher could not limit how long the Jobs stay: {error.what}")
        return
    if not removed:
        away = console.complete(Command("delete", report.run))
        console.say(f"  --ttl has no effect here; to remove the Jobs: {away}")


def _interrupted(executor: Executor, plan: Plan, options: Options, interrupt: BaseException) -> Interrupted:
    code = Exit.TERMINATED if isinstance(interrupt, Terminated) else Exit.INTERRUPTED
    again = SameAgain(run=plan.run)
    if options.cancel_on_interrupt:
        names = executor.cancel(plan.run)
        return Interrupted(f"interrupted; cancelled: {', '.join(names) or 'nothing'}", again, code)
    return Interrupted(
        f"detached; the Jobs of run {plan.run} continue, and the same command re-attaches to them",
        again,
        code,
    )


def stage_line(report: StageReport) -> str:
    """✓ train  12.3 s  acc 0.9921  peak 812 MiB of 2.0 GiB"""
    verdict = report.verdict
    attempt = f"attempt {report.attempt} of {report.attempts}" if report.attempt > 1 else ""
    if verdict.exit_code != Exit.SUCCEEDED:
        how = ", ".join(filter(None, (verdict.outcome, attempt)))
        return f"✗ {report.stage}  {how}: {in_one_line(verdict.cause)}"
    parts = [f"✓ {report.stage}"]
    if report.seconds is not None:
        parts.append(duration(report.seconds))
    parts.append(accuracy(report.closing))
    if peak := memory(report.closing, report.memory_limit):
        parts.append(f"peak {peak}")
    if report.how == "complete" or (report.closing and report.closing.skipped):
        parts.append("(complete already)")
    elif attempt:
        parts.append(f"({attempt})")
    return "  ".join(part for part in parts if part)
