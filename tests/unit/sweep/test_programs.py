"""A sweep of any pipeline: what may vary, and what the best trial is chosen by."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobrelay.console import Console
from jobrelay.errors import BadInput
from jobrelay.flags import SweepFlags
from jobrelay.pipelines.pack import why_not_packed
from jobrelay.pipelines.reading import read
from jobrelay.report.command import write_sweep
from jobrelay.runs.request import RunRequest
from jobrelay.runs.target import Target
from jobrelay.sweep import whole
from jobrelay.sweep.command import designed
from jobrelay.sweep.design import Trial
from jobrelay.sweep.log import SweepLog
from jobrelay.sweep.packing import Packing
from jobrelay.sweep.programs import Programs, programs
from jobrelay.sweep.table import Row, to_csv
from jobrelay.sweep.trial import Trials
from jobrelay.sweep.whole import Sweep
from tests.support.trials import PIPELINE, write_pipeline

FLAGS = SweepFlags(
    run_id=None, config_file=None, overrides=(), timeout=None, data=(), registry=None, no_build=False,
    code=None, axes=("epochs=1,2",), one_at_a_time=False,
    count=None, seeds=1, max_parallel=1, pack=None, stop_when=None, choose_on=None, minimize=None, name=None,
    dry_run=False, output="table",
)  # fmt: skip


def of(tmp_path: Path, text: str = PIPELINE, **flags: Any) -> Programs:
    pipeline = read(write_pipeline(tmp_path, pipeline=text))
    target = Target(local=True, volume=tmp_path / "volume", pipeline=pipeline)
    return programs(target, pipeline, replace(FLAGS, **flags))


def design(tmp_path: Path, text: str = PIPELINE, **flags: Any) -> tuple[Programs, Sweep]:
    pipeline = of(tmp_path, text, **flags)
    sweep = designed(pipeline, replace(FLAGS, **flags))
    pipeline.check(sweep.trials)
    return pipeline, sweep


def row(epochs: int, **figures: float) -> Row:
    named = {name.replace("__", "."): value for name, value in figures.items()}
    costs = {"seconds": 1.0, "cpu_seconds": 1.0, "peak_memory_mib": 1.0}
    return Row(f"s-{epochs}", Trial((("epochs", epochs),), 0), "succeeded", "", named | costs)


def test_trials_differ_in_parameters_and_seeds(tmp_path: Path) -> None:
    pipeline, sweep = design(tmp_path, axes=("lr=0.1,1e-05", "epochs=1,2"), seeds=2)
    assert sweep.headings == ["lr", "epochs", "seed"]
    assert len({run for _, run in sweep.named()}) == 8
    last = sweep.trials[-1]
    assert str(last) == "lr=1e-05 epochs=2 seed=1"
    assert pipeline.config(last).command("train") == ["python", "train.py", "1e-05", "2", "1"]
    assert pipeline.config(last).code is pipeline.base.code  # one snapshot, whatever changes meanwhile
    assert sweep.shared["params"] == {"unused": 1}


def test_settings_of_all_trials_and_the_base(tmp_path: Path) -> None:
    _, sweep = design(tmp_path, overrides=("lr=0.5",), axes=("lr=0.1,0.5", "epochs=1,3"), one_at_a_time=True)
    assert sweep.base == {"lr": 0.5, "epochs": 1}
    assert [trial.settings for trial in sweep.trials] == [
        (("lr", 0.1), ("epochs", 1)), (("lr", 0.5), ("epochs", 1)), (("lr", 0.5), ("epochs", 3)),
    ]  # fmt: skip
    assert len(design(tmp_path, axes=("lr=0.001..0.1",), count=5)[1].trials) == 5


def test_a_pipeline_without_a_seed_has_no_column_for_it(tmp_path: Path) -> None:
    text = PIPELINE.replace("seed: 0, ", "").replace(" {seed}", "")
    pipeline, sweep = design(tmp_path, text)
    assert sweep.headings == ["epochs"]
    rows = [replace(row(1, evaluate__acc=0.5), trial=sweep.trials[0])]
    assert to_csv(rows, pipeline.columns(rows)) == (
        "run,epochs,status,evaluate.acc,seconds,cpu_seconds,peak_memory_mib,cause\n"
        "s-1,1,succeeded,0.5,1.000,1.000,1.0,\n"
    )


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ({"axes": ("epoch=1,2",)}, "--grid epoch: there is no parameter epoch; did you mean epochs?"),
        ({"axes": ("unused=1,2",)}, "no stage uses the parameter unused"),
        ({"axes": ("seed=1,2",)}, "--grid seed"),
        ({"overrides": ("epcohs=3",)}, "--set epcohs=3"),
        ({"config_file": Path("c.yaml")}, "--config is for the built-in programs"),
        ({"choose_on": "train.acc"}, "--choose-on train.acc: stage train has no metrics"),
        ({"stop_when": "train.acc>=1"}, "--stop-when train.acc: stage train has no metrics"),
        ({"stop_when": "soon"}, "--stop-when soon"),
    ],
)
def test_what_is_refused_before_anything_is_created(tmp_path: Path, flags: dict[str, Any], text: str) -> None:
    with pytest.raises(BadInput) as error:
        design(tmp_path, **flags)
    assert text in f"{error.value.what}; {error.value.hint}"


@pytest.mark.parametrize(
    ("change", "flags", "text"),
    [
        (("metrics: eval.json", "retries: 1"), {}, "no stage has metrics"),
        (("seed: 0, ", ""), {"seeds": 2}, "no parameter `seed`"),
        (("seed: 0", "seed: none"), {"seeds": 2}, "no parameter `seed`"),
    ],
)
def test_what_a_pipeline_lacks(
    tmp_path: Path, change: tuple[str, str], flags: dict[str, Any], text: str
) -> None:
    with pytest.raises(BadInput, match=re.escape(text)):
        design(tmp_path, PIPELINE.replace(*change).replace(" {seed}", ""), **flags)


# --- the objective ---

ROWS = [row(1, train__loss=3, evaluate__loss=0.5, evaluate__acc=0.7), row(2, train__loss=1, evaluate__loss=1)]


@pytest.mark.parametrize(
    ("flags", "column", "larger"),
    [
        ({}, "evaluate.loss", False),
        ({"choose_on": "acc"}, "evaluate.acc", True),
        ({"choose_on": "evaluate.acc", "minimize": True}, "evaluate.acc", False),
        ({"choose_on": "train.loss", "minimize": False}, "train.loss", True),
    ],
)
def test_what_the_best_trial_is_chosen_by(
    tmp_path: Path, flags: dict[str, Any], column: str, larger: bool
) -> None:
    pipeline = of(tmp_path, **flags)
    objective = pipeline.objective(ROWS)
    assert (objective.column, objective.larger) == (column, larger)
    how = "larger" if larger else "smaller"
    assert pipeline.announced(objective) == f"the best trial is chosen by {column}: {how} is better"
    assert pipeline.objective([]).column == ""  # not yet


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ({"choose_on": "loss"}, "train.loss and evaluate.loss have that name"),
        ({"choose_on": "evaluate.ac"}, "the metrics are train.loss, evaluate.loss, evaluate.acc"),
        ({"stop_when": "f1>=0.5"}, "--stop-when f1: no stage has this metric"),
    ],
)
def test_a_metric_that_no_trial_has(tmp_path: Path, flags: dict[str, Any], text: str) -> None:
    pipeline = of(tmp_path, **flags)
    with pytest.raises(BadInput, match=re.escape(text)):
        pipeline.objective(ROWS)
    pipeline.objective([])


class Measured(Trials):
    """Trials that have these figures, by their number of epochs."""

    figures: dict[int, dict[str, float]]

    def run_pack(self, trials: Any, log: SweepLog) -> list[Row]:
        return [
            replace(row(epochs, **self.figures[epochs]), run=run, trial=trial)
            for trial, run in trials
            for epochs in [dict(trial.settings)["epochs"]]
        ]


def carried_out(tmp_path: Path, figures: dict[int, dict[str, float]], **flags: Any) -> Path:
    axes = (f"epochs={','.join(map(str, figures))}",)
    pipeline, sweep = design(tmp_path, axes=axes, **flags)
    how = Measured(pipeline, RunRequest(), tmp_path / "s")
    object.__setattr__(how, "figures", figures)
    condition = pipeline.condition(flags["stop_when"]) if "stop_when" in flags else None
    whole.carry_out(sweep, how, Console(quiet=True), packing=Packing(1, possible=False), stop_when=condition)
    return how.folder


def test_the_folder_of_a_sweep_by_a_loss(tmp_path: Path) -> None:
    losses = {1: 0.4, 2: 0.1, 3: 0.2}
    folder = carried_out(tmp_path, {n: {"evaluate__val_loss": loss} for n, loss in losses.items()})
    lines = (folder / "observations.txt").read_text().splitlines()
    assert lines[0].startswith("best by evaluate.val_loss (smallest): 0.1 with epochs=2 seed=0 (run ")
    assert lines[1] == "epochs: 1 → 3: evaluate.val_loss 0.4 → 0.2, best 0.1 at 2; time 1.0 → 1.0 s"
    assert {path.stem for path in (folder / "plots").iterdir()} == {
        "epochs-evaluate.val_loss", "epochs-time",
    }  # fmt: skip
    page = re.sub(r"\s+", " ", write_sweep(folder).read_text())
    assert "best evaluate.val_loss" in page
    assert "chosen by evaluate.val_loss, of which the smallest is best" in page
    assert "smaller is better" in (folder / "sweep.log").read_text()


def test_a_sweep_stops_at_a_metric_that_is_not_there(tmp_path: Path) -> None:
    figures = {n: {"evaluate__acc": 0.5} for n in (1, 2)}
    with pytest.raises(BadInput, match=r"the metrics are evaluate\.acc"):
        carried_out(tmp_path, figures, choose_on="f1")
    assert (tmp_path / "s/sweep.csv").read_text().count("succeeded") == 1


def test_it_stops_when_a_trial_is_good_enough(tmp_path: Path) -> None:
    figures = {n: {"evaluate__acc": n / 10} for n in (1, 2, 3)}
    folder = carried_out(tmp_path, figures, stop_when="acc>=0.2")
    assert (folder / "sweep.csv").read_text().count("succeeded") == 2


def test_a_trial_without_the_figure_is_not_the_best(tmp_path: Path) -> None:
    figures = {1: {"evaluate__acc": 0.5, "evaluate__f1": 0.1}, 2: {"evaluate__f1": 0.9}}
    folder = carried_out(tmp_path, figures)
    lines = (folder / "observations.txt").read_text().splitlines()
    assert lines[0] == "1 of 2 trials measured no evaluate.acc"
    assert lines[1].startswith("best by evaluate.acc (largest): 0.5 with epochs=1 seed=0 (run ")


# --- packs ---


def test_short_trials_share_a_job() -> None:
    packing = Packing(2)
    assert packing.size(20) == 1  # nobody knows yet how long they take
    packing.learn([row(1)])
    assert packing.size(20) == 10  # both at once
    packing.learn([replace(row(1), figures={"seconds": 100.0})] * 3)
    assert packing.size(20) == 1
    assert Packing(1, asked=4).size(20) == 4
    assert Packing(1, asked=4).size(3) == 3
    assert Packing(1, asked=4, possible=False).size(20) == 1


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("mounts: {/opt/model: model}", "mounts a folder of its run"),
        ("nodes: 2", "has several Pods"),
        ("timeout_seconds: 9", "has a time limit"),
        ("retries: 2", ""),
    ],
)
def test_which_pipelines_can_be_packed(tmp_path: Path, change: str, why: str) -> None:
    text = PIPELINE.replace("metrics: eval.json", f"metrics: eval.json\n    {change}")
    assert why in why_not_packed(of(tmp_path, text).pipeline)
    assert bool(why) == bool(why_not_packed(of(tmp_path, text).pipeline))
