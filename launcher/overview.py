"""What is known of runs: from their Jobs, and from the records on the volume where Jobs are gone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jobs.contract.config import STAGES, Stage
from jobs.contract.record import Closing
from launcher.errors import BadInput, Exit
from launcher.executors.base import Executor
from launcher.hints import Command
from launcher.manifests import LABEL_COMPONENT, LABEL_RUN, waits_for
from launcher.timeline import Timeline, timeline
from launcher.verdicts import JobView, Verdict, Waiting, closing, judge, last_pod
from launcher.wording import accuracy, in_one_line, mebibytes

Object = dict[str, Any]


@dataclass(frozen=True)
class StageState:
    """One stage of one run, as it stands."""

    run: str
    stage: Stage
    state: str  # succeeded, failed, out of time …, or a phase: running, starting …
    reason: str
    created: str
    seconds: float | None
    result: str
    peak: str
    pod: str
    timeline: Timeline

    def row(self) -> list[str]:
        seconds = f"{self.seconds:.1f}" if self.seconds is not None else ""
        return [self.run, self.stage, self.state, self.reason, seconds, self.result, self.peak, self.created]


COLUMNS = ("run", "stage", "state", "reason", "seconds", "result", "peak memory", "created")


def stages_of(executor: Executor, run: str | None) -> list[StageState]:
    """The stages of a run, or of all, whose Jobs are there; oldest first."""
    jobs = executor.jobs(run)
    states = [_from_job(job, pods) for job, pods in jobs]
    unfinished = {(state.run, state.stage) for state in states if state.state != "succeeded"}
    for number, (job, _) in enumerate(jobs):
        state, before = states[number], waits_for(job)
        if state.state == "running" and (state.run, before) in unfinished:
            states[number] = replace(state, state="waiting", reason=f"started early, begins after {before}")
    return states


def recorded_stages(executor: Executor, run: str | None) -> list[StageState]:
    """The same, from the records on the volume."""
    with executor.volume(run) as volume:
        runs = [known for known in volume.runs() if run in (None, known["run"])]
    return [
        _from_record(known["run"], stage, known["records"][stage])
        for known in runs
        for stage in STAGES
        if stage in known["records"]
    ]


def status(executor: Executor, run: str | None) -> list[StageState]:
    """The stages of `run` (None: the newest one), wherever something is known of them.

    Raises BadInput if nothing is.
    """
    if run is None:
        run = newest_run(executor)
    states = {state.stage: state for state in stages_of(executor, run)}
    if not states:
        states = {state.stage: state for state in recorded_stages(executor, run)}
    if not states:
        raise BadInput(f"nothing is known of run {run} on {executor.place()}", Command("list"))
    return [states[stage] for stage in STAGES if stage in states]


def newest_run(executor: Executor) -> str:
    """The run whose Job was created last. Raises BadInput if there is none."""
    jobs = executor.jobs()
    if not jobs:
        raise BadInput(f"there is no run on {executor.place()}", Command("run-all"))
    return str(jobs[-1][0]["metadata"]["labels"][LABEL_RUN])


def run_rows(states: Iterable[StageState]) -> list[list[str]]:
    """One row a run: its id, each stage's state, its test result, when it was created."""
    runs: dict[str, dict[str, StageState]] = {}
    for state in states:
        runs.setdefault(state.run, {})[state.stage] = state
    rows = []
    for run, known in runs.items():
        result = known["eval"].result if "eval" in known else ""
        cells = [known[stage].state if stage in known else "-" for stage in STAGES]
        rows.append([run, *cells, result, min(state.created for state in known.values())])
    return rows


RUN_COLUMNS = ("run", *STAGES, "result", "created")


def _from_job(job: Object, pods: Sequence[Object]) -> StageState:
    labels = job["metadata"]["labels"]
    judged = judge(JobView(job, pods))
    pod = last_pod(pods)
    said = closing(pod) if pod else None
    ended = isinstance(judged, Verdict)
    return StageState(
        run=labels[LABEL_RUN],
        stage=labels[LABEL_COMPONENT],
        state=judged.outcome if isinstance(judged, Verdict) else judged.phase,
        reason=_reason(judged),
        created=_short(job["metadata"]["creationTimestamp"]),
        seconds=said.cost.wall_seconds if said else None,
        result=accuracy(said) if ended else "",
        peak=mebibytes(said.cost.peak_memory_bytes) if said else "",
        pod=pod["metadata"]["name"] if pod else "",
        timeline=timeline(JobView(job, pods), pod, {}),
    )


def _reason(judged: Verdict | Waiting) -> str:
    if isinstance(judged, Waiting):
        return judged.detail
    return judged.reason if judged.exit_code == Exit.SUCCEEDED else in_one_line(judged.cause)


def _from_record(run: str, stage: Stage, record: Object) -> StageState:
    said = None
    if record.get("cost") and record.get("log"):
        shared = {key: record[key] for key in ("stage", "exit_code", "metrics", "log", "cost")}
        said = Closing.model_validate(shared)
    return StageState(
        run=run,
        stage=stage,
        state=record["status"],
        reason=record.get("error") or "from its record",
        created=_short(record.get("started", "")),
        seconds=said.cost.wall_seconds if said else None,
        result=accuracy(said),
        peak=mebibytes(said.cost.peak_memory_bytes) if said else "",
        pod=record.get("pod", ""),
        timeline=record.get("moments") or {},
    )


def _short(timestamp: str) -> str:
    """2026-11-21T14:22:33.123Z → 2026-11-21 14:22:33"""
    return timestamp[:19].replace("T", " ")
