"""Small readers of Jobs, Pods and Events as the API shows them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jobrelay.manifests import (
    ANNOTATION_EARLY,
    ANNOTATION_INDEX,
    LABEL_COMPONENT,
    containers,
    main_container,
    runs_jobs,
)
from jobrelay_runner.volume.record import Closing, parse_closing

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


@dataclass(frozen=True)
class End:
    """How a container of a Pod ended.

    state: its terminated state. contract: whether JobRelay's own program ran in it, or one that has left
    its closing message: only then its exit code is one of jobrelay_runner.exit_codes.
    """

    container: str
    state: Object
    contract: bool

    @property
    def code(self) -> int | None:
        """The exit code; None where no container has run."""
        return self.state.get("exitCode")

    @property
    def contract_code(self) -> int | None:
        """The exit code, if it is one of jobrelay_runner.exit_codes."""
        return self.code if self.contract else None

    @property
    def message(self) -> str:
        return self.state.get("message") or ""

    @property
    def closing(self) -> Closing | None:
        """What the stage has said last."""
        return parse_closing(self.message) if self.contract else None


def container_state(pod: Object, name: str | None = None) -> Object:
    """The state of a Pod's container ({"running": …}, {"terminated": …}, …); {} if it has none yet.

    name: None for the stage's own container.
    """
    wanted = name or main_container(pod)["name"]
    state: Object = next((s.get("state") or {} for s in _statuses(pod) if s["name"] == wanted), {})
    return state


def stage_end(pod: Object) -> End:
    """How the stage's own container ended, as far as it has."""
    name = main_container(pod)["name"]
    return _end(pod, name, container_state(pod, name).get("terminated") or {})


def closing(pod: Object) -> Closing | None:
    """What the stage said last, from its Pod's termination message."""
    return stage_end(pod).closing


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
    state = failed_container(pod).state
    conditions = pod.get("status", {}).get("conditions") or ()
    changed = max((c.get("lastTransitionTime") or "" for c in conditions), default="")
    return state.get("finishedAt") or changed or created(pod)


def failed_container(pod: Object) -> End:
    """How the container that failed the Pod ended.

    It is the stage's own, or an initContainer without which that could not start, or else the one that
    ended first: the others are ended with it.
    """
    status = pod.get("status", {})
    failed = {s["name"]: s["state"]["terminated"] for s in _statuses(pod) if _has_failed(s)}
    beside = sidecars(pod)
    init = [s["name"] for s in status.get("initContainerStatuses") or () if s["name"] not in beside]
    first = sorted(failed, key=lambda name: failed[name].get("finishedAt") or "")
    for name in (main_container(pod)["name"], *init, *first):
        if name in failed:
            return _end(pod, name, failed[name])
    nothing = {"reason": status.get("reason", "Error"), "message": status.get("message", "")}
    return End(main_container(pod)["name"], nothing, contract=False)


def _has_failed(status: Object) -> bool:
    return bool(((status.get("state") or {}).get("terminated") or {}).get("exitCode"))


def _end(pod: Object, name: str, state: Object) -> End:
    spec: Object = next((c for c in containers(pod["spec"]) if c["name"] == name), {})
    said = parse_closing(state.get("message"))
    # one that calls it from a script of its own: its last words say so
    wrapped = said is not None and (said.stage, said.exit_code) == (stage_of(pod), state.get("exitCode"))
    return End(name, state, contract=runs_jobs(spec) or wrapped)


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


def memory_limit(pod: Object, container: str) -> str:
    """The memory limit of a Pod's container, as the manifest writes it."""
    spec: Object = next((c for c in containers(pod["spec"]) if c["name"] == container), {})
    return str(spec.get("resources", {}).get("limits", {}).get("memory", "of the node"))


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
