"""One trial: a run of train and eval, in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jobs.contract.config import Stage
from launcher import pipeline
from launcher.console import Console
from launcher.errors import Exit
from launcher.pipeline import Options, RunReport
from launcher.sweep.design import Trial
from launcher.sweep.table import Row, row_of
from launcher.target import Target

STAGES: tuple[Stage, ...] = ("train", "eval")


@dataclass(frozen=True)
class Trials:
    """How all trials of a sweep are run. folder: the sweep's own, with a folder for each run in runs/."""

    target: Target
    config_file: Path | None
    overrides: Sequence[str]
    options: Options
    folder: Path
    why: Callable[[RunReport], str]  # a run that did not succeed

    def check(self, trials: Sequence[Trial]) -> None:
        """Raise BadInput for a setting that cannot be, before anything is touched."""
        for trial in trials:
            self.target.config(self.config_file, [*self.overrides, *trial.overrides])

    def run(self, trial: Trial, run: str) -> Row:
        """To its end. One whose results are here already is only read. Raises as pipeline.run_stages."""
        folder = self.folder / "runs" / run
        done = row_of(folder, run, trial)
        if done.status == "succeeded":
            return done
        config = self.target.config(self.config_file, [*self.overrides, *trial.overrides])
        needs = config.on_the_volume(STAGES)
        options = replace(self.options, run=run, stages=STAGES, folder=folder, needs=needs)
        executor = self.target.executor()
        plan = pipeline.plan_run(executor, self.target.manifests, config, options)
        report = pipeline.run_stages(executor, plan, options, Console(quiet=True))
        cause = self.why(report) if report.exit_code != Exit.SUCCEEDED else ""
        return row_of(folder, run, trial, cause)
