"""Runs that need no launcher: all Jobs are sent at once, each waits for the stage before; attach follows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from jobrelay.errors import BadInput, Conflict, UnknownRun
from jobrelay.executors.base import Executor, Submission
from jobrelay.hints import Command
from jobrelay.kube.labels import LABEL_PLAN
from jobrelay.kube.objects import Job, Pod
from jobrelay.kube.read import finished_condition, pipeline_of, stage_of
from jobrelay.manifests import Plan, can_wait
from jobrelay.runs.events import Progress
from jobrelay.runs.relay import prepared
from jobrelay.runs.request import RunRequest
from jobrelay_train.config.placement import Placement


def send_all(executor: Executor, plan: Plan, request: RunRequest, console: Progress) -> None:
    """Send the Jobs of all stages. The first one works; each other one waits for the record before it.

    Raises BadInput for stages that cannot wait, Conflict if the run exists already.
    """
    first, *others = request.stages
    if alone := [stage for stage in others if not can_wait(plan.jobs[stage])]:
        raise BadInput(
            f"--detach: {', '.join(alone)} cannot wait for the stage before; only the runner can",
            "leave --detach out, and the launcher keeps the order",
        )
    if executor.jobs(plan.run):
        raise Conflict(f"run {plan.run} has Jobs already", Command("attach", plan.run))
    executor.check(plan)
    plan = prepared(executor, plan, request, console)
    before = executor.submit(plan.jobs[first]).job
    for stage in others:
        sent = executor.start_early(plan.jobs[stage], before, None)
        if sent is None:
            executor.cancel(plan.run)
            raise BadInput(
                f"the Job of {stage} was refused, and the others were cancelled", Command("doctor")
            )
        before = sent.job


def attached(executor: Executor, run: str, request: RunRequest) -> tuple[Executor, Plan, RunRequest]:
    """What follows the Jobs of a run as they are, without what they were made from. Raises UnknownRun."""
    jobs = {stage_of(job): job for job, _ in executor.jobs(run)}
    if not jobs:
        raise UnknownRun(run, executor.place())
    stages = tuple(stage for stage in pipeline_of(jobs.values()) if stage in jobs)
    some = jobs[stages[0]]
    plan = Plan(
        run=run,
        namespace=some["metadata"].get("namespace", "default"),
        hash=some["metadata"]["labels"].get(LABEL_PLAN, ""),
        shared=(),
        config_map={"metadata": {"name": ""}},
        jobs={stage: jobs[stage] for stage in stages},
        placements={stage: Placement() for stage in stages},
    )
    follower: Any = _Follower(executor)
    return follower, plan, replace(request, run=run, stages=stages, early="off")


class _Follower:
    """An executor that creates nothing: a Job that has ended is taken as it is."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._executor, name)

    def check(self, plan: Plan) -> None:
        """Check nothing: the Jobs exist."""

    def submit(self, job: Job, replace: str = "") -> Submission:
        if not finished_condition(job):
            self._executor.resume(job)
        return Submission(job, "adopted")

    def start_early(self, job: Job, before: Job, beside: Pod | None) -> None:
        """Start nothing."""

    def withdraw(self, job: Job) -> None:
        """Withdraw nothing: a Job whose stage waits in vain ends by itself."""
