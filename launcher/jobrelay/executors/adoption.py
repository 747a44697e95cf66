"""Whether an existing Job is the one that a plan needs."""

from __future__ import annotations

from jobrelay.errors import Conflict
from jobrelay.hints import Command
from jobrelay.kube.labels import (
    ANNOTATION_EARLY,
    ANNOTATION_HASH,
    ANNOTATION_WORK,
    LABEL_COMPONENT,
    LABEL_RUN,
)
from jobrelay.kube.objects import Job
from jobrelay.kube.read import finished_condition
from jobrelay.manifests import differing_keys


def adopt(wanted: Job, live: Job) -> bool:
    """Whether the live Job of that name is the wanted one: equal content, and not failed.

    False: it has failed and may be replaced. Raises Conflict if its content differs.
    """
    run, stage = (wanted["metadata"]["labels"][label] for label in (LABEL_RUN, LABEL_COMPONENT))
    name = wanted["metadata"]["name"]
    annotations = live["metadata"].get("annotations") or {}
    condition = finished_condition(live)
    if (
        condition
        and condition["type"] == "Failed"
        and live["metadata"].get("labels", {}).get(LABEL_RUN) == run
    ):
        return False
    asked = wanted["metadata"]["annotations"]
    if annotations.get(ANNOTATION_HASH) == asked[ANNOTATION_HASH]:
        return True
    if (
        condition
        and condition["type"] == "Complete"
        and annotations.get(ANNOTATION_WORK) == asked[ANNOTATION_WORK]
    ):
        return True  # the work is done; its resources no longer matter
    if ANNOTATION_HASH not in annotations:
        raise Conflict(
            f"Job {name} exists and was not created by this launcher",
            "choose another --run",
        )
    differences = "".join(f"\n    {key}" for key in differing_keys(wanted, live))
    state = "has finished" if condition else "is still running"
    stops = "" if condition else f" (it stops {stage})"
    raise Conflict(
        f"Job {name} exists with other content, and {state}:{differences}\n"
        f"  choose another --run; or delete the Jobs of this one{stops} and run the same command again: "
        "it resumes from what is on the volume",
        Command("delete", run),
    )


def waits_early(live: Job) -> bool:
    """Whether a Job was started early and has not ended."""
    return ANNOTATION_EARLY in (live["metadata"].get("annotations") or {}) and not finished_condition(live)
