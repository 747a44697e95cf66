"""The attempts of a Job: which failed and why, and how many are allowed."""

from __future__ import annotations

from dataclasses import dataclass

from jobrelay.kube.ends import failed_container
from jobrelay.kube.objects import Job
from jobrelay.kube.read import created, name_of, pod_phase, pods_of
from jobrelay.verdicts.disruptions import disruption
from jobrelay.verdicts.failures import why_a_pod_failed
from jobrelay.verdicts.model import JobView
from jobrelay_runner import exit_codes

#: Kubernetes's default.
_BACKOFF_LIMIT = 6


@dataclass(frozen=True)
class Attempt:
    """An attempt that failed by itself, not through a disruption."""

    pod: str
    cause: str


@dataclass(frozen=True)
class Loss:
    """A Pod lost to a disruption."""

    pod: str
    cause: str


def failed_attempts(view: JobView) -> list[Attempt]:
    """The Job's failed attempts, oldest first, without Pods that only followed another's end."""
    job = view.job
    if job is None:
        return []
    pods = sorted((*view.lost, *view.pods), key=created)
    failed = [pod for pod in pods if pod_phase(pod) == "Failed" and not disruption(pod)]
    return [
        Attempt(name_of(pod), why_a_pod_failed(job, pod).cause)
        for pod in failed
        if failed_container(pod).contract_code not in exit_codes.FOLLOWING
    ]


def losses(view: JobView) -> list[Loss]:
    """The Job's Pods that were lost to disruptions, oldest first."""
    pods = sorted((*view.lost, *view.pods), key=created)
    found = [(pod, disruption(pod)) for pod in pods]
    return [Loss(name_of(pod), ": ".join(filter(None, lost))) for pod, lost in found if lost]


def attempts_allowed(job: Job) -> int:
    """Return the number of attempts that the Job allows."""
    limit = int(job["spec"].get("backoffLimit", _BACKOFF_LIMIT))
    # without a podFailurePolicy, Pods that only follow count too (manifests.nodes)
    together = 1 if "podFailurePolicy" in job["spec"] else pods_of(job)
    return int((limit + 1) // together) or 1
