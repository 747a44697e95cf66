"""`--set STAGE.autosize=true`: CPU and memory from the last run of the same work.

The figures come from that run's Jobs and the termination messages of their Pods; nothing else is stored.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace

from jobrelay.executors.base import JobReader
from jobrelay.kube.ends import closing_of
from jobrelay.kube.labels import ANNOTATION_WORK, LABEL_COMPONENT, LABEL_RUN
from jobrelay.kube.objects import Job, Pod
from jobrelay.kube.read import finished_condition, last_pod, main_container
from jobrelay.manifests import Plan, set_resources
from jobrelay.runs.events import Progress
from jobrelay.runs.sizing import Size, suggest
from jobrelay.verdicts import JobView, Verdict, judge
from jobrelay_runner.stages import Stage


def autosized(executor: JobReader, plan: Plan, stages: Iterable[Stage], console: Progress) -> Plan:
    """The plan with the last run's suggested resources in the Jobs of `stages` that set autosize.

    Values set in the configuration stay. The hashes stay, too: see manifests.rendering.
    """
    wanted = [stage for stage in stages if plan.placements[stage].autosize]
    if not wanted or not executor.limits_resources:
        return plan
    known = executor.jobs()  # oldest first
    jobs = dict(plan.jobs)
    there = _there(known, plan.run)
    for stage in wanted:
        if stage in there:
            continue
        suggested = _suggested(known, plan.jobs[stage])
        if suggested is None:
            console.say(
                f"  {stage}: autosize: no earlier run of this work reported its use; "
                "cpu and memory are as in the manifest"
            )
            continue
        given = plan.placements[stage]
        run, size = suggested
        size = Size(cpu=size.cpu if not given.cpu else None, memory=size.memory if not given.memory else None)
        jobs[stage] = copy.deepcopy(jobs[stage])
        set_resources(jobs[stage], size.cpu, size.memory)
        asked = ", ".join(f"{name} {value}" for name, value in vars(size).items() if value)
        console.say(f"  {stage}: autosize: {asked or 'cpu and memory as configured'}, after run {run}")
    return replace(plan, jobs=jobs)


def _there(known: Iterable[tuple[Job, Sequence[Pod]]], run: str) -> set[str]:
    """Stages of the run whose Job exists and will be adopted: it keeps its resources."""
    mine = (job for job, _ in known if job["metadata"]["labels"].get(LABEL_RUN) == run)
    return {
        job["metadata"]["labels"][LABEL_COMPONENT]
        for job in mine
        if (finished_condition(job) or {}).get("type") != "Failed"
    }


def _suggested(known: Iterable[tuple[Job, Sequence[Pod]]], wanted: Job) -> tuple[str, Size] | None:
    """Run and suggestion of the newest Job of the same work that has a suggestion."""
    work = wanted["metadata"]["annotations"][ANNOTATION_WORK]
    found = None
    for job, pods in known:
        if (job["metadata"].get("annotations") or {}).get(ANNOTATION_WORK) != work:
            continue
        judged, pod = judge(JobView(job, pods)), last_pod(pods)
        if isinstance(judged, Verdict) and pod:
            resources = main_container(job).get("resources") or {}
            if size := suggest(resources, closing_of(pod), judged.reason == "OOMKilled"):
                found = job["metadata"]["labels"][LABEL_RUN], size
    return found
