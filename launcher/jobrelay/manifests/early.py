"""Jobs started while the one before still runs: their stage itself waits for the earlier stage's record."""

from __future__ import annotations

from jobrelay.kube.labels import ANNOTATION_EARLY, GATE, LABEL_COMPONENT
from jobrelay.kube.objects import Job
from jobrelay.kube.read import main_container
from jobrelay.manifests.rendering import without_gate
from jobrelay_runner.volume.paths import ENV_AFTER


def can_wait(job: Job) -> bool:
    """Whether the stage's own program can do its gate's work: both use the same command and image.

    Never true of a Job for a queue: whatever admits it expects it to start working at once.
    """
    stage, name = main_container(job), job["metadata"]["labels"].get(LABEL_COMPONENT)
    args = list(stage.get("args") or ())
    if job["spec"].get("suspend") or not (args == [name] or args[:2] == ["stage", name]):
        return False
    init = job["spec"]["template"]["spec"].get("initContainers") or ()
    gate = next((c for c in init if c["name"] == GATE), None)
    return gate is not None and all(gate.get(key) == stage.get(key) for key in ("image", "command"))


def waits_for(job: Job) -> str | None:
    """The stage whose record an early Job's stage waits for; None for any other Job."""
    env = main_container(job).get("env") or ()
    return next((str(item["value"]) for item in env if item["name"] == ENV_AFTER), None)


def started_early(job: Job, before: Job) -> Job:
    """The Job as started early: its stage starts work once the stage of `before` has succeeded.

    Its hash is unchanged: once it may start, it equals the Job that would have been created then, so
    launchers adopt it. The Pod's deadline is extended by that of `before`, the longest possible wait; the
    annotation keeps the original deadline. A program that cannot wait starts at once: the launcher does this
    only when the Pod before has succeeded.
    """
    waits = can_wait(job)
    job = without_gate(job)
    stage = main_container(job)
    if not waits:
        own = job["spec"]["template"]["spec"].get("activeDeadlineSeconds")
        job["metadata"]["annotations"][ANNOTATION_EARLY] = str(own or "")
        return job
    after = before["metadata"]["labels"][LABEL_COMPONENT]
    stage["env"] = [*(stage.get("env") or ()), {"name": ENV_AFTER, "value": after}]
    pod = job["spec"]["template"]["spec"]
    own = pod.pop("activeDeadlineSeconds", None)
    wait = before["spec"]["template"]["spec"].get("activeDeadlineSeconds")
    if own and wait:
        pod["activeDeadlineSeconds"] = own + wait
    job["metadata"]["annotations"][ANNOTATION_EARLY] = str(own or "")
    return job
