"""Readers of Jobs, Pods and Events, as the API returns them and as manifests write them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from jobrelay.kube.labels import (
    ANNOTATION_EARLY,
    ANNOTATION_INDEX,
    ANNOTATION_STAGES,
    LABEL_COMPONENT,
    LABEL_RUN,
    RUNNER_FILE,
)
from jobrelay.kube.objects import (
    Condition,
    Container,
    ContainerState,
    ContainerStatus,
    Event,
    Job,
    Pod,
    PodSpec,
    RunningState,
    WaitingState,
)
from jobrelay_runner.stages import Stage


def main_container(item: Job | Pod) -> Container:
    """The stage's own container in a Job or a Pod: the one named after the stage, else the first of its spec.

    Look up its status by name: the kubelet sorts statuses by name, not in the order of the spec.
    """
    stage = item["metadata"].get("labels", {}).get(LABEL_COMPONENT)
    containers = pod_spec(item)["containers"]
    return next((c for c in containers if c["name"] == stage), containers[0])


def pod_spec(item: Job | Pod) -> PodSpec:
    """The spec of a Pod, or of a Job's Pods."""
    spec = item["spec"]
    return spec["template"]["spec"] if "template" in spec else spec


def is_built_in(container: Container) -> bool:
    """Whether the container runs a built-in program (`python -m jobrelay_train …`)."""
    words = [*(container.get("command") or ()), *(container.get("args") or ())]
    return ("-m", "jobrelay_train") in itertools.pairwise(words)


def has_runner(container: Container) -> bool:
    """Whether the container gets the runner from a ConfigMap, for a program of its own."""
    return any(word.endswith(f"/{RUNNER_FILE}") for word in container.get("command") or ())


def is_supervised(container: Container) -> bool:
    """Whether the runner supervises the container's program.

    Only the runner uses the exit codes of jobrelay_runner.exit_codes; from any other program, 75 means
    whatever its author chose.
    """
    return is_built_in(container) or has_runner(container)


def containers(spec: PodSpec) -> Iterator[Container]:
    """All containers of a Pod's spec, in the order in which they start."""
    yield from spec.get("initContainers") or ()
    yield from spec["containers"]


def job_that_ran(jobs: Iterable[Job], run: str | None, claim: str) -> Job | None:
    """This run's first Job on that claim; if the run has none there, the newest Job."""
    there = [job for job in jobs if claim in _claims(job)]
    own = [job for job in there if job["metadata"]["labels"].get(LABEL_RUN) == run]
    return (own[:1] or there[-1:])[0] if there else None


def _claims(job: Job) -> set[str]:
    volumes = job["spec"]["template"]["spec"].get("volumes") or ()
    return {volume.get("persistentVolumeClaim", {}).get("claimName", "") for volume in volumes}


def claim_name(job: Job) -> str | None:
    """The PersistentVolumeClaim that a Job mounts; None if it mounts none."""
    for volume in job["spec"]["template"]["spec"].get("volumes") or ():
        if claim := volume.get("persistentVolumeClaim", {}).get("claimName"):
            return str(claim)
    return None


def title(item: Mapping[str, Any]) -> str:
    """The object's kind and name, for people: Job mnist-a-train."""
    return f"{item['kind']} {item['metadata']['name']}"


def pods_of(job: Job) -> int:
    """How many Pods of the Job run at once."""
    return int(job["spec"].get("completions", 1)) if job["spec"].get("completionMode") == "Indexed" else 1


def finished_condition(job: Job) -> Condition | None:
    """The condition that ends a Job. SuccessCriteriaMet and FailureTarget only announce it."""
    for condition in job.get("status", {}).get("conditions") or ():
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            return condition
    return None


def pod_phase(pod: Pod) -> str:
    """The phase of a Pod: Pending, Running, Succeeded, Failed or Unknown."""
    return str(pod.get("status", {}).get("phase", "Pending"))


def container_state(pod: Pod, name: str | None = None) -> ContainerState:
    """The state of a Pod's container ({"running": …}, {"terminated": …}, …); {} if it has none yet.

    name: None for the stage's own container.
    """
    wanted = name or main_container(pod)["name"]
    none: ContainerState = {}
    return next((s.get("state") or none for s in container_statuses(pod) if s["name"] == wanted), none)


def index_of(pod: Pod) -> int | None:
    """The index of an Indexed Job's Pod; None for Pods of other Jobs."""
    text = (pod["metadata"].get("annotations") or {}).get(ANNOTATION_INDEX, "")
    return int(text) if text.isdecimal() else None


def speaks_for_the_stage(pod: Pod) -> bool:
    """Whether this Pod writes the record: in an Indexed Job, the Pod with index 0."""
    return not index_of(pod)


def last_pod(pods: Sequence[Pod]) -> Pod | None:
    """The newest of a Job's Pods that write the stage's record."""
    speaking = [pod for pod in pods if speaks_for_the_stage(pod)]
    return max(speaking or pods, key=created, default=None)


def created(pod: Pod) -> str:
    """When a Pod was created; a time to compare with those of other Pods."""
    return pod["metadata"].get("creationTimestamp") or ""


def waiting_containers(pod: Pod) -> Iterator[tuple[str, WaitingState]]:
    """Containers that wait for something, each with its waiting state."""
    for status in container_statuses(pod):
        waiting = (status.get("state") or {}).get("waiting")
        if waiting and waiting.get("reason") not in (None, "PodInitializing"):
            yield status["name"], waiting


def started_containers(pod: Pod) -> Iterator[tuple[str, RunningState]]:
    """Containers that run, each with its running state."""
    for status in container_statuses(pod):
        running = (status.get("state") or {}).get("running")
        if running is not None:
            yield status["name"], running


def sidecars(pod: Pod) -> set[str]:
    """Names of the sidecars: containers that Kubernetes (1.28 and later) itself ends after the stage."""
    return {c["name"] for c in pod["spec"].get("initContainers") or () if c.get("restartPolicy") == "Always"}


def container_statuses(pod: Pod) -> Iterator[ContainerStatus]:
    status = pod.get("status", {})
    yield from status.get("initContainerStatuses") or ()
    yield from status.get("containerStatuses") or ()


def pod_condition(pod: Pod, kind: str) -> Condition | None:
    """The Pod's condition of type `kind`."""
    conditions = pod.get("status", {}).get("conditions") or ()
    return next((c for c in conditions if c["type"] == kind), None)


def latest_event(
    events: Sequence[Event], reasons: str | tuple[str, ...], name: str, containing: str = ""
) -> Event | None:
    """The latest event about the object `name` for one of these reasons."""
    wanted = (reasons,) if isinstance(reasons, str) else reasons
    found = [
        event
        for event in events
        if event.get("reason") in wanted
        and event.get("involvedObject", {}).get("name") == name
        and containing in event.get("message", "")
    ]
    return found[-1] if found else None


def claim_trouble(pod: Pod, events: Sequence[Event]) -> str:
    """What the events report about the claims that a Pod mounts."""
    claims = {
        volume["persistentVolumeClaim"]["claimName"]
        for volume in pod["spec"].get("volumes") or ()
        if "persistentVolumeClaim" in volume
    }
    for claim in sorted(claims):
        event = latest_event(events, ("ProvisioningFailed", "FailedBinding"), claim)
        if event:
            return f"PersistentVolumeClaim {claim}: {event.get('message', '')}"
    return ""


def memory_limit(pod: Pod, container: str) -> str:
    """The memory limit of a Pod's container, as written in the manifest."""
    none: Container = {}
    spec = next((c for c in containers(pod["spec"]) if c["name"] == container), none)
    return str(spec.get("resources", {}).get("limits", {}).get("memory", "of the node"))


def own_deadline(job: Job) -> int | None:
    """Seconds that an attempt of the stage may take; without its wait, if the Job was started early."""
    early = (job["metadata"].get("annotations") or {}).get(ANNOTATION_EARLY)
    limit = job["spec"]["template"]["spec"].get("activeDeadlineSeconds") if early is None else early
    return int(limit) if limit else None


def stage_in(item: Job | Pod, stages: Iterable[Stage]) -> Stage | None:
    """The stage of a Job or Pod, if it is one of `stages`."""
    return next((stage for stage in stages if stage == stage_of(item)), None)


def stage_of(item: Job | Pod) -> str:
    """The stage of a Job or Pod."""
    return str(item["metadata"].get("labels", {}).get(LABEL_COMPONENT, ""))


def pipeline_of(jobs: Iterable[Job]) -> list[Stage]:
    """All stages of a run in order, as its newest Job says; `jobs`: oldest first."""
    order: list[Stage] = []
    for job in reversed(list(jobs)):
        order += (job["metadata"].get("annotations") or {}).get(ANNOTATION_STAGES, "").split(",")
        order.append(stage_of(job))
    return [stage for stage in dict.fromkeys(order) if stage]


def name_of(item: Job | Pod) -> str:
    """The name of an object."""
    return str(item["metadata"]["name"])
