"""What a sweep needs of the pipeline that it runs: built_in, or any other (programs)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from jobrelay.manifests import PipelineConfig
from jobrelay.runs.target import Target
from jobrelay.sweep.design import Axis, Trial
from jobrelay.sweep.running import Condition
from jobrelay.sweep.table import Row
from jobrelay_runner.stages import Stage


@dataclass(frozen=True)
class Shown:
    """A figure in the table that is printed at the end. format: as in `"{:.1f} s"`."""

    heading: str
    column: str
    format: str


@dataclass(frozen=True)
class Objective:
    """The figure that the best trial is chosen by, and the time that it is compared with.

    column, seconds: in sweep.csv; column is empty while no trial has a figure to choose by. larger: whether a
    larger figure is better. name: of the figure in observations and file names. title, time_title: of the
    plots. digits: format of the figure in observations.
    """

    column: str
    larger: bool
    name: str
    title: str
    seconds: str
    time_title: str
    digits: str

    def of(self, row: Row) -> float:
        return row.figures[self.column]

    def shown(self, value: float) -> str:
        return format(value, self.digits)

    def gain(self, value: float, other: float) -> float:
        """How much better `value` is than `other`; negative if it is worse."""
        return value - other if self.larger else other - value

    def rank(self, row: Row) -> tuple[float, float]:
        """Larger for the better trial; of two equal ones the quicker is better."""
        return self.gain(self.of(row), 0.0), -row.figures[self.seconds]

    def known(self, rows: Sequence[Row]) -> list[Row]:
        """The trials that succeeded and have the figure."""
        return [
            row
            for row in rows
            if row.status == "succeeded" and math.isfinite(row.figures.get(self.column, math.nan))
        ]


class SweptPipeline(Protocol):
    """What the trials of a sweep run, which of its keys may vary, and what its results are."""

    @property
    def target(self) -> Target:
        """Where the trials run, and their manifests."""

    @property
    def stages(self) -> Sequence[Stage]:
        """The stages of a trial, in order."""

    @property
    def first_seed(self) -> int | None:
        """The seed of the first trial of a point; None if the pipeline has no seed."""

    def check_axes(self, axes: Sequence[Axis]) -> None:
        """Raise BadInput for keys that cannot vary."""

    def value(self, axis: Axis) -> Any:
        """Return the configured value of an axis' key. Raises BadInput."""

    def shared(self, axes: Sequence[Axis]) -> dict[str, Any]:
        """Return, as a JSON tree, what decides the results of all trials alike."""

    def naming(self) -> Any:
        """Return, as a JSON tree, what names a sweep besides its trials."""

    def config(self, trial: Trial) -> PipelineConfig:
        """Return the configuration of one trial. Raises BadInput for an invalid setting."""

    def check(self, trials: Sequence[Trial]) -> None:
        """Raise BadInput if the best of these trials could not be chosen."""

    def needs(self, trial: Trial) -> list[str]:
        """Return what a trial expects on the volume and nothing puts there: data/NAME, or a file in it."""

    def why_not_packed(self) -> str:
        """Return why trials cannot share a Job; "" if they can."""

    def pack(self, trials: Mapping[str, Trial]) -> PipelineConfig:
        """Return the configuration of a Job for several trials, by their run ids."""

    def condition(self, text: str) -> Condition:
        """Parse the condition of --stop-when. Raises BadInput."""

    def row(self, folder: Path, run: str, trial: Trial, cause: str = "") -> Row:
        """Return the row of a fetched run. cause: why it failed, if known better than from its records."""

    def objective(self, rows: Sequence[Row]) -> Objective:
        """Return what the best trial is chosen by. Raises BadInput if trials succeeded without the figure."""

    def chosen(self, objective: Objective) -> dict[str, Any]:
        """Return the part of sweep.json that says what the best trial is chosen by."""

    def announced(self, objective: Objective) -> str:
        """Return the line for the log that says what the best trial is chosen by; "" if that is known."""

    def columns(self, rows: Sequence[Row]) -> Mapping[str, str]:
        """Return the figures of sweep.csv in order, with their formats."""

    def shown(self, rows: Sequence[Row]) -> Sequence[Shown]:
        """Return the figures of the printed table."""

    def best(self, row: Row, objective: Objective) -> str:
        """Return the line about the best trial."""

    def notes(self, rows: Sequence[Row]) -> list[str]:
        """Return lines about what only this pipeline measures. rows: of succeeded trials."""
