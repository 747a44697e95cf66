"""One stage, from the launcher's outcome and the stage's own record."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from jobrelay.figures import accuracy, duration, memory, memory_quantity
from jobrelay.report.files import Ended, StageOutcome
from jobrelay.runs.sizing import Size, requests_against_use
from jobrelay.runs.timeline import Timeline
from jobrelay_runner.stages import Stage
from jobrelay_runner.volume.record import Cost, FileDigest, Record, differing

#: Longest text shown from a record, where it may have any length.
_LONGEST: Final = 300

Tone = Literal["good", "bad", "open"]


@dataclass(frozen=True)
class StagePart:
    """The content of one stage on the page. Unknown texts are empty."""

    stage: Stage
    outcome: str
    tone: Tone
    reason: str
    message: str
    hint: str
    pod: str
    seconds: str
    result: str
    peak: str
    log: str
    sizes: tuple[str, str, str] | None  # CPU, memory: used of requested; suggestion for next time
    means: str  # device, precision
    versions: str
    begun: str


@dataclass(frozen=True)
class Said:
    """What a stage reported about itself (jobrelay.figures.Said)."""

    metrics: dict[str, float]
    cost: Cost


def stage_part(folder: Path, stage: Stage, told: StageOutcome | None, record: Record | None) -> StagePart:
    """The content of one stage of the run in `folder`. told: the launcher's outcome. record: the stage's."""
    ended = told.verdict if told else _ended(record)
    said = _said(told, record)
    limit = str(told.resources.limits.get("memory", "")) if told else ""
    seconds = said.cost.wall_seconds if said else None
    if told and told.seconds is not None and not (told.skipped and record):
        seconds = told.seconds
    versions = record.versions.items() if record else ()
    tone: Tone = "open" if ended.exit_code is None else "good" if ended.exit_code == 0 else "bad"
    return StagePart(
        stage=stage,
        outcome=ended.outcome,
        tone=tone,
        reason="" if ended.reason == "Error" and ended.message else ended.reason,
        message=ended.message,
        hint=ended.hint,
        pod=ended.pod or (record.pod if record else ""),
        seconds=duration(seconds) if seconds is not None else "",
        result=accuracy(said) if tone == "good" else "",
        peak=memory(said, limit),
        log=_log_state(told, folder, record),
        sizes=_sizes(stage, told, said) if told else None,
        means=", ".join(record.means.values())[:_LONGEST] if record else "",
        versions=", ".join(f"{name} {version}" for name, version in versions)[:_LONGEST],
        begun=record.started[:_LONGEST] if record else "",
    )


def timeline_of(told: StageOutcome | None, record: Record | None) -> Timeline:
    """The timeline of the outcome, else the moments in the stage's record."""
    if told and told.timeline and not (told.skipped and record):
        return told.timeline
    if record is None:
        return {}
    own = {"created": record.started, **record.moments}
    return {**own, "recorded": record.finished} if record.finished else own


def compared(folder: Path, name: str, digest: FileDigest) -> Literal["as recorded", "differs", "not here"]:
    """Compare a file of the run in `folder` with its stage's record."""
    if not os.path.lexists(folder / name):  # Path.exists raises for an invalid file name
        return "not here"
    return "differs" if differing(folder, {name: digest}) else "as recorded"


def _log_state(told: StageOutcome | None, folder: Path, record: Record | None) -> str:
    """The source of the log here, if it is complete."""
    complete = told.log_complete if told else None
    proven = record and record.log and compared(folder, record.log.file, record.log) == "as recorded"
    if proven and told and (complete is False or told.log_from == "volume"):
        return "from the volume"
    if proven:
        return "complete"
    return {True: "complete", False: "incomplete", None: ""}[complete]


def _ended(record: Record | None) -> Ended:
    """How the stage ended, from its record alone, without what Kubernetes knows."""
    if record is None or record.status == "running":
        return Ended(outcome="running, or was killed", pod=record.pod if record else None)
    code = record.exit_code if record.exit_code is not None else int(record.status == "failed")
    return Ended(exit_code=code, outcome=record.status, message=record.error or "", pod=record.pod)


def _said(told: StageOutcome | None, record: Record | None) -> Said | None:
    """The stage's last report: from its Pod, else from its record; from the record if its Pod did no work."""
    if told and told.skipped and record:
        told = None
    cost = told.cost if told and told.cost else record.cost if record else None
    metrics = told.metrics if told and told.metrics else record.metrics if record else {}
    usable = cost and math.isfinite(cost.wall_seconds) and math.isfinite(cost.cpu_seconds)
    return Said(metrics, cost) if cost and usable else None


def _sizes(stage: Stage, told: StageOutcome, said: Said | None) -> tuple[str, str, str] | None:
    suggested = Size(told.suggestion.get("cpu"), told.suggestion.get("memory"))
    if (said is None and not suggested) or not told.suggestion:  # no suggestion: processes on this machine
        return None
    resources = told.resources.model_dump()
    limit = told.resources.limits.get("memory", "its limit")
    more = f"more than {memory_quantity(str(limit))}"
    cpu, peak = requests_against_use(resources, said.cost) if said else ("", more)
    try:
        wanted = suggested.beyond(resources).settings(stage)
    except ValueError:  # invalid quantities
        wanted = ""
    return cpu, peak, wanted or "the same"
