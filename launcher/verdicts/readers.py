"""Small readers of Jobs, Pods and Events as the API shows them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from jobs.contract.record import Closing, parse_closing
from launcher.manifests import ANNOTATION_EARLY, ANNOTATION_INDEX, LABEL_COMPONENT

Object = dict[str, Any]


def finished_condition(job: Object) -> Object | None:
    """The condition that ends a Job. SuccessCriteriaMet and FailureTarget only announce it."""
    for condition in job.get("status", {}).get("conditions") or ():
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            found: Object = condition
            return found
    return None


def pod_phase(pod: Object) -> str:
    """Pending, Running, Succeeded, Failed or Unknown."""
    return str(pod.get("status", {}).get("phase", "Pending"))


def container_state(pod: Object, name: str | None = None) -> Object:
    """The state of a Pod's container ({"running": …}, {"terminated": …}, …); {} if it has none yet.

    name: None for the stage's own container.
    """
    wanted = name or stage_of(pod)
    statuses = pod.get("status", {}).get("containerStatuses") or ()
    found = next((s for s in statuses if s["name"] == wanted), statuses[0] if statuses else {})
    state: Object = found.get("state") or {}
    return state


def closing(pod: Object) -> Closing | None:
    """What the stage said last, from its Pod's termination message."""
    return parse_closing((container_state(pod).get("terminated") or {}).get("message"))


def index_of(pod: Object) -> int | None:
    """Which one of an Indexed Job's Pods it is; None for those of other Jobs."""
    text = (pod["metadata"].get("annotations") or {}).get(ANNOTATION_INDEX, "")
    return int(text) if text.isdecimal() else None


def speaks_for_the_stage(pod: Object) -> bool:
    """Whether it is the Pod that writes the record: of an Indexed Job, the one with index 0."""
    return not index_of(pod)


def last_pod(pods: Sequence[Object]) -> Object | None:
    """The newest of a Job's Pods that speak for the stage."""
    speaking = [pod for pod in pods if speaks_for_the_stage(pod)]
    return max(speaking or pods, key=created, default=None)


def created(pod: Object) -> str:
    """When a Pod was created, to be compared with others."""
    return pod["metadata"].get("creationTimestamp") or ""


def ended(pod: Object) -> str:
    """When a Pod ended, as far as that is known, to be compared with others."""
    _, state = failed_container(pod)
    conditions = pod.get("status", {}).get("conditions") or ()
    changed = max((c.get("lastTransitionTime") or "" for c in conditions), default="")
    return state.get("finishedAt") or changed or created(pod)


def failed_container(pod: Object) -> tuple[str, Object]:
    """The container that failed the Pod, and its terminated state."""
    status = pod.get("status", {})
    for group in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(group) or ():
            ended = (container.get("state") or {}).get("terminated")
            if ended and ended.get("exitCode"):
                return container["name"], ended
    return stage_of(pod), {"reason": status.get("reason", "Error"), "message": status.get("message", "")}


def waiting_containers(pod: Object) -> Iterator[tuple[str, Object]]:
    """Containers that wait for something, and the waiting state."""
    for status in _statuses(pod):
        waiting = (status.get("state") or {}).get("waiting")
        if waiting and waiting.get("reason") not in (None, "PodInitializing"):
            yield status["name"], waiting


def started_containers(pod: Object) -> Iterator[tuple[str, Object]]:
    """Containers that run, and the running state."""
    for status in _statuses(pod):
        running = (status.get("state") or {}).get("running")
        if running is not None:
            yield status["name"], running


def sidecars(pod: Object) -> set[str]:
    """Containers that run beside the stage, and that Kubernetes (1.28 on) itself ends after it."""
    return {c["name"] for c in pod["spec"].get("initContainers") or () if c.get("restartPolicy") == "Always"}


def _statuses(pod: Object) -> Iterator[Object]:
    status = pod.get("status", {})
    yield from status.get("initContainerStatuses") or ()
    yield from status.get("containerStatuses") or ()


def pod_condition(pod: Object, kind: str) -> Object | None:
    """A Pod's condition of that type."""
    conditions = pod.get("status", {}).get("conditions") or ()
    return next((c for c in conditions if c["type"] == kind), None)


def latest_event(
    events: Sequence[Object], reasons: str | tuple[str, ...], name: str, containing: str = ""
) -> Object | None:
    """The last event about the object `name` for one of these reasons."""
    wanted = (reasons,) if isinstance(reasons, str) else reasons
    found = [
        event
        for event in events
        if event.get("reason") in wanted
        and event.get("involvedObject", {}).get("name") == name
        and containing in event.get("message", "")
    ]
    return found[-1] if found else None


def claim_trouble(pod: Object, events: Sequence[Object]) -> str:
    """What the events say of the claims that a Pod mounts."""
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


def memory_limit(pod: Object) -> str:
    """The memory limit of the stage's container, as the manifest writes it."""
    for container in pod["spec"]["containers"]:
        if container["name"] == stage_of(pod):
            return str(container.get("resources", {}).get("limits", {}).get("memory", "of the node"))
    return "of the node"


def own_deadline(job: Object) -> int | None:
    """Seconds that an attempt of the stage may take; without its wait, if it was started early."""
    early = (job["metadata"].get("annotations") or {}).get(ANNOTATION_EARLY)
    limit = job["spec"]["template"]["spec"].get("activeDeadlineSeconds") if early is None else early
    return int(limit) if limit else None


def stage_of(item: Object) -> str:
    """The stage that a Job or Pod is of."""
    return str(item["metadata"].get("labels", {}).get(LABEL_COMPONENT, ""))


def name_of(item: Object) -> str:
    """An object's name."""
    return str(item["metadata"]["name"])
