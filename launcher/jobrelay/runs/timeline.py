"""Times of a stage's events: from the API to the second, from stage and launcher to the millisecond."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from jobrelay.kube.ends import closing_of
from jobrelay.kube.objects import Pod, RunningState, TerminatedState
from jobrelay.kube.read import container_state, finished_condition, latest_event, pod_condition
from jobrelay.verdicts import JobView
from jobrelay_runner.stages import Stage

#: Name of a moment (LABELS) → RFC 3339 in UTC; unknown moments are missing.
Timeline = dict[str, str]

#: In order of time, unless the stage started early.
LABELS: Final = {
    "created": "Job created",
    "pod_created": "Pod created",
    "scheduled": "scheduled",
    "image_ready": "image on the node",
    "started": "container started",
    "begun": "python is up",
    "first_line": "first line here",
    "imported": "PyTorch imported",
    "working": "work starts",
    "first_batch": "first batch",
    "recorded": "record written",
    "ended": "container ended",
    "finished": "Job has its condition",
    "seen": "and that was seen here",
}


def now() -> str:
    """The time of this machine, in the format of timelines."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def timeline(view: JobView, pod: Pod | None, here: Mapping[str, str | None]) -> Timeline:
    """The timeline of a Job and its deciding Pod. here: moments that this launcher noted."""
    job, pod = view.job or {}, pod or {}
    state = container_state(pod) if pod else {}
    terminated: TerminatedState = state.get("terminated") or {}
    running: RunningState = state.get("running") or {}
    closing = closing_of(pod) if pod else None
    pulled = latest_event(view.events, "Pulled", pod["metadata"]["name"]) if pod else None
    known: dict[str, str | None] = {
        "created": job.get("metadata", {}).get("creationTimestamp"),
        "pod_created": pod.get("metadata", {}).get("creationTimestamp"),
        "scheduled": (pod_condition(pod, "PodScheduled") or {}).get("lastTransitionTime"),
        "image_ready": (pulled or {}).get("lastTimestamp"),
        "started": (terminated or running).get("startedAt"),
        **(closing.moments if closing else {}),
        "ended": terminated.get("finishedAt"),
        "finished": (finished_condition(job) or {}).get("lastTransitionTime"),
        **here,
    }
    return {name: when for name in LABELS if (when := known.get(name))}


def rows(timelines: Mapping[Stage, Timeline]) -> list[list[str]]:
    """One row per moment, one column per stage: seconds since the stage's Job was created."""
    names = [name for name in LABELS if any(name in known for known in timelines.values())]
    return [
        [LABELS[name], *(_offset(known, name) for known in timelines.values())]
        for name in names
        if name != "created"
    ]


def seconds_between(known: Timeline, start: str, end: str) -> float | None:
    """Seconds between two moments, given by name; None if one is unknown."""
    if start not in known or end not in known:
        return None
    return (_time(known[end]) - _time(known[start])).total_seconds()


def _offset(known: Timeline, name: str) -> str:
    seconds = seconds_between(known, "created", name)
    if seconds is None:
        return ""
    return f"{seconds:.2f}" if "." in known[name] else f"{seconds:.0f}"


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
