"""Conclusions from a sweep, computed from its rows alone."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jobrelay.sweep.design import CHOSEN_BY, ChooseOn
from jobrelay.sweep.table import Row
from jobrelay_runner.text.counting import counted


@dataclass(frozen=True)
class Point:
    """The trials that share one value of one key (see `points`), over all seeds."""

    value: Any
    accuracy: tuple[float, ...]
    seconds: tuple[float, ...]

    @property
    def median_accuracy(self) -> float:
        return statistics.median(self.accuracy)

    @property
    def median_seconds(self) -> float:
        return statistics.median(self.seconds)


def points(
    rows: Sequence[Row], key: str, base: dict[str, Any] | None = None, choose_on: ChooseOn = "test"
) -> list[Point]:
    """One point per value of `key`, numbers ascending, from the trials whose other keys are as in `base`.

    base: None uses all trials.
    """
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        settings = dict(row.trial.settings)
        others = base is None or all(settings[name] == base[name] for name in settings if name != key)
        if row.status == "succeeded" and key in settings and others:
            groups.setdefault(settings[key], []).append(row)
    values = list(groups)
    if all(isinstance(value, int | float) for value in values):
        values.sort()
    return [
        Point(
            value,
            tuple(row.figures[CHOSEN_BY[choose_on]] for row in groups[value]),
            tuple(row.figures["train_seconds"] for row in groups[value]),
        )
        for value in values
    ]


def observations(
    rows: Sequence[Row],
    keys: Sequence[str],
    base: dict[str, Any] | None = None,
    choose_on: ChooseOn = "test",
) -> list[str]:
    """Lines about the best trial, about each key, and about the time that accuracy costs.

    Accuracies are on the images that the best trial is chosen on. Only the best trial, once chosen, also has
    its test accuracy reported.
    """
    good = [row for row in rows if row.status == "succeeded"]
    lines = []
    if failed := len(rows) - len(good):
        lines.append(f"{failed} of {counted(len(rows), 'trial')} failed")
    if not good:
        return lines
    metric = CHOSEN_BY[choose_on]
    best = max(good, key=lambda row: (row.figures[metric], -row.figures["train_seconds"]))
    settings = " ".join(f"{key}={value}" for key, value in best.trial.settings)
    found = f"{best.figures[metric]:.4f} with {settings} (run {best.run})"
    if choose_on == "test":
        lines.append(f"best: {found}; chosen on the test images, so other images may do less well")
    else:
        test = f"{best.figures['test_acc']:.4f}"
        lines.append(f"best on held-out training images: {found}; its test accuracy: {test}")
    for key in keys:
        lines += _of_key(key, points(rows, key, base, choose_on))
    return [*lines, *_epochs(good), *_trade_off(good, metric)]


def _of_key(key: str, found: Sequence[Point]) -> list[str]:
    if len(found) < 2:
        return []
    first, last = found[0], found[-1]
    best = max(found, key=lambda point: point.median_accuracy)
    gain = best.median_accuracy - first.median_accuracy
    lines = [
        f"{key}: {first.value} → {last.value}: accuracy {first.median_accuracy:.4f} → "
        f"{last.median_accuracy:.4f}, best {best.median_accuracy:.4f} at {best.value}; "
        f"time {first.median_seconds:.1f} → {last.median_seconds:.1f} s"
    ]
    # diminishing returns: the first value with nine tenths of the total gain
    enough = next(p for p in found if p.median_accuracy - first.median_accuracy >= 0.9 * gain)
    if gain > 0 and enough.value not in (first.value, best.value):
        lines.append(f"{key}: {enough.value} has nine tenths of that gain, in {enough.median_seconds:.1f} s")
    return lines


def _epochs(good: Sequence[Row]) -> list[str]:
    ordered = sorted(good, key=lambda row: row.figures["seconds_per_epoch"])
    quickest, slowest = ordered[0].figures["seconds_per_epoch"], ordered[-1].figures["seconds_per_epoch"]
    middle = statistics.median(row.figures["seconds_per_epoch"] for row in good)
    return [f"an epoch takes {middle:.2f} s (median; {quickest:.2f} to {slowest:.2f})"]


def _trade_off(good: Sequence[Row], metric: str) -> list[str]:
    """The trials that no other trial beats in both accuracy and time."""
    front: list[Row] = []
    for row in sorted(good, key=lambda row: (row.figures["train_seconds"], -row.figures[metric])):
        if not front or row.figures[metric] > front[-1].figures[metric]:
            front.append(row)
    if len(front) < 2:
        return []
    steps = ", ".join(f"{row.figures[metric]:.4f} in {row.figures['train_seconds']:.1f} s" for row in front)
    return [f"no trial is both better and quicker than these: {steps}"]
