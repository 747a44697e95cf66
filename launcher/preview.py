"""`--dry-run`: what a run would do here, found out as the run finds it, and nothing touched."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from jobs.contract.config import RunConfig
from launcher import artifacts, manifests
from launcher.console import Console
from launcher.errors import ApiLost, BadInput
from launcher.executors.base import Executor, adopt
from launcher.manifests import LABEL_COMPONENT, Plan
from launcher.pipeline import Options, plan_run
from launcher.target import Target
from launcher.verdicts import finished_condition

Object = dict[str, Any]

#: Nobody waits as long to look as to run.
_ASK_SECONDS: Final = 10


@dataclass(frozen=True)
class Preview:
    """objects: what would be sent, in order. lines: what is there already, for people."""

    objects: list[Object]
    lines: list[str]


def preview(target: Target, config: RunConfig, options: Options, console: Console) -> Preview:
    """Raises what the run itself would before it creates anything: BadInput, Conflict.

    Where no cluster can be asked, a new run is shown, and a line says so.
    """
    patient = replace(target, api_timeout=min(target.api_timeout or _ASK_SECONDS, _ASK_SECONDS))
    # first what needs nobody's answer
    plan = manifests.render(
        target.manifests, config, options.run or manifests.new_run_id(),
        namespace=options.namespace, image=options.image, timeout_seconds=options.timeout_seconds,
    )  # fmt: skip
    try:
        executor = patient.executor()
    except BadInput as error:
        if target.context:
            raise
        return Preview(
            _sent(plan, options, set(), target.local), [f"not compared with the cluster: {error.what}"]
        )
    try:
        plan = plan_run(executor, target.manifests, config, options)
        executor.check(plan)
        kept, found = _there(executor, plan, options)
    except ApiLost as error:
        return Preview(
            _sent(plan, options, set(), target.local), [f"not compared with the cluster: {error.what}"]
        )
    if target.local:  # on a cluster this takes a Pod
        artifacts.require(executor, options.needs)
    lines = [f"run {plan.run} on {executor.place()}", *found]
    return Preview(_sent(plan, options, kept, target.local), lines)


def _there(executor: Executor, plan: Plan, options: Options) -> tuple[set[str], list[str]]:
    """The stages whose Jobs stay as they are, and a line for each Job that is there. Raises Conflict."""
    kept, lines = set(), []
    for live, _ in executor.jobs(plan.run):
        stage = live["metadata"]["labels"].get(LABEL_COMPONENT)
        if stage not in options.stages:
            continue
        how = "has failed and would run again"
        if adopt(plan.jobs[stage], live):
            kept.add(stage)
            how = "is complete already" if finished_condition(live) else "is running already"
        lines.append(f"  {stage}: Job {live['metadata']['name']} {how}")
    return kept, lines


def _sent(plan: Plan, options: Options, kept: set[str], local: bool) -> list[Object]:
    """What goes to the executor; what only a cluster has goes to a cluster."""
    jobs = [manifests.without_gate(plan.jobs[stage]) for stage in options.stages if stage not in kept]
    services = plan.services if "train" in options.stages and "train" not in kept else ()
    shared = () if local else (*plan.shared,)
    if not jobs:
        return []
    return [*shared, plan.config_map, *(() if local else services), *jobs]
