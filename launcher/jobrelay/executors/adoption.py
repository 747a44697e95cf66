"""Whether an existing Job is the one that a plan needs."""

from __future__ import annotations

from typing import Literal

from jobrelay.errors import Conflict
from jobrelay.hints import Command, SameAgain
from jobrelay.kube.labels import (
    ANNOTATION_EARLY,
    ANNOTATION_HASH,
    ANNOTATION_WORK,
    LABEL_COMPONENT,
    LABEL_RUN,
)
from jobrelay.kube.objects import Job
from jobrelay.kube.read import finished_condition, pipeline_of
from jobrelay.manifests import differing_keys

Replace = Literal["if-later", "always"]


def adopt(wanted: Job, live: Job, replace: Replace = "if-later") -> bool:
    """Whether the live Job of that name is the wanted one: equal content, and not failed.

    False: it may be replaced, because it has failed, or because it is complete with other content and its
    stage is not the first one: the stages before it are kept, and their work with them. always: the first
    one, too. Raises Conflict for any other Job with other content.
    """
    run, stage = (wanted["metadata"]["labels"][label] for label in (LABEL_RUN, LABEL_COMPONENT))
    name = wanted["metadata"]["name"]
    annotations = live["metadata"].get("annotations") or {}
    condition = finished_condition(live)
    is_ours = live["metadata"].get("labels", {}).get(LABEL_RUN) == run
    if condition and condition["type"] == "Failed" and is_ours:
        return False
    asked = wanted["metadata"]["annotations"]
    if annotations.get(ANNOTATION_HASH) == asked[ANNOTATION_HASH]:
        return True
    if condition and annotations.get(ANNOTATION_WORK) == asked[ANNOTATION_WORK]:
        return True  # the work is done; its resources no longer matter
    if ANNOTATION_HASH not in annotations:
        raise Conflict(f"Job {name} exists and was not created by this launcher", "choose another --run")
    is_first = pipeline_of([wanted])[0] == stage
    if condition and is_ours and (replace == "always" or not is_first):
        return False
    differences = "".join(f"\n    {key}" for key in differing_keys(wanted, live))
    state = "has finished" if condition else "is still running"
    ways = (
        f"--replace runs {stage} and the stages after it again, on what is on the volume"
        if condition
        else f"wait for its end, or end it: {Command('cancel', run)}"
    )
    raise Conflict(
        f"Job {name} exists with other content, and {state}:{differences}\n  --new starts a new run; {ways}",
        SameAgain("--replace") if condition else Command("cancel", run),
    )


def waits_early(live: Job) -> bool:
    """Whether a Job was started early and has not ended."""
    return ANNOTATION_EARLY in (live["metadata"].get("annotations") or {}) and not finished_condition(live)
