"""The order of a folder's Jobs: that of its files, unless annotations name the stage before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jobrelay.errors import BadInput
from jobrelay.kube.labels import ANNOTATION_AFTER
from jobrelay.kube.objects import Job
from jobrelay.kube.read import title
from jobrelay_runner.stages import Stage


def in_order(jobs: Mapping[Stage, Job], folder: Path) -> dict[Stage, Job]:
    """The Jobs, each behind those that its annotation jobrelay.dev/after names (a list with commas).

    Where no annotation decides, the order of the files holds. Raises BadInput for a cycle or an unknown name.
    """
    after = {stage: _after(job) for stage, job in jobs.items()}
    for stage, names in after.items():
        if unknown := [name for name in names if name not in jobs]:
            raise BadInput(
                f"{title(jobs[stage])} in {folder}: {ANNOTATION_AFTER} names {', '.join(unknown)}",
                f"the stages are {', '.join(jobs)}",
            )
    ordered: dict[Stage, Job] = {}
    while len(ordered) < len(jobs):
        free = [s for s in jobs if s not in ordered and all(name in ordered for name in after[s])]
        if not free:
            left = [stage for stage in jobs if stage not in ordered]
            raise BadInput(f"the Jobs in {folder} wait for each other: {', '.join(left)}")
        ordered[free[0]] = jobs[free[0]]
    return ordered


def _after(job: Job) -> list[Stage]:
    text = str((job["metadata"].get("annotations") or {}).get(ANNOTATION_AFTER, ""))
    return [name.strip() for name in text.split(",") if name.strip()]
