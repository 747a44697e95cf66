"""One stage: what its launcher and its record tell of it, together."""

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

#: Of a text in a record, which may be of any length.
_LONGEST: Final = 300

Tone = Literal["good", "bad", "open"]


@dataclass(frozen=True)
class StagePart:
    """One stage. Texts are empty where nothing is known."""

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
    sizes: tuple[str, str, str] | None  # CPU, memory: used of requested; what to ask for next time
    means: str  # device, precision
    versions: str
    begun: str


@dataclass(frozen=True)
class Said:
    """What a stage has said of itself (jobrelay.figures.Said)."""

    metrics: dict[str, float]
    cost: Cost


def stage_part(folder: Path, stage: Stage, told: StageOutcome | None, record: Record | None) -> StagePart:
    """Of a stage of the run in `folder`. told: by who has followed it. record: by the stage itself."""
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
    """As it was told; else the moments that the stage has noted itself."""
    if told and told.timeline and not (told.skipped and record):
        return told.timeline
    if record is None:
        return {}
    own = {"created": record.started, **record.moments}
    return {**own, "recorded": record.finished} if record.finished else own


def compared(folder: Path, name: str, digest: FileDigest) -> Literal["as recorded", "differs", "not here"]:
    """A file of the run in `folder` with what its stage's record says of it."""
    if not os.path.lexists(folder / name):  # Path.exists raises for a name that no file can have
        return "not here"
    return "differs" if differing(folder, {name: digest}) else "as recorded"


def _log_state(told: StageOutcome | None, folder: Path, record: Record | None) -> str:
    """Where the log here has come from, if it is whole."""
    complete = told.log_complete if told else None
    proven = record and record.log and compared(folder, record.log.file, record.log) == "as recorded"
    if proven and told and (complete is False or told.log_from == "volume"):
        return "from the volume"
    if proven:
        return "complete"
    return {True: "complete", False: "incomplete", None: ""}[complete]


def _ended(record: Record | None) -> Ended:
    """By its record alone: how it went, not what Kubernetes said to it."""
    if record is None or record.status == "running":
        return Ended(outcome="running, or was killed", pod=record.pod if record else None)
    code = record.exit_code if record.exit_code is not None else int(record.status == "failed")
    return Ended(exit_code=code, outcome=record.status, message=record.error or "", pod=record.pod)


def _said(told: StageOutcome | None, record: Record | None) -> Said | None:
    """What the stage has said last: through its Pod, else in its record. One that only looked: the latter."""
    if told and told.skipped and record:
        told = None
    cost = told.cost if told and told.cost else record.cost if record else None
    metrics = told.metrics if told and told.metrics else record.metrics if record else {}
    usable = cost and math.isfinite(cost.wall_seconds) and math.isfinite(cost.cpu_seconds)
    return Said(metrics, cost) if cost and usable else None


def _sizes(stage: Stage, told: StageOutcome, said: Said | None) -> tuple[str, str, str] | None:
    suggested = Size(told.suggestion.get("cpu"), told.suggestion.get("memory"))
    if (said is None and not suggested) or not told.suggestion:  # the latter: of processes on this machine
        return None
    resources = told.resources.model_dump()
    limit = told.resources.limits.get("memory", "its limit")
    more = f"more than {memory_quantity(str(limit))}"
    cpu, peak = requests_against_use(resources, said.cost) if said else ("", more)
    try:
        wanted = suggested.beyond(resources).settings(stage)
    except ValueError:  # quantities that are none
        wanted = ""
    return cpu, peak, wanted or "the same"
