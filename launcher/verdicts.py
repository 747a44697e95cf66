"""From what the API shows of one Job to how it ended, or to what it still waits for.

Pure: `judge` takes Job, Pods and Events as dicts and knows no clock. What may only last so long
is returned as a Deadline, and whoever follows the Job holds the watch. The Job's condition
(Complete or Failed with status True) decides that it has ended; everything else here explains.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from jobs.contract import exit_codes
from jobs.contract.record import Closing, parse_closing
from launcher.errors import Exit
from launcher.manifests import ANNOTATION_VERDICT, LABEL_COMPONENT, LABEL_RUN, main_container
from launcher.wording import mebibytes

Object = dict[str, Any]


@dataclass(frozen=True)
class Patience:
    """Seconds that each state may last."""

    no_pod: float = 30
    queue: float = 3600
    schedule: float = 300
    start: float = 600
    bad_image: float = 10
    no_registry: float = 30
    bad_config: float = 30
    #: on top of activeDeadlineSeconds, for a kubelet that is not there to enforce it
    overrun: float = 60


@dataclass(frozen=True)
class Verdict:
    """How a stage ended."""

    exit_code: Exit
    outcome: str  # succeeded | failed | could not start | out of time | disrupted
    reason: str  # the API's own word
    message: str  # the API's own text
    pod: str | None = None
    container_exit: int | None = None
    hint: str = ""

    def to_annotation(self) -> str:
        """JSON that `from_annotation` reads: a Job that was given up keeps why."""
        return json.dumps(asdict(self))

    @classmethod
    def from_annotation(cls, text: str) -> Verdict | None:
        try:
            tree = json.loads(text)
            return cls(**{**tree, "exit_code": Exit(tree["exit_code"])})
        except (ValueError, TypeError, KeyError):
            return None


@dataclass(frozen=True)
class Deadline:
    """A state that may last `seconds`, told from others by `key`, and what it means if it lasts."""

    key: str
    seconds: float
    verdict: Verdict


@dataclass(frozen=True)
class Waiting:
    """The Job has not ended.

    phase: queued, scheduling, starting, running, finishing. detail: what is not as it should be.
    """

    phase: str
    detail: str = ""
    pod: str | None = None
    deadlines: tuple[Deadline, ...] = ()


@dataclass(frozen=True)
class JobView:
    """All that is known of one Job at one moment. `job` is None when it has been deleted."""

    job: Object | None
    pods: Sequence[Object] = ()
    events: Sequence[Object] = field(default=())


def judge(view: JobView, patience: Patience = Patience()) -> Verdict | Waiting:
    """The verdict on a Job, or what it waits for."""
    job = view.job
    if job is None:
        return Verdict(
            Exit.DISRUPTED, "disrupted", "Deleted", "the Job was deleted while it was followed",
            hint="run the same command again to start the stage anew",
        )  # fmt: skip
    pods = sorted(view.pods, key=lambda pod: pod["metadata"].get("creationTimestamp") or "")
    condition = finished_condition(job)
    if condition and condition["type"] == "Complete":
        pod = next((pod for pod in reversed(pods) if pod_phase(pod) == "Succeeded"), None)
        return Verdict(
            Exit.SUCCEEDED, "succeeded", condition.get("reason", "Complete"), condition.get("message", ""),
            pod=_name(pod) if pod else None, container_exit=0,
        )  # fmt: skip
    if condition:
        return _failed(job, pods, condition)
    for pod in reversed(pods):
        verdict = _final_before_the_job(job, pod)
        if verdict:
            return verdict
    return _waiting(job, pods, view.events, patience)


def finished_condition(job: Object) -> Object | None:
    """The condition that ends a Job. SuccessCriteriaMet and FailureTarget only announce it."""
    for condition in job.get("status", {}).get("conditions") or ():
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            found: Object = condition
            return found
    return None


def pod_phase(pod: Object) -> str:
    return str(pod.get("status", {}).get("phase", "Pending"))


def container_state(pod: Object, name: str | None = None) -> Object:
    """The state of a Pod's container ({"running": …}, {"terminated": …}, …); {} if it has none yet.

    name: None for the stage's own container.
    """
    wanted = name or _stage(pod)
    statuses = pod.get("status", {}).get("containerStatuses") or ()
    found = next((s for s in statuses if s["name"] == wanted), statuses[0] if statuses else {})
    state: Object = found.get("state") or {}
    return state


def closing(pod: Object) -> Closing | None:
    """What the stage said last, from its Pod's termination message."""
    return parse_closing((container_state(pod).get("terminated") or {}).get("message"))


def last_pod(pods: Sequence[Object]) -> Object | None:
    """The newest of a Job's Pods."""
    return max(pods, key=lambda pod: pod["metadata"].get("creationTimestamp") or "", default=None)


# --- a Job that has failed -----------------------------------------------------------------------


def _failed(job: Object, pods: Sequence[Object], condition: Object) -> Verdict:
    given_up = job["metadata"].get("annotations", {}).get(ANNOTATION_VERDICT)
    if given_up and (verdict := Verdict.from_annotation(given_up)):
        return verdict
    reason, message = condition.get("reason", "Failed"), condition.get("message", "")
    failed = [pod for pod in pods if pod_phase(pod) == "Failed"]
    if reason == "DeadlineExceeded":
        return _out_of_time(job, _name(failed[-1]) if failed else None, message)
    if not failed:
        return Verdict(Exit.FAILED, "failed", reason, f"{message} (its Pod is gone)", hint=_logs(job))
    return _failed_pod(job, failed[-1])


_RESUME = "run the same command again: it goes on from the last checkpoint"


def _failed_pod(job: Object, pod: Object) -> Verdict:
    """Why a Pod with phase Failed failed."""
    status = pod["status"]
    name = _name(pod)
    if status.get("reason") == "DeadlineExceeded":
        return _out_of_time(job, name, status.get("message", ""))
    if status.get("reason") in (
        "Evicted",
        "Shutdown",
        "NodeShutdown",
        "Terminated",
        "NodeLost",
        "Preempting",
    ):
        return Verdict(
            Exit.DISRUPTED, "disrupted", status["reason"], status.get("message", ""), name,
            hint=_RESUME,
        )  # fmt: skip
    disrupted = _pod_condition(pod, "DisruptionTarget")
    if disrupted and disrupted["status"] == "True":  # drained, preempted by another Pod, …
        reason, message = disrupted.get("reason", "DisruptionTarget"), disrupted.get("message", "")
        return Verdict(Exit.DISRUPTED, "disrupted", reason, message, name, hint=_RESUME)
    which, ended = _terminated(pod)
    code = ended.get("exitCode")
    if code is None:  # no container has run: the node has refused the Pod (OutOfcpu, NodeAffinity, …)
        return _not_started(job, name, ended["reason"], ended["message"])
    said = parse_closing(ended.get("message"))
    text = said.error or "" if said else ""
    if ended.get("reason") == "OOMKilled":
        limit = _memory_limit(pod)
        peak = f", peak {mebibytes(said.cost.peak_memory_bytes)}" if said else ""
        return Verdict(
            Exit.FAILED, "failed", "OOMKilled", f"out of memory (limit {limit}{peak})", name, code,
            hint=f"--set {_stage(job)}.memory=… with more than {limit}, or a smaller batch or fewer workers",
        )  # fmt: skip
    if ended.get("reason") in ("StartError", "ContainerCannotRun"):
        return Verdict(
            Exit.COULD_NOT_START, "could not start", ended["reason"], ended.get("message", ""), name, code,
            hint="the command is not in the image: compare the Job's command with what the image holds",
        )  # fmt: skip
    known = {
        exit_codes.BAD_CONFIG: (Exit.BAD_INPUT, "the stage refuses its configuration or data"),
        exit_codes.BAD_EVIDENCE: (Exit.INCOMPLETE, "an input is not what its record says"),
    }
    verdict, default = known.get(code or 0, (Exit.FAILED, f"{which} ended with exit code {code}"))
    if code == 137 and not text:
        default += " (SIGKILL: out of memory, or somebody else's kill)"
    return Verdict(
        verdict,
        "failed",
        ended.get("reason") or "Error",
        text.strip() or default,
        name,
        code,
        hint=_logs(job),
    )


def _terminated(pod: Object) -> tuple[str, Object]:
    """The container that failed the Pod, and its terminated state."""
    status = pod.get("status", {})
    for group in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(group) or ():
            ended = (container.get("state") or {}).get("terminated")
            if ended and ended.get("exitCode"):
                return container["name"], ended
    return _stage(pod), {"reason": status.get("reason", "Error"), "message": status.get("message", "")}


def _final_before_the_job(job: Object, pod: Object) -> Verdict | None:
    """A failed Pod after which another attempt cannot end better, though the Job would try."""
    if pod_phase(pod) != "Failed":
        return None
    verdict = _failed_pod(job, pod)
    final_code = verdict.container_exit in exit_codes.FINAL
    if final_code or verdict.exit_code in (Exit.COULD_NOT_START, Exit.OUT_OF_TIME):
        return verdict
    return None


def _out_of_time(job: Object, pod: str | None, message: str) -> Verdict:
    stage = _stage(job)
    limit = job["spec"]["template"]["spec"].get("activeDeadlineSeconds")
    return Verdict(
        Exit.OUT_OF_TIME, "out of time", "DeadlineExceeded", message or f"it ran longer than {limit} s", pod,
        hint=f"--set {stage}.timeout_seconds=… with more than {limit}; train resumes",
    )  # fmt: skip


# --- a Job that goes on --------------------------------------------------------------------------


def _waiting(job: Object, pods: Sequence[Object], events: Sequence[Object], patience: Patience) -> Waiting:
    alive = [pod for pod in pods if pod_phase(pod) in ("Pending", "Running", "Unknown")]
    if _suspended(job):
        late = _not_started(job, None, "Suspended", "the Job is suspended, a queue has not let it in")
        return Waiting("queued", "suspended", None, (Deadline("queue", patience.queue, late),))
    if not alive:
        if pods:
            return Waiting("finishing")  # its controller has not counted the ended Pod yet
        return _no_pod(job, events, patience)
    pod = alive[-1]
    if pod_phase(pod) == "Pending":
        return _pending(job, pod, events, patience)
    return _running(job, pod, events, patience)


def _suspended(job: Object) -> bool:
    if job["spec"].get("suspend"):
        return True
    return any(
        condition["type"] == "Suspended" and condition["status"] == "True"
        for condition in job.get("status", {}).get("conditions") or ()
    )


def _no_pod(job: Object, events: Sequence[Object], patience: Patience) -> Waiting:
    refused = _latest(events, "FailedCreate", _name(job))
    if refused:
        message = refused.get("message", "")
        # a quota may be freed by others; every other refusal stays one
        quota = "exceeded quota" in message
        seconds = patience.start if quota else patience.no_pod
        verdict = _not_started(job, None, "FailedCreate", message)
        return Waiting("starting", message, None, (Deadline(f"no-pod-{quota}", seconds, verdict),))
    verdict = _not_started(
        job, None, "NoPod", "no Pod was created, and no event says why; is the Job controller up?"
    )
    return Waiting("starting", "", None, (Deadline("no-pod", patience.no_pod, verdict),))


def _pending(job: Object, pod: Object, events: Sequence[Object], patience: Patience) -> Waiting:
    name = _name(pod)
    scheduled = _pod_condition(pod, "PodScheduled")
    if scheduled is None or scheduled["status"] != "True":
        return _unscheduled(job, pod, scheduled or {}, events, patience)
    deadlines: list[Deadline] = []
    detail = ""
    for container, waiting in _waiting_containers(pod):
        if waiting.get("reason") != "ContainerCreating":
            detail = ": ".join(filter(None, (waiting.get("reason"), waiting.get("message"))))
        deadline = _blocked(job, name, container, waiting, events, patience)
        if deadline:
            deadlines.append(deadline)
    started = any(True for _ in _started_containers(pod))
    if not started:
        trouble = _latest(events, ("FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox"), name)
        reason = trouble["reason"] if trouble else (detail.split(":")[0] or "ContainerCreating")
        text = trouble.get("message", "") if trouble else detail
        detail = f"{reason}: {text}" if trouble else detail
        late = _not_started(job, name, reason, text or "the containers were not started")
        deadlines.append(Deadline(f"start {name}", patience.start, late))
    return Waiting("starting", detail, name, tuple(deadlines))


def _unscheduled(
    job: Object, pod: Object, scheduled: Object, events: Sequence[Object], patience: Patience
) -> Waiting:
    name = _name(pod)
    text = scheduled.get("message") or ""
    event = _latest(events, "FailedScheduling", name)
    if event and not text:
        text = event.get("message", "")
    claim = _claim_trouble(pod, events)
    if claim:
        text = f"{text}; {claim}".lstrip("; ")
    reason = scheduled.get("reason") or "Unschedulable"
    late = _not_started(job, name, reason, text or "no scheduler has placed the Pod")
    return Waiting("scheduling", text, name, (Deadline(f"schedule {name}", patience.schedule, late),))


_ABSENT = re.compile(
    r"not found|does not exist|manifest unknown|access denied|unauthorized|denied|invalid reference",
    re.IGNORECASE,
)
_UNREACHABLE = re.compile(
    r"no such host|connection refused|network is unreachable|i/o timeout", re.IGNORECASE
)


def _blocked(
    job: Object, pod: str, container: str, waiting: Object, events: Sequence[Object], patience: Patience
) -> Deadline | None:
    """How long to believe that a waiting container may still start; None: until the start timeout."""
    reason, message = waiting.get("reason", ""), waiting.get("message", "")
    if reason in ("ErrImagePull", "ImagePullBackOff"):
        # the back-off drops the text that tells a wrong name from a lost network; an event has it
        pull = _latest(events, "Failed", pod, containing="pull image")
        message = max(message, pull["message"] if pull else "", key=len)
    verdict = _not_started(job, pod, reason, message or f"container {container}")
    if reason in ("InvalidImageName", "ErrImageNeverPull"):
        return Deadline(f"image {pod}", 0, verdict)
    if reason in ("ErrImagePull", "ImagePullBackOff") and _ABSENT.search(message):
        return Deadline(f"image {pod}", patience.bad_image, verdict)
    if reason in ("ErrImagePull", "ImagePullBackOff") and _UNREACHABLE.search(message):
        return Deadline(f"registry {pod}", patience.no_registry, verdict)
    if reason in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "StartError"):
        return Deadline(f"container {pod}", patience.bad_config, verdict)
    return None


def _running(job: Object, pod: Object, events: Sequence[Object], patience: Patience) -> Waiting:
    name = _name(pod)
    limit = job["spec"]["template"]["spec"].get("activeDeadlineSeconds")
    deadlines: tuple[Deadline, ...] = ()
    if limit:
        late = _out_of_time(
            job, name, f"still running after {limit} s and a grace; the node does not enforce it"
        )
        deadlines = (Deadline(f"run {name}", limit + patience.overrun, late),)
    ended = container_state(pod, main_container(job)["name"]).get("terminated")
    others = [c for c, _ in _started_containers(pod) if c != main_container(job)["name"]]
    if ended and others:
        return Waiting("running", f"{', '.join(others)} still runs beside the ended stage", name, deadlines)
    # a lost node's Pods are made not ready, and only an event says why; it stays when the node is back
    ready = _pod_condition(pod, "Ready")
    lost = ready and ready["status"] != "True" and _latest(events, "NodeNotReady", name)
    if pod_phase(pod) == "Unknown" or lost:
        return Waiting("running", "its node does not answer", name, deadlines)
    return Waiting("running", "", name, deadlines)


def _not_started(job: Object, pod: str | None, reason: str, message: str) -> Verdict:
    hints = {
        "Unschedulable": f"free what it asks for, or ask for less: --set {_stage(job)}.cpu=… or .memory=…",
        "FailedCreate": "change the manifest, the quota or the namespace's policy as the message says",
        "Suspended": "ask whoever runs the queue, or see `kubectl describe job`",
        "CreateContainerConfigError": "create the object that the message names",
        "FailedMount": "create the object that the message names, or mend the volume",
    }
    hint = hints.get(reason, "")
    if "Image" in reason:
        hint = "build and load the image (make image; kind load docker-image …), or give another with --image"
    if "persistentvolumeclaim" in message.lower() and not hint.startswith("create"):
        hint = (
            "create the PersistentVolumeClaim, or name a StorageClass that exists (kubectl get storageclass)"
        )
    return Verdict(Exit.COULD_NOT_START, "could not start", reason, message, pod, hint=hint)


# --- small readers -------------------------------------------------------------------------------


def _waiting_containers(pod: Object) -> Iterator[tuple[str, Object]]:
    for status in _statuses(pod):
        waiting = (status.get("state") or {}).get("waiting")
        if waiting and waiting.get("reason") not in (None, "PodInitializing"):
            yield status["name"], waiting


def _started_containers(pod: Object) -> Iterator[tuple[str, Object]]:
    for status in _statuses(pod):
        running = (status.get("state") or {}).get("running")
        if running is not None:
            yield status["name"], running


def _statuses(pod: Object) -> Iterator[Object]:
    status = pod.get("status", {})
    yield from status.get("initContainerStatuses") or ()
    yield from status.get("containerStatuses") or ()


def _pod_condition(pod: Object, kind: str) -> Object | None:
    conditions = pod.get("status", {}).get("conditions") or ()
    return next((c for c in conditions if c["type"] == kind), None)


def _claim_trouble(pod: Object, events: Sequence[Object]) -> str:
    """What the events say of the claims that a Pod mounts."""
    claims = {
        volume["persistentVolumeClaim"]["claimName"]
        for volume in pod["spec"].get("volumes") or ()
        if "persistentVolumeClaim" in volume
    }
    for claim in sorted(claims):
        event = _latest(events, ("ProvisioningFailed", "FailedBinding"), claim)
        if event:
            return f"PersistentVolumeClaim {claim}: {event.get('message', '')}"
    return ""


def _latest(
    events: Sequence[Object], reasons: str | tuple[str, ...], name: str, containing: str = ""
) -> Object | None:
    wanted = (reasons,) if isinstance(reasons, str) else reasons
    found = [
        event
        for event in events
        if event.get("reason") in wanted
        and event.get("involvedObject", {}).get("name") == name
        and containing in event.get("message", "")
    ]
    return found[-1] if found else None


def _memory_limit(pod: Object) -> str:
    for container in pod["spec"]["containers"]:
        if container["name"] == _stage(pod):
            return str(container.get("resources", {}).get("limits", {}).get("memory", "of the node"))
    return "of the node"


def _stage(item: Object) -> str:
    return str(item["metadata"].get("labels", {}).get(LABEL_COMPONENT, ""))


def _logs(job: Object) -> str:
    return f"python launcher logs {job['metadata'].get('labels', {}).get(LABEL_RUN, '')} {_stage(job)}"


def _name(item: Object) -> str:
    return str(item["metadata"]["name"])
