"""`--dry-run`: what a run would do, determined by the run's own code without any change."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from jobrelay import manifests
from jobrelay.console import Console
from jobrelay.errors import ApiLost, BadInput
from jobrelay.executors.adoption import adopt
from jobrelay.executors.base import JobReader
from jobrelay.kube.labels import LABEL_COMPONENT
from jobrelay.kube.objects import AnyObject
from jobrelay.kube.read import finished_condition, stage_in
from jobrelay.manifests import PipelineConfig, Plan
from jobrelay.runs import results
from jobrelay.runs.request import RunRequest, plan_run
from jobrelay.runs.target import Target
from jobrelay_runner.stages import Stage

#: A preview must not wait as long for the API as a run.
_ASK_SECONDS: Final = 10


@dataclass(frozen=True)
class Preview:
    """objects: what the launcher would send, in order. lines: what exists already, for people."""

    objects: list[AnyObject]
    lines: list[str]


def preview(target: Target, config: PipelineConfig, request: RunRequest, console: Console) -> Preview:
    """Preview a run. Raises what the run would raise before it creates anything: BadInput, Conflict.

    If the cluster cannot be reached, the preview shows a new run, and a line with the reason.
    """
    patient = replace(target, api_timeout=min(target.api_timeout or _ASK_SECONDS, _ASK_SECONDS))
    # first everything that needs no API call
    plan = manifests.render(
        target.manifests_for(config), config, request.run or manifests.new_run_id(),
        namespace=request.namespace, image=request.image, timeout_seconds=request.timeout_seconds,
    )  # fmt: skip
    request = request.of_stages(plan)
    try:
        executor = patient.executor()
    except BadInput as error:
        if target.context:
            raise
        return Preview(
            _sent(plan, request, set(), target.local), [f"not compared with the cluster: {error.what}"]
        )
    try:
        plan = plan_run(executor, target.manifests_for(config), config, request)
        executor.check(plan)
        kept, found = _there(executor, plan, request)
    except ApiLost as error:
        return Preview(
            _sent(plan, request, set(), target.local), [f"not compared with the cluster: {error.what}"]
        )
    if target.local:  # on a cluster this would need a Pod
        results.require(executor, request.needs)
    lines = [f"run {plan.run} on {executor.place()}", *found]
    return Preview(_sent(plan, request, kept, target.local), lines)


def _there(executor: JobReader, plan: Plan, request: RunRequest) -> tuple[set[Stage], list[str]]:
    """The stages whose Jobs stay unchanged, and a line per existing Job. Raises Conflict."""
    kept: set[Stage] = set()
    lines: list[str] = []
    for live, _ in executor.jobs(plan.run):
        stage = stage_in(live, request.stages)
        if stage is None:
            continue
        how = "has failed and would run again"
        if adopt(plan.jobs[stage], live, request.replace):
            kept.add(stage)
            how = "is complete already" if finished_condition(live) else "is running already"
        lines.append(f"  {stage}: Job {live['metadata']['name']} {how}")
    return kept, lines


def _sent(plan: Plan, request: RunRequest, kept: set[Stage], local: bool) -> list[AnyObject]:
    """The objects for the executor; shared objects and Services only for a cluster."""
    jobs = [manifests.without_gate(plan.jobs[stage]) for stage in request.stages if stage not in kept]
    services = [item for item in plan.services if item["metadata"]["labels"][LABEL_COMPONENT] not in kept]
    shared = () if local else (*plan.shared,)
    if not jobs:
        return []
    return [*shared, plan.config_map, *(() if local else services), *jobs]
