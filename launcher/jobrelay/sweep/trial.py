"""One trial: a run of the pipeline in its own folder."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jobrelay import manifests
from jobrelay.api import Relay
from jobrelay.errors import Exit, UnknownRun
from jobrelay.runs import results
from jobrelay.runs.folder import belongs
from jobrelay.runs.report import RunReport
from jobrelay.runs.request import RunRequest
from jobrelay.sweep.design import Trial
from jobrelay.sweep.log import SweepLog
from jobrelay.sweep.pipeline import SweptPipeline
from jobrelay.sweep.table import Row
from jobrelay_runner.stages import Stage
from jobrelay_runner.volume.record import Record
from jobrelay_runner.volume.records import read_records
from jobrelay_train.config.schema import tree_hash


@dataclass(frozen=True)
class Trials:
    """How to run the trials of a sweep. folder: of the sweep; each trial has a subfolder in its runs/."""

    pipeline: SweptPipeline
    request: RunRequest
    folder: Path

    def check(self, trials: Sequence[tuple[Trial, str]]) -> None:
        """Check, without changing anything, that the trials can run here. Raises BadInput."""
        self.pipeline.check([trial for trial, _ in trials])
        target = self.pipeline.target
        plan = manifests.render(
            target.manifests, self.pipeline.config(trials[0][0]), trials[0][1],
            namespace=self.request.namespace, image=self.request.image,
            timeout_seconds=self.request.timeout_seconds,
        )  # fmt: skip
        if target.local:  # on a cluster this would need API calls and a Pod
            executor = target.executor()
            executor.check(plan)
            needs = [name for trial, _ in trials for name in self.pipeline.needs(trial)]
            results.require(executor, list(dict.fromkeys(needs)))

    def finished_row(self, trial: Trial, run: str) -> Row | None:
        """The row of a trial that succeeded here and whose results are in its folder; else None."""
        folder = self._folder_of(run)
        if not folder.is_dir() or not belongs(folder, run, self.pipeline.target.executor().place()):
            return None
        row = self.pipeline.row(folder, run, trial)
        return row if row.status == "succeeded" else None

    def run_pack(self, trials: Sequence[tuple[Trial, str]], log: SweepLog) -> list[Row]:
        """Run trials to their end, in one Job a stage if they are several. Raises what run_stages raises."""
        left = {run: trial for trial, run in trials if not self.finished_row(trial, run)}
        ended = self._packed(left, log) if len(left) > 1 else {}
        # whatever has not come to its end with the others, such as after one that took all the memory
        return [ended.get(run) or self.run(trial, run, log) for trial, run in trials]

    def _packed(self, trials: Mapping[str, Trial], log: SweepLog) -> dict[str, Row]:
        """The rows of those trials that came to an end, by run id."""
        stages, target = self.pipeline.stages, self.pipeline.target
        digest = tree_hash(list(trials))[:6]
        run = f"{self.folder.name}-p{digest}"
        request = replace(
            self.request, run=run, stages=stages, folder=self.folder / "packs" / run, early="off",
            fetch=False, fetched_later=True,
        )  # fmt: skip
        Relay(on=target).carry_out(self.pipeline.pack(trials), request, log.console_of(run))
        rows: dict[str, Row] = {}
        executor = target.executor()
        with executor.volume(run) as volume:
            for name, trial in trials.items():
                folder = self._folder_of(name)
                with contextlib.suppress(UnknownRun):
                    results.fetch_from(volume, executor, name, folder)
                    if _has_ended(folder, stages):
                        rows[name] = self.pipeline.row(folder, name, trial)
        return rows

    def run(self, trial: Trial, run: str, log: SweepLog) -> Row:
        """Run a trial to its end, or only read results that are here. Raises what run_stages raises."""
        if done := self.finished_row(trial, run):
            return done
        folder = self._folder_of(run)
        request = replace(self.request, run=run, stages=self.pipeline.stages, folder=folder)
        relay = Relay(on=self.pipeline.target)
        report = relay.carry_out(self.pipeline.config(trial), request, log.console_of(run))
        return self.pipeline.row(folder, run, trial, _cause(report))

    def _folder_of(self, run: str) -> Path:
        return self.folder / "runs" / run


def _has_ended(folder: Path, stages: Sequence[Stage]) -> bool:
    """Whether the records say that a run succeeded or failed."""
    found = read_records(folder, root=folder)
    states = [record.status if isinstance(record := found.get(stage), Record) else "" for stage in stages]
    return "failed" in states or set(states) == {"succeeded"}


def _cause(report: RunReport) -> str:
    """Why a run did not succeed, in one line without parts that vary between tries; "" if it did."""
    if report.incomplete:
        return report.incomplete.what.partition("\n")[0]
    stage, verdict = report.stages[-1].stage, report.verdict
    if verdict.exit_code == Exit.SUCCEEDED:
        return ""
    return ": ".join(filter(None, (f"{stage} {verdict.outcome}", verdict.cause)))
