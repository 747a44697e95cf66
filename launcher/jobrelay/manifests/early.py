"""A Job that is started while the one before still runs: its stage waits for that one's record itself."""

from __future__ import annotations

from jobrelay.kube.labels import ANNOTATION_EARLY, GATE, LABEL_COMPONENT
from jobrelay.kube.objects import Job
from jobrelay.kube.read import main_container
from jobrelay.manifests.rendering import without_gate
from jobrelay_runner.volume.paths import ENV_AFTER


def can_wait(job: Job) -> bool:
    """Whether the stage's own program can do what its gate does: it is the same one, in the same image.

    A Job for a queue is left alone: whoever lets it in expects it to work.
    """
    stage = main_container(job)
    if job["spec"].get("suspend") or stage.get("args") != [job["metadata"]["labels"].get(LABEL_COMPONENT)]:
        return False
    init = job["spec"]["template"]["spec"].get("initContainers") or ()
    gate = next((c for c in init if c["name"] == GATE), None)
    return gate is not None and all(gate.get(key) == stage.get(key) for key in ("image", "command"))


def waits_for(job: Job) -> str | None:
    """The stage whose record a Job that was started early begins with; None for any other Job."""
    env = main_container(job).get("env") or ()
    return next((str(item["value"]) for item in env if item["name"] == ENV_AFTER), None)


def started_early(job: Job, before: Job) -> Job:
    """The Job whose stage begins when that of `before` has succeeded.

    Its hash stays: once it may begin it is the Job that it would have been, for all who adopt it. Its
    Pod may live as much longer as the one before can make it wait; the annotation has its own time.
    """
    job = without_gate(job)
    stage = main_container(job)
    after = before["metadata"]["labels"][LABEL_COMPONENT]
    stage["env"] = [*(stage.get("env") or ()), {"name": ENV_AFTER, "value": after}]
    pod = job["spec"]["template"]["spec"]
    own = pod.pop("activeDeadlineSeconds", None)
    wait = before["spec"]["template"]["spec"].get("activeDeadlineSeconds")
    if own and wait:
        pod["activeDeadlineSeconds"] = own + wait
    job["metadata"]["annotations"][ANNOTATION_EARLY] = str(own or "")
    return job
