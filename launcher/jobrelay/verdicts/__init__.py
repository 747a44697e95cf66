"""From what the API shows of one Job to how it ended, or what it still waits for.

Pure: `judge` takes Job, Pods and Events as dicts and reads no clock. A state that may last only for a
limited time is returned with a Deadline, and the caller that follows the Job times it. The Job's condition
(Complete or Failed with status True) decides that it has ended; everything else here explains why.
"""

from __future__ import annotations

from jobrelay.errors import Exit
from jobrelay.hints import SameAgain
from jobrelay.kube.read import created, finished_condition, last_pod, name_of, pod_phase
from jobrelay.verdicts.advice import explained
from jobrelay.verdicts.attempts import attempts_allowed, failed_attempts, losses
from jobrelay.verdicts.disruptions import LIMIT, budget_spent, lost_pods
from jobrelay.verdicts.failures import final_before_the_job, why_failed, with_last_line
from jobrelay.verdicts.model import Deadline, JobView, Patience, Verdict, Waiting
from jobrelay.verdicts.waiting import what_it_waits_for

__all__ = [
    "Deadline",
    "JobView",
    "Patience",
    "Verdict",
    "Waiting",
    "attempts_allowed",
    "explained",
    "failed_attempts",
    "judge",
    "losses",
    "lost_pods",
    "may_resume",
    "with_last_line",
]


def judge(view: JobView, patience: Patience | None = None) -> Verdict | Waiting:
    """Return the verdict on a Job, or what it waits for."""
    job = view.job
    if job is None:
        return Verdict(
            Exit.DISRUPTED, "disrupted", "Deleted", "the Job was deleted while it was followed",
            hint=SameAgain(),
        )  # fmt: skip
    patience = patience or Patience()
    pods = sorted(view.pods, key=created)
    condition = finished_condition(job)
    if condition and condition["type"] == "Complete":
        pod = last_pod([pod for pod in pods if pod_phase(pod) == "Succeeded"])
        return Verdict(
            Exit.SUCCEEDED, "succeeded", condition.get("reason", "Complete"), condition.get("message", ""),
            pod=name_of(pod) if pod else None, container_exit=0,
        )  # fmt: skip
    if condition:
        return why_failed(job, pods, view.lost, condition)
    for pod in reversed(pods):
        verdict = final_before_the_job(job, pod)
        if verdict:
            return verdict
    return budget_spent(view, patience) or what_it_waits_for(job, pods, view.lost, view.events, patience)


def may_resume(view: JobView, verdict: Verdict, patience: Patience) -> bool:
    """Whether only disruptions failed the Job, and their limit is not reached.

    Kubernetes counts lost Pods as failed attempts where it has no podFailurePolicy (before 1.26).
    """
    if view.job is None or not finished_condition(view.job) or verdict.outcome != "disrupted":
        return False
    return verdict.reason != LIMIT and lost_pods(view) <= patience.disruptions
