"""Why a Job has failed, or cannot end well any more."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from jobs.contract import exit_codes
from jobs.contract.record import parse_closing
from launcher.errors import Exit
from launcher.manifests import ANNOTATION_VERDICT, LABEL_RUN, pods_of
from launcher.verdicts.disruptions import RESUME, disruption
from launcher.verdicts.kinds import Verdict
from launcher.verdicts.readers import (
    created,
    ended,
    failed_container,
    memory_limit,
    name_of,
    own_deadline,
    pod_phase,
    stage_of,
)
from launcher.wording import mebibytes

Object = dict[str, Any]

#: What scheduler and attach controller say of a volume that cannot be where a Pod would have to be.
_ONE_NODE = re.compile(r"volume('s)? node affinity|Multi-Attach", re.IGNORECASE)


def why_failed(job: Object, pods: Sequence[Object], gone: Sequence[Object], condition: Object) -> Verdict:
    """The verdict on a Job whose condition Failed is true. pods: oldest first; gone: deleted meanwhile."""
    given_up = job["metadata"].get("annotations", {}).get(ANNOTATION_VERDICT)
    if given_up and (verdict := Verdict.from_annotation(given_up)):
        return verdict
    reason, message = condition.get("reason", "Failed"), condition.get("message", "")
    if together := pods_of(job) > 1:  # the first one that is lost may be gone, and its followers not yet
        failed = [pod for pod in (*gone, *pods) if pod_phase(pod) == "Failed" or disruption(pod)]
    else:
        failed = [pod for pod in pods or gone if pod_phase(pod) == "Failed"]
    if reason == "DeadlineExceeded":
        return out_of_time(job, name_of(failed[-1]) if failed else None, message)
    if not failed:
        return Verdict(Exit.FAILED, "failed", reason, f"{message} (its Pod is gone)", hint=_logs(job))
    return _failed_pod(job, _cause(failed) if together else failed[-1])


def _cause(failed: Sequence[Object]) -> Object:
    """Of the Pods that failed together at last, the one that failed first, and did not only follow."""
    leading = [pod for pod in failed if failed_container(pod)[1].get("exitCode") not in exit_codes.FOLLOWING]
    last = max(leading or failed, key=ended)
    # an API server's clock says when it was created, its node's when it has ended: it may seem to be later
    return min((pod for pod in leading or failed if pod is last or ended(pod) >= created(last)), key=ended)


def _failed_pod(job: Object, pod: Object) -> Verdict:
    """Why a Pod with phase Failed failed."""
    status = pod["status"]
    name = name_of(pod)
    if status.get("reason") == "DeadlineExceeded":
        return out_of_time(job, name, status.get("message", ""))
    which, ended = failed_container(pod)
    code = ended.get("exitCode")
    if lost := disruption(pod):
        return Verdict(Exit.DISRUPTED, "disrupted", *lost, name, code, hint=RESUME)
    if code is None:  # no container has run: the node has refused the Pod (OutOfcpu, NodeAffinity, …)
        return not_started(job, name, ended["reason"], ended["message"])
    said = parse_closing(ended.get("message"))
    text = said.error or "" if said else ""
    if ended.get("reason") == "OOMKilled" or (said and said.oom_kills):
        # the second: only processes of the stage were killed, and the one that speaks for it lives on
        limit = memory_limit(pod)
        peak = f", peak {mebibytes(said.cost.peak_memory_bytes)}" if said else ""
        return Verdict(
            Exit.FAILED, "failed", "OOMKilled", f"out of memory (limit {limit}{peak})", name, code,
            hint=f"--set {stage_of(job)}.memory=… with more than {limit}, or fewer workers",
        )  # fmt: skip
    if ended.get("reason") in ("StartError", "ContainerCannotRun"):
        return Verdict(
            Exit.COULD_NOT_START, "could not start", ended["reason"], ended.get("message", ""), name, code,
            hint="the command is not in the image: compare the Job's command with what the image holds",
        )  # fmt: skip
    known = {
        exit_codes.BAD_CONFIG: (Exit.BAD_INPUT, "the stage refuses its configuration or data"),
        exit_codes.BAD_EVIDENCE: (Exit.INCOMPLETE, "an input is not what its record says"),
        exit_codes.PEER_LOST: (Exit.FAILED, "another Pod of this stage was lost"),
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


def final_before_the_job(job: Object, pod: Object) -> Verdict | None:
    """A failed Pod after which another attempt cannot end better, though the Job would try."""
    if pod_phase(pod) != "Failed":
        return None
    verdict = _failed_pod(job, pod)
    final_code = verdict.container_exit in exit_codes.FINAL
    # a node that has refused the Pod may take the next one; a command that is not there stays away
    final_start = verdict.exit_code == Exit.COULD_NOT_START and verdict.container_exit is not None
    if final_code or final_start or verdict.exit_code == Exit.OUT_OF_TIME:
        return verdict
    return None


def out_of_time(job: Object, pod: str | None, message: str) -> Verdict:
    """The verdict on a Pod or Job past its activeDeadlineSeconds."""
    stage = stage_of(job)
    limit = own_deadline(job)
    return Verdict(
        Exit.OUT_OF_TIME, "out of time", "DeadlineExceeded", message or f"it ran longer than {limit} s", pod,
        hint=f"--set {stage}.timeout_seconds=… with more than {limit}; train resumes",
    )  # fmt: skip


def _logs(job: Object) -> str:
    return f"python launcher logs {job['metadata'].get('labels', {}).get(LABEL_RUN, '')} {stage_of(job)}"


def not_started(job: Object, pod: str | None, reason: str, message: str) -> Verdict:
    """The verdict on a Pod that never ran, with what usually helps."""
    hints = {
        "Unschedulable": f"free what it asks for, or ask for less: --set {stage_of(job)}.cpu=… or .memory=…",
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
    if _ONE_NODE.search(message) and pods_of(job) > 1:
        hint = (
            "Pods on several nodes need a claim that is ReadWriteMany; with a ReadWriteOnce one, room for "
            f"all {pods_of(job)} of them on the node of the volume: --set {stage_of(job)}.cpu=… or .memory=…"
        )
    return Verdict(Exit.COULD_NOT_START, "could not start", reason, message, pod, hint=hint)
