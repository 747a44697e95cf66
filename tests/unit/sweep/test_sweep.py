"""Sweeps: which trials, which rows, what is said of them."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrelay.console import Console
from jobrelay.errors import ApiLost, BadInput, JobRelayError
from jobrelay.runs.folder import OWNER
from jobrelay.runs.request import RunRequest
from jobrelay.runs.target import Target
from jobrelay.sweep import whole
from jobrelay.sweep.built_in import OBJECTIVES, BuiltIn
from jobrelay.sweep.built_in_table import FIGURES
from jobrelay.sweep.design import (
    MAX_TRIALS,
    Axis,
    Trial,
    all_combinations,
    at_random,
    name_of,
    one_at_a_time,
    parse_axis,
    with_seeds,
)
from jobrelay.sweep.log import SweepLog
from jobrelay.sweep.observations import observations, points
from jobrelay.sweep.packing import Packing
from jobrelay.sweep.running import Condition, run_trials
from jobrelay.sweep.table import Row, to_csv
from jobrelay.sweep.trial import Trials
from jobrelay.sweep.whole import Sweep
from jobrelay_runner.volume.files import write_json
from tests.support import pages

EPOCHS, RATES = parse_axis("train.epochs=1,3"), parse_axis("train.learning_rate=0.001,0.01")


@pytest.mark.parametrize(
    ("text", "axis"),
    [
        ("train.epochs=1,3,5", Axis("train.epochs", (1, 3, 5))),
        ("model.name=cnn, perceptron", Axis("model.name", ("cnn", "perceptron"))),
        ("train.augment=true,false", Axis("train.augment", (True, False))),
        ("train.learning_rate=0.001..0.1", Axis("train.learning_rate", (), 0.001, 0.1)),
        ("train.batch_size=16..256", Axis("train.batch_size", (), 16, 256)),
    ],
)
def test_an_axis_is_read(text: str, axis: Axis) -> None:
    assert parse_axis(text) == axis


@pytest.mark.parametrize(
    "text",
    ["", "x", "x=", "=1", "x=1,1", "x=[", "x=2..1", "x=0..1", "x=a..b", "x=1..inf", "x=[1],2", "x=null"],
)
def test_what_is_no_axis(text: str) -> None:
    with pytest.raises(BadInput, match="--grid"):
        parse_axis(text)


def test_all_combinations_in_order() -> None:
    assert [dict(point) for point in all_combinations([EPOCHS, RATES])] == [
        {"train.epochs": epochs, "train.learning_rate": rate} for epochs in (1, 3) for rate in (0.001, 0.01)
    ]
    with pytest.raises(BadInput, match="1,000,000 trials"):
        all_combinations([Axis(f"a{n}", tuple(range(10))) for n in range(6)])
    with pytest.raises(BadInput, match="infinitely many values"):
        all_combinations([parse_axis("a=1..2")])


def test_one_at_a_time_has_the_base_once() -> None:
    found = one_at_a_time([EPOCHS, RATES], {"train.epochs": 3, "train.learning_rate": 0.001})
    assert [tuple(value for _, value in point) for point in found] == [(1, 0.001), (3, 0.001), (3, 0.01)]


@given(st.integers(1, 40), st.integers(0, 2**31))
def test_at_random_is_the_same_for_a_seed_and_has_no_point_twice(count: int, seed: int) -> None:
    axes = [EPOCHS, parse_axis("train.learning_rate=0.0001..0.1")]
    found = at_random(axes, count, seed)
    assert found == at_random(axes, count, seed)
    assert len(set(found)) == len(found) == count
    assert all(0.0001 <= dict(point)["train.learning_rate"] <= 0.1 for point in found)
    assert len(at_random([EPOCHS], 40, seed)) == 2  # there are no more
    sizes = at_random([parse_axis("train.batch_size=2..5")], 40, seed)
    assert sorted(dict(point)["train.batch_size"] for point in sizes) == [2, 3, 4, 5]


def test_seeds_follow_each_other_and_names_are_of_the_whole() -> None:
    trials = with_seeds(all_combinations([EPOCHS]), 7, 2)
    assert [(dict(trial.settings)["train.epochs"], trial.seed) for trial in trials] == [
        (1, 7), (1, 8), (3, 7), (3, 8),
    ]  # fmt: skip
    assert trials[0].overrides == ["train.epochs=1", "seed=7"]
    assert len({trial.digest for trial in trials}) == 4
    assert name_of(trials, {}) == name_of(list(trials), {}) != name_of(trials[:3], {})
    with pytest.raises(BadInput, match="2,000 trials"):
        with_seeds(all_combinations([EPOCHS]), 0, MAX_TRIALS)


def by_test_images(target: Target | None = None) -> BuiltIn:
    """The built-in programs, whose best trial is chosen on the test images."""
    target = target or Target(local=True)
    return BuiltIn(target, target.built_in(None, ()), choose_on="test")


# --- running ---


def row(trial: Trial, accuracy: float | None, seconds: float = 10.0, run: str = "") -> Row:
    if accuracy is None:
        return Row(run, trial, "failed", "train failed: OOMKilled")
    figures = {"test_acc": accuracy, "train_seconds": seconds, "seconds_per_epoch": seconds / 10}
    return Row(run, trial, "succeeded", "", figures)


class Runs:
    """What trials come to, by their number of epochs; counts how many run at once."""

    def __init__(self, results: dict[int, Any]) -> None:
        self.results = results
        self.begun: list[str] = []

    def __call__(self, trial: Trial, run: str) -> Row:
        self.begun.append(run)
        result = self.results[dict(trial.settings)["train.epochs"]]
        if isinstance(result, JobRelayError):
            raise result
        return row(trial, result, run=run)


def carry_out(tmp_path: Path, runs: Runs, stop_when: str | None = None, at_once: int = 1) -> list[Row]:
    trials = with_seeds(all_combinations([Axis("train.epochs", tuple(runs.results))]), 0, 1)
    named = [(trial, f"s-{number}") for number, trial in enumerate(trials)]
    condition = Condition.parse(stop_when, list(FIGURES)) if stop_when else None
    rows: list[Row] = []
    with SweepLog(tmp_path / "sweep.log", Console(quiet=True)) as log:
        run_trials(
            named,
            lambda pack: [runs(trial, run) for trial, run in pack],
            packing=Packing(at_once, possible=False),
            stop_when=condition, log=log, on_row=rows.append,
        )  # fmt: skip
    return sorted(rows, key=lambda row: row.run)


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_trial_that_fails_is_a_row_and_the_others_go_on(tmp_path: Path, at_once: int) -> None:
    rows = carry_out(tmp_path, Runs({1: 0.9, 2: None, 3: 0.95}), at_once=at_once)
    assert [(row.run, row.status) for row in rows] == [
        ("s-0", "succeeded"), ("s-1", "failed"), ("s-2", "succeeded"),
    ]  # fmt: skip
    log = (tmp_path / "sweep.log").read_text()
    assert "s-1 failed: train failed: OOMKilled" in log
    assert "s-0 started: train.epochs=1 seed=0" in log


def test_it_stops_when_a_trial_is_good_enough(tmp_path: Path) -> None:
    runs = Runs({1: 0.9, 2: 0.96, 3: 0.99})
    assert [row.run for row in carry_out(tmp_path, runs, "test_acc>=0.95")] == runs.begun == ["s-0", "s-1"]


def test_what_concerns_all_ends_the_sweep(tmp_path: Path) -> None:
    runs = Runs({1: 0.9, 2: ApiLost("no answer"), 3: 0.99})
    with pytest.raises(ApiLost):
        carry_out(tmp_path, runs)
    assert runs.begun == ["s-0", "s-1"]


def test_what_is_at_home_is_in_the_table_before_it_is_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = Sweep("s", tuple(with_seeds(all_combinations([EPOCHS]), 0, 1)), {})
    (_, first), (_, second) = sweep.named()

    class Lost(Trials):
        def run(self, trial: Trial, run: str, log: SweepLog) -> Row:
            if run == first:
                return row(trial, None, run=run)
            raise ApiLost("no answer")

    monkeypatch.setitem(pages.METRICS["train"], "images_per_second", 3000.0)
    target = Target(local=True, volume=tmp_path / "volume")
    pages.write_run(tmp_path / "runs" / second)
    write_json(
        tmp_path / "runs" / second / OWNER, {"run": second, "place": target.executor().place(), "files": []}
    )
    how = Lost(by_test_images(target), RunRequest(), tmp_path)
    with pytest.raises(ApiLost):
        whole.carry_out(sweep, how, Console(quiet=True), packing=Packing(1), stop_when=None)

    _, *lines = (tmp_path / "sweep.csv").read_text().splitlines()
    assert [line.split(",")[::3][:2] for line in lines] == [[first, "failed"], [second, "succeeded"]]


@pytest.mark.parametrize("matplotlib", [True, False])
def test_a_sweep_has_its_pictures_with_and_without_matplotlib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], matplotlib: bool
) -> None:
    class Quick(Trials):
        def run(self, trial: Trial, run: str, log: SweepLog) -> Row:
            return row(trial, 0.9, run=run)

    if matplotlib:
        pytest.importorskip("matplotlib")
    else:
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    sweep = Sweep("s", tuple(with_seeds(all_combinations([EPOCHS]), 0, 2)), {})
    how = Quick(by_test_images(Target(local=True, volume=tmp_path / "volume")), RunRequest(), tmp_path)
    whole.carry_out(sweep, how, Console(), packing=Packing(1), stop_when=None)

    kinds = (".png", ".svg") if matplotlib else (".svg",)
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {
        f"train.epochs-{name}{kind}" for name in ("accuracy", "time") for kind in kinds
    }
    asked = "PNG pictures need matplotlib: pip install 'jobrelay[plots]'"
    assert capsys.readouterr().err.count(asked) == (0 if matplotlib else 1)


@pytest.mark.parametrize(
    "text", ["", "test_acc", "test_acc=1", "test_acc>=x", "a>=1 and b>=2", "accuracy>=1"]
)
def test_what_is_no_condition(text: str) -> None:
    with pytest.raises(BadInput, match="--stop-when"):
        Condition.parse(text, list(FIGURES))


# --- table and observations ---

TRIALS = with_seeds(all_combinations([parse_axis("train.epochs=1,2,3,4")]), 0, 1)
ROWS = [
    row(trial, accuracy, seconds, f"s-{number}")
    for number, (trial, accuracy, seconds) in enumerate(
        zip(TRIALS, (0.90, 0.98, 0.981, None), (10.0, 20.0, 30.0, 40.0), strict=True)
    )
]


def test_a_row_a_trial() -> None:
    lines = to_csv(ROWS, FIGURES).splitlines()
    assert lines[0].startswith("run,train.epochs,seed,status,train_acc,val_acc,test_acc,")
    assert lines[1].startswith("s-0,1,0,succeeded,,,0.900000,")
    assert lines[4].startswith("s-3,4,0,failed,,,")
    assert lines[4].endswith(",train failed: OOMKilled")


def test_what_is_said_is_what_the_rows_carry() -> None:
    said = observations(ROWS, ["train.epochs"], by_test_images())
    assert said == [
        "1 of 4 trials failed",
        "best: 0.9810 with train.epochs=3 (run s-2); "
        "chosen on the test images, so other images may do less well",
        "train.epochs: 1 → 3: accuracy 0.9000 → 0.9810, best 0.9810 at 3; time 10.0 → 30.0 s",
        "train.epochs: 2 has nine tenths of that gain, in 20.0 s",
        "an epoch takes 2.00 s (median; 1.00 to 3.00)",
        "no trial is both better and quicker than these: "
        "0.9000 in 10.0 s, 0.9800 in 20.0 s, 0.9810 in 30.0 s",
    ]
    assert observations([ROWS[3]], ["train.epochs"], by_test_images()) == ["1 of 1 trial failed"]
    assert observations([], ["train.epochs"], by_test_images()) == []


def test_the_best_is_chosen_on_held_out_images_and_its_test_figure_is_reported() -> None:
    """The third has the best test accuracy by luck; nobody may take it for that."""
    held_out = (0.95, 0.97, 0.96)
    rows = [
        replace(each, figures={**each.figures, "val_acc": value})
        for each, value in zip(ROWS, held_out, strict=False)
    ]

    lines = observations(rows, ["train.epochs"], replace(by_test_images(), choose_on="validation"))

    assert lines[0] == (
        "best on held-out training images: 0.9700 with train.epochs=2 (run s-1); its test accuracy: 0.9800"
    )
    assert not any("0.981" in line for line in lines)


BUILT_IN = by_test_images()


@given(st.lists(st.tuples(st.integers(1, 5), st.floats(0, 1), st.floats(0.1, 1e4)), max_size=12))
def test_observations_of_anything(cells: list[tuple[int, float, float]]) -> None:
    rows = [row(Trial((("train.epochs", e),), n), a, s, f"s-{n}") for n, (e, a, s) in enumerate(cells)]
    for point in points(rows, "train.epochs", OBJECTIVES["test"]):
        assert min(point.figures) <= point.median <= max(point.figures)
    assert not any("nan" in line for line in observations(rows, ["train.epochs"], BUILT_IN))
    assert math.isfinite(len(json.dumps(to_csv(rows, FIGURES))))
