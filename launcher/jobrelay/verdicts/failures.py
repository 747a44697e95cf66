"""Why a Job has failed, or can no longer succeed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from jobrelay.errors import Exit
from jobrelay.figures import mebibytes, memory_quantity
from jobrelay.hints import Command, Hint, SameAgain
from jobrelay.kube.ends import End, ended, failed_container
from jobrelay.kube.labels import ANNOTATION_VERDICT, LABEL_RUN
from jobrelay.kube.objects import Condition, Job, Pod
from jobrelay.kube.quantities import doubled
from jobrelay.kube.read import (
    created,
    main_container,
    memory_limit,
    name_of,
    own_deadline,
    pod_phase,
    pods_of,
    stage_of,
)
from jobrelay.verdicts.disruptions import RESUME, disruption
from jobrelay.verdicts.model import Verdict
from jobrelay.verdicts.security import other_security
from jobrelay.verdicts.words import exit_text, last_words, was_killed
from jobrelay_runner import exit_codes

#: What the scheduler and attach controller report when a volume is not available where a Pod must run.
_ONE_NODE = re.compile(r"volume('s)? node affinity|Multi-Attach", re.IGNORECASE)


def why_failed(job: Job, pods: Sequence[Pod], gone: Sequence[Pod], condition: Condition) -> Verdict:
    """The verdict on a Job whose condition Failed is True.

    pods: oldest first. gone: Pods deleted while the launcher followed the Job.
    """
    given_up = job["metadata"].get("annotations", {}).get(ANNOTATION_VERDICT)
    if given_up and (verdict := Verdict.from_annotation(given_up)):
        return verdict
    reason, message = condition.get("reason", "Failed"), condition.get("message", "")
    if together := pods_of(job) > 1:  # the Pod lost first may be gone before its followers are
        failed = [pod for pod in (*gone, *pods) if pod_phase(pod) == "Failed" or disruption(pod)]
    else:
        failed = [pod for pod in pods or gone if pod_phase(pod) == "Failed"]
    if reason == "DeadlineExceeded":
        return out_of_time(job, name_of(failed[-1]) if failed else None, message)
    if not failed:
        return Verdict(Exit.FAILED, "failed", reason, f"{message} (its Pod is gone)", hint=_logs(job))
    return why_a_pod_failed(job, _cause(failed) if together else failed[-1])


def _cause(failed: Sequence[Pod]) -> Pod:
    """The cause among the Pods of the last attempt: the one that failed first without merely following."""
    leading = [pod for pod in failed if failed_container(pod).contract_code not in exit_codes.FOLLOWING]
    last = max(leading or failed, key=ended)
    # creation time is by the API server's clock, end time by the node's: a Pod may seem created after its end
    return min((pod for pod in leading or failed if pod is last or ended(pod) >= created(last)), key=ended)


def why_a_pod_failed(job: Job, pod: Pod) -> Verdict:
    """The verdict on a Pod with phase Failed."""
    status = pod["status"]
    name = name_of(pod)
    if status.get("reason") == "DeadlineExceeded":
        return out_of_time(job, name, status.get("message", ""))
    end = failed_container(pod)
    code, closing = end.code, end.closing
    if lost := disruption(pod):
        return Verdict(Exit.DISRUPTED, "disrupted", *lost, name, code, hint=RESUME)
    if code is None:  # no container ran: the kubelet refused the Pod (OutOfcpu, NodeAffinity, …)
        return not_started(job, name, end.state["reason"], end.message)
    reason = end.state.get("reason") or "Error"
    if reason == "OOMKilled" or (closing and closing.oom_kills):
        # oom_kills: some processes of the stage were killed, while its main process lives on
        return _out_of_memory(job, pod, end)
    if reason in ("StartError", "ContainerCannotRun"):
        return Verdict(
            Exit.COULD_NOT_START, "could not start", reason, end.message, name, code,
            hint="the command is not in the image: compare the Job's command with what the image holds",
        )  # fmt: skip
    known = {
        exit_codes.BAD_CONFIG: (Exit.BAD_INPUT, "the stage refuses its configuration or data"),
        exit_codes.BAD_EVIDENCE: (Exit.INCOMPLETE, "an input differs from its record"),
        exit_codes.NOT_BEGUN: (Exit.FAILED, "the stage before it failed, and it was not started"),
        exit_codes.PEER_LOST: (Exit.FAILED, "another Pod of this stage was lost"),
    }
    words = (closing.error or "").strip() if closing else last_words(end.message)
    if end.contract_code in known:
        exit_code, default = known[end.contract_code]
        # A complete stage does not run again while its Job exists, whatever happened to its files.
        run = _run_of(job)
        damaged = end.contract_code == exit_codes.BAD_EVIDENCE and run
        hint = Command("delete", run) if damaged else _logs(job)
        return Verdict(exit_code, "failed", reason, words or default, name, code, hint=hint)
    text = exit_text(code)
    if closing and text in words:
        text = words
    elif words and (closing or not was_killed(code)):
        text += f": {words}"
    text = _of(end, job) + text
    return Verdict(Exit.FAILED, "failed", reason, text, name, code, hint=_logs(job))


def with_last_line(verdict: Verdict, log: str) -> Verdict:
    """Add what the end of the log reports, where the Pod's status has nothing but an exit code."""
    bare = exit_text(verdict.container_exit)
    if verdict.outcome != "failed" or was_killed(verdict.container_exit) or verdict.message != bare:
        return verdict
    words = last_words(log)
    return replace(verdict, message=f"{bare}: {words}") if words else verdict


def _out_of_memory(job: Job, pod: Pod, end: End) -> Verdict:
    limit = memory_limit(pod, end.container)
    most = end.closing.cost.peak_memory_bytes if end.closing else 0
    peak = f", peak {mebibytes(most)}" if most else ""
    hint = _more_memory(stage_of(job), limit)
    if other := _of(end, job):
        hint = f"give container {end.container} more memory in the manifest"
    text = f"{other}out of memory (limit {memory_quantity(limit)}{peak})"
    return Verdict(Exit.FAILED, "failed", "OOMKilled", text, name_of(pod), end.code, hint=hint)


def _of(end: End, job: Job) -> str:
    """Name the container, if it is not the stage's own."""
    return "" if end.container == main_container(job)["name"] else f"container {end.container}: "


def final_before_the_job(job: Job, pod: Pod) -> Verdict | None:
    """The verdict on a failed Pod if no further attempt can succeed, though the Job would try; else None."""
    if pod_phase(pod) != "Failed":
        return None
    verdict = why_a_pod_failed(job, pod)
    final_code = failed_container(pod).contract_code in exit_codes.FINAL
    # another node may accept the next Pod; a command that does not exist stays missing
    final_start = verdict.exit_code == Exit.COULD_NOT_START and verdict.container_exit is not None
    if final_code or final_start or verdict.exit_code == Exit.OUT_OF_TIME:
        return verdict
    return None


def out_of_time(job: Job, pod: str | None, message: str) -> Verdict:
    """The verdict on a Pod or Job that exceeded its activeDeadlineSeconds."""
    stage = stage_of(job)
    limit = own_deadline(job)
    return Verdict(
        Exit.OUT_OF_TIME, "out of time", "DeadlineExceeded", message or f"it ran longer than {limit} s", pod,
        hint=SameAgain("--set", f"{stage}.timeout_seconds={limit * 2}") if limit else RESUME,
    )  # fmt: skip


def _more_memory(stage: str, limit: str) -> Hint:
    """More memory for the same run, which keeps its checkpoints: memory does not change a stage's results."""
    try:
        return SameAgain("--set", f"{stage}.memory={doubled(limit)}")
    except ValueError:  # it had no limit: the node ran out of memory
        return f"give it more memory (--set {stage}.memory=…), or fewer workers"


def _logs(job: Job) -> Hint:
    run = _run_of(job)
    return Command("logs", run, stage_of(job)) if run else ""


def _run_of(job: Job) -> str:
    return str(job["metadata"].get("labels", {}).get(LABEL_RUN, ""))


def not_started(job: Job, pod: str | None, reason: str, message: str) -> Verdict:
    """The verdict on a Pod that never ran, with the usual remedy."""
    hints = {
        "Unschedulable": f"free what it requests, or request less: --set {stage_of(job)}.cpu=… or .memory=…",
        "FailedCreate": "change the manifest, the quota or the namespace's policy as the message says",
        "Suspended": f"ask who runs the queue; kubectl describe job {name_of(job)} says more",
        "CreateContainerConfigError": "create the object that the message names",
        "FailedMount": "create the object that the message names, or repair the volume",
    }
    hint = hints.get(reason, "")
    if "Image" in reason:
        hint = "build and load the image (make image; kind load docker-image …), or give another with --image"
    if "persistentvolumeclaim" in message.lower() and not hint.startswith("create"):
        hint = (
            "create the PersistentVolumeClaim, or name a StorageClass that exists (kubectl get storageclass)"
        )
    if _ONE_NODE.search(message) and pods_of(job) > 1:
        hint = (
            "Pods on several nodes need a claim that is ReadWriteMany; with a ReadWriteOnce one, room for "
            f"all {pods_of(job)} of them on the node of the volume: --set {stage_of(job)}.cpu=… or .memory=…"
        )
    hint = other_security(job, message) or hint
    return Verdict(Exit.COULD_NOT_START, "could not start", reason, message, pod, hint=hint)
