"""Any pipeline in a sweep: its parameters vary, and any of its metrics chooses the best trial."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from jobrelay.errors import BadInput
from jobrelay.flags import SweepFlags
from jobrelay.pipelines.config import PLACEMENT, ProgramConfig
from jobrelay.pipelines.definition import Pipeline
from jobrelay.pipelines.pack import PackConfig, why_not_packed
from jobrelay.pipelines.reading import with_overrides
from jobrelay.runs.target import Target
from jobrelay.sweep.design import Axis, Trial
from jobrelay.sweep.pipeline import Objective, Shown
from jobrelay.sweep.running import Condition
from jobrelay.sweep.table import Row, figures_named
from jobrelay_runner.stages import Stage
from jobrelay_runner.volume.record import Record, RecordError, read_record

#: The parameter that --seeds sets.
SEED: Final = "seed"
#: Words in the name of a metric that is better when it is smaller.
_SMALLER: Final = re.compile(r"loss|error|perplexity", re.IGNORECASE)
#: Figures of every trial: sums over its stages, and the largest memory of one of them.
_COSTS: Final = {"seconds": ".3f", "cpu_seconds": ".3f", "peak_memory_mib": ".1f"}
#: Metrics in the printed table, which has the width of a terminal; sweep.csv has all.
_MOST_SHOWN: Final = 4


@dataclass(frozen=True)
class Programs:
    """See SweptPipeline.

    asked: the metric to choose by; None: the last stage's first. stop_when: the metric of --stop-when.
    """

    target: Target
    base: ProgramConfig
    asked: str | None = None
    minimize: bool | None = None
    stop_when: str | None = None

    @property
    def pipeline(self) -> Pipeline:
        return self.base.pipeline

    @property
    def stages(self) -> Sequence[Stage]:
        return tuple(self.pipeline.stages)

    @property
    def first_seed(self) -> int | None:
        seed = self.pipeline.params.get(SEED)
        return seed if isinstance(seed, int) and not isinstance(seed, bool) else None

    def check_axes(self, axes: Sequence[Axis]) -> None:
        params = self.pipeline.params
        for axis in axes:
            if axis.key not in params:
                near = difflib.get_close_matches(axis.key, params, 1)
                raise BadInput(
                    f"--grid {axis.key}: there is no parameter {axis.key}",
                    f"did you mean {near[0]}?" if near else f"params has {', '.join(params) or 'none'}",
                )
            self._check_used(axis.key)

    def _check_used(self, key: str) -> None:
        """Raise BadInput if no stage uses a parameter: all its trials would be the same."""
        for stage in self.pipeline.stages.values():
            run = [stage.run] if isinstance(stage.run, str) else stage.run or ()
            if any(f"{{{key}}}" in text for text in (*run, *stage.env.values(), stage.metrics or "")):
                return
        raise BadInput(
            f"no stage uses the parameter {key}: its trials would all be the same",
            f"write {{{key}}} in the command of a stage, as in --{key} {{{key}}}",
        )

    def value(self, axis: Axis) -> Any:
        return self.pipeline.params[axis.key]

    def shared(self, axes: Sequence[Axis]) -> dict[str, Any]:
        swept = {axis.key for axis in axes} | {SEED}
        stages = {
            name: stage.model_dump(mode="json", exclude=set(PLACEMENT), exclude_defaults=True)
            for name, stage in self.pipeline.stages.items()
        }
        return {
            "code": self.base.code.digest if self.base.code else None,
            "data": sorted(self.pipeline.data),
            "image": self.pipeline.image,
            "params": {key: value for key, value in self.pipeline.params.items() if key not in swept},
            "stages": stages,
        }

    def naming(self) -> Any:
        return self.shared([])

    def config(self, trial: Trial) -> ProgramConfig:
        return self.base.with_params(trial.values)

    def check(self, trials: Sequence[Trial]) -> None:
        measuring = [name for name, stage in self.pipeline.stages.items() if stage.metrics]
        if not measuring:
            raise BadInput(
                "no stage has metrics, so the best trial cannot be chosen",
                f"set stages.{self.stages[-1]}.metrics to a JSON file that the stage writes",
            )
        for option, name in (("--choose-on", self.asked), ("--stop-when", self.stop_when)):
            stage = (name or "").partition(".")[0]
            if stage in self.pipeline.stages and stage not in measuring:
                raise BadInput(
                    f"{option} {name}: stage {stage} has no metrics",
                    f"set stages.{stage}.metrics; {', '.join(measuring)} has some",
                )
        for trial in trials:
            config = self.config(trial)
            for stage in self.stages:
                config.decides(stage)  # raises BadInput for a parameter that does not exist

    def needs(self, trial: Trial) -> list[str]:
        return []  # the launcher puts its `data` there

    def why_not_packed(self) -> str:
        return why_not_packed(self.pipeline)

    def pack(self, trials: Mapping[str, Trial]) -> PackConfig:
        return PackConfig({run: self.config(trial) for run, trial in trials.items()})

    def condition(self, text: str) -> Condition:
        return Condition.parse(text)

    def row(self, folder: Path, run: str, trial: Trial, cause: str = "") -> Row:
        return row_of(folder, run, trial, self.stages, cause)

    def objective(self, rows: Sequence[Row]) -> Objective:
        done = [row for row in rows if row.status == "succeeded"]
        metrics = [name for name in self.columns(done) if name not in _COSTS]
        if done and self.stop_when:
            _metric("--stop-when", self.stop_when, [*metrics, *_COSTS])
        if done and not metrics:
            raise BadInput(
                f"trial {done[0].run} has no metrics, so the best trial cannot be chosen",
                "its log says why: a stage's `metrics` names a JSON file with numbers that the stage writes",
            )
        column = ""
        if done and self.asked:
            column = _metric("--choose-on", self.asked, metrics)
        elif done:
            last = metrics[-1].partition(".")[0]
            column = next(name for name in metrics if name.partition(".")[0] == last)
        larger = not _SMALLER.search(column) if self.minimize is None else not self.minimize
        return Objective(
            column, larger, name=column, title=column,
            seconds="seconds", time_title="Time of all stages (seconds)", digits=".5g",
        )  # fmt: skip

    def chosen(self, objective: Objective) -> dict[str, Any]:
        return {"choose_on": objective.column or self.asked, "larger": objective.larger}

    def announced(self, objective: Objective) -> str:
        better = "larger" if objective.larger else "smaller"
        column = objective.column
        return f"the best trial is chosen by {column}: {better} is better" if column else ""

    def columns(self, rows: Sequence[Row]) -> Mapping[str, str]:
        found = dict.fromkeys(name for row in rows for name in row.figures if name not in _COSTS)
        order = {stage: place for place, stage in enumerate(self.stages)}
        metrics = sorted(found, key=lambda name: order[name.partition(".")[0]])
        return dict.fromkeys(metrics, ".7g") | _COSTS

    def shown(self, rows: Sequence[Row]) -> Sequence[Shown]:
        chosen = self.objective(rows).column
        metrics = [name for name in self.columns(rows) if name not in _COSTS and name != chosen]
        names = [chosen, *metrics][:_MOST_SHOWN] if chosen else []
        return [*(Shown(name, name, "{:.5g}") for name in names), Shown("time", "seconds", "{:.1f} s")]

    def best(self, row: Row, objective: Objective) -> str:
        how = "largest" if objective.larger else "smallest"
        figure = objective.shown(objective.of(row))
        return f"best by {objective.column} ({how}): {figure} with {row.trial} (run {row.run})"

    def notes(self, rows: Sequence[Row]) -> list[str]:
        return []


def programs(target: Target, pipeline: Pipeline, flags: SweepFlags) -> Programs:
    """The pipeline as the flags ask for it. Raises BadInput."""
    if flags.config_file:
        raise BadInput("--config is for the built-in programs", f"change {pipeline.source}")
    pipeline = with_overrides(pipeline, flags.overrides)
    stop_when = Condition.parse(flags.stop_when).metric if flags.stop_when else None
    target = replace(target, pipeline=pipeline)
    return Programs(target, ProgramConfig(pipeline), flags.choose_on, flags.minimize, stop_when)


def row_of(folder: Path, run: str, trial: Trial, stages: Sequence[Stage], cause: str = "") -> Row:
    """The row of a fetched run of these stages: the metrics of each as STAGE.METRIC, and what all cost."""
    figures: dict[str, float] = {}
    costs = dict.fromkeys(_COSTS, 0.0)
    for stage in stages:
        try:
            record = read_record(folder / f"{stage}.json", root=folder)
        except (RecordError, OSError) as error:
            return Row(run, trial, "failed", str(error), figures)
        if record is None or record.status != "succeeded":
            reason = record.error if record and record.error else f"{stage} left no result"
            return Row(run, trial, "failed", cause or reason, figures)
        figures |= {f"{stage}.{name}": value for name, value in record.metrics.items()}
        _add(costs, record)
    shown = ", ".join(f"{name} {value:.5g}" for name, value in list(figures.items())[:_MOST_SHOWN])
    result = f"{shown or 'no metrics'} in {costs['seconds']:.1f} s"
    return Row(run, trial, "succeeded", "", figures | costs, result)


def _add(costs: dict[str, float], record: Record) -> None:
    if record.cost is None:
        return
    costs["seconds"] += record.cost.wall_seconds
    costs["cpu_seconds"] += record.cost.cpu_seconds
    costs["peak_memory_mib"] = max(costs["peak_memory_mib"], record.cost.peak_memory_bytes / 2**20)


def _metric(option: str, asked: str, metrics: Sequence[str]) -> str:
    """The metric that an option means. Raises BadInput."""
    found = figures_named(asked, metrics)
    if len(found) == 1:
        return found[0]
    if found:
        raise BadInput(f"{option} {asked}: {' and '.join(found)} have that name", f"{option} {found[0]}")
    near = difflib.get_close_matches(asked, [*metrics, *(name.partition(".")[2] for name in metrics)], 1)
    there = f"the metrics are {', '.join(metrics)}"
    raise BadInput(
        f"{option} {asked}: no stage has this metric; {there}",
        f"did you mean {near[0]}?" if near else f"{option} {metrics[0]}",
    )
