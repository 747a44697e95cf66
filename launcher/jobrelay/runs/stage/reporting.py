"""The report of a finished stage, from its Job, its Pods and the copies of their logs."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from jobrelay.errors import Exit
from jobrelay.executors.base import Submission
from jobrelay.kube.ends import closing_of
from jobrelay.kube.objects import Job, JobStatus, Pod
from jobrelay.kube.read import index_of, last_pod, main_container, pod_phase, pods_of
from jobrelay.runs.report import StageReport
from jobrelay.runs.stage.log_copies import LogCollector
from jobrelay.runs.timeline import timeline
from jobrelay.verdicts import JobView, Verdict, attempts_allowed, explained, failed_attempts
from jobrelay.verdicts.signs import signs_in
from jobrelay_runner.stages import Stage


def stage_report(
    stage: Stage,
    submission: Submission,
    verdict: Verdict,
    view: JobView,
    collector: LogCollector,
    seen: str,
    limits_resources: bool,
) -> StageReport:
    """Build the report of a stage.

    seen: when the launcher got the verdict. limits_resources: whether requests have an effect here.
    """
    pod = next((p for p in view.pods if p["metadata"]["name"] == verdict.pod), last_pod(view.pods))
    closing = closing_of(pod) if pod else None
    succeeded = verdict.exit_code == Exit.SUCCEEDED
    peers: list[Pod | None] = _peers(submission.job, view) if succeeded else []
    complete: bool | None = None
    if not (submission.finished and succeeded):
        checked = [collector.is_complete(each, succeeded) for each in (pod, *peers)]
        complete = False if False in checked else None if None in checked else True
    closings = [closing_of(each) if each else None for each in peers]
    resources = main_container(submission.job).get("resources", {}) if limits_resources else None
    copy = collector.copies.get(pod["metadata"]["name"]) if pod else None
    here = {"first_line": copy.since if copy else None, "seen": None if submission.finished else seen}
    return StageReport(
        stage=stage,
        verdict=explained(
            verdict, submission.job, copy.tail() if copy else "", is_local=not limits_resources
        ),
        how="complete" if submission.finished else submission.how,
        closing=closing,
        seconds=closing.cost.wall_seconds if closing else _job_seconds(view.job),
        memory_limit=str((resources or {}).get("limits", {}).get("memory", "")),
        log_complete=complete,
        pods=len(view.pods),
        ran=bool(collector.copies) or succeeded,
        timeline=timeline(view, pod, here),
        resources=resources,
        peer_logs=tuple(each.log if each else None for each in closings),
        attempt=max(len(failed_attempts(view)) + succeeded, 1),
        attempts=attempts_allowed(view.job or submission.job),
        notes=tuple(_signs(collector, [pod, *peers])) if succeeded else (),
    )


def _peers(job: Job, view: JobView) -> list[Pod | None]:
    """The other Pods of a succeeded stage, all but index 0; None: the Pod is gone."""
    done = {index_of(pod): pod for pod in view.pods if pod_phase(pod) == "Succeeded"}
    return [done.get(index) for index in range(1, pods_of(job))]


def _signs(collector: LogCollector, pods: Iterable[Pod | None]) -> list[str]:
    """Signs of trouble in the logs of a stage that succeeded, each once."""
    copies = (collector.copies.get(pod["metadata"]["name"]) for pod in pods if pod)
    return list(
        dict.fromkeys(note for copy in copies if copy for note in signs_in(copy.path, copy.path.parent))
    )


def _job_seconds(job: Job | None) -> float | None:
    status: JobStatus = job.get("status", {}) if job else {}
    started, completed = status.get("startTime"), status.get("completionTime")
    if not (started and completed):
        return None
    start, end = (datetime.fromisoformat(text.replace("Z", "+00:00")) for text in (started, completed))
    return (end - start).total_seconds()
