"""How a stage was started and what it left, from its record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from jobrelay.figures import COUNTERS
from jobrelay.report.programs.written import is_program
from jobrelay_runner.stages import Stage
from jobrelay_runner.text.counting import counted
from jobrelay_runner.volume.record import Record

_LONGEST: Final = 1000
_MOST_PARAMETERS: Final = 40
_LONGEST_NAME: Final = 80
_MOST_METRICS: Final = 40
#: Of a stage in the head of the page.
_MOST_FIGURES: Final = 4


@dataclass(frozen=True)
class Facts:
    """One stage. Unknown texts are empty. left: the files that it wrote, in a few words."""

    stage: Stage
    command: str
    image: str
    left: str
    wrote_nothing: bool


@dataclass(frozen=True)
class Source:
    """What all stages of the run share, unless one ran again with other code: then what the last one had."""

    parameters: tuple[tuple[str, str], ...]
    code: str
    commit: str
    is_dirty: bool
    differs: bool  # not all stages ran with it


@dataclass(frozen=True)
class Metrics:
    """A row per metric: its name, and for each of `stages` its value, or nothing."""

    stages: tuple[Stage, ...]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]

    @property
    def figures(self) -> tuple[tuple[str, float, Stage], ...]:
        """The first metrics of the last stage that has any."""
        if not self.stages:
            return ()
        found = [(name, values[-1], self.stages[-1]) for name, values in self.rows if name not in COUNTERS]
        return tuple((name, value, stage) for name, value, stage in found if value is not None)[
            :_MOST_FIGURES
        ]


def facts_of(stage: Stage, record: Record, *, is_local: bool) -> Facts:
    """What to show of one stage. is_local: it ran as a process of a machine, without its image."""
    means = record.means
    done = record.status == "succeeded"
    return Facts(
        stage=stage,
        command=means.get("command", "")[:_LONGEST],
        image="" if is_local else means.get("image", "")[:_LONGEST],
        left=_left(record),
        wrote_nothing=done and is_program(record) and not record.outputs and not record.removed,
    )


def source_of(records: Mapping[Stage, Record]) -> Source:
    """Parameters, code and commit of a run. records: at least one, in the order of the stages."""
    shared = [_shared(record.means) for record in records.values()]
    means = shared[-1]
    parameters = tuple(
        (key.removeprefix("params.")[:_LONGEST_NAME], value[:_LONGEST])
        for key, value in means.items()
        if key.startswith("params.")
    )
    return Source(
        parameters=parameters[:_MOST_PARAMETERS],
        code=means.get("code", "")[:_LONGEST_NAME],
        commit=means.get("git", "")[:_LONGEST_NAME],
        is_dirty=means.get("git_dirty") == "true",
        differs=any(each != means for each in shared),
    )


def metrics_of(records: Mapping[Stage, Record]) -> Metrics:
    """The metrics of all stages that have some."""
    measured = {stage: record.metrics for stage, record in records.items() if record.metrics}
    names = list(dict.fromkeys(name for metrics in measured.values() for name in metrics))[:_MOST_METRICS]
    rows = tuple(
        (name[:_LONGEST_NAME], tuple(metrics.get(name) for metrics in measured.values())) for name in names
    )
    return Metrics(tuple(measured), rows)


def _shared(means: Mapping[str, str]) -> dict[str, str]:
    return {
        key: value
        for key, value in means.items()
        if key.startswith("params.") or key in ("code", "git", "git_dirty")
    }


def _left(record: Record) -> str:
    changed = len(set(record.changed) & record.outputs.keys())
    new = len(record.outputs) - changed
    parts = [
        counted(new, "new file") if new else "",
        f"{counted(changed, 'file')} changed" if changed else "",
        f"{counted(len(record.removed), 'file')} removed" if record.removed else "",
    ]
    return ", ".join(filter(None, parts)) or "nothing"
