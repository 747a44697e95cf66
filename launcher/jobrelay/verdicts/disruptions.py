"""Pods lost to disruptions: evicted, drained, preempted, or on a node that is gone.

They have a limit of their own. Kubernetes counts some of them as failed attempts (before 1.26, all that
leave a Failed Pod) and others not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from jobrelay.errors import Exit
from jobrelay.hints import SameAgain
from jobrelay.kube.ends import failed_container
from jobrelay.kube.labels import ANNOTATION_DISRUPTIONS
from jobrelay.kube.objects import Pod
from jobrelay.kube.read import container_state, created, name_of, pod_condition, pod_phase
from jobrelay.verdicts.model import JobView, Patience, Verdict
from jobrelay_runner import exit_codes
from jobrelay_runner.text.counting import counted

#: The stage resumes from its last checkpoint.
RESUME: Final = SameAgain()

#: A verdict's reason: more Pods were lost than the limit allows.
LIMIT: Final = "DisruptionLimitExceeded"
#: What the kubelet and controllers write into a Pod's status.reason.
_REASONS: Final = ("Evicted", "Shutdown", "NodeShutdown", "Terminated", "NodeLost", "Preempting")
#: The reasons that the kubelet gives for a container from before its node restarted.
_FORGOTTEN: Final = ("ContainerStatusUnknown", "Unknown")


def disruption(pod: Pod) -> tuple[str, str] | None:
    """Reason and message if a disruption ended the Pod; None if it ended by itself."""
    status = pod.get("status", {})
    if status.get("reason") in _REASONS:
        return status["reason"], status.get("message", "")
    target = pod_condition(pod, "DisruptionTarget")
    if target and target["status"] == "True" and pod_phase(pod) != "Succeeded":
        return target.get("reason", "DisruptionTarget"), target.get("message", "")
    if pod_phase(pod) == "Failed":
        end = failed_container(pod)
        if (reason := end.state.get("reason")) in _FORGOTTEN:
            return reason, end.message or "its node does not know how it ended"
        if end.contract_code == exit_codes.SUPERSEDED:
            closing = end.closing
            return "Superseded", (closing and closing.error) or "another process of this stage has taken over"
    if _deleted_at_work(pod):
        return "Deleted", "the Pod was deleted while it ran"
    return None


def lost_pods(view: JobView) -> int:
    """How many of the Job's Pods are known to be lost."""
    annotations = (view.job or {}).get("metadata", {}).get("annotations") or {}
    before = str(annotations.get(ANNOTATION_DISRUPTIONS, "0"))
    return (int(before) if before.isdigit() else 0) + len(_disrupted(view))


def budget_spent(view: JobView, patience: Patience) -> Verdict | None:
    """The verdict on a Job that has lost more Pods than the limit allows."""
    lost = lost_pods(view)
    if lost <= patience.disruptions:
        return None
    found = _disrupted(view)
    pod, (reason, message) = found[-1] if found else (None, ("", ""))
    return Verdict(
        Exit.DISRUPTED,
        "disrupted",
        LIMIT,
        f"{counted(lost, 'Pod')} {'was' if lost == 1 else 'were'} lost, the limit is {patience.disruptions}; "
        f"the last one: {reason}: {message}",
        name_of(pod) if pod else None,
        hint=RESUME,
    )


def _disrupted(view: JobView) -> Sequence[tuple[Pod, tuple[str, str]]]:
    pods = sorted((*view.lost, *view.pods), key=created)
    return [(pod, found) for pod in pods if (found := disruption(pod))]


def _deleted_at_work(pod: Pod) -> bool:
    """Whether the Pod's deletion was requested before its stage ended."""
    deadline = pod["metadata"].get("deletionTimestamp")
    if not deadline or pod_phase(pod) == "Succeeded":
        return False
    state = container_state(pod).get("terminated") or {}
    ended = state.get("finishedAt")
    # once all containers have ended, the kubelet deletes the Pod again and the first deletion's time is lost
    if not ended or state.get("exitCode") == exit_codes.TERMINATED:
        return True
    grace = timedelta(seconds=pod["metadata"].get("deletionGracePeriodSeconds") or 0)
    return _time(ended) >= _time(deadline) - grace


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
