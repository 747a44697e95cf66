"""Requested against used resources of a stage, and better requests: shown, or taken by autosize.

`--set STAGE.autosize=true` takes CPU and memory from the last run of the same work. The figures are in that
run's Jobs and the termination messages of their Pods; nothing else is stored.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from jobrelay.executors.base import JobReader
from jobrelay.figures import mebibytes, memory_quantity
from jobrelay.kube.ends import closing_of
from jobrelay.kube.labels import ANNOTATION_WORK, LABEL_COMPONENT, LABEL_RUN
from jobrelay.kube.objects import Job, Pod
from jobrelay.kube.quantities import as_memory, doubled, parse_quantity
from jobrelay.kube.read import finished_condition, last_pod, main_container
from jobrelay.manifests import Plan, set_resources
from jobrelay.runs.events import Progress
from jobrelay.verdicts import JobView, Verdict, judge
from jobrelay_runner.stages import Stage
from jobrelay_runner.volume.record import Closing, Cost

#: Times the peak: the same work had peaks of 295 and 364 MiB on one node within an hour.
_HEAD_ROOM: Final = 1.5
_STEP_BYTES: Final = 64 * 2**20
#: Share of its time: a stage that waited longer for a CPU used less than it could have.
_WAITED: Final = 0.05


@dataclass(frozen=True)
class Size:
    """CPU request, and memory request and limit, as Kubernetes quantities; None: no better value known."""

    cpu: str | None = None
    memory: str | None = None

    def __bool__(self) -> bool:
        return bool(self.cpu or self.memory)

    def beyond(self, resources: Mapping[str, Any]) -> Size:
        """This size without the values that `resources` already request."""
        asked = {key: _quantity(resources, "requests", key) for key in ("cpu", "memory")}
        kept = {k: v for k, v in vars(self).items() if v and parse_quantity(v) != asked[k]}
        return Size(**kept)

    def settings(self, stage: str) -> str:
        """--set train.cpu=1900m --set train.memory=512Mi"""
        values = {"cpu": self.cpu, "memory": self.memory}
        return " ".join(f"--set {stage}.{key}={value}" for key, value in values.items() if value)


def suggest(resources: Mapping[str, Any], closing: Closing | None, out_of_memory: bool = False) -> Size:
    """Suggest resources for a stage from its container's `resources` and its closing message.

    Suggests nothing for a stage that failed or had nothing to do; no memory if only the largest process
    could be measured, not the container; and no less CPU if the stage waited for one, or if that is unknown.
    """
    limit = _quantity(resources, "limits", "memory")
    if out_of_memory:
        return Size(memory=doubled(str(resources["limits"]["memory"]))) if limit else Size()
    if closing is None or closing.skipped or closing.exit_code:
        return Size()
    asked = _quantity(resources, "requests", "cpu")
    return Size(cpu=_cpu(closing.cost, asked), memory=_memory(closing.cost, limit))


def cpu_used(cost: Cost) -> float:
    """Average number of busy cores."""
    return cost.cpu_seconds / cost.wall_seconds if cost.wall_seconds else 0.0


def requests_against_use(resources: Mapping[str, Any], cost: Cost) -> list[str]:
    """1.6 of 1, 812 MiB of 1.0 GiB (limit 2.0 GiB)"""
    requests = resources.get("requests") or {}
    limit = (resources.get("limits") or {}).get("memory")
    peak = mebibytes(cost.peak_memory_bytes)
    if cost.peak_memory_from == "process":
        peak += " (largest process)"
    asked = memory_quantity(str(requests.get("memory", "nothing")))
    asked += f" (limit {memory_quantity(str(limit))})" if limit else ""
    return [f"{cpu_used(cost):.1f} of {requests.get('cpu', 'nothing')}", f"{peak} of {asked}"]


def _cpu(cost: Cost, asked: float | None) -> str | None:
    tenths = max(1, math.ceil(cpu_used(cost) * 10 - 0.01))
    had_enough = cost.cpu_waited_seconds is not None and (
        cost.cpu_waited_seconds <= _WAITED * cost.wall_seconds
    )
    if asked is not None and tenths < asked * 10 and not had_enough:
        return None  # on an idle node it would have used more
    return str(tenths // 10) if tenths % 10 == 0 else f"{tenths}00m"


def _memory(cost: Cost, limit: float | None) -> str | None:
    if cost.peak_memory_from != "cgroup":
        return None
    wanted = _rounded(cost.peak_memory_bytes * _HEAD_ROOM)
    # The container's peak includes cached pages, which fill any limit; the stage ran within this limit.
    return as_memory(wanted if limit is None else min(wanted, max(limit, cost.peak_memory_bytes)))


def _rounded(size: float) -> int:
    return math.ceil(size / _STEP_BYTES) * _STEP_BYTES


def _quantity(resources: Mapping[str, Any], kind: str, name: str) -> float | None:
    text = (resources.get(kind) or {}).get(name)
    return None if text is None else parse_quantity(text)


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
