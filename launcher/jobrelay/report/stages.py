"""One stage, from the launcher's outcome and the stage's own record."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
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
_COMMANDS: Final = ("python", "jobrelay", "kubectl", "/", "--")
#: Keys of a record's `means` that say how the launcher started a program.
_STARTED: Final = frozenset({"command", "image", "code", "git", "git_dirty"})

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
    hint_is_command: bool  # else it is prose
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
class Measurements:
    """What a stage reported about itself (jobrelay.figures.Measured)."""

    metrics: dict[str, float]
    cost: Cost


def stage_part(folder: Path, stage: Stage, outcome: StageOutcome | None, record: Record | None) -> StagePart:
    """The content of one stage of the run in `folder`. outcome: the launcher's. record: the stage's own."""
    ended = outcome.verdict if outcome else _ended(record)
    measured = _measurements(outcome, record)
    limit = str(outcome.resources.limits.get("memory", "")) if outcome else ""
    seconds = measured.cost.wall_seconds if measured else None
    if outcome and outcome.seconds is not None and not (outcome.skipped and record):
        seconds = outcome.seconds
    versions = record.versions.items() if record else ()
    tone: Tone = "open" if ended.exit_code is None else "good" if ended.exit_code == 0 else "bad"
    return StagePart(
        stage=stage,
        outcome=ended.outcome,
        tone=tone,
        reason="" if ended.reason == "Error" and ended.message else ended.reason,
        message=ended.message,
        hint=ended.hint,
        hint_is_command=ended.hint.startswith(_COMMANDS),
        pod=ended.pod or (record.pod if record else ""),
        seconds=duration(seconds) if seconds is not None else "",
        result=accuracy(measured) if tone == "good" else "",
        peak=memory(measured, limit),
        log=_log_state(outcome, folder, record),
        sizes=_sizes(stage, outcome, measured) if outcome else None,
        means=", ".join(_chosen(record.means))[:_LONGEST] if record else "",
        versions=", ".join(f"{name} {version}" for name, version in versions)[:_LONGEST],
        begun=record.started[:_LONGEST] if record else "",
    )


def _chosen(means: Mapping[str, str]) -> list[str]:
    """What a stage found or chose by itself; how a program was started has its own place on the page."""
    return [value for key, value in means.items() if key not in _STARTED and not key.startswith("params.")]


def timeline_of(outcome: StageOutcome | None, record: Record | None) -> Timeline:
    """The timeline of the outcome, else the moments in the stage's record."""
    if outcome and outcome.timeline and not (outcome.skipped and record):
        return outcome.timeline
    if record is None:
        return {}
    own = {"created": record.started, **record.moments}
    return {**own, "recorded": record.finished} if record.finished else own


def compared(folder: Path, name: str, digest: FileDigest) -> Literal["as recorded", "differs", "not here"]:
    """Compare a file of the run in `folder` with its stage's record."""
    if not os.path.lexists(folder / name):  # Path.exists raises for an invalid file name
        return "not here"
    return "differs" if differing(folder, {name: digest}) else "as recorded"


def _log_state(outcome: StageOutcome | None, folder: Path, record: Record | None) -> str:
    """The source of the log here, if it is complete."""
    complete = outcome.log_complete if outcome else None
    proven = record and record.log and compared(folder, record.log.file, record.log) == "as recorded"
    if proven and outcome and (complete is False or outcome.log_from == "volume"):
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


def _measurements(outcome: StageOutcome | None, record: Record | None) -> Measurements | None:
    """The stage's last report: from its Pod, else from its record; from the record if its Pod did no work."""
    if outcome and outcome.skipped and record:
        outcome = None
    cost = outcome.cost if outcome and outcome.cost else record.cost if record else None
    metrics = outcome.metrics if outcome and outcome.metrics else record.metrics if record else {}
    usable = cost and math.isfinite(cost.wall_seconds) and math.isfinite(cost.cpu_seconds)
    return Measurements(metrics, cost) if cost and usable else None


def _sizes(stage: Stage, outcome: StageOutcome, measured: Measurements | None) -> tuple[str, str, str] | None:
    suggested = Size(outcome.suggestion.get("cpu"), outcome.suggestion.get("memory"))
    if not outcome.suggestion or (measured is None and not suggested):  # processes on this machine get none
        return None
    resources = outcome.resources.model_dump()
    limit = outcome.resources.limits.get("memory", "its limit")
    more = f"more than {memory_quantity(str(limit))}"
    cpu, peak = requests_against_use(resources, measured.cost) if measured else ("", more)
    try:
        wanted = suggested.beyond(resources).settings(stage)
    except ValueError:  # invalid quantities
        wanted = ""
    return cpu, peak, wanted or "the same"
