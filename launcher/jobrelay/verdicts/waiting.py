"""What an unfinished Job waits for, and how long it may."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from jobrelay.figures import clock
from jobrelay.kube.objects import Condition, Event, Job, Pod, WaitingState
from jobrelay.kube.read import (
    claim_trouble,
    container_state,
    containers,
    index_of,
    latest_event,
    main_container,
    name_of,
    own_deadline,
    pod_condition,
    pod_phase,
    pods_of,
    sidecars,
    started_containers,
    waiting_containers,
)
from jobrelay.verdicts.failures import not_started, out_of_time
from jobrelay.verdicts.model import Deadline, Patience, Waiting

#: The toleration that the API server adds to a Pod that has none.
_TOLERATED_SECONDS: Final = 300

#: In the order in which a Pod passes through them.
_PHASES: Final = ("scheduling", "starting", "running")


def what_it_waits_for(
    job: Job,
    pods: Sequence[Pod],
    lost: Sequence[Pod],
    events: Sequence[Event],
    patience: Patience,
) -> Waiting:
    alive = [pod for pod in pods if pod_phase(pod) in ("Pending", "Running", "Unknown")]
    if (queue := _queue(job, alive[-1] if alive else None)) is not None:
        late = not_started(job, None, "Suspended", f"{queue} has not admitted the Job")
        return Waiting("queued", queue, None, (Deadline("queue", patience.queue, late),))
    if not alive:
        if pods:
            return Waiting("finishing")  # its controller has not counted the ended Pod yet
        return _no_pod(job, lost, events, patience)
    if pods_of(job) > 1:
        return _together(job, pods, alive, events, patience)
    return _one(job, alive[-1], events, patience)


def _one(job: Job, pod: Pod, events: Sequence[Event], patience: Patience) -> Waiting:
    if pod_phase(pod) == "Pending":
        return _pending(job, pod, events, patience)
    return _running(job, pod, events, patience)


def _together(
    job: Job,
    pods: Sequence[Pod],
    alive: Sequence[Pod],
    events: Sequence[Event],
    patience: Patience,
) -> Waiting:
    """Pods that need each other: report the one furthest behind; the limits of all apply."""
    newest = {index_of(pod): pod for pod in alive}
    waits = [
        replace(wait, detail=f"index {index}: {wait.detail}" if wait.detail else "")
        for index, pod in newest.items()
        for wait in [_one(job, pod, events, patience)]
    ]
    # an index that has had a Pod merely waits for its next attempt
    refused = latest_event(events, "FailedCreate", name_of(job))
    if refused and len({index_of(pod) for pod in pods}) < pods_of(job):
        waits.append(_refused(job, refused, patience))
    behind = min(waits, key=lambda wait: (_PHASES.index(wait.phase), not wait.detail))
    return replace(behind, deadlines=tuple(limit for wait in waits for limit in wait.deadlines))


def _queue(job: Job, pod: Pod | None) -> str | None:
    """What holds the Job back on purpose, or None; while something does, no start limit runs."""
    suspended = any(
        condition["type"] == "Suspended" and condition["status"] == "True"
        for condition in job.get("status", {}).get("conditions") or ()
    )
    if suspended or job["spec"].get("suspend"):
        return "a queue (the Job is suspended)"
    controller = job["spec"].get("managedBy", _JOB_CONTROLLER)
    if controller != _JOB_CONTROLLER and pod is None and not job.get("status", {}).get("startTime"):
        return f"controller {controller}"
    scheduled = pod_condition(pod, "PodScheduled") if pod else None
    if scheduled and scheduled.get("reason") == "SchedulingGated":
        gates = ", ".join(gate.get("name", "?") for gate in (pod or {})["spec"].get("schedulingGates") or ())
        return f"scheduling gate {gates}".strip()
    return None


def _no_pod(job: Job, lost: Sequence[Pod], events: Sequence[Event], patience: Patience) -> Waiting:
    latest = latest_event(events, ("FailedCreate", "SuccessfulCreate"), name_of(job))
    if latest and latest["reason"] == "FailedCreate":
        return _refused(job, latest, patience)
    if lost or latest:
        verdict = not_started(job, None, "NoPod", "no Pod was created to replace the one that is gone")
        limit = Deadline("next-pod", patience.next_pod, verdict)
        # an event alone may be about a Pod that another watch has not shown yet: report nothing
        detail = "its Pod is gone, and the next one is not created yet" if lost else ""
        return Waiting("starting", detail, None, (limit,))
    verdict = not_started(
        job, None, "NoPod", "no Pod was created, and no event says why; is the Job controller running?"
    )
    return Waiting("starting", "", None, (Deadline("no-pod", patience.no_pod, verdict),))


def _refused(job: Job, event: Event, patience: Patience) -> Waiting:
    """The state of a Job whose Pod could not be created, for the event's reason."""
    message = event.get("message", "")
    # others may free quota; any other refusal is permanent
    quota = "exceeded quota" in message
    seconds = patience.start if quota else patience.no_pod
    verdict = not_started(job, None, "FailedCreate", message)
    return Waiting("starting", message, None, (Deadline(f"no-pod-{quota}", seconds, verdict),))


def _pending(job: Job, pod: Pod, events: Sequence[Event], patience: Patience) -> Waiting:
    name = name_of(pod)
    scheduled = pod_condition(pod, "PodScheduled")
    if scheduled is None or scheduled["status"] != "True":
        return _unscheduled(job, pod, scheduled or {}, events, patience)
    deadlines: list[Deadline] = []
    detail = ""
    for container, waiting in waiting_containers(pod):
        if waiting.get("reason") != "ContainerCreating":
            detail = ": ".join(filter(None, (waiting.get("reason"), waiting.get("message"))))
        deadline = _blocked(job, name, container, waiting, events, patience)
        if deadline:
            deadlines.append(deadline)
    started = any(name not in sidecars(pod) for name, _ in started_containers(pod))
    if not started:
        reason, _, text = detail.partition(": ")
        trouble = _sandbox_trouble(events, name)
        # a container with a reason of its own has its volumes: an earlier FailedMount is over
        if trouble and reason in ("", "PodInitializing"):
            reason, text = trouble["reason"], trouble.get("message", "")
            detail = f"{reason}: {text}"
        late = not_started(
            job, name, reason or "ContainerCreating", text or "the containers were not started"
        )
        deadlines.append(Deadline(f"start {name}", patience.start, late))
    return Waiting("starting", detail, name, tuple(deadlines))


_SANDBOX_TROUBLE = ("FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox")


def _sandbox_trouble(events: Sequence[Event], pod: str) -> Event | None:
    """What keeps the kubelet from preparing the Pod, unless a later event shows that it succeeded."""
    latest = latest_event(events, (*_SANDBOX_TROUBLE, "Pulling", "Pulled", "Created"), pod)
    return latest if latest and latest["reason"] in _SANDBOX_TROUBLE else None


def _unscheduled(
    job: Job, pod: Pod, scheduled: Condition, events: Sequence[Event], patience: Patience
) -> Waiting:
    name = name_of(pod)
    text = scheduled.get("message") or ""
    event = latest_event(events, "FailedScheduling", name)
    if event and not text:
        text = event.get("message", "")
    claim = claim_trouble(pod, events)
    if claim:
        text = f"{text}; {claim}".lstrip("; ")
    reason = scheduled.get("reason") or "Unschedulable"
    late = not_started(job, name, reason, text or "no scheduler has placed the Pod")
    return Waiting("scheduling", text, name, (Deadline(f"schedule {name}", patience.schedule, late),))


_JOB_CONTROLLER = "kubernetes.io/job-controller"

_ABSENT = re.compile(
    r"not found|does not exist|manifest unknown|access denied|unauthorized|denied|invalid reference",
    re.IGNORECASE,
)


_UNREACHABLE = re.compile(
    r"no such host|connection refused|network is unreachable|i/o timeout", re.IGNORECASE
)


def _blocked(
    job: Job, pod: str, container: str, waiting: WaitingState, events: Sequence[Event], patience: Patience
) -> Deadline | None:
    """The limit for a waiting container that may still start; None: the start timeout alone applies."""
    reason, message = waiting.get("reason", ""), waiting.get("message", "")
    if reason in ("ErrImagePull", "ImagePullBackOff"):
        # during back-off the message no longer separates a wrong name from a network failure; an event has it
        pull = latest_event(events, "Failed", pod, containing="pull image")
        message = max(message, pull["message"] if pull else "", key=len)
    verdict = not_started(job, pod, reason, message or f"container {container}")
    if reason in ("InvalidImageName", "ErrImageNeverPull"):
        return Deadline(f"image {pod}", 0, verdict)
    if reason in ("ErrImagePull", "ImagePullBackOff"):
        cause = _without_image(job, message)
        if _ABSENT.search(cause):
            return Deadline(f"image {pod}", patience.bad_image, verdict)
        if _UNREACHABLE.search(cause):
            return Deadline(f"registry {pod}", patience.no_registry, verdict)
    if reason in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "StartError"):
        return Deadline(f"container {pod}", patience.bad_config, verdict)
    return None


def _without_image(job: Job, message: str) -> str:
    """A pull's message without the image's name, which may contain any word."""
    for container in containers(job["spec"]["template"]["spec"]):
        message = message.replace(container["image"].rpartition(":")[0] or container["image"], "")
    return message


def _running(job: Job, pod: Pod, events: Sequence[Event], patience: Patience) -> Waiting:
    name = name_of(pod)
    limit = own_deadline(job)
    deadlines: tuple[Deadline, ...] = ()
    if limit:
        late = out_of_time(
            job, name, f"still running after {limit} s, its limit; the node does not enforce it"
        )
        deadlines = (Deadline(f"run {name}", limit + patience.overrun, late),)
    ended = container_state(pod, main_container(job)["name"]).get("terminated")
    mine = {main_container(job)["name"], *sidecars(pod)}
    others = [c for c, _ in started_containers(pod) if c not in mine]
    if ended and others:
        return Waiting("running", f"the stage has ended; still running: {', '.join(others)}", name, deadlines)
    # when a node is lost its Pods become not ready, and only an event gives the cause; it outlasts the node's
    # return
    ready = pod_condition(pod, "Ready")
    lost = ready and ready["status"] != "True" and latest_event(events, "NodeNotReady", name)
    if pod_phase(pod) == "Unknown" or lost:
        return Waiting("running", _lost_node(pod, ready), name, deadlines)
    return Waiting("running", "", name, deadlines)


def _lost_node(pod: Pod, ready: Condition | None) -> str:
    """What the Pod waits for, until when, and how to end the wait sooner."""
    node = pod["spec"].get("nodeName") or "?"
    since = _time((ready or {}).get("lastTransitionTime"))
    problem = f"its node {node} does not answer" + (f" since {clock(since)}" if since else "")
    sooner = f"if it is gone for good: kubectl delete node {node}"
    if pod["metadata"].get("deletionTimestamp"):
        return f"{problem}; the Pod is being deleted, which only its node can confirm ({sooner})"
    seconds = _tolerated(pod)
    if seconds is None:
        return f"{problem}, and the Pod waits for it without limit ({sooner})"
    until = f"until {clock(since + timedelta(seconds=seconds))}" if since else f"for {seconds} s"
    return f"{problem}; Kubernetes waits for it {until}, then the Job starts another Pod ({sooner})"


def _tolerated(pod: Pod) -> int | None:
    """Seconds that a Pod stays on a node that does not answer (default 300); None: for ever."""
    for toleration in pod["spec"].get("tolerations") or ():
        keys = ("node.kubernetes.io/unreachable", None)
        if toleration.get("key") in keys and toleration.get("effect") in ("NoExecute", None):
            seconds = toleration.get("tolerationSeconds")
            return None if seconds is None else int(seconds)
    return _TOLERATED_SECONDS


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None
