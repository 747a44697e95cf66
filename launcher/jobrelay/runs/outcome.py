"""The outcome of a run as data: for `-o json`, and for report.json, which the run's page reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from jobrelay.executors.base import JobReader
from jobrelay.hints import Hint, of_run
from jobrelay.kube.ends import closing_of
from jobrelay.kube.labels import LABEL_COMPONENT
from jobrelay.kube.objects import Job, Object
from jobrelay.kube.read import last_pod, main_container
from jobrelay.runs.report import RunReport, StageReport
from jobrelay.runs.sizing import Size, suggest
from jobrelay.runs.timeline import timeline
from jobrelay.verdicts import JobView, Verdict, explained, judge
from jobrelay_runner.volume.record import Closing


def outcome(report: RunReport, complete: Callable[[Hint], str]) -> Object:
    """The outcome of a run that this launcher followed. complete: makes a hint ready to paste."""
    return {
        "run": report.run,
        "place": report.place,
        "folder": str(report.folder) if report.fetched else None,
        "exit_code": int(report.exit_code),
        "incomplete": report.incomplete.what if report.incomplete else None,
        "stages": [
            {
                "stage": stage.stage,
                "how": stage.how,
                "seconds": stage.seconds,
                "pods": stage.pods,
                **_log(stage, report.has_log(stage)),
                "skipped": bool(stage.closing and stage.closing.skipped),
                "notes": list(stage.notes),
                "verdict": _verdict(stage.verdict, lambda hint: complete(of_run(hint, report.run))),
                "timeline": stage.timeline,
                **_metrics_and_cost(stage.closing),
                "resources": stage.resources or {},
                "suggestion": asdict(suggestion(stage)) if stage.resources is not None else {},
            }
            for stage in report.stages
        ],
    }


def outcome_of_jobs(executor: JobReader, run: str) -> Object:
    """The outcome of a run from the Jobs that still exist; without Jobs no stages. Raises ApiLost."""
    return {
        "run": run,
        "place": executor.place(),
        "stages": [_of_job(job, pods, executor.limits_resources) for job, pods in executor.jobs(run)],
    }


def suggestion(stage: StageReport) -> Size:
    """The resources to request for a stage next time; empty where requests have no effect."""
    if stage.resources is None:
        return Size()
    return suggest(stage.resources, stage.closing, stage.verdict.reason == "OOMKilled")


def _of_job(job: Job, pods: Any, limits_resources: bool) -> Object:
    view = JobView(job, pods)
    judged, pod = judge(view), last_pod(pods)
    closing = closing_of(pod) if pod else None
    resources = main_container(job).get("resources", {}) if limits_resources else {}
    if isinstance(judged, Verdict):
        judged = explained(judged, job, "", is_local=not limits_resources)
        verdict = _verdict(judged, str)  # plain hints: this command did not start the run
        size = suggest(resources, closing, judged.reason == "OOMKilled")
    else:
        verdict = {"exit_code": None, "outcome": judged.phase, "reason": judged.detail, "pod": judged.pod}
        size = Size()
    return {
        "stage": job["metadata"]["labels"][LABEL_COMPONENT],
        "seconds": closing.cost.wall_seconds if closing else None,
        "pods": len(pods),
        "verdict": verdict,
        "timeline": timeline(view, pod, {}),
        "skipped": bool(closing and closing.skipped),
        **_metrics_and_cost(closing),
        "resources": resources,
        "suggestion": asdict(size) if limits_resources else {},
    }


def _verdict(verdict: Verdict, complete: Callable[[Hint], str]) -> Object:
    return {**asdict(verdict), "hint": complete(verdict.hint)}


def _log(stage: StageReport, proven: bool) -> Object:
    """Whether the stage's log here is complete, and its source. proven: the fetched copy proves it."""
    if stage.log_complete is not True and proven:
        return {"log_complete": True, "log_from": "volume"}
    return {"log_complete": stage.log_complete, "log_from": "pod" if stage.log_complete else None}


def _metrics_and_cost(closing: Closing | None) -> Object:
    return {"metrics": closing.metrics if closing else {}, "cost": closing.cost.to_dict() if closing else {}}
