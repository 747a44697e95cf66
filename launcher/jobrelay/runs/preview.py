"""`--dry-run`: what a run would do here, found out as the run finds it, and nothing touched."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from jobrelay import manifests
from jobrelay.console import Console
from jobrelay.errors import ApiLost, BadInput
from jobrelay.executors.adoption import adopt
from jobrelay.executors.base import JobReader
from jobrelay.kube.objects import AnyObject
from jobrelay.kube.read import finished_condition, stage_in
from jobrelay.manifests import Plan
from jobrelay.runs import results
from jobrelay.runs.request import RunRequest, plan_run
from jobrelay.runs.target import Target
from jobrelay_runner.stages import Stage
from jobrelay_train.config.schema import RunConfig

#: Nobody waits as long to look as to run.
_ASK_SECONDS: Final = 10


@dataclass(frozen=True)
class Preview:
    """objects: what would be sent, in order. lines: what is there already, for people."""

    objects: list[AnyObject]
    lines: list[str]


def preview(target: Target, config: RunConfig, request: RunRequest, console: Console) -> Preview:
    """Raises what the run itself would before it creates anything: BadInput, Conflict.

    Where no cluster can be asked, a new run is shown, and a line says so.
    """
    patient = replace(target, api_timeout=min(target.api_timeout or _ASK_SECONDS, _ASK_SECONDS))
    # first what needs nobody's answer
    plan = manifests.render(
        target.manifests, config, request.run or manifests.new_run_id(),
        namespace=request.namespace, image=request.image, timeout_seconds=request.timeout_seconds,
    )  # fmt: skip
    try:
        executor = patient.executor()
    except BadInput as error:
        if target.context:
            raise
        return Preview(
            _sent(plan, request, set(), target.local), [f"not compared with the cluster: {error.what}"]
        )
    try:
        plan = plan_run(executor, target.manifests, config, request)
        executor.check(plan)
        kept, found = _there(executor, plan, request)
    except ApiLost as error:
        return Preview(
            _sent(plan, request, set(), target.local), [f"not compared with the cluster: {error.what}"]
        )
    if target.local:  # on a cluster this takes a Pod
        results.require(executor, request.needs)
    lines = [f"run {plan.run} on {executor.place()}", *found]
    return Preview(_sent(plan, request, kept, target.local), lines)


def _there(executor: JobReader, plan: Plan, request: RunRequest) -> tuple[set[Stage], list[str]]:
    """The stages whose Jobs stay as they are, and a line for each Job that is there. Raises Conflict."""
    kept: set[Stage] = set()
    lines: list[str] = []
    for live, _ in executor.jobs(plan.run):
        stage = stage_in(live, request.stages)
        if stage is None:
            continue
        how = "has failed and would run again"
        if adopt(plan.jobs[stage], live):
            kept.add(stage)
            how = "is complete already" if finished_condition(live) else "is running already"
        lines.append(f"  {stage}: Job {live['metadata']['name']} {how}")
    return kept, lines


def _sent(plan: Plan, request: RunRequest, kept: set[Stage], local: bool) -> list[AnyObject]:
    """What goes to the executor; what only a cluster has goes to a cluster."""
    jobs = [manifests.without_gate(plan.jobs[stage]) for stage in request.stages if stage not in kept]
    services = plan.services if "train" in request.stages and "train" not in kept else ()
    shared = () if local else (*plan.shared,)
    if not jobs:
        return []
    return [*shared, plan.config_map, *(() if local else services), *jobs]
