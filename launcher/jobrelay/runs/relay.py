"""A run: bring stage after stage to its verdict, keep the logs, fetch the results.

This module uses executors only through their interface; it has no code for Kubernetes or processes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from jobrelay.errors import Conflict, EvidenceIncomplete, Exit, JobRelayError, Terminated
from jobrelay.executors.adoption import adopt
from jobrelay.executors.base import Executor, JobAdmin, JobReader, Submission
from jobrelay.hints import Command, Hint, SameAgain, of_run
from jobrelay.kube.read import stage_in
from jobrelay.manifests import Plan
from jobrelay.runs import results
from jobrelay.runs.events import Progress
from jobrelay.runs.folder import Owner, claim
from jobrelay.runs.report import RunReport, StageReport
from jobrelay.runs.request import RunRequest
from jobrelay.runs.sizing import autosized
from jobrelay.runs.stage.running import RunningStage, StageContext
from jobrelay_runner.stages import Stage


class Interrupted(JobRelayError):
    """Ctrl-C or SIGTERM ended the launcher; the Jobs keep running, unless --cancel-on-interrupt is set."""

    def __init__(self, what: str, hint: Hint, exit_code: Exit) -> None:
        super().__init__(what, hint)
        self.exit_code = exit_code


def run_stages(
    executor: Executor,
    plan: Plan,
    request: RunRequest,
    console: Progress,
    on_step: Callable[[str, Stage], None] = lambda step, stage: None,
) -> RunReport:
    """Bring the stages to their verdicts in order, up to the first failure; then fetch the results.

    Raises ApiLost, Conflict, BadInput, Interrupted. A failed stage raises nothing, its report is the last
    one; incomplete evidence raises nothing either: see report.exit_code. on_step: a benchmark gets each step.
    """
    report = RunReport(plan.run, executor.place(), request.folder or Path("runs") / plan.run)
    try:
        results.require_place(report.folder)
        executor.check(plan)
        _claim(executor, plan, request, report.folder)
        console.say(f"run {plan.run} on {executor.place()}")
        plan = prepared(executor, plan, request, console)
        with executor.watch(plan) as updates:
            logs = report.folder / "logs"
            _run_in_order(
                StageContext(executor, plan, request, console, updates, logs, on_step), report.stages
            )
        on_step("fetch", request.stages[-1])
        if request.fetch and plan.has_volume:
            _fetch_results(executor, report, console, may_lack_records=not plan.has_built_in)
        elif request.fetch:
            console.say(f"the Jobs mount no volume; their logs are in {report.folder}/logs/")
        elif report.verdict.exit_code == Exit.SUCCEEDED and not request.fetched_later:
            bring = console.complete(Command("fetch", report.run))
            console.say(f"results and logs stay on the volume; to bring them here: {bring}")
        _check_logs(report)
        _expire(executor, report, request, console)
    except (KeyboardInterrupt, Terminated) as interrupt:
        raise _interrupted(executor, plan, request, interrupt) from None
    except JobRelayError as error:
        error.hint = of_run(error.hint, plan.run)
        raise
    return report


def prepared(executor: Executor, plan: Plan, request: RunRequest, console: Progress) -> Plan:
    """Create everything that a run's Jobs need; return the plan with the resources that autosize chose."""
    plan = autosized(executor, plan, request.stages, console)
    executor.share(plan.shared)
    results.require(executor, request.needs)
    if plan.needs_config_map:
        executor.configure(plan.config_map)
    for service in plan.services:
        executor.name_pods(service)
    return plan


def _claim(executor: JobReader, plan: Plan, request: RunRequest, folder: Path) -> None:
    """Assign the folder to the run. Raises Conflict, with the keys that differ if the run's Jobs exist."""
    try:
        claim(folder, Owner(run=plan.run, place=executor.place(), training=plan.identity))
    except Conflict:
        for live, _ in executor.jobs(plan.run):
            if stage := stage_in(live, request.stages):
                adopt(plan.jobs[stage], live, request.replace)
        raise


def _run_in_order(context: StageContext, reports: list[StageReport]) -> None:
    """Bring the stages to their verdicts in order, up to the first failure."""
    remaining = list(context.request.stages)

    def start(submitted_early: Submission | None = None) -> RunningStage:
        stage = remaining.pop(0)
        context.on_step("submit", stage)
        submission = submitted_early or context.executor.submit(
            context.plan.jobs[stage], context.request.replace
        )
        next_job = context.plan.jobs[remaining[0]] if remaining else None
        return RunningStage(context, stage, submission, next_job)

    def hand_over(current: RunningStage) -> RunningStage | None:
        """Start the next stage if the current one succeeded."""
        if not (current.succeeded and remaining):
            return None
        with current.log_kept():
            return start(current.started_early)

    current: RunningStage | None = start()
    while current:
        current.follow()
        successor = hand_over(current)  # before settle(), so that the next stage loses no time
        reports.append(current.settle())
        context.console.ended(reports[-1])
        current = successor


def _fetch_results(
    executor: JobReader, report: RunReport, console: Progress, *, may_lack_records: bool
) -> None:
    """Fetch results and logs to report.folder, also those of a failed stage.

    may_lack_records: whether the stages may have run without the runner; then the volume may have nothing.
    """
    if not any(stage.ran for stage in report.stages):
        return
    try:
        report.fetched = results.fetch(executor, report.run, report.folder)
    except JobRelayError as error:
        if may_lack_records and not any(stage.closing for stage in report.stages):
            console.say(f"nothing was fetched from the volume; the logs are in {report.folder}/logs/")
        elif report.verdict.exit_code != Exit.SUCCEEDED:
            console.say(f"  nothing was fetched: {error.what}")  # the stage's own verdict matters more
        else:  # any cause: the stages succeeded, and only the evidence is missing here
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
    """Mark the report incomplete if a log has gaps and no copy from the volume replaced it."""
    gaps = [s for s in report.stages if s.log_complete is False and not report.has_log(s)]
    if not gaps or report.incomplete or report.verdict.exit_code != Exit.SUCCEEDED:
        return
    names = ", ".join(s.stage for s in gaps)
    hint = "the volume has no copy of it" if report.fetched else Command("fetch", report.run)
    report.incomplete = EvidenceIncomplete(f"the log of {names} is incomplete", hint)


def _expire(executor: JobAdmin, report: RunReport, request: RunRequest, console: Progress) -> None:
    """Set the TTL of the Jobs, only once all evidence is here: Kubernetes may then remove them."""
    if request.ttl_seconds is None or not report.fetched or report.exit_code != Exit.SUCCEEDED:
        return
    try:
        removed = executor.expire(report.run, request.ttl_seconds)
    except JobRelayError as error:  # all evidence is here and proven; only the Jobs stay longer
        console.say(f"  the launcher could not limit how long the Jobs stay: {error.what}")
        return
    if not removed:
        away = console.complete(Command("delete", report.run))
        console.say(f"  --ttl has no effect here; to remove the Jobs: {away}")


def _interrupted(
    executor: JobAdmin, plan: Plan, request: RunRequest, interrupt: BaseException
) -> Interrupted:
    code = Exit.TERMINATED if isinstance(interrupt, Terminated) else Exit.INTERRUPTED
    again = SameAgain(run=plan.run)
    if request.cancel_on_interrupt:
        names = executor.cancel(plan.run)
        return Interrupted(f"interrupted; cancelled: {', '.join(names) or 'nothing'}", again, code)
    return Interrupted(
        f"detached; the Jobs of run {plan.run} continue, and the same command re-attaches to them",
        again,
        code,
    )
