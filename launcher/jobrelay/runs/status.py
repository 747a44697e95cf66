"""The state of runs: from their Jobs, or from the records on the volume if the Jobs are gone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from jobrelay.errors import BadInput, Exit, JobRelayError, UnknownRun
from jobrelay.executors.base import JobReader
from jobrelay.figures import accuracy, in_one_line, memory
from jobrelay.hints import Command
from jobrelay.kube.ends import closing_of
from jobrelay.kube.labels import LABEL_COMPONENT, LABEL_RUN
from jobrelay.kube.objects import Job, Object, Pod
from jobrelay.kube.read import last_pod, main_container, pipeline_of
from jobrelay.manifests import waits_for
from jobrelay.runs.timeline import Timeline, timeline
from jobrelay.verdicts import JobView, Verdict, Waiting, judge
from jobrelay_runner.stages import Stage
from jobrelay_runner.text.outlook import epochs, seconds_left
from jobrelay_runner.volume.record import Closing

#: The launcher searches this many last lines of a log for the line of an epoch.
_LINES: Final = 20
#: Exit code in the record of a stage that SIGTERM stopped after it saved its work.
_STOPPED: Final = 143


@dataclass(frozen=True)
class StageState:
    """The current state of one stage of one run."""

    run: str
    stage: Stage | None  # None: the run left files but no record
    state: str  # succeeded, failed, cancelled, out of time …, or a phase: running, starting …
    reason: str
    created: str  # ISO 8601 with offset; empty if unknown
    seconds: float | None  # of a running stage: until now
    result: str
    peak: str
    pod: str
    timeline: Timeline
    epoch: int | None = None  # of a running training: the last finished one
    epochs: int | None = None
    seconds_left: float | None = None

    def row(self) -> list[str]:
        seconds = f"{self.seconds:.1f}" if self.seconds is not None else ""
        created = local_time(self.created)
        return [
            self.run, self.stage or "-", self.state, self.reason, seconds, self.result, self.peak, created,
        ]  # fmt: skip


COLUMNS = ("run", "stage", "state", "reason", "seconds", "result", "peak memory", "created")


def stages_of(executor: JobReader, run: str | None) -> list[StageState]:
    """The stages of a run, or of all runs, that have Jobs; oldest first."""
    jobs = executor.jobs(run)
    states = [_from_job(job, pods) for job, pods in jobs]
    unfinished = {(state.run, state.stage) for state in states if state.state != "succeeded"}
    for number, (job, _) in enumerate(jobs):
        state, before = states[number], waits_for(job)
        if state.state == "running" and (state.run, before) in unfinished:
            states[number] = replace(state, state="waiting", reason=f"started early, waits for {before}")
    return states


def recorded_stages(executor: JobReader, run: str | None) -> list[StageState]:
    """The stages recorded on the volume, and one entry for each run that has files but no record."""
    with executor.volume(run) as volume:
        runs = [known for known in volume.runs() if run in (None, known["run"])]
    states = []
    for known in runs:
        records = known["records"]
        states += [_from_record(known["run"], stage, records[stage]) for stage in records]
        if not records:
            states.append(_without_record(known["run"], known.get("changed", "")))
    return states


def all_stages(executor: JobReader, run: str | None = None) -> list[StageState]:
    """The stages from their Jobs, or from their records if the Jobs are gone; oldest first."""
    states = stages_of(executor, run)
    there = {(state.run, state.stage) for state in states}
    runs = {state.run for state in states}
    states += [
        state
        for state in recorded_stages(executor, run)
        if (state.run, state.stage) not in there and (state.stage or state.run not in runs)
    ]
    return sorted(states, key=lambda state: state.created)


def status(executor: JobReader, run: str | None) -> list[StageState]:
    """The stages of `run` (None: the newest run), from Jobs and records.

    Reads the logs of running stages for their progress. Raises UnknownRun.
    """
    if run is None:
        run = newest_run(executor)
    states = stages_of(executor, run)
    order: list[Stage | None] = [*pipeline_of(job for job, _ in executor.jobs(run))]
    if not states:
        states = all_stages(executor, run)
    elif len(states) < len(order) and all(state.state == "succeeded" for state in states):
        with contextlib.suppress(JobRelayError):  # a cancelled stage has a record but no Job
            states = all_stages(executor, run)
    if not states:
        raise UnknownRun(run, executor.place())
    found = {state.stage: state for state in states}
    order = [stage for stage in dict.fromkeys([*order, *found]) if stage in found]
    return [_with_progress(executor, found[stage]) for stage in order]


def require_known(executor: JobReader, run: str) -> None:
    """Raise UnknownRun if the run has neither a Job nor a file on the volume."""
    if executor.jobs(run):
        return
    with executor.volume(run) as volume:
        if not volume.exists(f"runs/{run}"):
            raise UnknownRun(run, executor.place())


def newest_run(executor: JobReader) -> str:
    """The run whose Job was created last. Raises BadInput if there is none."""
    jobs = executor.jobs()
    if not jobs:
        raise BadInput(f"there is no run on {executor.place()}", Command("run-all"))
    return str(jobs[-1][0]["metadata"]["labels"][LABEL_RUN])


def run_rows(states: Iterable[StageState]) -> list[list[str]]:
    """One row per run, oldest first: its id, the state of its stages, the last result, when created."""
    runs: dict[str, dict[Stage | None, StageState]] = {}
    for state in states:
        runs.setdefault(state.run, {})[state.stage] = state
    rows = []
    for run, known in runs.items():
        results = [state.result for state in known.values() if state.result]
        cells = [f"{stage or 'files'} {state.state}" for stage, state in known.items()]
        created = min(state.created for state in known.values())
        rows.append((created, [run, ", ".join(cells), (results or [""])[-1], local_time(created)]))
    return [row for _, row in sorted(rows)]


RUN_COLUMNS = ("run", "stages", "result", "created")


def local_time(timestamp: str) -> str:
    """2026-11-21T14:22:33+00:00 → 2026-11-21 15:22:33 CET, in the local time zone."""
    if not timestamp:
        return ""
    return f"{datetime.fromisoformat(timestamp).astimezone():%Y-%m-%d %H:%M:%S %Z}"


def _from_job(job: Job, pods: Sequence[Pod]) -> StageState:
    labels = job["metadata"]["labels"]
    judged = judge(JobView(job, pods))
    pod = last_pod(pods)
    closing = closing_of(pod) if pod else None
    ended = isinstance(judged, Verdict)
    when = timeline(JobView(job, pods), pod, {})
    return StageState(
        run=labels[LABEL_RUN],
        stage=labels[LABEL_COMPONENT],
        state=judged.outcome if isinstance(judged, Verdict) else judged.phase,
        reason=_reason(judged),
        created=_with_offset(job["metadata"]["creationTimestamp"]),
        seconds=closing.cost.wall_seconds if closing else None if ended else _since(when.get("started")),
        result=accuracy(closing) if ended else "",
        peak=memory(closing, ""),
        pod=pod["metadata"]["name"] if pod else "",
        timeline=when,
    )


def _reason(judged: Verdict | Waiting) -> str:
    if isinstance(judged, Waiting):
        return judged.detail
    return judged.reason if judged.exit_code == Exit.SUCCEEDED else in_one_line(judged.cause)


def _from_record(run: str, stage: Stage, record: Object) -> StageState:
    closing = None
    if record.get("cost") and record.get("log"):
        shared = {key: record[key] for key in ("stage", "exit_code", "metrics", "log", "cost")}
        closing = Closing.from_dict(shared)
    state, reason = record["status"], record.get("error") or "from its record"
    if record.get("exit_code") == _STOPPED:
        state = "cancelled"  # if its Job still existed, it would be retried
    elif state == "running":
        state, reason = "stopped", "its Job is gone, and its record has no end"
    return StageState(
        run=run,
        stage=stage,
        state=state,
        reason=reason,
        created=_with_offset(record.get("started", "")),
        seconds=closing.cost.wall_seconds if closing else None,
        result=accuracy(closing),
        peak=memory(closing, ""),
        pod=record.get("pod", ""),
        timeline=record.get("moments") or {},
    )


def _without_record(run: str, changed: str) -> StageState:
    created = _with_offset(changed)
    return StageState(run, None, "no record", "files are on the volume", created, None, "", "", "", {})


def _with_progress(executor: JobReader, state: StageState) -> StageState:
    """The state of a running stage with its progress, read from its log."""
    if state.state != "running" or not state.pod:
        return state
    heard = bytearray()
    for job, pods in executor.jobs(state.run):
        for pod in pods:
            if pod["metadata"]["name"] == state.pod:
                with contextlib.suppress(LookupError, JobRelayError):
                    executor.log_tail(pod, main_container(job)["name"], _LINES, False, heard.extend)
    for line in reversed(bytes(heard).splitlines()):
        if progress := epochs(line):
            left = seconds_left(line)
            text = f"epoch {progress[0]} of {progress[1]}"
            if left is not None:
                text += f", about {left:.0f} s left"
            return replace(state, reason=text, epoch=progress[0], epochs=progress[1], seconds_left=left)
    return state


def _with_offset(timestamp: str) -> str:
    """A timestamp of the API or a record in UTC, so that it sorts as text; empty if it is not a time."""
    try:
        when = datetime.fromisoformat(timestamp)
    except ValueError:
        return ""
    return when.astimezone(UTC).isoformat(timespec="seconds")


def _since(started: str | None) -> float | None:
    if not started:
        return None
    return max((datetime.now(UTC) - datetime.fromisoformat(started)).total_seconds(), 0.0)
