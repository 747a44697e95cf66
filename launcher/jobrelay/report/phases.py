"""Where the time of a run went: the phases between the moments of its timelines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from jobrelay.runs.timeline import Timeline

#: Phase → the moments (jobrelay.runs.timeline) that end it; the first known one counts.
PHASES: Final = {
    "queued": ("pod_created",),
    "scheduling": ("scheduled",),
    "pulling the image": ("image_ready",),
    "starting": ("begun", "started"),
    "importing PyTorch": ("imported",),
    "waiting for its turn": ("working",),
    "running": ("recorded", "ended"),
    "ending": ("seen", "finished", "ended"),
}

#: A shorter phase is 0.00 in the table and has no bar.
_LEAST_SECONDS: Final = 0.005


@dataclass(frozen=True)
class Segment:
    """One phase of one stage; `begin` and `end` are in seconds since the run's first moment."""

    phase: str
    begin: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.begin


def segments(timelines: Mapping[str, Timeline]) -> dict[str, tuple[Segment, ...]]:
    """The phases of each stage. A phase with an unknown end is merged into the next one.

    The API has whole seconds and a stage milliseconds, so a phase may seem to end before it starts: such a
    phase is dropped.
    """
    moments = {stage: _seconds(known) for stage, known in timelines.items()}
    firsts = [min(known.values()) for known in moments.values() if known]
    return {stage: tuple(_of_stage(known, min(firsts))) for stage, known in moments.items() if known}


def _of_stage(moments: Mapping[str, float], zero: float) -> list[Segment]:
    found: list[Segment] = []
    at = moments.get("created", min(moments.values()))
    ends = {
        phase: next((moments[name] for name in names if name in moments), None)
        for phase, names in PHASES.items()
    }
    if ends["running"] is None and ends["ending"] is not None:  # the stage ended before it ran
        reached = [phase for phase, end in ends.items() if end is not None and phase != "ending"]
        pending = list(PHASES)[list(PHASES).index(reached[-1]) + 1 if reached else 0]
        ends[pending], ends["ending"] = ends["ending"], None
    for phase, end in ends.items():
        if end is not None and end > at:
            if end - at >= _LEAST_SECONDS:
                found.append(Segment(phase, at - zero, end - zero))
            at = end
    return found


def _seconds(timeline: Timeline) -> dict[str, float]:
    found = {}
    for name, text in timeline.items():
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            continue
        if moment.tzinfo:
            found[name] = moment.timestamp()
    return found
